"""A spreadsheet that somebody else made, as cells. Nothing in the file is ever run."""

import csv
import io
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import openpyxl
from openpyxl.workbook import Workbook
from openpyxl.worksheet.formula import ArrayFormula
from openpyxl.worksheet.worksheet import Worksheet

from errors import UserError, require

_MAX_BYTES = 20 * 2**20  # of the file
_MAX_UNPACKED = 50 * 2**20
_MAX_PARTS = 2000
_MAX_ROWS, _MAX_COLUMNS = 2**20, 2**14  # of a sheet in a spreadsheet program
_RECALCULATION_SECONDS = 120
_REACHES_OUT = re.compile(
    r"\b(WEBSERVICE|DDE|FILTERXML|IMPORT\w*|RTD|CALL|REGISTER)\s*\(|\[|://", re.IGNORECASE
)
_NUMERAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Cell:
    """What a cell shows.

    Attributes:
      value: its number, or its text (an error, such as #REF!, is text).
      numeral: the number as the file writes it, which tells how many digits are known; "" for text.
      formula: the formula that gave it, None for a constant.
    """

    value: float | str
    numeral: str = ""
    formula: str | None = None


@dataclass(frozen=True)
class Sheet:
    """The cells of a sheet that are not blank, by (row, column), counted from 1."""

    name: str
    cells: Mapping[tuple[int, int], Cell]


def read_sheets(file: Path) -> tuple[Sheet, ...]:
    """The sheets of an .xlsx file, or the one of a .csv file.

    Raises:
      UserError: a file that is missing, too large, damaged, encrypted, of another type, or one
        without the values of its formulas where LibreOffice cannot compute them.
    """
    kind = file.suffix.lower()
    require(
        kind in (".xlsx", ".csv"),
        f"{file.name} is not an .xlsx or .csv file: open it in a spreadsheet program and save it as .xlsx",
    )
    try:
        size = file.stat().st_size
        require(
            size <= _MAX_BYTES,
            f"{file.name} is too large ({size / 2**20:.0f} MB): give a file of at most "
            f"{_MAX_BYTES // 2**20} MB, the table's sheet alone",
        )
        content = file.read_bytes()
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({error.strerror}): give an .xlsx or .csv file, or a folder"
        ) from error
    require(content.strip() != b"", f"{file.name} is empty: save it again from the spreadsheet program")
    return _read_xlsx(file.name, content) if kind == ".xlsx" else (_read_csv(file.name, content),)


def open_workbook(name: str, content: bytes, *, values: bool = False) -> Workbook:
    """An .xlsx file's workbook: its formulas, or the values that they gave when it was last saved.

    Raises:
      UserError: not an .xlsx file, or one that is damaged, encrypted or too large when unpacked.
    """
    if content.startswith(b"\xd0\xcf\x11\xe0"):
        encrypted = "EncryptedPackage".encode("utf-16-le") in content
        raise UserError(
            f"{name} is protected by a password: save it without one"
            if encrypted
            else f"{name} is in the old .xls format: open it in a spreadsheet program and save it as .xlsx"
        )
    require(
        content.startswith(b"PK"),
        f"{name} is not an .xlsx file inside: open it in a spreadsheet program and save it as .xlsx",
    )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.infolist()
            unpacked = sum(part.file_size for part in parts)
            require(
                unpacked <= _MAX_UNPACKED and len(parts) <= _MAX_PARTS,
                f"{name} is too large when unpacked ({unpacked / 2**20:.0f} MB in {len(parts)} parts): "
                f"give at most {_MAX_UNPACKED // 2**20} MB, the table's sheet alone",
            )
            require(
                "xl/workbook.xml" in archive.namelist(),
                f"{name} is not an .xlsx file inside: open it in a spreadsheet program and save it as .xlsx",
            )
        return openpyxl.load_workbook(io.BytesIO(content), data_only=values, keep_vba=False)
    except UserError:
        raise
    except Exception as error:  # openpyxl raises whatever a malformed part leads to
        raise UserError(
            f"{name} is damaged ({' '.join(str(error).split())[:80] or type(error).__name__}): "
            "open it in a spreadsheet program, repair it and save it again"
        ) from error


