"""A spreadsheet that somebody else made, as cells. Nothing in the file is ever run."""

import csv
import functools
import io
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import openpyxl
from openpyxl.cell.cell import Cell as OpenpyxlCell
from openpyxl.workbook import Workbook
from openpyxl.worksheet.formula import ArrayFormula
from openpyxl.worksheet.worksheet import Worksheet

from audit.config import WORKBOOKS
from audit.spreadsheet.formulas import Place, address, references
from audit.spreadsheet.opendocument import checked_ods
from audit.spreadsheet.package import (
    MAX_COLUMNS,
    MAX_ROWS,
    Package,
    bare,
    checked,
    damaged,
    require_plain_xls,
)
from audit.spreadsheet.recalculation import converted, is_installed, is_isolated, recalculated
from harness.errors import UserError, require
from harness.files import open_file

SUFFIXES = (".xlsx", ".csv", ".tsv", ".ods", ".xls")
_MAX_BYTES = 20 * 2**20  # of the file
_MAX_CELLS = 400_000  # of a .csv file, those that are not blank
_LONGEST_TEXT = 1000
_MOST_BITS = 1023  # of a whole number that is a float, too
_INDIRECT = re.compile(r"\bINDIRECT\s*\(", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d{1,4})?", re.IGNORECASE)
_NUMERAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,4})?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell shows: its number, or the start of its text (an error, such as #REF!, is text)."""

    value: float | str
    numeral: str = ""  # the number as the file writes it, which tells how many digits are known
    formula: str | None = None  # that gave it


@dataclass(frozen=True)
class Book:
    """The cells of all sheets, which formulas may refer to, and how the file was read, for a teacher."""

    sheets: Mapping[str, Mapping[Place, Cell]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)  # defined ones in lower case
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """The cells of a sheet that are not blank, by (row, column), counted from 1.

    A table whose rows are columns, or has lines between its rows, is read from a sheet with these in order.
    """

    name: str
    cells: Mapping[Place, Cell]
    book: Book = field(default_factory=Book, repr=False, compare=False)
    hidden: bool = False
    is_turned: bool = False  # its rows are the file's columns
    lines: Mapping[int, int] = field(default_factory=dict)  # of the file, in rows that have another one
    moved: Mapping[int, int] = field(default_factory=dict)  # the other way round

    def real(self, place: Place) -> Place:
        """Where the file has what stands at a place here."""
        there = _renumbered(self.lines, place)
        return _exchanged(there) if self.is_turned else there

    def own(self, place: Place) -> Place:
        """Where what the file has at a place stands here."""
        return _renumbered(self.moved, _exchanged(place) if self.is_turned else place)

    def address(self, row: int, column: int) -> str:
        """What the spreadsheet program calls a place, such as W5."""
        return address(*self.real((row, column)))

    def has_number(self, place: Place) -> bool:
        """Whether a number stands at a place."""
        return isinstance(getattr(self.cells.get(place), "value", None), float)

    def references(self, formula: str) -> list[Place]:
        """The places here of the single cells of this sheet that a formula refers to."""
        return [self.own(place) for place in references(formula)]

    def turned(self) -> "Sheet":
        """The same with rows and columns exchanged."""
        return replace(self, is_turned=True, cells=_Rearranged(self.cells, _exchanged, _exchanged))

    def in_order(self, lines: Sequence[int]) -> "Sheet":
        """The same with some lines one after another, and what stood between them below."""
        span = range(lines[0], lines[-1] + 1)
        if len(lines) == len(span):
            return self
        line = dict(zip(span, [*lines, *sorted({*span} - {*lines})], strict=True))
        moved = {there: here for here, there in line.items()}
        there, here = functools.partial(_renumbered, line), functools.partial(_renumbered, moved)
        return replace(self, lines=line, moved=moved, cells=_Rearranged(self.cells, there, here))


def _renumbered(rows: Mapping[int, int], place: Place) -> Place:
    return rows.get(place[0], place[0]), place[1]


def _exchanged(place: Place) -> Place:
    return place[1], place[0]


@dataclass(frozen=True, eq=False)
class _Rearranged(Mapping[Place, Cell]):
    """Cells at other places: none is copied."""

    cells: Mapping[Place, Cell]
    there: Callable[[Place], Place]
    here: Callable[[Place], Place]

    def __getitem__(self, place: Place) -> Cell:
        return self.cells[self.there(place)]

    def __iter__(self) -> Iterator[Place]:
        return map(self.here, self.cells)

    def __len__(self) -> int:
        return len(self.cells)


def read_sheets(file: Path) -> tuple[Sheet, ...]:
    """The sheets of an .xlsx file, of one that LibreOffice reads as such, or the one of a .csv file."""
    kind = file.suffix.lower()
    require(
        kind in SUFFIXES,
        f"{file.name} is not an {WORKBOOKS} file: open it in a spreadsheet program and save it as .xlsx",
    )
    try:
        with open_file(file) as stream:
            size = os.fstat(stream.fileno()).st_size
            require(
                size <= _MAX_BYTES,
                f"{file.name} is too large ({size / 2**20:.0f} MB): give a file of at most "
                f"{_MAX_BYTES // 2**20} MB, the table's sheet alone",
            )
            content = stream.read(_MAX_BYTES)  # in case that it grows, or has no size, as in /proc
    except OSError as error:
        why = f"{file.name} cannot be read ({error.strerror}): give an {WORKBOOKS} file, or a folder"
        raise UserError(why) from error
    require(content.strip() != b"", f"{file.name} is empty: save it again from the spreadsheet program")
    if kind in (".csv", ".tsv"):
        return (_read_csv(file.name, content),)
    return _read_xlsx(file.name, content if kind == ".xlsx" else as_xlsx(file.name, content))


def as_xlsx(name: str, content: bytes) -> bytes:
    """An .ods or .xls file as .xlsx, by LibreOffice."""
    kind = Path(name).suffix.lower()
    if kind == ".ods":
        content = checked_ods(name, content)
    else:
        require_plain_xls(name, content)
    advice = "open it in a spreadsheet program and save it as .xlsx"
    require(
        is_installed(),
        f"{name} is an {kind} file, which LibreOffice would read, but it is not there: {advice}",
    )
    require(
        kind == ".ods" or is_isolated(),
        f"{name} is an .xls file, which may link to other files, and LibreOffice cannot be kept from them "
        f"here: {advice}",
    )
    try:
        return converted(content, kind)
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"{name} cannot be read by LibreOffice: {advice}") from error


