import contextlib
import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import openpyxl
import pytest

import launch
from audit.spreadsheet.annotate import annotated, copy_name
from audit.spreadsheet.verdict import audit_file
from backprop.config import BackpropConfig
from backprop.descent import COLUMNS
from harness.workdir import write_config
from tests.backprop.test_descent import spreadsheet
from tests.backprop.test_network import CASE, START

ROOT = Path(__file__).parents[2]


def launched(*flags):
    """Exit code, output and errors of the command line, run within this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = launch.main(["launch.py", *map(str, flags)])
    return subprocess.CompletedProcess(flags, code, out.getvalue(), err.getvalue())


def audit(workbook, workdir):
    """Audit a file, or a folder."""
    return launched(*flags_for(workbook, workdir))


def audit_in_a_process(workbook, workdir):
    """Audit a folder, which forks; a process with JAX in it must not."""
    command = [sys.executable, "launch.py", *flags_for(workbook, workdir)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


def flags_for(workbook, workdir):
    return ["--task=audit", f"--workbook={workbook}", f"--workdir={workdir}"]


def rows(file):
    with open(file, newline="") as stream:
        return list(csv.DictReader(stream))


def csv_text(table, heads=COLUMNS):
    text = io.StringIO()
    csv.writer(text).writerows([heads, *table.tolist()])
    return text.getvalue()


def test_our_own_spreadsheet_is_right(by_hand, tmp_path):
    done = audit(by_hand / "run" / "backprop.xlsx", tmp_path / "audit")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("backprop.xlsx: RIGHT\n")
    assert done.stdout.count(": RIGHT") == 4
    for line in ("eta            200 (cell B4, labelled)", "31 rows (4 to 34)", "skipped: overview"):
        assert line in done.stdout
    names = ["audit.csv", "config.json", "flags.txt"]
    assert sorted(file.name for file in (tmp_path / "audit").iterdir()) == names


def test_a_wrong_spreadsheet_ends_with_1_and_a_marked_copy(students_books, tmp_path):
    before = (students_books / "other_output_in_E2.xlsx").read_bytes()
    done = audit(students_books / "other_output_in_E2.xlsx", tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    for line in (
        'Sheet "Sheet1": WRONG',
        "eta            0.5 (cell E2, labelled)",
        "FIRST WRONG    V7, E2, 100 of 100 rows",
        "formula      =(B7 - R7)^2 / 2",
        "= (t2 - a_o2)^2 / 2",
        "=(B7-T7)^2/2",
        "looks like   a_o1 was used instead of a_o2",
        "wrong only because of that, each from the cell named on: E_total (W7)",
    ):
        assert line in done.stdout
    assert (students_books / "other_output_in_E2.xlsx").read_bytes() == before

    original = openpyxl.load_workbook(students_books / "other_output_in_E2.xlsx")["Sheet1"]
    copy = openpyxl.load_workbook(tmp_path / "audited.xlsx")["Sheet1"]
    assert [[cell.value for cell in row] for row in copy] == [
        [cell.value for cell in row] for row in original
    ]
    first, red, yellow = (copy[at].fill.fgColor.rgb for at in ("V7", "V8", "W7"))
    colours = {cell.coordinate: cell.fill.fgColor.rgb for row in copy for cell in row if cell.fill.fill_type}
    assert len({first, red, yellow}) == 3
    assert copy["V7"].border.left.style == "thick"
    assert colours == {"V7": first, "W7": yellow} | {
        f"{column}{row}": colour
        for row in range(8, 107)
        for column, colour in zip("VW", (red, yellow), strict=True)
    }
    assert copy["V7"].comment.text.startswith("The first wrong cell. Right: E2 = (t2 - a_o2)^2 / 2\n= 0.0646")
    assert "=(B8-T8)^2/2" in copy["V8"].comment.text
    assert "because of the red cells" in copy["W7"].comment.text

    (row,) = rows(tmp_path / "audit.csv")
    assert (row["file"], row["verdict"], row["first_wrong_cell"], row["column"]) == (
        "other_output_in_E2.xlsx",
        "wrong",
        "V7",
        "E2",
    )
    assert (row["formula"], row["right_formula"]) == ("'=(B7 - R7)^2 / 2", "'=(B7-T7)^2/2")
    assert json.loads((tmp_path / "config.json").read_text())["flags"]["workbook"] == str(
        students_books / "other_output_in_E2.xlsx"
    )


def test_a_later_audit_leaves_no_stale_copy(students_books, tmp_path):
    assert audit(students_books / "skipped_row.xlsx", tmp_path).returncode == 1
    assert (tmp_path / "audited.xlsx").exists()
    assert audit(students_books / "letters.xlsx", tmp_path).returncode == 0
    assert not (tmp_path / "audited.xlsx").exists()


def test_a_folder_is_one_table(students_books, tmp_path):
    folder, out = tmp_path / "class", tmp_path / "class" / "out"
    for name in ("anna", "ben"):
        (folder / name).mkdir(parents=True)
    (folder / "anna" / "table.xlsx").write_bytes((students_books / "letters.xlsx").read_bytes())
    (folder / "ben" / "table.xlsx").write_bytes((students_books / "skipped_row.xlsx").read_bytes())
    wrong = spreadsheet(0.5, START, CASE, 9)
    wrong[4, COLUMNS.index("h1")] += 1e-6
    (folder / "ben" / "table.csv").write_text(csv_text(wrong))
    (folder / "=evil.csv").write_text("nothing,here\n")
    (folder / "~$table.xlsx").write_text("a lock")
    (folder / "essay.txt").write_text("no table")
    done = audit_in_a_process(folder, out)
    assert (done.returncode, done.stderr) == (1, "")
    found = {row["file"]: row for row in rows(out / "audit.csv")}
    assert {file: row["verdict"] for file, row in found.items()} == {
        "'=evil.csv": "no table",
        "anna/table.xlsx": "right",
        "ben/table.csv": "wrong",
        "ben/table.xlsx": "wrong",
    }
    assert found["ben/table.xlsx"]["first_wrong_cell"] == "E19"
    assert found["ben/table.csv"]["first_wrong_cell"] == "I6"
    assert found["ben/table.xlsx"]["other_wrong_columns"] == "w2 w3 w4 w5 w6 w7 w8"
    copies = {str(file.relative_to(out / "audited")) for file in (out / "audited").rglob("*.xlsx")}
    assert copies == {"ben/table.audited.xlsx", "ben/table.csv.audited.xlsx"}
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["file", "sheet", "verdict", "first", "wrong", "cell"]
    assert len([line for line in lines if "table." in line]) == 3
    assert "4 files: 1 no table; 1 right; 2 wrong." in lines[-1]
    assert audit(folder, out).stdout == done.stdout  # what the first audit wrote is not audited


def test_a_folder_in_which_all_is_right_ends_with_0(students_books, tmp_path):
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "clean.xlsx").write_bytes((students_books / "letters.xlsx").read_bytes())
    assert audit(tmp_path / "class", tmp_path / "out").returncode == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (None, None, "is not there: give an .xlsx, .ods, .xls or .csv file, or a folder"),
        ("table.csv", b"epoch,loss\n1,2\n", "holds no back-propagation table"),
        ("table.xlsx", b"PK\x03\x04", "is damaged"),
        ("table.doc", b"\xd0\xcf\x11\xe0", "is not an .xlsx, .ods, .xls or .csv file"),
        ("\x1b[2Jtable.csv", b"", "\\x1b[2Jtable.csv: it holds '\\x1b'"),
    ],
)
def test_what_cannot_be_read_ends_with_2_and_one_line(tmp_path, name, content, message):
    file = tmp_path / (name or "missing.xlsx")
    if name:
        file.write_bytes(content)
    done = audit(file, tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("launch.py: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_without_spreadsheets_and_wrong_flags_end_with_2(tmp_path):
    (tmp_path / "empty").mkdir()
    done = audit(tmp_path / "empty", tmp_path / "out")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "holds no .xlsx, .ods, .xls or .csv file" in done.stderr
    done = launched("--task=audit")
    assert done.returncode == 2
    assert "--workbook is missing" in done.stderr
    done = launched("--task=audit", "--workbook=x.csv", "--epochs=3")
    assert "--epochs is not a flag of --task=audit" in done.stderr


def test_a_workdir_of_another_task_is_refused(students_books, tmp_path):
    write_config(tmp_path, "backprop", BackpropConfig(), device="CPU")
    done = audit(students_books / "letters.xlsx", tmp_path)
    assert done.returncode == 2
    assert "holds a run of --task=backprop" in done.stderr


def test_text_in_a_csv_file_stays_text_in_the_copy(tmp_path):
    wrong = spreadsheet(0.5, START, CASE, 5)
    wrong[3, COLUMNS.index("o1")] += 1
    (tmp_path / "table.csv").write_text('=cmd|calc,"\x07bell"\n' + csv_text(wrong))
    content = annotated(audit_file(tmp_path / "table.csv"))
    sheet = openpyxl.load_workbook(io.BytesIO(content)).worksheets[1]
    assert (sheet["A1"].value, sheet["A1"].data_type) == ("=cmd|calc", "s")
    assert sheet["B1"].value == " bell"
    assert sheet["Q6"].value == pytest.approx(wrong[3, COLUMNS.index("o1")], rel=1e-15)
    assert "sigmoid" not in sheet["Q6"].comment.text
    assert "Right: o1 = w5*a_h1 + w6*a_h2" in sheet["Q6"].comment.text


def test_names_of_copies_do_not_collide():
    assert copy_name(Path("a/t.xlsx")) == "t.audited.xlsx"
    assert copy_name(Path("a/t.csv")) == "t.csv.audited.xlsx"
