"""A copy of somebody's spreadsheet in which the wrong cells are marked and explained."""

import io
import math
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from openpyxl.cell.cell import Cell, MergedCell
from openpyxl.comments import Comment
from openpyxl.styles import PatternFill
from openpyxl.workbook import Workbook

from audit.spreadsheet.diagnosis import Finding, WrongCell
from audit.spreadsheet.reading import Sheet, as_xlsx, open_workbook, read_sheets
from audit.spreadsheet.verdict import FileAudit, TableAudit
from backprop.equations import heading

_WRONG = PatternFill("solid", fgColor="FF9F9F")
_CONSEQUENCE = PatternFill("solid", fgColor="FFE699")
_AUTHOR = "audit"
_LONGEST_NAME = 200  # in bytes; file systems take 255, and a temporary file's name is longer
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SAVED_AS_THEY_ARE = ("gif", "jpeg", "png")  # openpyxl unpacks pictures of other types, at any size


def annotated(audit: FileAudit) -> bytes:
    """The copy as .xlsx: wrong cells red, each with a comment; what is wrong because of them yellow.

    The formulas are the original's; a spreadsheet program computes their values when it opens it.
    """
    name, kind = audit.file.name, audit.file.suffix.lower()
    if kind in (".csv", ".tsv"):
        book = _as_workbook(read_sheets(audit.file)[0])
    else:
        given = audit.file.read_bytes()
        book = open_workbook(name, given if kind == ".xlsx" else as_xlsx(name, given))
    for worksheet in book.worksheets:
        images = worksheet._images  # type: ignore[attr-defined]
        images[:] = [image for image in images if image.format in _SAVED_AS_THEY_ARE]
    for table in audit.tables:
        sheet = book[table.table.sheet] if table.table.sheet else book.worksheets[0]
        for consequence in table.consequences:
            column = table.table.columns[consequence.name]
            for row in consequence.rows:
                sheet.cell(table.table.first + row, column).fill = _CONSEQUENCE
            _comment(sheet[consequence.address], "Wrong only because of the red cells, from here on.")
        for cell, words in _comments(table):
            sheet[cell.address].fill = _WRONG
            _comment(sheet[cell.address], words)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def _comments(table: TableAudit) -> Iterator[tuple[WrongCell, str]]:
    for finding in table.findings:
        for cell in finding.cells:
            first = cell is table.findings[0].cells[0]
            yield cell, "The first wrong cell. " * first + explanation(finding, cell)


def explanation(finding: Finding, cell: WrongCell) -> str:
    """What is right in a wrong cell, and what was probably done."""
    formula = f"\n{cell.right_formula}" if cell.right_formula else ""
    mistake = f"\nLooks like: {finding.mistake}." if finding.mistake else ""
    value = "" if math.isnan(cell.right) else f"\n= {cell.right:.15g}"
    return f"Right: {heading(cell.name)} = {cell.equation}{value}{formula}{mistake}"


def _comment(cell: Cell | MergedCell, words: str) -> None:
    if not isinstance(cell, MergedCell):  # it takes no comment; its colour does not show either
        cell.comment = Comment(_NOT_XML.sub("?", words), _AUTHOR, width=420, height=130)


def _as_workbook(table: Sheet) -> Workbook:
    book = Workbook()
    sheet = book.worksheets[0]
    for (row, column), shown in table.cells.items():
        cell = sheet.cell(row, column)
        if isinstance(shown.value, float) and math.isfinite(shown.value):
            cell.value = shown.value
        else:
            cell.value = _NOT_XML.sub(" ", str(shown.value))
            cell.data_type = "s"  # "=..." in a .csv file stays text
    return book


def copy_name(file: Path) -> str:
    """What the copy of one of many files is called: anna.xlsx -> anna.audited.xlsx."""
    name = file.stem if file.suffix == ".xlsx" else file.name
    return f"{name if len(os.fsencode(name)) <= _LONGEST_NAME else _shortened(name)}.audited.xlsx"


def _shortened(name: str) -> str:
    """The start of a name, with a sum of it all that keeps two such apart."""
    return f"{name[:50]}-{zlib.crc32(os.fsencode(name)):08x}"