def _read_xlsx(name: str, content: bytes) -> tuple[Sheet, ...]:
    book = open_workbook(name, content)
    formulas = {sheet.title: dict(_formulas(sheet)) for sheet in book.worksheets}
    values = open_workbook(name, content, values=True)
    count = sum(map(len, formulas.values()))
    unknown = sum(
        values[title].cell(*place).value is None for title, found in formulas.items() for place in found
    )
    if 2 * unknown > count:
        values = _recalculated(name, content, formulas)
    return tuple(_sheet(sheet, formulas.get(sheet.title, {})) for sheet in values.worksheets)


def _formulas(sheet: Worksheet) -> Iterator[tuple[tuple[int, int], str]]:
    for cell in _filled(sheet):
        if isinstance(cell.value, ArrayFormula):
            yield (cell.row, cell.column), str(cell.value.text)
        elif cell.data_type == "f":
            yield (cell.row, cell.column), str(cell.value)


def _filled(sheet: Worksheet) -> list:
    # Not iter_rows: it makes every cell up to the last row and column, 17 billion at worst.
    return [cell for cell in sheet._cells.values() if cell.value is not None]


def _sheet(sheet: Worksheet, formulas: Mapping[tuple[int, int], str]) -> Sheet:
    cells = {}
    for cell in _filled(sheet):
        place = (cell.row, cell.column)
        if isinstance(cell.value, int | float) and not isinstance(cell.value, bool):
            cells[place] = Cell(float(repr(cell.value)), repr(cell.value), formulas.get(place))
        else:
            cells[place] = _text_cell(str(cell.value), formulas.get(place))
    for merged in sheet.merged_cells.ranges:
        head = cells.get((merged.min_row, merged.min_col))
        if head and isinstance(head.value, str) and merged.size["rows"] * merged.size["columns"] <= 1000:
            cells |= {place: head for row in merged.rows for place in row}
    return Sheet(sheet.title, cells)


def _text_cell(text: str, formula: str | None = None) -> Cell:
    """A text, or the number that it spells."""
    text = text.strip()
    return Cell(float(text), text, formula) if _NUMERAL.fullmatch(text) else Cell(text, "", formula)


def _recalculated(
    name: str, content: bytes, formulas: Mapping[str, Mapping[tuple[int, int], str]]
) -> Workbook:
    """The workbook with its values computed by LibreOffice, from a copy in a temporary folder."""
    advice = f"{name} holds formulas without values: open it in a spreadsheet program and save it once"
    office = shutil.which("soffice")
    require(office is not None, advice)
    reaching = any(_REACHES_OUT.search(text) for found in formulas.values() for text in found.values())
    require(not reaching, f"{advice} (it is not computed here: a formula refers to other files or addresses)")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "in", "copy.xlsx")
        copy.parent.mkdir()
        copy.write_bytes(content)
        try:
            subprocess.run(
                [
                    *(str(office), f"-env:UserInstallation={Path(folder, 'profile').as_uri()}", "--headless"),
                    *("--convert-to", "xlsx", "--outdir", str(Path(folder, "out")), str(copy)),
                ],
                check=True,
                capture_output=True,
                timeout=_RECALCULATION_SECONDS,
            )
            computed = Path(folder, "out", "copy.xlsx").read_bytes()
        except (OSError, subprocess.SubprocessError) as error:
            raise UserError(f"{advice} (LibreOffice could not compute it)") from error
    return open_workbook(name, computed, values=True)


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
    # A comma may be a decimal comma: it separates only where nothing else does.
    separator = next((mark for mark in "\t;" if text.count(mark) >= max(1, text.count("\n"))), ",")
    cells = {}
    try:
        for row, line in enumerate(csv.reader(io.StringIO(text), delimiter=separator), start=1):
            require(
                row <= _MAX_ROWS and len(line) <= _MAX_COLUMNS,
                f"{name} is too large: a sheet has at most {_MAX_ROWS} rows and {_MAX_COLUMNS} columns",
            )
            for column, shown in enumerate(line, start=1):
                if shown.strip():
                    decimal = shown.replace(",", ".") if separator != "," else shown
                    cell = _text_cell(decimal)
                    cells[row, column] = cell if cell.numeral else Cell(shown.strip())
    except csv.Error as error:
        raise UserError(f"{name} is damaged ({error}): save it again as .csv or .xlsx") from error
    return Sheet("", cells)
