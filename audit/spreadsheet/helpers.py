"""Mistakes in cells that the table's columns are computed from: named there, not at what depends on them."""

import copy
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from audit.spreadsheet.arithmetic import compute, names_in
from audit.spreadsheet.diagnosis import Finding, WrongCell, as_formula
from audit.spreadsheet.formulas import Place, Tree, address, symbols, written
from audit.spreadsheet.judgement import Judge
from audit.spreadsheet.network import UPDATE
from audit.spreadsheet.points import Values, agree
from audit.spreadsheet.rate import Rate
from audit.spreadsheet.repairs import cause
from audit.spreadsheet.tables import Table

_MOST_TRIED = 12  # rows whose formulas differ from those of other rows
_STEPS = 60


class _Blamed(NamedTuple):
    """A helper that is wrong; text is what it should hold, "" where that has no name; words say why."""

    helper: str
    text: str
    words: str | None


def helper_findings(
    table: Table, rate: Rate, judge: Judge, wrong: dict[str, np.ndarray]
) -> tuple[Finding, ...]:
    """The wrong cells that columns are computed from; the cells of those columns are no longer wrong then."""
    groups: dict[tuple[str, str, str, str | None], dict[str, WrongCell]] = {}
    tried: dict[str, dict[str, _Blamed]] = {}
    for row in range(table.rows):
        trees = {name: judge.helpers.meaning(name, row) for name, rows in wrong.items() if rows[row]}
        if not any(_helpers_in(tree) for tree in trees.values()):
            continue
        search = _Search(table, judge, row)
        key = search.signature(wrong)
        if key not in tried and len(tried) < _MOST_TRIED:
            tried[key] = search.blamed({name: tree for name, tree in trees.items() if tree is not None})
        for name, blamed in tried.get(key, {}).items():
            cell = _wrong_cell(table, rate, judge, name, row, blamed)
            groups.setdefault((cell.sheet, cell.helper, blamed.text, blamed.words), {})[cell.address] = cell
            wrong[name] = wrong[name] & (np.arange(table.rows) != row)
    return tuple(
        Finding(next(iter(cells.values())).name, words, tuple(cells.values()))
        for (*_, words), cells in groups.items()
    )


