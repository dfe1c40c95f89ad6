"""Where the assignment's table stands in somebody's sheet, and what its headings mean."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from jaxtyping import Float
from openpyxl.utils import get_column_letter

from audit.spreadsheet.reading import Cell, Sheet
from backprop.descent import COLUMNS
from backprop.equations import heading

GIVEN = ("i1", "i2", "t1", "t2")
WEIGHTS = ("w1", "w2", "w3", "w4", "w5", "w6", "w7", "w8")

_ETA = r"(?:eta|lr|alpha|learningrate)"
_SLOPE = r"(?:d(?:e(?:o|tot|total|t)?|l|loss|error(?:total)?|totalerror)?|grad|gradient|derivative|slope)"
_SPELLINGS = {
    r"(?:t|target|desired|y)([12])": "t{}",
    r"(?:i|in|inp|input|x)([12])": "i{}",
    r"(?:w|weight)([1-8])": "w{}",
    r"(?:h|neth|hin|inh|zh|nethidden)([12])": "h{}",
    r"(?:ah|outh|hout|sigmah|sigmoidh|acth)([12])|(?:h)([12])out": "a_h{}",
    r"(?:o|neto|oin|ino|zo|netoutput)([12])": "o{}",
    r"(?:ao|outo|oout|sigmao|sigmoido|acto)([12])|(?:o)([12])out": "a_o{}",
    r"(?:e|error|err|eo|erroro)([12])": "E{}",
    r"e|et|etot|etotal|error|errortotal|totalerror|loss|totalloss|cost": "E_total",
    rf"{_SLOPE}d?w([1-8])|w([1-8])(?:grad|gradient)": "dE_dw{}",
    _ETA: "eta",
}
_LABEL = re.compile(rf"{_ETA}(?:{_ETA})?([0-9.,]+(?:e-?[0-9]+)?)?")
_ROUNDS = re.compile(r"ROUND|TRUNC|FIXED|INT\(", re.IGNORECASE)
_FEWEST_NAMES = 10  # a row with fewer known headings is not the head of a table
_LONGEST_HEADING = 60
MAX_TABLES = 100  # in a file
_LINES_TO_NUMBERS = 3  # at most this far below the headings stands the first row


@dataclass(frozen=True)
class Label:
    """A learning rate that stands beside the table: in a cell, or in the sheet's name (no place)."""

    value: float
    place: tuple[int, int] | None


@dataclass(frozen=True)
class Table:
    """The assignment's table as it stands in a sheet; arrays have shape [row].

    Attributes:
      headings: the row of the headings; first: the first row of numbers (counted from 1).
      columns: the column of each name that was found, of COLUMNS and "eta".
      values: the numbers; NaN where a cell is blank or holds text.
      rounding: how far a number may be from what was computed, by its digits: one unit of the
        column's last digit.
      cells: the cells themselves, None where blank.
      beside: all cells of the sheet, for what a formula refers to.
      labels: learning rates beside the table.
      notes: what a teacher should know about how the table was read.
    """

    sheet: str
    headings: int
    first: int
    columns: Mapping[str, int]
    values: Mapping[str, Float[np.ndarray, "row"]]
    rounding: Mapping[str, Float[np.ndarray, "row"]]
    cells: Mapping[str, tuple[Cell | None, ...]]
    beside: Mapping[tuple[int, int], Cell]
    labels: tuple[Label, ...]
    notes: tuple[str, ...]

    @property
    def rows(self) -> int:
        """How many rows of numbers it has."""
        return len(next(iter(self.values.values())))

    def address(self, name: str, row: int) -> str:
        """The address of a cell, such as W5; row counts from 0."""
        return address(self.first + row, self.columns[name])


def address(row: int, column: int) -> str:
    """A place as a spreadsheet writes it: (5, 23) is W5."""
    return f"{get_column_letter(column)}{row}"


def canonical(text: str) -> str | None:
    """The name of COLUMNS (or "eta") that a heading means, None if it means none of them."""
    plain = _plain(text)
    for pattern, name in _SPELLINGS.items():
        if found := re.fullmatch(pattern, plain):
            return name.format(*(group for group in found.groups() if group))
    return None


