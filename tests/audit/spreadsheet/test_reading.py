import io
import os
import shutil
import zipfile

import openpyxl
import pytest
from openpyxl.worksheet.formula import ArrayFormula

from audit.spreadsheet import reading, recalculation
from audit.spreadsheet.reading import Cell, read_sheets
from harness.errors import UserError


def saved(book, file):
    book.save(file)
    return file


def book_with(**cells):
    book = openpyxl.Workbook()
    for address, value in cells.items():
        book.active[address] = value
    return book


def test_cells_of_an_xlsx_file(tmp_path):
    book = book_with(B2="eta", C2=0.5, D3=7, E4="0.25", F5=True, G6=" a_h1 ")
    book.create_sheet("notes")["A1"] = "only text"
    first, second = read_sheets(saved(book, tmp_path / "book.xlsx"))
    assert first.cells == {
        (2, 2): Cell("eta"),
        (2, 3): Cell(0.5, "0.5"),
        (3, 4): Cell(7.0, "7"),
        (4, 5): Cell(0.25, "0.25"),
        (5, 6): Cell("True"),
        (6, 7): Cell("a_h1"),
    }
    assert (second.name, second.cells) == ("notes", {(1, 1): Cell("only text")})


def test_a_merged_heading_stands_in_each_of_its_cells(tmp_path):
    book = book_with(B1="dE")
    book.active.merge_cells("B1:D1")
    (sheet,) = read_sheets(saved(book, tmp_path / "book.xlsx"))
    assert [sheet.cells[1, column].value for column in (2, 3, 4)] == ["dE"] * 3


def test_a_cell_in_the_last_corner_costs_nothing(tmp_path):
    (sheet,) = read_sheets(saved(book_with(XFD1048576="far"), tmp_path / "book.xlsx"))
    assert sheet.cells == {(1048576, 16384): Cell("far")}


def test_formulas_without_values_are_computed_by_libreoffice_those_in_a_circle_to_errors(tmp_path):
    if shutil.which("soffice") is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("soffice is missing")
    book = book_with(A1=2, A2="=A1*3", A3="=1/0")
    book.active["A4"] = ArrayFormula("A4", "=SUM(A1:A2*2)")
    circle = book.create_sheet("circle")
    circle["A1"], circle["A2"] = "=A2+1", "=A1+1"
    file = saved(book, tmp_path / "book.xlsx")
    content = file.read_bytes()
    sheet, circle = read_sheets(file)
    assert sheet.cells[2, 1] == Cell(6.0, "6", "=A1*3")
    assert sheet.cells[3, 1] == Cell("#DIV/0!", "", "=1/0")
    assert sheet.cells[4, 1] == Cell(16.0, "16", "=SUM(A1:A2*2)")
    assert {cell.value for cell in circle.cells.values()} <= {"#VALUE!", "#N/A", "#NAME?", "Err:522"}
    assert len(circle.cells) == 2
    assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


def test_without_libreoffice_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(recalculation.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="open it in a spreadsheet program and save it once"):
        read_sheets(saved(book_with(A1="=1+1"), tmp_path / "book.xlsx"))


