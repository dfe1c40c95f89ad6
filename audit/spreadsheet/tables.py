"""Where the tables stand in somebody's sheet: headings, rows, and what stands beside them."""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float

from audit.spreadsheet.formulas import Place
from audit.spreadsheet.headings import ETA, LONGEST, canonical, keep_number
from audit.spreadsheet.network import Network, network_of
from audit.spreadsheet.reading import Cell, Sheet
from backprop.equations import heading

LABEL = re.compile(rf"{ETA}(?:{ETA})?([0-9.,]+(?:e-?[0-9]+)?)?")
_ROUNDS = re.compile(r"ROUND|TRUNC|FIXED|INT\(", re.IGNORECASE)
_AGGREGATES = re.compile(r"^=\s*(AVERAGE|MIN|MAX|COUNT|MEDIAN|STDEV|SUM)\w*\(\$?[A-Z]+\$?\d+:", re.IGNORECASE)
_FEWEST_NAMES = 10  # a row with fewer known headings is not the head of a table
_LONGEST_LABEL = 60
MAX_TABLES = 100  # in a file
_LINES_TO_NUMBERS = 3  # at most this far below the headings stands the first row
_LONGEST_GAP = 20  # lines between two rows of a table
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

    Warnings keep it from being right without reserve, notes do not; missing is what it does not show, and
    how to hand that in.
    """

    network: Network
    source: Sheet
    headings: int  # their row
    first: int  # row of numbers, counted from 1
    rows: int
    columns: Mapping[str, int]  # of network.columns and "eta"
    unread: Mapping[int, str]  # the other columns that belong to the table, by their headings
    constants: Mapping[str, float] = field(default_factory=dict)  # given in labelled cells beside it
    labelled: Mapping[Place, str] = field(default_factory=dict)  # all labelled cells beside it
    labels: tuple[Label, ...] = ()
    steps: tuple[int, ...] = ()  # by which a counter of epochs grows from row to row
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def sheet(self) -> str:
        """The sheet's name."""
        return self.source.name

    @cached_property
    def cells(self) -> Mapping[str, tuple[Cell | None, ...]]:
        """The cells of each column, None where blank."""
        rows = range(self.first, self.first + self.rows)
        return {
            name: tuple(self.source.cells.get((row, column)) for row in rows)
            for name, column in self.columns.items()
        }

    @cached_property
    def values(self) -> Mapping[str, Float[np.ndarray, "row"]]:
        """The numbers of each column; NaN where a cell is blank or holds text."""
        return {name: np.array([_number(cell) for cell in column]) for name, column in self.cells.items()}

    @cached_property
    def rounding(self) -> Mapping[str, Float[np.ndarray, "row"]]:
        """How far a number may be from what was computed, by its digits: one unit of the last digit."""
        return _roundings(self.cells, self.network)

    def shown(self, name: str) -> Bool[np.ndarray, "row"]:
        """Which cells of a column are not blank."""
        return np.array([cell is not None for cell in self.cells[name]])

    def address(self, name: str, row: int) -> str:
        """The address of a cell, such as W5; row counts from 0."""
        return self.source.address(self.first + row, self.columns[name])

    def without(self, names: Collection[str]) -> "Table":
        """The same table without some of its columns."""
        return replace(self, columns={n: column for n, column in self.columns.items() if n not in names})

    def with_columns(self, names: Mapping[int, str]) -> "Table":
        """The same table, with some of its unread columns read by these names."""
        columns = {**self.columns, **{name: column for column, name in names.items()}}
        unread = {column: text for column, text in self.unread.items() if column not in names}
        return replace(self, columns=columns, unread=unread)


@dataclass
class _Found:
    """The known headings of one table, while it is looked for; beside are the columns of other tables."""

    row: int
    names: dict[int, str]
    warnings: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    beside: set[int] = field(default_factory=set)

    def overlaps(self, other: "_Found") -> bool:
        """Whether one stands below the other, as far as their columns tell."""
        return min(self.names) <= max(other.names) and min(other.names) <= max(self.names)


