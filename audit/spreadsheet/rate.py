"""Which learning rate a table was made with: as the sheet says, or as its weights change."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from audit.spreadsheet.arithmetic import Columns, shortest
from audit.spreadsheet.formulas import Place
from audit.spreadsheet.tables import Table

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Rate:
    """The learning rate of a table, NaN where nothing tells it; where it was found, and in which cell."""

    value: float
    source: str
    place: Place | None = None
    inferred: float | None = None  # what the change of the weights implies
    rounding: float = 0.0  # how far an inferred one may be off


def find_rate(table: Table, columns: Columns, right: Columns) -> Rate:
    """The rate of a column, a labelled cell, a cell that the updates refer to, or as the numbers imply it."""
    inferred, rounding = _infer(columns, right, table.network.weights)
    if "eta" in table.columns:
        values = table.values["eta"]
        known = values[np.isfinite(values)]
        if known.size:
            return Rate(float(known[0]), "column eta", inferred=inferred)
    referenced = _referenced(table)
    cells = [label for label in table.labels if label.place]
    cells = [label for label in cells if label.place in referenced] or cells
    if inferred is not None:
        cells.sort(key=lambda label: abs(label.value - inferred))
    if cells:
        where = table.source.address(*cells[0].place)  # type: ignore[misc]
        return Rate(cells[0].value, f"cell {where}, labelled", cells[0].place, inferred)
    for place in referenced[:1]:
        words = f"cell {table.source.address(*place)}, which the updates refer to"
        return Rate(float(table.source.cells[place].value), words, place, inferred)
    for label in table.labels[:1]:
        return Rate(label.value, "the sheet's name", None, inferred)
    if inferred is None:
        return Rate(np.nan, "not known: no cell names it and no weight changes")
    return Rate(inferred, "inferred from how the weights change", None, inferred, rounding)


def with_own_labels(tables: Sequence[Table]) -> tuple[Table, ...]:
    """The tables of a sheet, each without the labelled rates that another one's updates alone refer to."""
    used = [{table.source.real(place) for place in _referenced(table)} for table in tables]
    found = []
    for number, table in enumerate(tables):
        others = set().union(*used[:number], *used[number + 1 :]) - used[number]
        real = table.source.real
        labels = [each for each in table.labels if not each.place or real(each.place) not in others]
        found.append(replace(table, labels=tuple(labels)))
    return tuple(found)


def _referenced(table: Table) -> list[Place]:
    """Cells with numbers outside the table that the first row of updates refers to, most used first."""
    places = [place for name in table.network.weights for place in numbers_outside(table, name, 1)]
    return sorted(set(places), key=lambda place: (-places.count(place), place))


def numbers_outside(table: Table, name: str, row: int) -> list[Place]:
    """Cells with numbers outside the table that a formula refers to; none where there is no formula."""
    cell = table.cells[name][row] if name in table.cells and row < table.rows else None
    inside = range(table.first, table.first + table.rows)
    return [
        place
        for place in table.source.references(cell.formula if cell and cell.formula else "")
        if table.source.has_number(place) and not (place[0] in inside and place[1] in table.columns.values())
    ]


def _infer(columns: Columns, right: Columns, weights: Sequence[str]) -> tuple[float | None, float]:
    """The rate that explains most updates, with as few digits as it can have, and its uncertainty.

    Each weight proposes the median of its changes over its derivatives, as they stand and as they
    should be, so that neither a wrong derivative nor a wrong update misleads.
    """
    proposals: list[tuple[float, float]] = []
    updates = []
    for w in weights:
        weight, unit = columns.values[w], columns.rounding[w]
        change = weight[:-1] - weight[1:]
        blur = np.maximum(unit[:-1], _EPS * np.abs(weight[:-1])) + np.maximum(unit[1:], _EPS)
        slopes = []
        for source in (columns, right):
            slope, slack = source.values[f"dE_d{w}"][:-1], source.rounding[f"dE_d{w}"][:-1]
            known = np.isfinite(change) & np.isfinite(slope) & (np.abs(slope) > slack)
            if not known.any():
                continue
            slopes.append((slope, slack))
            ratio = change[known] / slope[known]
            spread = (blur[known] + np.abs(ratio) * slack[known]) / np.abs(slope[known])
            middle = float(np.median(ratio))
            proposals.append((middle, float(np.median(spread))))
        updates.append((change, blur, slopes))

    def explained(rate: float) -> int:
        """How many updates the rate explains, with either sign: + is a mistake of its own."""
        fits = [
            [
                np.abs(np.abs(change) - np.abs(rate * slope)) <= 2 * (blur + abs(rate) * slack)
                for slope, slack in slopes
            ]
            for change, blur, slopes in updates
            if slopes
        ]
        return sum(int(np.any(of_weight, axis=0).sum()) for of_weight in fits)

    ranked = [
        (-explained(rate), abs(rate) == 1, spread, abs(rate))
        for rate, spread in proposals
        if np.isfinite(rate) and rate != 0
    ]
    if not ranked or min(ranked)[0] == 0:
        return None, 0.0
    _, _, spread, rate = min(ranked)
    spread = max(spread, 1e-9 * rate)
    short = shortest(rate, spread)
    typed = short == float(f"{short:.6g}") and spread < 1e-3 * rate
    return short, 0.0 if typed else spread
