"""What a teacher should know about a table besides its wrong cells."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from audit.spreadsheet.arithmetic import Columns, compute
from audit.spreadsheet.diagnosis import pasted_rows
from audit.spreadsheet.headings import ETA
from audit.spreadsheet.judgement import Judge
from audit.spreadsheet.mistakes import mixed_up
from audit.spreadsheet.rate import Rate, numbers_outside
from audit.spreadsheet.reading import Sheet
from audit.spreadsheet.tables import Table
from backprop.equations import heading

_MANY_UNITS = 1000  # of a column's last digit in its largest number: more tell any mistake
_SEEN = 0.005  # relative; what differs by less is no mistake that three digits could show
_OTHER_TARGETS = (0.5, 0.5)  # one of the assignment's documents has them


def warnings_on(table: Table, rate: Rate, wrong: Mapping[str, np.ndarray]) -> list[str]:
    """What keeps a table from being right without reserve."""
    return [*_pasted(table, wrong), *_rates_that_differ(table, rate)]


def missing_in(table: Table, rate: Rate, columns: Columns, right: Columns) -> list[str]:
    """What a table does not show, and how to hand that in."""
    missing = []
    if table.rows == 1:
        missing.append("there is one row, and so no update to check: give at least two")
    elif np.isnan(rate.value):
        missing.append("the learning rate is not known, so the updates are not checked: label it, eta = 0.5")
    hidden = [words for name in table.columns if (words := _hidden(table, columns, right, name))]
    more = f", and so for {len(hidden) - 1} more" if len(hidden) > 1 else ""
    return [*missing, *(f"{words}{more}: show more digits" for words in hidden[:1])]


@np.errstate(all="ignore")
def _hidden(table: Table, columns: Columns, right: Columns, name: str) -> str | None:
    """A mistake in a derivative that its few digits would hide; None where there is none."""
    value, unit = columns.values[name], columns.rounding[name]
    if not (name.startswith("dE_d") and _is_typed(table, name)) or np.any(
        np.abs(value) >= _MANY_UNITS * unit
    ):
        return None
    text = table.network.equations[name].replace(" ", "")
    exact, slack = right.values[name], (unit + right.rounding[name]) / 2
    for words, equation in mixed_up(name, text, table.network):
        other = compute(equation, columns.values)
        if np.any(np.abs(other - exact) > _SEEN * np.abs(exact)) and np.all(
            (np.abs(value - other) <= slack) | ~np.isfinite(value)
        ):
            return f"the digits of {heading(name)} ({table.address(name, 0)}) do not tell whether {words}"
    return None


def notes_on_file(file: Path, sheets: Sequence[Sheet], tables: Sequence[tuple[Table, Rate]]) -> list[str]:
    """What the file's name says of another rate, and which of the judged sheets are hidden."""
    hidden = {sheet.name for sheet in sheets if sheet.hidden} & {table.sheet for table, _ in tables}
    notes = [f"the sheet {name} is hidden, and was judged" for name in sorted(hidden)]
    name = unicodedata.normalize("NFC", file.stem).lower().replace("η", "eta").replace("_", " ")
    name = name.replace("learning rate", "lr")
    named = re.search(rf"(?<![a-z]){ETA}[ =-]*(\d+(?:[.,]\d+)?)(?![\d ]*\d)", name)
    rates = [rate.value for _, rate in tables if np.isfinite(rate.value)]
    if named and rates and float(named[1].replace(",", ".")) not in rates:
        notes.append(f"the file's name says eta = {named[1]}, its table has {rates[0]:g}")
    return notes


def _other_cells(table: Table, rate: Rate) -> list[str]:
    """Updates that take the rate from another cell than the others do, where it happens to be the same."""
    if rate.place is None:
        return []
    found: dict[str, list[str]] = {}
    usual = table.source.address(*rate.place)
    for w, row in ((w, row) for w in table.network.weights for row in range(1, table.rows)):
        places = numbers_outside(table, w, row)
        for place in () if rate.place in places else places:
            if table.source.cells[place].value == rate.value:
                found.setdefault(table.source.address(*place), []).append(table.address(w, row))
    return [
        f"{cells[0]} ({len(cells)} in all) takes eta from {place}, not from {usual}: both are "
        f"{rate.value:g} now"
        for place, cells in found.items()
    ]


