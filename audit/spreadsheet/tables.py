"""Where the tables stand in somebody's sheet: headings, rows, and what stands beside them."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import numpy as np
from jaxtyping import Float

from audit.spreadsheet.formulas import Place, address
from audit.spreadsheet.headings import ETA, LONGEST, canonical, keep_number
from audit.spreadsheet.network import Network, network_of
from audit.spreadsheet.reading import Cell, Sheet
from backprop.equations import heading

_LABEL = re.compile(rf"{ETA}(?:{ETA})?([0-9.,]+(?:e-?[0-9]+)?)?")
_ROUNDS = re.compile(r"ROUND|TRUNC|FIXED|INT\(", re.IGNORECASE)
_AGGREGATES = re.compile(r"^=\s*(AVERAGE|MIN|MAX|COUNT|MEDIAN|STDEV|SUM)\w*\(\$?[A-Z]+\$?\d+:", re.IGNORECASE)
_FEWEST_NAMES = 10  # a row with fewer known headings is not the head of a table
_LONGEST_LABEL = 60
MAX_TABLES = 100  # in a file
_LINES_TO_NUMBERS = 3  # at most this far below the headings stands the first row
_FARTHEST = 40  # columns to the right of a table, in which others may belong to it
_GOOGLE_DIGITS = 10  # Google Sheets writes no more of a formula's value, and 0 for what is below 1e-10
_FLOAT_DIGITS = 15


@dataclass(frozen=True)
class Label:
    """A learning rate that stands beside the table: in a cell, or in the sheet's name (no place)."""

    value: float
    place: Place | None