class _Search:
    """Looks for the helpers to blame in a row."""

    def __init__(self, table: Table, judge: Judge, row: int):
        self._table, self._judge, self._row = table, judge, row
        self._points = copy.copy(judge.anywhere)
        self._trusted: set[str] = set()

    def signature(self, wrong: Mapping[str, np.ndarray]) -> str:
        """What tells the formulas of this row from those of others; what right ones use is trusted."""
        parts = []
        for name, rows in wrong.items():
            judgement = self._judge.of(name, self._row)
            tree = self._judge.helpers.meaning(name, self._row)
            if judgement is None or tree is None:
                continue
            below = self._below(tree)
            if judgement.right:
                self._trusted |= below.keys()
            parts.append(f"{name} {rows[self._row]} {written(tree)}")
            parts += [f"{helper} {'' if deep is None else written(deep)}" for helper, deep in below.items()]
        return "\n".join(parts)

    def _below(self, tree: Tree) -> dict[str, Tree | None]:
        """The helpers that a formula is computed from, however far."""
        found: dict[str, Tree | None] = {}
        waiting = _helpers_in(tree)
        while waiting:
            helper = waiting.pop()
            if helper not in found:
                found[helper] = self._judge.helpers.of_helper(helper, self._row)
                waiting += _helpers_in(found[helper])
        return found

    def blamed(self, trees: Mapping[str, Tree]) -> dict[str, _Blamed]:
        """The helper to blame for the formula of each column; a formula that is wrong itself has none."""
        judged = {name: self._judge.of(name, self._row) for name in trees}
        trees = {name: trees[name] for name, each in judged.items() if each and not each.right}
        found: dict[str, _Blamed] = {}
        wanted: dict[str, dict[str, Values | None]] = {}
        for name, tree in trees.items():
            right = self._points.right(self._table.network, name)
            for helper, target in self._targets(tree, right).items():
                wanted.setdefault(helper, {})[name] = target
                blamed = self._inside(helper, target, name) if name not in found else None
                if blamed:
                    found[name] = blamed
        for helper, of_columns in wanted.items():
            target, *others = of_columns.values()
            if others and target is not None and all(agree(target, other) for other in others):
                for name in of_columns.keys() - found.keys():
                    found[name] = _Blamed(helper, self._named(target), self._why(helper, target, name))
        return found

    def _targets(self, tree: Tree | None, right: Values) -> dict[str, Values | None]:
        """What each helper of a formula, but for those that right formulas use, would have to hold."""
        helpers = _helpers_in(tree)
        for helper in helpers:
            meant = self._judge.quantities.of_helper(helper, self._row)
            values = self._points.of_tree(meant)
            self._points[helper] = np.full_like(right, np.nan) if values is None else values
        free = [helper for helper in helpers if helper not in self._trusted]
        return {helper: self._solved(tree, helper, right) for helper in free}

    @np.errstate(all="ignore")
    def _solved(self, tree: Tree | None, helper: str, right: Values) -> Values | None:
        """What a helper would have to hold for a formula to be right, by the secant method."""
        trial = copy.copy(self._points)
        x = trial[helper]
        step, before = 1e-3 + 1e-3 * np.abs(x), None
        for _ in range(_STEPS):
            trial[helper] = x
            values = trial.of_tree(tree)
            if values is None:
                return None
            off = values - right
            if before is not None:
                step = np.where((off == 0) | (off == before), 0.0, -off * step / (off - before))
            before, x = off, x + step
            if not np.any(np.abs(step) > 1e-15 * np.abs(x)):
                break
        trial[helper] = x
        return x if agree(trial.of_tree(tree), right) else None

    def _inside(self, helper: str, target: Values | None, name: str) -> _Blamed | None:
        """A helper, or one that it is computed from, that should hold what has a name, and does not."""
        text = "" if target is None else self._named(target)
        if target is None or not text or self._named(self._points[helper]):
            return None
        tree = self._judge.helpers.of_helper(helper, self._row)
        for deeper, wanted in self._targets(tree, target).items():
            if blamed := self._inside(deeper, wanted, name):
                return blamed
        return _Blamed(helper, text, self._why(helper, target, name))

    def _named(self, values: Values) -> str:
        """The equation that gives some values; "" where none of this network's does."""
        network = self._table.network
        texts = [*network.intermediates, *network.equations.values()]
        for w in network.weights:  # a column of updates or of updated weights, in the row above
            texts += [UPDATE.format(w=w), f"prev_eta*prev_dE_d{w}"]
        return next((text for text in texts if agree(self._points.of_text(text), values)), "")

    def _why(self, helper: str, target: Values, name: str) -> str | None:
        tree = self._judge.helpers.of_helper(helper, self._row)
        if isinstance(tree, float):
            return "a constant was typed over the formula"
        network, points = self._table.network, self._points
        return None if tree is None else cause(tree, name, network, points, self._judge.eta, target)


def _helpers_in(tree: Tree | None) -> list[str]:
    return [symbol for symbol in symbols(tree) if ":" in symbol]


def _wrong_cell(table: Table, rate: Rate, judge: Judge, name: str, row: int, blamed: _Blamed) -> WrongCell:
    cell, sheet, place = judge.helpers.helper(blamed.helper, row)
    values = {other: np.array([number]) for other, number in table.constants.items()}
    values |= {other: column[row : row + 1] for other, column in table.values.items()}
    known = bool(blamed.text) and all(other in values for other in names_in(blamed.text))
    return WrongCell(
        name,
        row,
        address(*place) if sheet else table.source.address(*place),
        cell.formula,
        cell.value,
        float(compute(blamed.text, values)[0]) if known else np.nan,
        blamed.text.replace("prev_", "") or "what the formulas that use it need",
        as_formula(table, rate, blamed.text, row) if blamed.text and not sheet else "",
        helper=_heading(table, sheet, place),
        sheet=sheet,
    )


def _heading(table: Table, sheet: str, place: Place) -> str:
    """The nearest text above a cell, or beside it; its address where there is none."""
    cells = table.source.book.sheets[sheet] if sheet else table.source.cells
    row, column = place
    while row > 1 and (row - 1, column) in cells:
        row -= 1
        if isinstance(text := cells[row, column].value, str):
            return text
    left = cells.get((place[0], column - 1))
    return left.value if left is not None and isinstance(left.value, str) else address(*place)