@pytest.mark.parametrize(
    "formula", ['=WEBSERVICE("http://x")', "=[1]Sheet1!A1", '=HYPERLINK("http://x")', '=DDE("a";"b";"c")']
)
def test_a_formula_that_reaches_out_is_not_computed(tmp_path, monkeypatch, formula):
    monkeypatch.setattr(reading, "recalculated", lambda _: pytest.fail("LibreOffice was started"))
    with pytest.raises(UserError, match="refers to other files or addresses"):
        read_sheets(saved(book_with(A1=formula), tmp_path / "book.xlsx"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("w1,w2\n0.150,2e-3\n", {(2, 1): Cell(0.15, "0.150"), (2, 2): Cell(0.002, "2e-3")}),
        ("w1;w2\n0,150;2\n", {(2, 1): Cell(0.15, "0.150"), (2, 2): Cell(2.0, "2")}),
        ("w1\tw2\n0,15\t,5\n", {(2, 1): Cell(0.15, "0.15"), (2, 2): Cell(0.5, ".5")}),
        ('"w1",w2\n"=A1",\n', {(2, 1): Cell("=A1")}),
        ("\ufeffw1,w2\n nan,1_0\n", {(2, 1): Cell("nan"), (2, 2): Cell("1_0")}),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_cells_of_a_csv_file(tmp_path, text, expected, encoding):
    file = tmp_path / "table.csv"
    file.write_bytes(text.encode(encoding))
    (sheet,) = read_sheets(file)
    assert sheet.cells == {(1, 1): Cell("w1"), (1, 2): Cell("w2"), **expected}


def test_a_csv_file_in_an_old_encoding(tmp_path):
    (tmp_path / "table.csv").write_bytes("größe,w1\n".encode("cp1252"))
    assert read_sheets(tmp_path / "table.csv")[0].cells[1, 1] == Cell("größe")


def archive(**parts):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in parts.items():
            file.writestr(name.replace("__", "/").replace("_xml", ".xml"), text)
    return content.getvalue()


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
REFUSED = {
    "old.xlsx": (OLE + b"\0" * 600, "is in the old .xls format"),
    "secret.xlsx": (OLE + b"\0" * 600 + "EncryptedPackage".encode("utf-16-le"), "protected by a password"),
    "text.xls": (b"w1,w2", "is not an .xls file inside"),
    "macro.xls": (OLE + "_VBA_PROJECT".encode("utf-16-le"), "contains macros"),
    "text.ods": (b"w1,w2", "is not an .ods file inside"),
    "macro.ods": (archive(content_xml="<a/>", Basic__a="x"), "contains macros"),
    "out.ods": (archive(content_xml="<table-source/>"), "links to other files"),
    "cell.ods": (
        archive(
            content_xml='<t:table-cell xmlns:t="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
            't:formula="of:=WEBSERVICE(1)"/>'
        ),
        "refers to other files or addresses",
    ),
    "odd.ods": (archive(content_xml="<a"), "is damaged"),
    "macro.xlsm": (b"PK", "is not an .xlsx, .ods, .xls or .csv file"),
    "noname": (b"w1", "is not an .xlsx, .ods, .xls or .csv file"),
    "text.xlsx": (b"w1,w2\n1,2\n", "is not an .xlsx file inside"),
    "document.xlsx": (archive(word__document_xml="<a/>"), "is not an .xlsx file inside"),
    "cut.xlsx": (archive(xl__workbook_xml="<a/>")[:60], "is damaged"),
    "odd.xlsx": (archive(xl__workbook_xml="<a"), "is damaged"),
    "bomb.xlsx": (archive(xl__workbook_xml=b"\0" * 51 * 2**20), "is too large when unpacked"),
    "parts.xlsx": (archive(**{f"part{n}": "" for n in range(2001)}), "in 2001 parts"),
    "large.csv": (b"1," * 11 * 2**20, "is too large (22 MB)"),
    "book.csv": (archive(xl__workbook_xml="<a/>"), "is not a text file inside"),
    "zeros.csv": (b"w1\0w2", "is not a text file inside"),
    "rows.csv": (b",\n" * 2**20 + b"1\n", "at most 1048576 rows"),
    "columns.csv": (b"1," * 2**14 + b"1\n", "16384 columns"),
    "wide.csv": (b"w" * 200_000, "is damaged"),
    "empty.csv": (b" \n", "is empty"),
    "empty.xlsx": (b"", "is empty"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, name):
    content, message = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_sheets(tmp_path / name)
    assert message in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_one_line(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for name in ("missing.xlsx", "folder.csv"):
        with pytest.raises(UserError, match="cannot be read"):
            read_sheets(tmp_path / name)


def test_every_cut_or_changed_xlsx_file_is_read_or_refused(tmp_path):
    content = saved(book_with(A1="w1", A2=0.5), tmp_path / "book.xlsx").read_bytes()
    file = tmp_path / "damaged.xlsx"
    for place in range(0, len(content), 97):
        for damaged in (content[:place], content[:place] + b"\xff\0<" + content[place + 3 :]):
            file.write_bytes(damaged)
            try:
                read_sheets(file)
            except UserError as error:
                assert "\n" not in str(error)  # noqa: PT017
