"""Why a cell is wrong: the mistake that reproduces it, and what would be right there."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from audit.spreadsheet.arithmetic import Columns, bounded, names_in
from audit.spreadsheet.formulas import Place
from audit.spreadsheet.judgement import Judge
from audit.spreadsheet.mistakes import alternatives
from audit.spreadsheet.network import UPDATE
from audit.spreadsheet.rate import Rate
from audit.spreadsheet.tables import Table
from backprop.equations import heading


@dataclass(frozen=True)
class WrongCell:
    """A cell that does not follow from those it is computed from.

    A helper is the heading of a cell outside the table's columns, perhaps on another sheet, that its column
    is computed from.
    """

    name: str
    row: int  # in the table, from 0
    address: str
    formula: str | None
    value: float | str
    right: float  # NaN for a start weight
    equation: str  # in the names of the columns
    right_formula: str  # in the sheet's cells
    helper: str = ""
    sheet: str = ""

    @property
    def label(self) -> str:
        """What the cell's column is called."""
        return self.helper or heading(self.name)

    @property
    def should_be(self) -> str:
        """The right value and its equation; of a start weight nobody knows the value."""
        return self.equation if np.isnan(self.right) else f"{self.right:.15g} = {self.equation}"


@dataclass(frozen=True)
class Finding:
    """Wrong cells of one column with one cause; mistake is None where no known one fits."""

    name: str
    mistake: str | None
    cells: tuple[WrongCell, ...]

    @property
    def is_stale(self) -> bool:
        """Whether only the stored values are wrong."""
        return self.mistake is not None and self.mistake.endswith(_AGAIN)


def explain(
    table: Table, rate: Rate, judge: Judge, around: Columns, right: Columns, name: str, wrong: np.ndarray
) -> list[Finding]:
    """The wrong cells of a column, grouped by their mistake: as the formula has it, or as the number fits."""
    if not wrong.any():
        return []
    mistakes: dict[int, str | None] = {}
    rows: list[int] = np.flatnonzero(wrong).tolist()
    cells = {row: _wrong_cell(table, rate, name, row, float(right.values[name][row])) for row in rows}
    for row in rows:
        if words := _seen_in_the_cell(table, rate, name, row):
            mistakes[row] = words
        elif judgement := judge.of(name, row):
            mistakes[row] = STALE if judgement.right else judge.why(name, judgement.tree)
    by_number = np.zeros(table.rows, bool)
    by_number[[row for row in rows if mistakes.get(row) is None and not cells[row].formula]] = True
    if by_number.any():
        mistakes |= _fitting(table, rate, around, name, by_number)
    pasted = pasted_rows(table, name)
    groups: dict[str | None, list[WrongCell]] = {}
    for row, cell in cells.items():
        typed = "a constant was typed over the formula" if row in pasted else None
        groups.setdefault(mistakes.get(row) or typed, []).append(cell)
    return [Finding(name, words, tuple(cells)) for words, cells in groups.items()]


_AGAIN = "compute the file again and save it"
STALE = "the formula is right"
"""Of a cell with an old value; together_if_stale has the whole words."""


def together_if_stale(table: Table, findings: list[Finding]) -> list[Finding]:
    """The findings, with all cells whose values were not computed again as one."""
    old = [cell for finding in findings if finding.mistake == STALE for cell in finding.cells]
    if not old:
        return findings
    old.sort(key=lambda cell: (cell.row, table.network.order.index(cell.name)))
    cell = table.cells[old[0].name][old[0].row]
    words = f"{STALE}, but the cell shows {cell.numeral if cell else ''}"
    if len(old) > 1:
        words = "the stored values are old, the formulas are right"
    together = Finding(old[0].name, f"{words}: {_AGAIN}", tuple(old))
    return [*(finding for finding in findings if finding.mistake != STALE), together]


def _fitting(table: Table, rate: Rate, around: Columns, name: str, wrong: np.ndarray) -> dict[int, str]:
    """The known mistake that reproduces each number; one that fits most cells goes first."""
    mistakes: dict[int, str] = {}
    fits = []
    others = _other_rate(rate, around, name, wrong) if name in table.network.weights else ()
    for cause, text in (*alternatives(name, table.network), *others):
        value, bound = bounded(text, around)
        near = np.abs(value - around.values[name]) <= bound + around.rounding[name]
        fits.append((cause, set(np.flatnonzero(near & wrong).tolist())))
    while fits:
        cause, rows = max(fits, key=lambda fit: len(fit[1] - mistakes.keys()))
        left = rows - mistakes.keys()
        if not left:
            break
        mistakes |= dict.fromkeys(left, cause)
    return mistakes


