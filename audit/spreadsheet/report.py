"""An audit in words: what the terminal shows, and the rows of audit.csv."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from openpyxl.utils.cell import coordinate_to_tuple

from audit.lines import line, printable, quoted
from audit.spreadsheet.diagnosis import Finding, WrongCell
from audit.spreadsheet.formulas import relative
from audit.spreadsheet.tables import Table
from audit.spreadsheet.verdict import FileAudit, TableAudit
from backprop.equations import heading

CSV_HEADER = (
    *("file", "sheet", "verdict", "learning_rate", "rows", "first_wrong_cell", "column", "formula", "value"),
    *("right_value", "right_equation", "right_formula", "mistake", "other_wrong_columns"),
    *("wrong_only_because_of_it", "notes"),
)


def file_text(audit: FileAudit) -> str:
    """Everything about one file, sheet by sheet."""
    if audit.refused:
        return printable(audit.refused)
    parts = [f"{printable(audit.file.name)}: {audit.verdict.upper()}"]
    parts += [_table_text(table) for table in audit.tables]
    parts += [line("note", note) for note in audit.notes]
    if audit.skipped:
        parts.append(f"Without a table, skipped: {printable(', '.join(audit.skipped))}")
    return "\n\n".join(parts)


def _table_text(audit: TableAudit) -> str:
    table, rate = audit.table, audit.rate
    head, name = ("column", "row") if table.source.is_turned else ("row", "column")
    title = f'Sheet "{printable(table.sheet)}"' if table.sheet else "The table"
    there = {*table.columns, *table.constants}
    absent = [heading(name) for name in table.network.columns if name not in there]
    words = (
        f"headings in {head} {_line(table, table.headings)}, {table.rows} {head}s "
        f"({_line(table, table.first)} to {_line(table, table.first + table.rows - 1)}), "
        f"{len(table.columns)} {name}s: {_columns(table)}"
    )
    lines = [f"{title}: {audit.verdict.upper()}", line("table", words)]
    if absent:
        lines.append(line("not there", ", ".join(absent)))
    if not table.network.is_classroom:
        lines.append(line("network", f"{table.network}; not the assignment's 2-2-2"))
    if np.isfinite(rate.value):
        lines.append(line("eta", f"{_number(rate.value)} ({rate.source})"))
    if audit.findings:
        lines += _first_wrong(audit)
    lines += [line("not shown", words) for words in audit.missing]
    lines += [line("warning", warning) for warning in audit.warnings]
    lines += [line("note", note) for note in audit.notes]
    return "\n".join(lines)


def _line(table: Table, row: int) -> str:
    """What the spreadsheet program calls a row, which is a column of a table that lies on its side."""
    return re.sub(r"\d+$" if table.source.is_turned else "^[A-Z]+", "", table.source.address(row, 1))


def _columns(table: Table) -> str:
    names = sorted(table.columns, key=lambda name: table.columns[name])
    places = {name: table.source.address(1, table.columns[name]) for name in (names[0], names[-1])}
    other = "^[A-Z]+" if table.source.is_turned else r"\d+$"
    return " to ".join(f"{heading(name)} in {re.sub(other, '', place)}" for name, place in places.items())


def _first_wrong(audit: TableAudit) -> Iterator[str]:
    first = audit.findings[0]
    cell = first.cells[0]
    yield line("FIRST WRONG", f"{_where(cell)}, {cell.label}{_extent(audit, first)}")
    yield line("  formula", cell.formula or "none: a constant")
    yield line("  value", _number(cell.value))
    yield line("  right", cell.should_be)
    if cell.right_formula:
        yield line("", cell.right_formula)
    if first.mistake:
        yield line("  looks like", first.mistake)
    groups: dict[str | None, list[str]] = {}
    for finding in audit.findings[1:]:
        where = f"{finding.cells[0].label} ({_where(finding.cells[0])}{_extent(audit, finding)})"
        groups.setdefault(finding.mistake, []).append(where)
    for mistake, places in groups.items():
        same = "the same mistake" if mistake and mistake == first.mistake else mistake
        yield line("also wrong", ", ".join(places) + (f": {same}" if same else ""))
    if audit.consequences:
        columns = ", ".join(f"{heading(found.name)} ({found.address})" for found in audit.consequences)
        cause = "that" if len(audit.findings) == 1 else "those"
        yield line("follows", f"wrong only because of {cause}, each from the cell named on: {columns}")


def _extent(audit: TableAudit, finding: Finding) -> str:
    count = len(finding.cells)
    if len({cell.name for cell in finding.cells if not cell.helper}) > 1:
        return f" and {count - 1} more cells"
    return f", {count} of {audit.table.rows} rows" if count > 1 else ""


def _where(cell: WrongCell) -> str:
    return f"{cell.sheet}!{cell.address}" if cell.sheet else cell.address


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.15g}"


FOLDER_HEADER = ("file", "sheet", "verdict", "first wrong cell")


def folder_rows(audit: FileAudit, folder: Path) -> list[tuple[str, ...]]:
    """FOLDER_HEADER for each table of a file, or once for one that has none."""
    name = str(audit.file.relative_to(folder))
    if audit.refused:
        return [(name, "", audit.verdict, audit.refused)]
    return [(name, table.table.sheet, table.verdict, _in_short(table)) for table in audit.tables]


def in_one_line(audit: FileAudit) -> str:
    """A file's verdict, and what is wrong first or not shown."""
    short = next((_in_short(table) for table in audit.tables if table.verdict == audit.verdict), "")
    return audit.refused or ", ".join(filter(None, (f"{audit.file.name}: {audit.verdict}", short)))


