"""--task=audit --notebook as a command: one submission, one with both parts, a class of them."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import launch
from audit.submissions import submissions_in
from tests.audit.notebook.test_verdict import CASES, NET, submission
from tests.audit.notebook.written import IMPORTS, LOADERS, LOOPS, RIGHT, TRAINING, log

WORKBOOKS = Path(__file__).parent / "spreadsheet" / "workbooks"


def audit(capsys, notebook, workdir, *flags):
    """The exit code, the output and the errors of a command."""
    code = launch.main(
        ["launch.py", "--task=audit", f"--notebook={notebook}", f"--workdir={workdir}", *flags]
    )
    return code, *capsys.readouterr()


def rows(file):
    with open(file, newline="") as stream:
        return list(csv.DictReader(stream))


def launched(*flags):
    """A process of its own: where several are audited, it forks."""
    command = [sys.executable, "launch.py", *flags]
    return subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)


def folder(path):
    path.mkdir(parents=True, exist_ok=True)
    return path


def test_a_right_notebook_ends_with_0(tmp_path, capsys):
    file = submission(folder(tmp_path / "anna"))
    code, out, err = audit(capsys, file, tmp_path / "out")
    assert (code, err) == (0, "")
    assert out.startswith("submission.ipynb: RIGHT\n")
    for words in ("conv 8 3x3 ", "receptive field", "train it here:", "--recipe=plain_4k", "percentile"):
        assert words in out
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"audit.csv", "report.html", "summary.json", "standing.png", "log.csv", "layers.csv"} <= written
    (row,) = rows(tmp_path / "out" / "audit.csv")
    assert (row["verdict"], row["class"], row["epochs_run"], row["mistakes"]) == ("right", "Net", "15", "")
    assert (row["best_accuracy"], row["last_accuracy"], row["best_epoch"]) == ("0.9942", "0.9942", "15")
    assert row["recipe"] == "'--epochs=15 --batch_size=64"
    accuracies = [float(each["test_accuracy"]) for each in rows(tmp_path / "out" / "log.csv")]
    assert accuracies == [right / 10_000 for right in RIGHT]
    page = (tmp_path / "out" / "report.html").read_text()
    for words in ("The audit of submission.ipynb", "99.42 %", "conv 16 3x3", "data:image/"):
        assert words in page
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["epochs_run"] == 15


def test_a_wrong_notebook_ends_with_1_and_a_limit_may_make_it_so(tmp_path, capsys):
    file = submission(folder(tmp_path / "ben"), **CASES["unused_layers"])
    code, out, err = audit(capsys, file, tmp_path / "out")
    assert (code, err) == (1, "")
    assert "the class holds layers with parameters that forward never uses: fc (110)" in " ".join(out.split())
    mistakes = rows(tmp_path / "out" / "mistakes.csv")
    assert [(each["kind"], each["cell"]) for each in mistakes] == [("mistake", "2")]
    right = submission(folder(tmp_path / "anna"))
    assert audit(capsys, right, tmp_path / "out", "--max_epochs=14")[0] == 1
    assert audit(capsys, right, tmp_path / "out", "--target_accuracy=0.9943")[0] == 1
    assert audit(capsys, right, tmp_path / "out", "--target_accuracy=0.9942", "--max_epochs=15")[0] == 0
    assert not rows(tmp_path / "out" / "mistakes.csv")  # none of an earlier audit


def test_a_folder_with_both_parts_is_one_submission(tmp_path, capsys):
    given = folder(tmp_path / "carla")
    submission(folder(given / "part2"))
    shutil.copy(WORKBOOKS / "10b_times_t.xlsx", given / "table.xlsx")
    (given / "part2" / "losses.csv").write_text("epoch,loss\n1,0.5\n")
    code, out, err = audit(capsys, given, tmp_path / "out")
    assert (code, err) == (1, "")
    assert out.index("PART 1, BY HAND") < out.index("table.xlsx: WRONG") < out.index("PART 2, THE NETWORK")
    assert out.index("PART 2, THE NETWORK") < out.index("submission.ipynb: RIGHT")
    assert "losses.csv" not in out
    (row,) = rows(tmp_path / "out" / "audit.csv")
    assert (row["verdict"], row["spreadsheet"], row["spreadsheet_verdict"]) == (
        "wrong",
        "table.xlsx",
        "wrong",
    )
    assert (tmp_path / "out" / "audited" / "table.audited.xlsx").exists()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "table.xlsx" in page
    formula = rows(tmp_path / "out" / "spreadsheets.csv")[0]["formula"]
    assert formula.startswith("'=")
    assert f"<td>{formula[1:]}</td>" in page  # the apostrophe is for spreadsheet programs


@pytest.fixture
def students(tmp_path):
    """A folder of six: right, wrong, both parts, a .py file, a broken one, one without outputs."""
    given = folder(tmp_path / "class")
    submission(folder(given / "anna"))
    submission(folder(given / "ben"), **CASES["schedule_never_stepped"])
    submission(folder(given / "carla" / "part2"))
    shutil.copy(WORKBOOKS / "00_right.xlsx", folder(given / "carla" / "part1") / "table.xlsx")
    script = folder(given / "dan" / "src")
    (script / "train.py").write_text("\n".join(["from model import Net", IMPORTS, LOADERS, LOOPS, TRAINING]))
    (script / "model.py").write_text(f"{IMPORTS}\n{NET}")
    (script / "README.md").write_text(log())
    (folder(given / "=eve") / "work.ipynb").write_text("{")
    submission(folder(given / "fay"), right=[])
    (given / "notes.txt").write_text("nothing")
    return given


def test_a_folder_of_folders_is_one_table_and_a_bad_file_stops_nothing(students):
    out = students / "out"
    done = launched("--task=audit", f"--notebook={students}", f"--workdir={out}")
    assert (done.returncode, done.stderr) == (1, "")
    found = {row["file"]: row for row in rows(out / "audit.csv")}
    assert {name: row["verdict"] for name, row in found.items()} == {
        "anna/submission.ipynb": "right",
        "ben/submission.ipynb": "wrong",
        "carla/part2/submission.ipynb": "right",
        "dan/src/train.py": "right",
        "'=eve/work.ipynb": "unreadable",
        "fay/submission.ipynb": "not shown",
    }
    assert found["carla/part2/submission.ipynb"]["spreadsheet_verdict"] == "right"
    assert found["dan/src/train.py"]["last_accuracy"] == "0.9942"
    assert "schedule_never_stepped" in found["ben/submission.ipynb"]["mistakes"]
    assert "is damaged or no notebook" in found["'=eve/work.ipynb"]["notes"]
    assert "6 submissions: 1 not shown; 3 right; 1 unreadable; 1 wrong." in done.stdout.splitlines()[-1]
    shown = next(line for line in done.stdout.splitlines() if line.startswith("fay"))
    assert re.search(r" not shown .*; not shown: accuracy, no log of a training was found: hand it in", shown)
    assert found["fay/submission.ipynb"]["notes"].startswith("not shown: accuracy, no log")
    (mistake,) = rows(out / "mistakes.csv")
    assert (mistake["mistake"], mistake["submissions"]) == ("schedule_never_stepped", "1")
    assert "is damaged or no notebook" in (out / "report.html").read_text()


def test_several_with_commas_and_a_class_by_name(students, tmp_path, capsys):
    names = f"{students}/anna/submission.ipynb,{students}/dan/src/model.py:Net"
    code, out, err = audit(capsys, names, tmp_path / "out")
    assert (code, err) == (0, "")
    assert [row["file"] for row in rows(tmp_path / "out" / "audit.csv")] == ["submission.ipynb", "model.py"]
    assert "2 submissions: 2 right." in out
    names = f"{students}/anna/submission.ipynb,{students}/fay/submission.ipynb"
    code, out, err = audit(capsys, names, tmp_path / "out")
    assert (code, err) == (2, "")
    assert "2 submissions: 1 not shown; 1 right." in out


def test_which_files_are_whose(tmp_path):
    for name in (
        *("anna/a.ipynb", "anna/model.py", "anna/deep/train.py", "anna/sheet.xlsx"),
        *("ben/train.py", "ben/model.py", "ben/test_model.py", "ben/.venv/lib/train.py"),
        *("carla/one.ipynb", "carla/two.ipynb", "carla/sheet.csv", "dora.ipynb", "emil/sheet.xlsx"),
        *("out/audit.csv", "out/audited/sheet.xlsx"),
        *("~$lock.ipynb", ".ipynb_checkpoints/a.ipynb", "frieda/essay.pdf", "loose.xlsx"),
    ):
        file = folder((tmp_path / name).parent) / Path(name).name
        file.write_text("from model import Net\nimport torch.optim as optim\n")
    left = [tmp_path / "out" / name for name in ("audit.csv", "audited")]  # by an earlier audit
    found = {
        each.name: [sheet.name for sheet in each.spreadsheets] for each in submissions_in(tmp_path, left)
    }
    assert found == {
        "anna/a.ipynb": ["sheet.xlsx"],
        "ben/train.py": [],
        "carla/one.ipynb": ["sheet.csv"],
        "carla/two.ipynb": [],
        "dora.ipynb": [],
        "emil/sheet.xlsx": ["sheet.xlsx"],
        "loose.xlsx": ["loose.xlsx"],
    }


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--notebook=missing.ipynb"], "--notebook=missing.ipynb is not there: give an .ipynb or .py file"),
        (["--notebook="], "is missing"),
        (["--notebook=a.ipynb,,b.ipynb"], "is not there"),
        (["--notebook=a.ipynb", "--workbook=b.xlsx"], "exclude each other"),
        ([], "--workbook is missing"),
        (["--workbook=b.xlsx", "--max_epochs=3"], "--max_epochs is a limit of --notebook"),
        (["--notebook=a.ipynb", "--max_epochs=0"], "--max_epochs=0: give a whole number from 1"),
        (["--notebook=a.ipynb", "--max_parameters=0"], "--max_parameters=0: give a whole number from 1"),
        (["--notebook=a.ipynb", "--target_accuracy=99.4"], "give a fraction above 0, at most 1"),
    ],
)
def test_wrong_flags_end_with_2_and_one_line(flags, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert launch.main(["launch.py", "--task=audit", *flags]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("work.ipynb", "{", "work.ipynb is damaged or no notebook"),
        ("work.txt", "hello", "work.txt is not an .ipynb or .py file"),
        ("work.py", "import os\n", "work.py"),
        (None, None, "holds no notebook, no .py file that trains and no spreadsheet"),
    ],
)
def test_what_cannot_be_judged_ends_with_2_and_leaves_no_folder(name, content, said, capsys, tmp_path):
    given = folder(tmp_path / "given")
    if name:
        (given / name).write_text(content)
        given = given / name
    code, out, err = audit(capsys, given, tmp_path / "out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert not (tmp_path / "out").exists()


def test_what_is_not_shown_ends_with_2_and_says_how_to_show_it(tmp_path, capsys):
    file = submission(folder(tmp_path / "anna"), right=[])
    code, out, err = audit(capsys, file, tmp_path / "out")
    assert (code, err) == (2, "")
    assert out.startswith("submission.ipynb: NOT SHOWN\n")
    assert "hand it in with the outputs of its training" in " ".join(out.split())
    assert "hand it in with the outputs" in (tmp_path / "out" / "report.html").read_text()
    shutil.copy(WORKBOOKS / "10b_times_t.xlsx", tmp_path / "anna" / "table.xlsx")
    code, out, err = audit(capsys, tmp_path / "anna", tmp_path / "out")
    assert code == 1  # of both parts one is wrong
