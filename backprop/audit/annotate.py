"""A copy of somebody's spreadsheet in which the wrong cells are marked and explained."""

import io
import math
from collections.abc import Iterator
from pathlib import Path

from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE, Cell
from openpyxl.comments import Comment
from openpyxl.styles import PatternFill
from openpyxl.workbook import Workbook

from backprop.audit.diagnosis import Finding, WrongCell
from backprop.audit.reading import Sheet, open_workbook, read_sheets
from backprop.audit.verdict import FileAudit, TableAudit
from backprop.equations import heading

_WRONG = PatternFill("solid", fgColor="FF9F9F")
_CONSEQUENCE = PatternFill("solid", fgColor="FFE699")
_AUTHOR = "audit"


def annotated(audit: FileAudit) -> bytes:
    """The copy as .xlsx: wrong cells red, each with a comment; what is wrong because of them yellow.

    The formulas are the original's; a spreadsheet program computes their values when it opens it.
    """
    book = (
        open_workbook(audit.file.name, audit.file.read_bytes())
        if audit.file.suffix.lower() == ".xlsx"
        else _as_workbook(read_sheets(audit.file)[0])
    )
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
    return f"Right: {heading(cell.name)} = {cell.equation}\n= {cell.right:.15g}{formula}{mistake}"


def _comment(cell: Cell, words: str) -> None:
    cell.comment = Comment(words, _AUTHOR, width=420, height=130)


def _as_workbook(table: Sheet) -> Workbook:
    book = Workbook()
    sheet = book.worksheets[0]
    for (row, column), shown in table.cells.items():
        cell = sheet.cell(row, column)
        if isinstance(shown.value, float) and math.isfinite(shown.value):
            cell.value = shown.value
        else:
            cell.value = ILLEGAL_CHARACTERS_RE.sub(" ", str(shown.value))
            cell.data_type = "s"  # "=..." in a .csv file stays text
    return book


def copy_name(file: Path) -> str:
    """What the copy of one of many files is called: anna.xlsx -> anna.audited.xlsx."""
    return f"{file.stem if file.suffix.lower() == '.xlsx' else file.name}.audited.xlsx"
