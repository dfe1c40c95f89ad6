"""An audit in words: what the terminal shows, and the rows of audit.csv."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from audit.spreadsheet.diagnosis import Finding, WrongCell
from audit.spreadsheet.formulas import address
from audit.spreadsheet.verdict import FileAudit, TableAudit
from backprop.equations import heading

_WIDTH = 100
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
    parts += [_line("note", note) for note in audit.notes]
    if audit.skipped:
        parts.append(f"Without a table, skipped: {printable(', '.join(audit.skipped))}")
    return "\n\n".join(parts)


def _table_text(audit: TableAudit) -> str:
    table, rate = audit.table, audit.rate
    title = f'Sheet "{printable(table.sheet)}"' if table.sheet else "The table"
    absent = [heading(name) for name in table.network.columns if name not in table.columns and name not in table.constants]
    lines = [
        f"{title}: {audit.verdict.upper()}",
        _line(
            "table",
            f"headings in row {table.headings}, {table.rows} rows ({table.first} to "
            f"{table.first + table.rows - 1}), {len(table.columns)} columns: {_columns(audit)}",
        ),
    ]
    if absent:
        lines.append(_line("not there", f"{', '.join(absent)}"))
    if not table.network.is_classroom:
        lines.append(_line("network", f"{table.network}; not the assignment's 2-2-2"))
    if np.isfinite(rate.value):
        lines.append(_line("eta", f"{_number(rate.value)} ({rate.source})"))
    if audit.findings:
        lines += _first_wrong(audit)
    lines += [_line("warning", warning) for warning in audit.warnings]
    lines += [_line("note", note) for note in audit.notes]
    return "\n".join(lines)


def _columns(audit: TableAudit) -> str:
    columns = audit.table.columns
    names = sorted(columns, key=lambda name: columns[name])
    ends = (names[0], names[-1])
    return " to ".join(f"{heading(name)} in {address(1, columns[name]).removesuffix('1')}" for name in ends)


def _first_wrong(audit: TableAudit) -> Iterator[str]:
    first = audit.findings[0]
    cell = first.cells[0]
    yield _line("FIRST WRONG", f"{cell.address}, {heading(cell.name)}{_extent(audit, first)}")
    yield _line("  formula", cell.formula or "none: a constant")
    yield _line("  value", _number(cell.value))
    yield _line("  right", cell.should_be)
    if cell.right_formula:
        yield _line("", cell.right_formula)
    if first.mistake:
        yield _line("  looks like", first.mistake)
    for mistake, findings in _by_mistake(audit.findings[1:]).items():
        where = ", ".join(
            f"{heading(finding.name)} ({finding.cells[0].address}{_extent(audit, finding)})"
            for finding in findings
        )
        same = "the same mistake" if mistake and mistake == first.mistake else mistake
        yield _line("also wrong", where + (f": {same}" if same else ""))
    if audit.consequences:
        columns = ", ".join(f"{heading(found.name)} ({found.address})" for found in audit.consequences)
        cause = "that" if len(audit.findings) == 1 else "those"
        yield _line("follows", f"wrong only because of {cause}, each from the cell named on: {columns}")


def _extent(audit: TableAudit, finding: Finding) -> str:
    count = len(finding.cells)
    return f", {count} of {audit.table.rows} rows" if count > 1 else ""


def _by_mistake(findings: Sequence[Finding]) -> dict[str | None, list[Finding]]:
    groups: dict[str | None, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.mistake, []).append(finding)
    return groups


def _line(label: str, text: str) -> str:
    return textwrap.fill(
        printable(text),
        _WIDTH,
        initial_indent=f"  {label:<15}",
        subsequent_indent=" " * 17,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.15g}"


def folder_text(audits: Sequence[FileAudit], folder: Path) -> str:
    """One line for each table and for each file that has none."""
    rows = [("file", "sheet", "verdict", "first wrong cell")]
    for audit in audits:
        name = str(audit.file.relative_to(folder))
        if audit.refused:
            rows.append((name, "", audit.verdict, audit.refused))
        for table in () if audit.refused else audit.tables:
            rows.append((name, table.table.sheet, table.verdict, _in_short(table)))
    widths = [max(len(printable(row[place])) for row in rows) for place in range(3)]
    return "\n".join(
        "  ".join([*(f"{printable(row[i]):<{widths[i]}}" for i in range(3)), printable(row[3])]).rstrip()
        for row in rows
    )


def _in_short(audit: TableAudit) -> str:
    if not audit.findings:
        return ""
    first = audit.findings[0]
    return f"{first.cells[0].address}, {heading(first.name)}: {first.mistake or 'no known mistake'}"


def csv_rows(audits: Sequence[FileAudit], folder: Path) -> Iterator[list[object]]:
    """CSV_HEADER for each table; text that a spreadsheet program would compute is quoted."""
    for audit in audits:
        name = str(audit.file.relative_to(folder))
        if audit.refused:
            yield [_quoted(cell) for cell in (name, "", audit.verdict, *[""] * 12, audit.refused)]
        for table in () if audit.refused else audit.tables:
            yield [_quoted(cell) for cell in (name, *_csv_row(table))]


def _csv_row(audit: TableAudit) -> tuple[object, ...]:
    start = (audit.table.sheet, audit.verdict, audit.rate.value, audit.table.rows)
    notes = "; ".join((*audit.warnings, *audit.notes))
    if not audit.findings:
        return (*start, *[""] * 10, notes)
    first = audit.findings[0]
    cell: WrongCell = first.cells[0]
    others = dict.fromkeys(heading(found.name) for found in audit.findings[1:] if found.name != first.name)
    return (
        *start,
        *(cell.address, heading(cell.name), cell.formula or "", cell.value, cell.right, cell.equation),
        *(cell.right_formula, first.mistake or "", " ".join(others)),
        " ".join(heading(found.name) for found in audit.consequences),
        notes,
    )


_COMPUTED = re.compile(r"(^|[;\t\r\n])(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")
"""Where a spreadsheet program would see a formula: some part a .csv file at semicolons or tabs."""


def _quoted(cell: object) -> object:
    """A teacher opens audit.csv in a spreadsheet program: an apostrophe in front keeps text text."""
    if isinstance(cell, float):
        return "" if np.isnan(cell) else cell
    return _COMPUTED.sub(r"\1'", printable(cell)) if isinstance(cell, str) else cell


def printable(text: str) -> str:
    """Text from a file as one line, without what would steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.splitlines()))