def _plain(text: str) -> str:
    """Letters and digits only: ∂E_t/∂w₁ -> detdw1, ɳ -> eta."""
    text = unicodedata.normalize("NFKC", text).lower().replace("\\partial", "d").replace("\\eta", "eta")
    for letters, word in (("∂δ", "d"), ("ηɳƞ", "eta"), ("α", "alpha"), ("σ", "sigma"), ("σ", "sigma")):
        for letter in letters:
            text = text.replace(letter, word)
    return re.sub(r"[^a-z0-9]", "", text)


def find_tables(sheet: Sheet) -> tuple[Table, ...]:
    """Each table of a sheet, from the top down, at most MAX_TABLES + 1; none in a sheet of only text."""
    texts = {
        place: cell.value
        for place, cell in sheet.cells.items()
        if isinstance(cell.value, str) and len(cell.value) <= _LONGEST_HEADING
    }
    by_row: dict[int, dict[int, str]] = {}
    for (row, column), text in texts.items():
        name = canonical(f"{texts.get((row - 1, column), '')}{text}") or canonical(text)
        if name:
            by_row.setdefault(row, {})[column] = name
    plain = ((place, _LABEL.fullmatch(_keep_number(text))) for place, text in sorted(texts.items()))
    labels = {place: found for place, found in plain if found}
    tables: list[Table] = []
    end = 0
    for row in sorted(by_row):
        if row > end and len(set(by_row[row].values())) >= _FEWEST_NAMES:
            table = _table(sheet, row, dict(sorted(by_row[row].items())), labels)
            if table:
                tables.append(table)
                if len(tables) > MAX_TABLES:
                    break
                end = table.first + table.rows - 1
    return tuple(tables)


def _table(
    sheet: Sheet, head: int, found: dict[int, str], labels: Mapping[tuple[int, int], re.Match[str]]
) -> Table | None:
    def number(row: int, column: int) -> bool:
        cell = sheet.cells.get((row, column))
        return cell is not None and isinstance(cell.value, float)

    starts = (
        row
        for row in range(head + 1, head + 2 + _LINES_TO_NUMBERS)
        if sum(number(row, column) for column in found) >= _FEWEST_NAMES // 2
    )
    first = next(starts, None)
    if first is None:
        return None
    end = first
    while any((end, column) in sheet.cells for column in found):
        end += 1
    rows = range(first, end)
    filled = {column: name for column, name in found.items() if any(number(row, column) for row in rows)}
    columns, notes = _settle_duplicates(filled, head)
    if not set(WEIGHTS) <= set(columns):
        absent = ", ".join(name for name in WEIGHTS if name not in columns)
        notes.append(f"no column for {absent}: what depends on it is not checked")
    if any(number(end + 1, column) for column in columns.values()):
        notes.append(f"row {end} is blank: the rows below it are not read")

    cells = {name: tuple(sheet.cells.get((row, column)) for row in rows) for name, column in columns.items()}
    computed = [name for name in columns if name not in (*GIVEN, "eta")]
    blank = [(row, name) for row, _ in enumerate(rows) for name in computed if cells[name][row] is None]
    if blank:
        row, name = blank[0]
        more = f" and {len(blank) - 1} more are" if len(blank) > 1 else " is"
        notes.append(f"{address(first + row, columns[name])}{more} blank: not checked")
    return Table(
        sheet=sheet.name,
        headings=head,
        first=first,
        columns=columns,
        values={name: np.array([_number(cell) for cell in column]) for name, column in cells.items()},
        rounding={name: _rounding(name, cells) for name in cells},
        cells=cells,
        beside=sheet.cells,
        labels=_labels(sheet, labels, rows=range(head, end), columns=set(columns.values())),
        notes=tuple(notes),
    )