def open_workbook(name: str, content: bytes) -> Workbook:
    """An .xlsx file's workbook with its formulas."""
    return _opened(name, checked(name, content))[1]


def _opened(name: str, package: Package) -> tuple[Package, Workbook]:
    """A checked file and its workbook with formulas: its cells alone where the rest is damaged."""
    try:
        return package, _loaded(name, package.content)
    except UserError:
        try:
            cells = bare(package.content)
        except Exception as error:  # ElementTree and zipfile raise whatever a malformed part leads to
            raise damaged(name, "its sheets cannot be read") from error
        note = "its formats are damaged, or what else an audit does not need: its cells alone were read"
        return Package(cells, (*package.notes, note)), _loaded(name, cells)


def _loaded(name: str, content: bytes, *, values: bool = False) -> Workbook:
    """What a checked .xlsx file holds: its formulas, or the values they gave when it was last saved."""
    try:
        with warnings.catch_warnings(action="ignore"):  # they are about what an audit does not read
            return openpyxl.load_workbook(io.BytesIO(content), data_only=values, keep_links=False)
    except Exception as error:  # openpyxl raises whatever a malformed part leads to
        raise damaged(name, "its cells cannot be read") from error


def _read_xlsx(name: str, content: bytes) -> tuple[Sheet, ...]:
    package, book = _opened(name, checked(name, content))
    content = package.content
    formulas = {sheet.title: dict(_formulas(name, sheet)) for sheet in book.worksheets}
    values = _loaded(name, content, values=True)
    count = sum(map(len, formulas.values()))
    unknown = sum(
        (cell := values[title]._cells.get(place)) is None or cell.value is None
        for title, found in formulas.items()
        for place in found
    )
    if 2 * unknown > count:
        values = _recalculated(name, content, formulas)
    sheets = [_sheet(name, sheet, formulas.get(sheet.title, {})) for sheet in values.worksheets]
    defined = {label.lower(): str(found.attr_text or "") for label, found in values.defined_names.items()}
    source = Book({sheet.name: sheet.cells for sheet in sheets}, defined, package.notes)
    return tuple(replace(sheet, book=source) for sheet in sheets)