def find_tables(sheet: Sheet) -> tuple[Table, ...]:
    """Each table of a sheet, from the top down, at most MAX_TABLES + 1; none in a sheet of only text.

    Where no row heads one, the sheet is read with rows and columns exchanged.
    """
    return tables_named(sheet) or tables_named(sheet.turned())


def tables_named(sheet: Sheet, names: Mapping[int, Mapping[int, str]] | None = None) -> tuple[Table, ...]:
    """The tables of an upright sheet; names, by row and column, are what headings mean that are not known."""
    return tuple(table for table in _tables(sheet, names) if isinstance(table, Table))


def other_networks(sheet: Sheet) -> tuple[str, ...]:
    """What stands in place of a table, in words: another network's, of which columns are missing."""
    return tuple(words for words in _tables(sheet) if isinstance(words, str))


def heads(sheet: Sheet) -> list[int]:
    """The rows of texts, right above numbers, that may be headings; that with the most columns first."""
    texts = Counter(row for row, column in _texts(sheet) if sheet.has_number((row + 1, column)))
    return [row for row, count in texts.most_common() if count >= _FEWEST_NAMES]


def _texts(sheet: Sheet) -> dict[Place, str]:
    values = ((place, cell.value) for place, cell in sheet.cells.items())
    return {place: text for place, text in values if isinstance(text, str) and len(text) <= LONGEST}


def _tables(sheet: Sheet, names: Mapping[int, Mapping[int, str]] | None = None) -> Iterator[Table | str]:
    texts = _texts(sheet)
    short = ((place, text) for place, text in sorted(texts.items()) if len(text) <= _LONGEST_LABEL)
    rates = {place: rate for place, text in short if (rate := LABEL.fullmatch(keep_number(text)))}
    by_row = names or _names(texts)
    headed = [
        _Found(row, these)
        for row in sorted(by_row)
        for these in _side_by_side(sheet, row, dict(sorted(by_row[row].items())))
    ]
    covered: list[tuple[_Found, int]] = []  # and each one's last row
    for found in headed:
        if any(found.row <= last and found.overlaps(other) for other, last in covered):
            continue
        for lines in _stretches(sheet, found, [other.row for other in headed if found.overlaps(other)]):
            ordered = sheet.in_order(lines)
            moved = ordered.moved
            table = _table(
                ordered,
                replace(found, beside=_beside(found, headed, lines[-1]), warnings=[], missing=[]),
                range(lines[0], lines[0] + len(lines)),
                {moved.get(row, row): those for row, those in by_row.items()},
                {(moved.get(row, row), column): rate for (row, column), rate in rates.items()},
            )
            if table is not None:
                yield table
            if isinstance(table, Table):
                covered.append((found, lines[-1]))
                if len(covered) > MAX_TABLES:
                    return


def _names(texts: Mapping[Place, str]) -> dict[int, dict[int, str]]:
    """The names that texts mean, by row and column.

    A text's own words count. What stands above helps where they mean nothing, or what another one beside
    means as well, as under a "dE/d" that heads a second w1; but not an equation above.
    """
    by_row: dict[int, dict[int, str]] = {}
    for (row, column), text in texts.items():
        if name := canonical(text):
            by_row.setdefault(row, {})[column] = name
    for (row, column), text in texts.items():
        above = texts.get((row - 1, column), "")
        names = by_row.get(row, {})
        own = names.get(column)
        if above and "=" not in above and (own is None or [*names.values()].count(own) > 1):
            name = canonical(f"{above}{text}")
            if name and name not in names.values():
                by_row.setdefault(row, {})[column] = name
    return by_row