@dataclass(frozen=True)
class Table:
    """A table of a network's descent as it stands in a sheet; arrays have shape [row].

    Attributes:
      network: whose table it is.
      headings: the row of the headings; first: the first row of numbers (counted from 1).
      columns: the column of each name that was found, of network.columns and "eta".
      values: the numbers; NaN where a cell is blank or holds text.
      rounding: how far a number may be from what was computed, by its digits: one unit of the
        column's last digit.
      cells: the cells themselves, None where blank.
      unread: the other columns that belong to the table, by their headings.
      constants: inputs, targets and biases in labelled cells beside the table.
      labelled: the names of all labelled cells beside the table.
      source: the sheet, for what a formula refers to.
      labels: learning rates beside the table.
      warnings: what keeps a table from being right without reserve; notes: what does not.
      missing: what it does not show, and how to hand that in.
    """

    network: Network
    sheet: str
    headings: int
    first: int
    columns: Mapping[str, int]
    values: Mapping[str, Float[np.ndarray, "row"]]
    rounding: Mapping[str, Float[np.ndarray, "row"]]
    cells: Mapping[str, tuple[Cell | None, ...]]
    unread: Mapping[int, str]
    constants: Mapping[str, float]
    labelled: Mapping[Place, str]
    source: Sheet
    labels: tuple[Label, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows of numbers it has."""
        return len(next(iter(self.values.values())))

    def address(self, name: str, row: int) -> str:
        """The address of a cell, such as W5; row counts from 0."""
        return address(self.first + row, self.columns[name])

    def with_columns(self, names: Mapping[int, str], network: Network | None = None) -> "Table":
        """The same table, with some of its unread columns read by these names."""
        columns = {**self.columns, **{name: column for column, name in names.items()}}
        unread = {column: text for column, text in self.unread.items() if column not in names}
        rows = range(self.first, self.first + self.rows)
        table = replace(self, network=network or self.network, columns=columns, unread=unread)
        return replace(table, **_numbers(table.source, table.network, columns, rows))


@dataclass
class _Found:
    """The known headings of one table, while it is looked for."""

    row: int
    names: dict[int, str]
    warnings: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def find_tables(sheet: Sheet) -> tuple[Table, ...]:
    """Each table of a sheet, from the top down, at most MAX_TABLES + 1; none in a sheet of only text."""
    return tuple(table for table in _tables(sheet) if isinstance(table, Table))


def other_networks(sheet: Sheet) -> tuple[str, ...]:
    """What stands in place of a table, in words: another network's, of which columns are missing."""
    return tuple(words for words in _tables(sheet) if isinstance(words, str))


def _tables(sheet: Sheet) -> Iterator[Table | str]:
    texts = {
        place: cell.value
        for place, cell in sheet.cells.items()
        if isinstance(cell.value, str) and len(cell.value) <= LONGEST
    }
    short = ((place, text) for place, text in sorted(texts.items()) if len(text) <= _LONGEST_LABEL)
    rates = {place: found for place, text in short if (found := _LABEL.fullmatch(keep_number(text)))}
    by_row: dict[int, dict[int, str]] = {}
    for (row, column), text in texts.items():
        name = canonical(f"{texts.get((row - 1, column), '')}{text}") or canonical(text)
        if name:
            by_row.setdefault(row, {})[column] = name
    count, end = 0, 0
    for row in sorted(by_row):
        if row <= end:
            continue
        for names in _side_by_side(sheet, row, dict(sorted(by_row[row].items()))):
            table = _table(sheet, _Found(row, names), by_row, rates)
            if table is not None:
                yield table
            if isinstance(table, Table):
                count, end = count + 1, max(end, table.first + table.rows - 1)
                if count > MAX_TABLES:
                    return


def _side_by_side(sheet: Sheet, row: int, names: Mapping[int, str]) -> Iterator[dict[int, str]]:
    """The headings of each table in a row: after a blank column, names that come again are another's."""
    groups: list[dict[int, str]] = []
    for column, name in names.items():
        gap = (row, column - 1) not in sheet.cells
        if not groups or (gap and name in groups[-1].values()):
            groups.append({})
        groups[-1][column] = name
    return (group for group in groups if len(set(group.values())) >= _FEWEST_NAMES)


def _table(
    sheet: Sheet, found: _Found, by_row: Mapping[int, Mapping[int, str]], rates: Mapping[Place, re.Match[str]]
) -> Table | str | None:
    head = found.row

    def number(row: int, column: int) -> bool:
        cell = sheet.cells.get((row, column))
        return cell is not None and isinstance(cell.value, float)

    starts = (
        row
        for row in range(head + 1, head + 2 + _LINES_TO_NUMBERS)
        if sum(number(row, column) for column in found.names) >= _FEWEST_NAMES // 2
    )
    first = next(starts, None)
    if first is None:
        return None
    end = _end(sheet, found.names, first)
    rows = range(first, end)
    filled = {
        column: name for column, name in found.names.items() if any(number(row, column) for row in rows)
    }
    parameters = _parameters(sheet, by_row, range(head, end), set(filled))
    labels = _labels(sheet, rates, range(head, end), set(filled))
    network = network_of({*found.names.values(), *(name for name in parameters.values() if name[0] == "b")})
    if network is None:
        return None
    columns = _settle_duplicates(filled, found, network)
    network = _with_biases(network, columns, parameters, sheet, rows)
    missing = _missing(network, found, columns, parameters)
    if missing:
        return missing
    others = {name: column for name, column in columns.items() if name not in (*network.columns, "eta")}
    columns = {name: column for name, column in columns.items() if name not in others}
    if not set(network.weights) <= set(columns):
        absent = ", ".join(name for name in network.weights if name not in columns)
        found.missing.append(f"no column is headed {absent}: add it, or its heading")
    if any(number(end + 1, column) for column in columns.values()):
        found.missing.append(f"row {end} is blank: the rows below it are not read")
    numbers = _numbers(sheet, network, columns, rows)
    blank, inside = _blank(network, columns, numbers["cells"], first)
    (found.missing if inside else found.warnings).extend(blank)
    constants = {
        name: float(sheet.cells[place].value)  # numbers, as _parameters found them
        for place, name in reversed(parameters.items())
        if name not in columns and name not in network.weights
    }
    return Table(
        network=network,
        sheet=sheet.name,
        headings=head,
        first=first,
        columns=columns,
        **numbers,
        unread=_unread(sheet, found, columns, rows),
        constants=constants,
        labelled=parameters,
        source=sheet,
        labels=labels,
        warnings=tuple(found.warnings),
        missing=tuple(found.missing),
    )


def _end(sheet: Sheet, names: Mapping[int, str], first: int) -> int:
    """The row after the last one; averages below the table are none of its rows."""
    weights = [column for column, name in names.items() if re.fullmatch(r"w\d+", name)]
    end = first
    while any((end, column) in sheet.cells for column in names):
        cells = [cell for column in names if (cell := sheet.cells.get((end, column)))]
        formulas = [cell.formula for cell in cells if cell.formula]
        summary = formulas and all(_AGGREGATES.match(formula) for formula in formulas)
        labelled = any(isinstance(cell.value, str) for cell in cells)
        no_weights = labelled and not any((end, column) in sheet.cells for column in weights)
        if end > first and (summary or no_weights):
            break
        end += 1
    return end


def _with_biases(
    network: Network, columns: Mapping[str, int], parameters: Mapping[Place, str], sheet: Sheet, rows: range
) -> Network:
    """The same network; biases that stay the same, or stand beside the table, are constants."""
    if not network.shape.biases:
        return network
    if any(name.startswith("dE_db") for name in columns):
        return network
    for bias in network.biases:
        cells = [sheet.cells.get((row, columns[bias])) for row in rows] if bias in columns else []
        if len({cell.value for cell in cells if cell}) > 1:
            return network
    return replace(network, fixed_biases=True)


def _missing(
    network: Network, found: _Found, columns: Mapping[str, int], parameters: Mapping[Place, str]
) -> str | None:
    """Why a row of headings heads no table that can be judged; None where it can."""
    if network.is_classroom:
        return None
    known = {*columns, *parameters.values()}
    outputs = [f"a_o{number}" for number in range(1, network.shape.outputs + 1)]
    needed = (*network.given, *network.weights, *outputs)
    if all(name in known for name in needed):
        return None
    absent = [
        heading(name)
        for name in network.columns
        if name not in known and name in {*needed, *network.equations}
    ]
    return (
        f"row {found.row} heads another network's table ({network}), not the assignment's 2-2-2, and it "
        f"lacks {', '.join(absent)}"
    )


def _settle_duplicates(names: Mapping[int, str], found: _Found, network: Network) -> dict[str, int]:
    """One column for each name; a label that stands twice is read by its place among its neighbours."""
    named, order = dict(names), network.columns
    times = Counter(names.values())
    missing = [name for name in order if name not in times]
    for column, name in names.items():
        before = named.get(column - 1)
        follows = order[order.index(before) + 1 :][:1] if before in order else ()
        if times[name] > 1 and follows and follows[0] in missing:
            named[column] = follows[0]
            missing.remove(follows[0])
            times[name] -= 1
            found.warnings.append(
                f"the label {heading(name)} stands twice: {address(found.row, column)} is read as "
                f"{heading(follows[0])}"
            )
    columns: dict[str, int] = {}
    for column, name in named.items():
        if name in columns:
            found.warnings.append(
                f"a second column {heading(name)} ({address(found.row, column)}) is not read"
            )
        else:
            columns[name] = column
    return columns


def _unread(sheet: Sheet, found: _Found, columns: Mapping[str, int], rows: range) -> dict[int, str]:
    """Columns with numbers whose headings are not understood, by their headings.

    They stand among the table's columns or right beside them; farther to the right they count where
    they hold formulas in most rows.
    """
    known = set(found.names)
    unread = {}
    left, right = min(known), max(known)
    while left > 1 and _filled(sheet, found.row, rows, left - 1):
        left -= 1
    together = True
    for column in range(left, right + _FARTHEST):
        filled = _filled(sheet, found.row, rows, column)
        together = together and (filled or column <= right)
        if column in known or not filled:
            continue
        cells = [cell for row in rows if (cell := sheet.cells.get((row, column)))]
        numbers = sum(isinstance(cell.value, float) for cell in cells)
        formulas = sum(cell.formula is not None for cell in cells)
        if numbers and (together or 2 * formulas > len(rows)):
            head = sheet.cells.get((found.row, column))
            unread[column] = str(head.value) if head else ""
    return unread


def _filled(sheet: Sheet, head: int, rows: range, column: int) -> bool:
    return (head, column) in sheet.cells or any((row, column) in sheet.cells for row in rows[:3])


def _numbers(sheet: Sheet, network: Network, columns: Mapping[str, int], rows: range) -> dict[str, Any]:
    """The numbers of a table's columns: values, rounding and cells."""
    cells = {name: tuple(sheet.cells.get((row, column)) for row in rows) for name, column in columns.items()}
    return {
        "values": {name: np.array([_number(cell) for cell in column]) for name, column in cells.items()},
        "rounding": _roundings(cells, network),
        "cells": cells,
    }


def _blank(
    network: Network, columns: Mapping[str, int], cells: Mapping[str, tuple[Cell | None, ...]], first: int
) -> tuple[list[str], bool]:
    """What is said of blank cells, and whether there are any above the last row."""
    computed = [name for name in columns if name not in (*network.given, "eta")]
    rows = range(len(cells[computed[0]])) if computed else range(0)
    blank = [(row, name) for row in rows for name in computed if cells[name][row] is None]
    if not blank:
        return [], False
    row, name = blank[0]
    more = f" and {len(blank) - 1} more are" if len(blank) > 1 else " is"
    return [f"{address(first + row, columns[name])}{more} blank: not checked"], row < rows[-1]


def _number(cell: Cell | None) -> float:
    return cell.value if cell is not None and isinstance(cell.value, float) else math.nan


def _roundings(
    cells: Mapping[str, tuple[Cell | None, ...]], network: Network
) -> dict[str, Float[np.ndarray, "row"]]:
    """How far each number may be from what was computed, by its digits.

    Under formulas a program writes at most so many digits everywhere: Google Sheets 10, others 15 or
    more. The longest number under any formula tells how many.
    """
    computed = [cell for column in cells.values() for cell in column if cell and cell.formula]
    _, digits = _longest([cell for cell in computed if not _ROUNDS.search(str(cell.formula))])
    under_formulas = min(max(digits, _GOOGLE_DIGITS), _FLOAT_DIGITS) if computed else _FLOAT_DIGITS
    return {name: _rounding(name, cells, network, under_formulas) for name in cells}


def _rounding(
    name: str, cells: Mapping[str, tuple[Cell | None, ...]], network: Network, under_formulas: int
) -> Float[np.ndarray, "row"]:
    """One unit of the last digit: under a formula as above, else of as many as the column shows.

    A cell alone does not tell: 0.15 may be exact, or 0.1500; the longest cell of its column does.
    A weight that never changes shows too few: then the whole table's longest cells tell.
    """
    column = cells[name]
    start = _number(column[0])
    shown = [cell for cell in column if cell and not (name in network.weights and _number(cell) == start)]
    decimals, digits = _longest(shown)
    if digits == 0:
        decimals, digits = _longest([cell for other in cells.values() for cell in other if cell])
    unit = np.full(len(column), 10.0**-decimals)
    for row, cell in enumerate(column):
        if cell is None or not math.isfinite(_number(cell)):
            continue
        number = Decimal(cell.numeral)
        if cell.formula and not _ROUNDS.search(cell.formula):
            unit[row] = 10.0 ** (_within(number.adjusted()) - under_formulas + 1)
            if under_formulas < _FLOAT_DIGITS:
                unit[row] = max(unit[row], 1e-10)
        else:
            unit[row] = max(unit[row], 10.0 ** (_within(number.adjusted()) - digits + 1))
        typed = number.normalize().as_tuple()
        if row == 0 and name in network.weights and len(typed.digits) < max(digits, 3):
            unit[row] = 0  # a start weight such as 0.15 is exact
    return unit


def _longest(cells: Sequence[Cell]) -> tuple[int, int]:
    """The most decimals and the most digits of any number."""
    numbers = [Decimal(cell.numeral).as_tuple() for cell in cells if math.isfinite(_number(cell))]
    decimals = max((-_within(int(number.exponent)) for number in numbers), default=0)
    return decimals, max((len(number.digits) for number in numbers), default=0)


def _within(exponent: int) -> int:
    return min(max(exponent, -300), 300)


def _parameters(
    sheet: Sheet, by_row: Mapping[int, Mapping[int, str]], rows: range, columns: set[int]
) -> dict[Place, str]:
    """Numbers outside the table that are labelled, such as an input beside "i1": place -> name."""
    parameters: dict[Place, str] = {}
    for row, names in by_row.items():
        for column, name in names.items():
            if name == "eta" or (row in rows and column in columns):
                continue
            if len(names) >= _FEWEST_NAMES and _is_free(sheet, (row + 2, column), rows, columns):
                continue  # another table's heading
            near = ((row, column + 1), (row + 1, column))
            if place := next((place for place in near if _is_free(sheet, place, rows, columns)), None):
                parameters.setdefault(place, name)
    return parameters


def _labels(
    sheet: Sheet, rates: Mapping[Place, re.Match[str]], rows: range, columns: set[int]
) -> tuple[Label, ...]:
    """Learning rates outside the table: in a labelled cell, in a label as "η = 0.5", in the sheet's name."""
    labels = []
    for (row, column), found in rates.items():
        if row in rows and column in columns:
            continue
        if found[1]:
            labels.append(Label(_decimal(found[1]), (row, column)))
            continue
        near = ((row, column + 1), (row, column + 2), (row + 1, column))
        if place := next((place for place in near if _is_free(sheet, place, rows, columns)), None):
            labels.append(Label(float(sheet.cells[place].value), place))
    named = re.fullmatch(rf"{ETA}([0-9.,]+)|([0-9]*[.,][0-9]+)", keep_number(sheet.name[:_LONGEST_LABEL]))
    if named and 0 < _decimal(named[1] or named[2]) < math.inf:
        labels.append(Label(_decimal(named[1] or named[2]), None))
    return tuple(label for label in labels if math.isfinite(label.value))


def _is_free(sheet: Sheet, place: Place, rows: range, columns: set[int]) -> bool:
    """Whether a place holds a number, outside the table."""
    cell = sheet.cells.get(place)
    return (
        cell is not None and isinstance(cell.value, float) and not (place[0] in rows and place[1] in columns)
    )


def _decimal(text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return math.nan
