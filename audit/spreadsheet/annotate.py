"""A copy of somebody's spreadsheet in which the wrong cells are marked and explained."""

import io
import math
import os
import re
import zlib
from pathlib import Path

from openpyxl.cell.cell import Cell, MergedCell
from openpyxl.comments import Comment
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.utils import get_column_letter
from openpyxl.workbook import Workbook
from openpyxl.worksheet.properties import PageSetupProperties
from openpyxl.worksheet.worksheet import Worksheet

from audit.spreadsheet.diagnosis import Finding, WrongCell
from audit.spreadsheet.reading import Sheet, as_xlsx, open_workbook, read_sheets
from audit.spreadsheet.verdict import FileAudit

_WRONG = PatternFill("solid", fgColor="FF9F9F")
_FIRST = PatternFill("solid", fgColor="FF5050")
_CONSEQUENCE = PatternFill("solid", fgColor="FFE699")
_SIDE, _LINE = Side("thick", color="990000"), Side("thin", color="999999")
_FRAME = Border(left=_SIDE, right=_SIDE, top=_SIDE, bottom=_SIDE)
_GRID = Border(left=_LINE, right=_LINE, top=_LINE, bottom=_LINE)
_LEGEND = (
    (_FIRST, "the first wrong cell of a table, in a thick frame"),
    (_WRONG, "a wrong cell"),
    (_CONSEQUENCE, "wrong only because of those"),
)
_SUMMARY = "Audit"
_HEAD = ("", "cell", "column", "formula there", "it shows", "right", "right formula", "looks like")
_WIDTHS = (6, 14, 9, 27, 12, 28, 27, 25)
_AUTHOR = "audit"
_LONGEST_NAME = 200  # in bytes; file systems take 255, and a temporary file's name is longer
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SAVED_AS_THEY_ARE = ("gif", "jpeg", "png")  # openpyxl unpacks pictures of other types, at any size


def annotated(audit: FileAudit) -> bytes:
    """The copy as .xlsx: wrong cells red, each with a comment; what is wrong because of them yellow.

    Its first sheet, which can be printed, says what is wrong and what would be right. The formulas are the
    original's; a spreadsheet program computes their values.
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
            for row in consequence.rows:
                sheet[table.table.address(consequence.name, row)].fill = _CONSEQUENCE
            _comment(sheet[consequence.address], "Wrong only because of the red cells, from here on.")
        for finding in table.findings:
            for cell in finding.cells:
                marked = book[cell.sheet][cell.address] if cell.sheet else sheet[cell.address]
                is_first = cell is table.findings[0].cells[0]
                marked.fill = _FIRST if is_first else _WRONG
                if is_first:
                    marked.border = _FRAME
                _comment(marked, "The first wrong cell. " * is_first + _explanation(finding, cell))
    _summarise(audit, book.create_sheet(_SUMMARY, 0))
    book.active = 0
    for each in book.worksheets:
        each.sheet_view.tabSelected = each is book.worksheets[0]
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def _summarise(audit: FileAudit, sheet: Worksheet) -> None:
    """The verdict, a row for each mistake, the legend, and what else was said: on a page across."""
    lines: list[tuple[object, ...]] = [(f"{audit.file.name}: {audit.verdict.upper()}",), ()]
    fills: dict[int, PatternFill] = {}
    lines.append(_HEAD)
    for table in audit.tables:
        for finding in table.findings:
            cell = finding.cells[0]
            first = finding is table.findings[0]
            fills[len(lines) + 1] = _FIRST if first else _WRONG
            where = "!".join(filter(None, (cell.sheet or table.table.sheet, cell.address)))
            where += f" and {len(finding.cells) - 1} more" if len(finding.cells) > 1 else ""
            shown = cell.value if isinstance(cell.value, str) else f"{cell.value:.8g}"
            there = (cell.label, cell.formula or "none: a constant", shown)
            right = (cell.should_be, cell.right_formula, finding.mistake or "")
            lines.append(("first" if first else "", where, *there, *right))
    lines.append(())
    for fill, words in _LEGEND:
        fills[len(lines) + 1] = fill
        lines.append(("", words))
    lines += [(), *((words,) for table in audit.tables for words in (*table.missing, *table.warnings))]
    lines += [(words,) for words in (*(note for table in audit.tables for note in table.notes), *audit.notes)]
    for number, line in enumerate(lines, start=1):
        for column, value in enumerate(line, start=1):
            noted = sheet.cell(number, column)
            noted.value = _NOT_XML.sub("?", str(value))
            noted.data_type = "s"  # formulas are to be read here
            noted.alignment = Alignment(wrap_text=len(line) > 2, vertical="top")
            noted.font = Font(bold=number in (1, 3), size=14 if number == 1 else 11)
            noted.border = _GRID if len(line) == len(_HEAD) else Border()
        if len(line) == len(_HEAD):
            most = max(-(-len(str(value)) // width) for value, width in zip(line, _WIDTHS, strict=True))
            sheet.row_dimensions[number].height = 15 * max(1, most)
        if number in fills:
            sheet.cell(number, 1).fill = fills[number]
    for column, width in enumerate(_WIDTHS, start=1):
        sheet.column_dimensions[get_column_letter(column)].width = width
    sheet.page_setup.orientation = "landscape"
    sheet.page_setup.fitToHeight = 0
    sheet.sheet_properties.pageSetUpPr = PageSetupProperties(fitToPage=True)


def _explanation(finding: Finding, cell: WrongCell) -> str:
    """What is right in a wrong cell, and what was probably done."""
    formula = f"\n{cell.right_formula}" if cell.right_formula else ""
    mistake = f"\nLooks like: {finding.mistake}." if finding.mistake else ""
    value = "" if math.isnan(cell.right) else f"\n= {cell.right:.15g}"
    return f"Right: {cell.label} = {cell.equation}{value}{formula}{mistake}"


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
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f"{name[:50]}-{zlib.crc32(os.fsencode(name)):08x}"  # which keeps two such apart
    return f"{name}.audited.xlsx"