def _side_by_side(sheet: Sheet, row: int, names: Mapping[int, str]) -> Iterator[dict[int, str]]:
    """The headings of each table in a row.

    Names that come again are another table's, after a blank column, or where many do. An eta between such a
    blank column and them is theirs.
    """
    groups: list[dict[int, str]] = []
    columns = list(names)
    for column, name in names.items():
        seen = set(groups[-1].values()) if groups else set()
        after = {names[other] for other in columns if other >= column}
        gap = (row, column - 1) not in sheet.cells
        if name == "eta" and gap:
            name = names.get(column + 1, name)
        if not groups or (name in seen and (gap or len(seen & after) >= _FEWEST_NAMES)):
            groups.append({})
        groups[-1][column] = names[column]
    return (group for group in groups if len(set(group.values())) >= _FEWEST_NAMES)


def _beside(found: _Found, heads: Sequence[_Found], last: int) -> set[int]:
    """The columns of other tables that stand beside one."""
    own = range(min(found.names), max(found.names) + 1)
    others = (other for other in heads if found.row - _FARTHEST <= other.row <= last)
    return {
        column
        for other in others
        for column in range(min(other.names), max(other.names) + 1)
        if column not in own
    }


def _stretches(sheet: Sheet, found: _Found, heads: Sequence[int]) -> Iterator[list[int]]:
    """The lines of each table under some headings: where the weights start anew, so does a table.

    Blank lines and those of texts lie between the rows of a table, or below it.
    """
    columns = list(found.names)
    starts = range(found.row + 1, found.row + 2 + _LINES_TO_NUMBERS)
    fewest = _FEWEST_NAMES // 2
    first = next((row for row in starts if sum(sheet.has_number((row, c)) for c in columns) >= fewest), None)
    if first is None:
        return
    weights = [column for column, name in found.names.items() if re.fullmatch(r"w\d+", name)]
    rate = [column for column, name in found.names.items() if name == "eta"]

    def cells(row: int, which: Sequence[int]) -> list[Cell]:
        return [cell for column in which if (cell := sheet.cells.get((row, column)))]

    def shown(row: int, which: Sequence[int]) -> list[float | str]:
        return [cell.value for cell in cells(row, which)]

    full = sum(map(_is_computed, cells(first, columns)))
    lines = [first]
    row = first + 1
    while row - lines[-1] <= _LONGEST_GAP:
        after_gap = row > lines[-1] + 1
        if row in heads and not any(cell.formula for cell in cells(row + 1, weights)):
            break
        here = cells(row, columns)
        computed = sum(map(_is_computed, here))
        formulas = [cell.formula for cell in here if cell.formula]
        summary = bool(formulas) and all(_AGGREGATES.match(formula) for formula in formulas)
        whole = 2 * computed >= full if after_gap or computed < len(here) else computed > 0
        if whole and not summary and (cells(row, weights) or not cells(first, weights)):
            start = cells(row, weights)
            typed = bool(start) and not any(cell.formula for cell in start)
            before = cells(lines[-1], weights)
            again = shown(row, weights) == shown(lines[0], weights)
            changed = shown(row, [*weights, *rate]) != shown(lines[-1], [*weights, *rate])
            if typed and ((again and changed) or (after_gap and any(cell.formula for cell in before))):
                yield lines
                lines = []
            lines.append(row)
        row += 1
    yield lines


def _is_computed(cell: Cell) -> bool:
    """Whether a cell holds a number, or what a program shows in place of one."""
    error = isinstance(cell.value, str) and re.match(r"#|Err:|-?(nan|inf)", cell.value, re.IGNORECASE)
    return isinstance(cell.value, float) or cell.formula is not None or bool(error)