def notes_on(
    table: Table, rate: Rate, judge: Judge, columns: Columns, idle: Mapping[str, Mapping[int, str]]
) -> list[str]:
    """What does not: drift, other start values, formulas that are wrong without effect."""
    return [
        *_other_cells(table, rate),
        *_drift(table, columns),
        *_starts(table, columns),
        *_without_effect(table, judge, columns, idle),
    ]


def without_typed_targets(table: Table) -> Table:
    """The table without columns E1, E2 that hold the targets, where no other column is computed from them."""
    errors = [name for name in table.columns if re.fullmatch(r"E\d", name) and _is_target(table, name)]
    sums = sum(table.values[name] for name in table.columns if re.fullmatch(r"E\d", name))
    if not errors or not np.any(np.abs(sums - table.values.get("E_total", np.inf)) > 1e-6):
        return table
    where = "the column {} ({}) holds the target, not the error: not checked"
    words = [where.format(name, table.address(name, 0)) for name in errors]
    return replace(table.without(errors), warnings=(*table.warnings, *words))


def _is_typed(table: Table, name: str) -> bool:
    return not any(cell and cell.formula for cell in table.cells[name])


def _is_target(table: Table, name: str) -> bool:
    target = table.values.get(f"t{name[1:]}", [np.nan])[0]
    shown = table.values[name][np.isfinite(table.values[name])]
    return _is_typed(table, name) and shown.size > 0 and bool((shown == target).all())


def _pasted(table: Table, wrong: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Constants among formulas whose value is right: nothing is wrong until something changes."""
    for name in (*table.network.weights, *table.network.equations):
        pasted = pasted_rows(table, name) if name in table.columns else ()
        if rows := [row for row in pasted if not wrong[name][row]]:
            more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
            yield (
                f"{table.address(name, rows[0])}{more} ({heading(name)}): a constant stands where the column "
                "has formulas; its value is right, but it will not follow a change"
            )


def _rates_that_differ(table: Table, rate: Rate) -> list[str]:
    warnings = [
        f"the sheet's name says eta = {label.value:g}, the table has {rate.value:g} ({rate.source})"
        for label in table.labels
        if label.place is None and label.value != rate.value and not np.isnan(rate.value)
    ]
    eta = table.values.get("eta", np.array([]))
    if len(set(eta[np.isfinite(eta)].tolist())) > 1:
        warnings.append("the column eta changes from row to row")
    return warnings


def _drift(table: Table, columns: Columns) -> Iterator[str]:
    for name in table.network.given:
        values = columns.values[name]
        rows = np.flatnonzero(values != values[0]).tolist()
        if rows and name in table.columns and np.allclose(values, values[0], rtol=1e-10, atol=0):
            shown = f"{values[rows[-1]]:.15g}"
            yield f"{name} drifts to {shown} from {table.address(name, rows[0])} on, by filling down"


def _starts(table: Table, columns: Columns) -> list[str]:
    """Start values unlike the assignment's."""
    wanted = table.network.assignment
    found = {name: float(columns.values[name][0]) for name in wanted}
    other = {name: value for name, value in found.items() if np.isfinite(value) and value != wanted[name]}
    if (found.get("t1"), found.get("t2")) == _OTHER_TARGETS:
        other = {name: value for name, value in other.items() if name not in ("t1", "t2")}
    if 2 * len(other) > len(wanted):
        return ["the start values are not the assignment's"]
    return [
        f"{name} {'starts at' if name[0] == 'w' else 'is'} {value:g}, the assignment says {wanted[name]:g}"
        for name, value in other.items()
    ]


def _without_effect(
    table: Table, judge: Judge, columns: Columns, idle: Mapping[str, Mapping[int, str]]
) -> Iterator[str]:
    for name, rows in idle.items():
        for row in rows:
            judgement = judge.of(name, row)
            words = judge.why(name, judgement.tree) if judgement else None
            words = _idle_words(words or "it is not the right one, but makes no difference here", columns)
            yield f"the formula of {heading(name)} ({table.address(name, row)}) {words}"


def _idle_words(words: str, columns: Columns) -> str:
    mixed = re.match(r"(\w+) was used instead of (\w+)", words)
    if mixed and all(name in columns.values for name in mixed.groups()):
        used, wanted = mixed.groups()
        value = columns.values[used][0]
        same = f"both are {value:g}" if value == columns.values[wanted][0] else "it makes no difference"
        return f"refers to {used} where it should to {wanted}; here {same}"
    return f"is wrong without effect: {words}"