def folder_line(row: tuple[str, ...], files: Sequence[Path], folder: Path) -> str:
    """A row of the folder's table, as wide as its longest file name."""
    name, sheet, verdict, first = map(printable, row)
    longest = max(len(printable(str(file.relative_to(folder)))) for file in files)
    return f"{name:<{max(longest, 4)}}  {sheet:<12}  {verdict:<20}  {first}".rstrip()


def _in_short(audit: TableAudit) -> str:
    if not audit.findings:
        return "; ".join(audit.missing)
    first = audit.findings[0]
    return f"{_where(first.cells[0])}, {first.cells[0].label}: {first.mistake or 'no known mistake'}"


class Mistake(NamedTuple):
    """A mistake in a file, with its formula as it stands and counted from its own cell."""

    column: str
    words: str
    file: str
    formula: str
    relative: str


MISTAKES_HEADER = ("column", "mistake", "files", "same_formula_in", "formula", "names")


def mistakes_of(audit: FileAudit, folder: Path) -> list[Mistake]:
    """The mistakes that have a name, of all tables of a file."""
    name = str(audit.file.relative_to(folder))
    found = []
    for table in () if audit.refused else audit.tables:
        for finding in table.findings:
            cell = finding.cells[0]
            place = coordinate_to_tuple(cell.address)
            formula = "" if finding.is_stale else cell.formula or ""  # a right one says nothing of a template
            if finding.mistake:
                found.append(Mistake(cell.label, finding.mistake, name, formula, relative(formula, place)))
    return found


def recurring_mistakes(of_files: Sequence[Sequence[Mistake]]) -> list[tuple[str, str, int, int, str, str]]:
    """MISTAKES_HEADER for each mistake that more than one file has, the commonest first.

    Formulas are identical where they are so counted from their own cells: a template that went round.
    """
    groups: dict[tuple[str, str], list[Mistake]] = {}
    for mistake in (mistake for mistakes in of_files for mistake in mistakes):
        groups.setdefault((mistake.column, mistake.words), []).append(mistake)
    rows = []
    for (column, words), mistakes in groups.items():
        files = list(dict.fromkeys(mistake.file for mistake in mistakes))
        same: dict[str, dict[str, str]] = {}
        for mistake in mistakes:
            same.setdefault(mistake.relative, {}).setdefault(mistake.file, mistake.formula)
        most = max(same.values(), key=len)
        if len(files) > 1:
            formula = next(iter(most.values()))
            rows.append((column, words, len(files), len(most), formula, " ".join(files)))
    return sorted(rows, key=lambda row: (-row[2], -row[3], row[0]))


def recurring_text(rows: Sequence[tuple[str, str, int, int, str, str]]) -> str:
    """The same for the terminal."""
    lines = []
    for column, words, files, same, formula, _ in rows:
        shared = f"; {same} with the identical formula {formula}" if formula and same > 1 else ""
        lines.append(line(f"{files} files", f"{column}: {words}{shared}"))
    return "\n".join(lines)


def csv_rows(audit: FileAudit, folder: Path) -> Iterator[list[object]]:
    """CSV_HEADER for each table; text that a spreadsheet program would compute is quoted."""
    name = str(audit.file.relative_to(folder))
    if audit.refused:
        yield [quoted(cell) for cell in (name, "", audit.verdict, *[""] * 12, audit.refused)]
    for table in () if audit.refused else audit.tables:
        yield [quoted(cell) for cell in (name, *_csv_row(table))]


def _csv_row(audit: TableAudit) -> tuple[object, ...]:
    start = (audit.table.sheet, audit.verdict, audit.rate.value, audit.table.rows)
    notes = "; ".join((*audit.missing, *audit.warnings, *audit.notes))
    if not audit.findings:
        return (*start, *[""] * 10, notes)
    first = audit.findings[0]
    cell: WrongCell = first.cells[0]
    others = dict.fromkeys(found.cells[0].label for found in audit.findings[1:])
    others.pop(cell.label, None)
    return (
        *start,
        *(_where(cell), cell.label, cell.formula or "", cell.value, cell.right, cell.equation),
        *(cell.right_formula, first.mistake or "", " ".join(others)),
        " ".join(heading(found.name) for found in audit.consequences),
        notes,
    )