def _table(
    sheet: Sheet,
    found: _Found,
    rows: range,
    by_row: Mapping[int, Mapping[int, str]],
    rates: Mapping[Place, re.Match[str]],
) -> Table | str | None:
    head, first, end = found.row, rows.start, rows.stop
    numbers_in = {column: sum(sheet.has_number((row, column)) for row in rows) for column in found.names}
    filled = {
        column: name
        for column, name in found.names.items()
        if numbers_in[column] > (name == "eta" and len(rows) > 1)  # one alone is a label's
    }
    parameters = _parameters(sheet, by_row, range(head, end), set(filled))
    labels = _labels(sheet, rates, range(head, end), set(filled))
    network = network_of({*found.names.values(), *(name for name in parameters.values() if name[0] == "b")})
    if network is None:
        return None
    columns = _settle_duplicates(sheet, filled, found, network)
    network = _with_biases(network, columns, sheet, rows)
    if missing := _missing(network, found, columns, parameters):
        return missing
    columns = {name: column for name, column in columns.items() if name in (*network.columns, "eta")}
    if not set(network.weights) <= set(columns):
        absent = ", ".join(name for name in network.weights if name not in columns)
        found.missing.append(f"no column is headed {absent}: add it, or its heading")
    table = Table(
        network=network,
        source=sheet,
        headings=head,
        first=first,
        rows=len(rows),
        columns=columns,
        unread=_unread(sheet, found, rows),
        constants={
            name: float(sheet.cells[place].value)  # numbers, as _parameters found them
            for place, name in reversed(parameters.items())
            if name not in columns and name not in network.weights
        },
        labelled=parameters,
        labels=labels,
    )
    blank, inside = _blank(table)
    (found.missing if inside else found.warnings).extend(blank)
    return replace(table, warnings=tuple(found.warnings), missing=tuple(found.missing))


def _with_biases(network: Network, columns: Mapping[str, int], sheet: Sheet, rows: range) -> Network:
    """The same network; biases that stay the same, or stand beside the table, are constants."""
    if not network.shape.biases or any(name.startswith("dE_db") for name in columns):
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
    needed = {*network.given, *network.weights, *(neuron.a for neuron in network.shape.layers[1])}
    if needed <= known:
        return None
    sought = needed | {*network.equations}
    absent = ", ".join(heading(name) for name in network.columns if name in sought - known)
    return (
        f"row {found.row} heads another network's table ({network}), not the assignment's 2-2-2, and it "
        f"lacks {absent}"
    )


def _settle_duplicates(
    sheet: Sheet, names: Mapping[int, str], found: _Found, network: Network
) -> dict[str, int]:
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
            twice = f"the label {heading(name)} stands twice: {sheet.address(found.row, column)}"
            found.warnings.append(f"{twice} is read as {heading(follows[0])}")
    columns: dict[str, int] = {}
    for column, name in named.items():
        if name in columns:
            where = sheet.address(found.row, column)
            found.warnings.append(f"a second column {heading(name)} ({where}) is not read")
        else:
            columns[name] = column
    return columns


def _unread(sheet: Sheet, found: _Found, rows: range) -> dict[int, str]:
    """Columns with numbers whose headings are not understood, by their headings.

    They stand among the table's columns or right beside them; farther to the right they count where
    they hold formulas in most rows.
    """
    known = set(found.names)
    unread = {}
    left, right = min(known), max(known)
    while left > 1 and left - 1 not in found.beside and _filled(sheet, found.row, rows, left - 1):
        left -= 1
    together = True
    for column in range(left, right + _FARTHEST):
        filled = _filled(sheet, found.row, rows, column)
        together = together and column not in found.beside and (filled or column <= right)
        if column in known or column in found.beside or not filled:
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


def _blank(table: Table) -> tuple[list[str], bool]:
    """What is said of blank cells, and whether there are any above the last row."""
    computed = [name for name in table.columns if name not in (*table.network.given, "eta")]
    blank = [(row, name) for row in range(table.rows) for name in computed if table.cells[name][row] is None]
    if not blank:
        return [], False
    row, name = blank[0]
    more = f" and {len(blank) - 1} more are" if len(blank) > 1 else " is"
    return [f"{table.address(name, row)}{more} blank: not checked"], row < table.rows - 1


def _number(cell: Cell | None) -> float:
    return cell.value if cell is not None and isinstance(cell.value, float) else math.nan


_Cells = Mapping[str, tuple[Cell | None, ...]]