def _formulas(name: str, sheet: Worksheet) -> Iterator[tuple[Place, str]]:
    for cell in _filled(name, sheet):
        if isinstance(cell.value, ArrayFormula):
            yield (cell.row, cell.column), str(cell.value.text)
        elif cell.data_type == "f":
            yield (cell.row, cell.column), str(cell.value)


def _filled(name: str, sheet: Worksheet) -> Iterator[OpenpyxlCell]:
    # Not iter_rows: it makes every cell up to the last row and column, 17 billion at worst.
    for cell in sheet._cells.values():
        if cell.value is not None:
            if not (1 <= cell.row <= MAX_ROWS and 1 <= cell.column <= MAX_COLUMNS):
                raise damaged(name, f"a cell in row {cell.row}, column {cell.column}")
            if isinstance(cell.value, int) and cell.value.bit_length() > _MOST_BITS:
                raise damaged(name, f"a number of hundreds of digits in {cell.coordinate}")
            yield cell


def _sheet(name: str, sheet: Worksheet, formulas: Mapping[Place, str]) -> Sheet:
    cells = {}
    for cell in _filled(name, sheet):
        place = (cell.row, cell.column)
        if isinstance(cell.value, int | float) and not isinstance(cell.value, bool):
            cells[place] = Cell(float(repr(cell.value)), repr(cell.value), formulas.get(place))
        else:
            cells[place] = _text_cell(str(cell.value), formulas.get(place))
    for merged in sheet.merged_cells.ranges:
        head = cells.get((merged.min_row, merged.min_col))
        if head and isinstance(head.value, str) and merged.size["rows"] * merged.size["columns"] <= 1000:
            cells |= {place: head for row in merged.rows for place in row}
    return Sheet(sheet.title, cells, hidden=sheet.sheet_state != "visible")


def _text_cell(text: str, formula: str | None = None) -> Cell:
    """A text, or the number that it spells."""
    text = sys.intern(text[:_LONGEST_TEXT].strip())  # one text may stand in many cells
    numeral = text.replace("\u2212", "-")
    if _DECIMAL_COMMA.fullmatch(numeral):
        numeral = numeral.replace(",", ".")
    return Cell(float(numeral), numeral, formula) if _NUMERAL.fullmatch(numeral) else Cell(text, "", formula)


def _recalculated(name: str, content: bytes, formulas: Mapping[str, Mapping[Place, str]]) -> Workbook:
    """The workbook with its values computed by LibreOffice."""
    advice = f"{name} holds formulas without values: open it in a spreadsheet program and save it once"
    require(is_installed(), advice)
    indirect = any(_INDIRECT.search(text) for found in formulas.values() for text in found.values())
    require(not indirect, f"{advice} (it is not computed here: INDIRECT may refer to other files)")
    try:
        computed = recalculated(_loaded(name, content))
    except Exception as error:  # saving raises whatever a malformed part leads to
        raise UserError(f"{advice} (LibreOffice could not compute it)") from error
    return _loaded(name, checked(name, computed).content, values=True)


def _read_csv(name: str, content: bytes) -> Sheet:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    else:
        require(
            b"\0" not in content and not content.startswith(b"PK"),
            f"{name} is not a text file inside: open it in a spreadsheet program and save it as .xlsx",
        )
        encoding = "utf-8"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
    text = text.removeprefix("\ufeff")
    text = re.sub(r"\Asep=.\r?\n", "\n", text)  # for Excel
    # A comma may be a decimal comma: it separates only where nothing else does.
    separator = next((mark for mark in "\t;" if text.count(mark) >= max(1, text.count("\n"))), ",")
    cells = {}
    try:
        for row, line in enumerate(csv.reader(io.StringIO(text), delimiter=separator), start=1):
            require(
                row <= MAX_ROWS and len(line) <= MAX_COLUMNS,
                f"{name} is too large: a sheet has at most {MAX_ROWS} rows and {MAX_COLUMNS} columns",
            )
            for column, shown in enumerate(line, start=1):
                if shown.strip():
                    cells[row, column] = _text_cell(shown)
            require(len(cells) <= _MAX_CELLS, f"{name} is too large: give at most {_MAX_CELLS} cells")
    except csv.Error as error:
        raise UserError(f"{name} is damaged ({error}): save it again as .csv or .xlsx") from error
    return Sheet("", cells)