def _settle_duplicates(found: Mapping[int, str], head: int) -> tuple[dict[str, int], list[str]]:
    """One column for each name; a label that stands twice is read by its place among its neighbours."""
    named, notes = dict(found), []
    times = Counter(found.values())
    missing = [name for name in COLUMNS if name not in times]
    for column, name in found.items():
        before = named.get(column - 1)
        follows = COLUMNS[COLUMNS.index(before) + 1 :][:1] if before in COLUMNS else ()
        if times[name] > 1 and follows and follows[0] in missing:
            named[column] = follows[0]
            missing.remove(follows[0])
            times[name] -= 1
            notes.append(
                f"the label {heading(name)} stands twice: {address(head, column)} is read as "
                f"{heading(follows[0])}"
            )
    columns: dict[str, int] = {}
    for column, name in named.items():
        if name in columns:
            notes.append(f"a second column {heading(name)} ({address(head, column)}) is not read")
        else:
            columns[name] = column
    return columns, notes


def _number(cell: Cell | None) -> float:
    return cell.value if cell is not None and isinstance(cell.value, float) else math.nan


def _rounding(name: str, cells: Mapping[str, tuple[Cell | None, ...]]) -> Float[np.ndarray, "row"]:
    """One unit of the last digit: of 15 under a formula, else of as many as the column shows.

    A cell alone does not tell: 0.15 may be exact, or 0.1500; the longest cell of its column does.
    A weight that never changes shows too few: then the whole table's longest cells tell.
    """
    column = cells[name]
    start = _number(column[0])
    shown = [cell for cell in column if cell and not (name in WEIGHTS and _number(cell) == start)]
    decimals, digits = _longest(shown)
    if digits == 0:
        decimals, digits = _longest([cell for other in cells.values() for cell in other if cell])
    unit = np.full(len(column), 10.0**-decimals)
    for row, cell in enumerate(column):
        if cell is None or not math.isfinite(_number(cell)):
            continue
        number = Decimal(cell.numeral)
        if cell.formula and not _ROUNDS.search(cell.formula):
            unit[row] = 10.0 ** (_within(number.adjusted()) - 14)
        else:
            unit[row] = max(unit[row], 10.0 ** (_within(number.adjusted()) - digits + 1))
        typed = number.normalize().as_tuple()
        if row == 0 and name in WEIGHTS and len(typed.digits) < max(digits, 3):
            unit[row] = 0  # a start weight such as 0.15 is exact
    return unit


def _longest(cells: Sequence[Cell]) -> tuple[int, int]:
    """The most decimals and the most digits of any number."""
    numbers = [Decimal(cell.numeral).as_tuple() for cell in cells if math.isfinite(_number(cell))]
    decimals = max((-_within(int(number.exponent)) for number in numbers), default=0)
    return decimals, max((len(number.digits) for number in numbers), default=0)


def _within(exponent: int) -> int:
    return min(max(exponent, -300), 300)


def _labels(
    sheet: Sheet, labels: Mapping[tuple[int, int], re.Match[str]], rows: range, columns: set[int]
) -> tuple[Label, ...]:
    """Learning rates in labelled cells outside the table, then one in the sheet's name."""
    rates = []
    for (row, column), found in labels.items():
        if row in rows and column in columns:
            continue
        if found[1]:
            rates.append(Label(_decimal(found[1]), (row, column)))
            continue
        for place in ((row, column + 1), (row, column + 2), (row + 1, column)):
            beside = sheet.cells.get(place)
            if beside and isinstance(beside.value, float) and not (place[0] in rows and place[1] in columns):
                rates.append(Label(beside.value, place))
                break
    named = re.fullmatch(rf"{_ETA}([0-9.,]+)|([0-9]*[.,][0-9]+)", _keep_number(sheet.name[:_LONGEST_HEADING]))
    if named and 0 < _decimal(named[1] or named[2]) < math.inf:
        rates.append(Label(_decimal(named[1] or named[2]), None))
    return tuple(label for label in rates if math.isfinite(label.value))


def _keep_number(text: str) -> str:
    """As _plain, with a number at the end kept whole: "η = 0.5" -> eta0.5."""
    words, number = re.fullmatch(r"(.*?)([0-9.,]*(?:[0-9]e-?[0-9]+)?)\)?\s*", text, re.DOTALL).groups()  # type: ignore[union-attr]
    return _plain(words) + number


def _decimal(text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return math.nan