def _roundings(cells: _Cells, network: Network) -> dict[str, Float[np.ndarray, "row"]]:
    """How far each number may be from what was computed, by its digits.

    Under formulas a program writes at most so many digits everywhere: Google Sheets 10, others 15 or
    more. The longest number under any formula tells how many.
    """
    computed = [cell for column in cells.values() for cell in column if cell and cell.formula]
    _, digits = _longest([cell for cell in computed if not _ROUNDS.search(str(cell.formula))])
    under_formulas = min(max(digits, _GOOGLE_DIGITS), _FLOAT_DIGITS) if computed else _FLOAT_DIGITS
    return {name: _rounding(name, cells, network, under_formulas) for name in cells}


def _rounding(name: str, cells: _Cells, network: Network, under_formulas: int) -> Float[np.ndarray, "row"]:
    """One unit of the last digit: under a formula as above, else of as many as the cell shows.

    A program drops a last 0: a cell with fewer digits than most may have one more that is 0. So the cell has
    the digits that its column is written with, and its own where those are more. A weight that never
    changes shows too few: then the whole table's longest cells tell.
    """
    column = cells[name]
    start = _number(column[0])
    shown = [cell for cell in column if cell and not (name in network.weights and _number(cell) == start)]
    _, most = _longest(shown)
    if most == 0:
        decimals, most = _longest([cell for other in cells.values() for cell in other if cell])
        places, digits = [decimals], [most]
    else:
        numbers = [_typed(cell) for cell in shown if math.isfinite(_number(cell))]
        places, digits = _levels(map(_places, numbers)), _levels(len(n.as_tuple().digits) for n in numbers)
    unit = np.full(len(column), 10.0 ** -max(places))
    for row, cell in enumerate(column):
        if cell is None or not math.isfinite(_number(cell)):
            continue
        number = _typed(cell)
        if cell.formula and not _ROUNDS.search(cell.formula):
            unit[row] = 10.0 ** (_within(number.adjusted()) - under_formulas + 1)
            if under_formulas < _FLOAT_DIGITS:
                unit[row] = max(unit[row], 1e-10)
        else:
            unit[row] = 10.0 ** -_at_least(_places(number), places)
            if number:
                own = _at_least(len(number.as_tuple().digits), digits)
                unit[row] = max(unit[row], 10.0 ** (_within(number.adjusted()) - own + 1))
        typed = number.normalize().as_tuple()
        if row == 0 and name in network.weights and len(typed.digits) < max(most, 3):
            unit[row] = 0  # a start weight such as 0.15 is exact
    return unit


def _typed(cell: Cell) -> Decimal:
    """A number as it was meant: 0.199843 where a program made it 0.19984300000000002."""
    number = Decimal(cell.numeral)
    short = Decimal(f"{_number(cell):.{_FLOAT_DIGITS}g}").normalize()
    many = len(number.as_tuple().digits) > _FLOAT_DIGITS
    return short if many and len(short.as_tuple().digits) < _FLOAT_DIGITS - 2 else number


def _places(number: Decimal) -> int:
    """How many decimals it has."""
    return max(0, -_within(int(number.as_tuple().exponent)))


def _levels(counted: Iterable[int]) -> list[int]:
    """How many digits the numbers of a column have, but for those that end in a 0 that is not shown."""
    times = Counter(counted)
    longer = {
        count: sum(n * 10.0 ** (count - more) for more, n in times.items() if more > count) for count in times
    }
    return sorted(count for count, n in times.items() if n > 1 + 3 * longer[count]) or [max(times)]


def _at_least(own: int, levels: Sequence[int]) -> int:
    return next((level for level in levels if level >= own), own)


def _longest(cells: Sequence[Cell]) -> tuple[int, int]:
    """The most decimals and the most digits of any number."""
    numbers = [_typed(cell) for cell in cells if math.isfinite(_number(cell))]
    digits = (len(number.as_tuple().digits) for number in numbers)
    return max(map(_places, numbers), default=0), max(digits, default=0)


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
    return sheet.has_number(place) and not (place[0] in rows and place[1] in columns)


def _decimal(text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return math.nan