def _seen_in_the_cell(table: Table, rate: Rate, name: str, row: int) -> str | None:
    """A mistake that the cell itself shows: a reference to eta that slid down, or an error value."""
    cell = table.cells[name][row]
    assert cell is not None
    if name in table.network.weights and cell.formula and rate.place:
        eta_row, eta_column = rate.place
        found = set(table.source.references(cell.formula))
        found -= {(table.first + row - 1, table.columns.get(other)) for other in (name, f"dE_d{name}")}
        slid = any(column == eta_column and below > eta_row for below, column in found)
        if slid and rate.place not in found:
            return f"the reference to eta slid down: write {_fixed(table, rate.place)}"
    if isinstance(cell.value, str):
        return f"the cell shows {cell.value[:20]}, not a number"
    return "an input or a target changes from row to row" if name in table.network.given else None


def _other_rate(rate: Rate, around: Columns, name: str, wrong: np.ndarray) -> Iterable[tuple[str, str]]:
    """For a weight's update: another learning rate than the sheet's."""
    values = around.values
    ratios = ((values[f"prev_{name}"] - values[name]) / values[f"prev_dE_d{name}"])[wrong]
    ratios = ratios[np.isfinite(ratios)]
    others = {float(np.median(ratios))} if ratios.size > 2 else set()
    if rate.inferred is not None:
        others.add(rate.inferred)
    for other in others:
        short = float(f"{other:.6g}")
        if abs(short) > 1e-9 and all(abs(short - known) > 1e-6 for known in (1, -1, -rate.value)):
            words = f"eta = {short:g} was used instead of {rate.value:g}"
            yield words, f"prev_{name}-({short!r})*prev_dE_d{name}"


def pasted_rows(table: Table, name: str) -> list[int]:
    """The rows of a column with a constant, where the column otherwise holds formulas."""
    column = table.cells[name]
    formulas = sum(cell is not None and cell.formula is not None for cell in column[1:])
    if 2 * formulas <= len(column) - 1:
        return []
    constant = (row for row, cell in enumerate(column) if cell is not None and cell.formula is None)
    return [row for row in constant if row > 0 or name not in table.network.weights]


def _wrong_cell(table: Table, rate: Rate, name: str, row: int, right: float) -> WrongCell:
    cell = table.cells[name][row]
    assert cell is not None
    if name in table.network.given:
        equation, formula = "the same in every row, as in the first", f"={table.address(name, 0)}"
    elif name in table.network.weights and row == 0:
        equation, formula = "a number to start from", ""
    elif name in table.network.weights:
        equation = f"{name} - eta * {heading(f'dE_d{name}')}, all of the row above"
        formula = as_formula(table, rate, UPDATE.format(w=name), row)
    else:
        equation = table.network.equations[name]
        formula = as_formula(table, rate, equation, row)
    return WrongCell(name, row, table.address(name, row), cell.formula, cell.value, right, equation, formula)


_AS_FORMULA = {
    r"sigmoid\((\w+)\)": r"1/(1+EXP(-\1))",
    r"tanh\((\w+)\)": r"TANH(\1)",
    r"relu\((\w+)\)": r"MAX(0,\1)",
}


def as_formula(table: Table, rate: Rate, text: str, row: int) -> str:
    """An equation over the sheet's cells; "" where one of its columns is missing."""

    def cell(word: re.Match[str]) -> str:
        name = word.group().removeprefix("prev_")
        if name in ("EXP", "TANH", "MAX"):
            return name
        if name == "eta" and name not in table.columns:
            return _fixed(table, rate.place) if rate.place else f"{rate.value:g}"
        if name not in table.columns:
            return places[name]
        return table.address(name, row - word.group().startswith("prev_"))

    places = {name: _fixed(table, place) for place, name in reversed(list(table.labelled.items()))}
    if not {name.removeprefix("prev_") for name in names_in(text)} <= {*table.columns, "eta", *places}:
        return ""
    for function, written in _AS_FORMULA.items():
        text = re.sub(function, written, text.replace(" ", ""))
    return "=" + re.sub(r"\b[a-zA-Z_]\w*\b(?!\()", cell, text)


def _fixed(table: Table, place: Place) -> str:
    """A cell's address with $, as it stands in a formula that is filled down."""
    return re.sub(r"([A-Z]+)(\d+)", r"$\1$\2", table.source.address(*place))
