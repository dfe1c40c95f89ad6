"""Damaged spreadsheets, and what must hold of the audit of each, whatever the damage."""

import contextlib
import functools
import io
import math
import tempfile
import zipfile
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree

import openpyxl
import xlsxwriter
from openpyxl.utils.cell import coordinate_to_tuple

from audit.spreadsheet import reading
from audit.spreadsheet.annotate import annotated
from audit.spreadsheet.arithmetic import names_in
from audit.spreadsheet.recalculation import recalculated
from audit.spreadsheet.report import csv_rows, file_text
from audit.spreadsheet.verdict import audit_file
from backprop.config import BackpropConfig
from backprop.equations import EQUATIONS, compute
from backprop.workbook import workbook
from tests.audit.spreadsheet.hostile import TABLE, csv_table, packed, parts
from tests.audit.spreadsheet.make_workbooks import Layout, Student, error_value, other_activation
from tests.backprop.test_workbook import trajectories

TOKENS = (
    *(b"", b"0", b"-", b"1e999", b"1e-999", b"nan", b"inf", b"9" * 400, b"0.5", b"5e-05", b"1e17", b"#REF!"),
    *(b"<", b">", b'"', b"&amp;", b"&#155;", b"]]>", b"<v/>", b"<f/>", b"<c/>", b"<row/>", b"</v>"),
    *(b"</row>", b' t="s"', b' t="str"', b' t="b"', b' t="e"', b' t="d"', b' t="inlineStr"', b' s="1"'),
    *(b' s="-1"', b' r="A1"', b' r="XFD1048576"', b' r="-1"', b"<f>1+1</f>", b'<f t="shared" si="0"/>'),
    *(b'<f t="array" ref="A1:B2">1</f>', b'<mergeCells><mergeCell ref="A1:AE7"/></mergeCells>'),
    *(b'<hyperlinks><hyperlink ref="A1:C3"/></hyperlinks>', b"eta", b"w1", b"dE/dw1", b"\xef\xbb\xbf"),
    *(b"\0", b"\xff", b",", b";", b"\n", b"\t", b" ", b"=1+1"),
)


@functools.cache
def originals():
    """Spreadsheets with values: as text, as constants, and our own with formulas and a chart."""
    config = BackpropConfig(lrs=(0.5,), epochs=4)
    return csv_table(), _constants(), workbook(config, trajectories(config))


@functools.cache
def computed_originals():
    """The same and students' layouts, right and wrong ones, computed by LibreOffice."""
    layouts = (Layout(rows=5), Layout(rows=4, label=None, lr=0.2, top=3, left=2))
    books = [*(Student(layout).book for layout in layouts), other_activation().book, error_value().book]
    return (*originals(), *map(recalculated, books))


def _constants():
    content = io.BytesIO()
    with xlsxwriter.Workbook(content) as book:
        sheet = book.add_worksheet("eta = 0.5")
        for row, cells in enumerate(TABLE):
            sheet.write_row(row, 0, cells)
        sheet.merge_range("A20:C21", "merged")
    return content.getvalue()


def mutated(content, part, edits):
    """A file with some bytes replaced, in one of its parts or (part None) in the archive itself.

    Args:
      part: from 0 to 1, which of the parts, the sheets most often.
      edits: (from 0 to 1, where; how many bytes go; which bytes come).
    """
    if part is None or not content.startswith(b"PK"):
        return _edited(content, edits)
    members = parts(content)
    sheets = [name for name in members if name.startswith("xl/worksheets/sheet")]
    names = [*sheets * (len(members) // len(sheets)), *members]
    name = names[min(int(part * len(names)), len(names) - 1)]
    return packed(members | {name: _edited(members[name], edits)}, zipfile.ZIP_STORED)


def _edited(content, edits):
    for place, gone, new in edits:
        start = int(place * len(content))
        content = content[:start] + new + content[start + gone :]
    return content


def audit_damaged(content):
    """Audit a file of whatever content.

    Raises:
      AssertionError: a right verdict for numbers that do not follow; any other exception is a crash.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "a.xlsx" if content.startswith(b"PK") else "a.csv")
        file.write_bytes(content)
        with mock.patch.object(reading, "is_installed", return_value=False):  # LibreOffice takes seconds
            audit = audit_file(file)
        assert file_text(audit).replace("\n", "").isprintable()
        list(csv_rows(audit, Path(folder)))
        if audit.verdict == "wrong":
            openpyxl.load_workbook(io.BytesIO(annotated(audit)))
    if audit.refused:
        assert "\n" not in audit.refused
    for table in () if audit.refused else audit.tables:
        if not table.findings:
            shown = _shown(content, table.table.sheet)
            _assert_that_it_follows(table, shown)
    return audit.verdict


def _shown(content, sheet):
    """The numbers that a file shows, by (row, column), read by nothing that the audit uses."""
    if not content.startswith(b"PK"):
        return None
    members = parts(content)
    names = [element.get("name") for element in _elements(members["xl/workbook.xml"], "sheet")]
    numbers = {}
    row = 0
    for line in _elements(members[f"xl/worksheets/sheet{names.index(sheet) + 1}.xml"], "row"):
        row, column = int(line.get("r") or row + 1), 0
        for cell in line:
            row, column = coordinate_to_tuple(cell.get("r")) if cell.get("r") else (row, column + 1)
            with contextlib.suppress(ValueError):
                numbers[row, column] = float(cell.findtext("{*}v") or "")
    return numbers


def _elements(xml, name):
    return ElementTree.fromstring(xml).iterfind(f".//{{*}}{name}")


def _assert_that_it_follows(audit, shown):
    """All numbers are the file's, and each follows from those before it, to within their digits."""
    table = audit.table
    weights = [f"w{n}" for n in range(1, 9)]
    rows = []
    for row in range(table.rows):
        values = {}
        for name, column in table.columns.items():
            cell = table.cells[name][row]
            if cell is not None and isinstance(cell.value, float):
                values[name] = cell.value
                assert shown is None or shown[table.first + row, column] == cell.value
        rows.append(values)
    given = {name: rows[0].get(name) for name in ("i1", "i2", "t1", "t2")}
    for row, values in enumerate(rows):
        known = given | values
        for name, text in EQUATIONS.items():
            near = [known.get(other) is not None for other in names_in(text)]
            if name in values and all(near):
                right = compute(text, known | {"sigmoid": lambda x: 1 / (1 + math.exp(-x))})
                assert abs(values[name] - right) <= 1e-6 * max(1, abs(right)) + 3 * table.rounding[name][row]
        for name in weights:
            before = rows[row - 1] if row else {}
            if (
                name in values
                and name in before
                and f"dE_d{name}" in before
                and math.isfinite(audit.rate.value)
            ):
                rate = before.get("eta", audit.rate.value)
                right = before[name] - rate * before[f"dE_d{name}"]
                assert abs(values[name] - right) <= 1e-6 * max(1, abs(right)) + 3 * table.rounding[name][row]
