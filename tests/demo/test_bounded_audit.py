"""Whatever somebody drops, it is audited in a process of its own, which leaves nothing, and answered."""

import base64
import concurrent.futures
import html
import io
import multiprocessing
import multiprocessing.util
import os
import re
import signal
import tempfile
from pathlib import Path

import openpyxl
import pytest

from audit.spreadsheet.report import file_text
from audit.spreadsheet.verdict import audit_file
from demo import bounded_audit
from demo.bounded_audit import audited
from tests.audit.spreadsheet import hostile

WORKBOOKS = Path(__file__).parents[1] / "audit" / "spreadsheet" / "workbooks"
WRONG = WORKBOOKS / "03a_Epartialw.xlsx"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where temporary files go; after the test none is left there, and no process."""
    multiprocessing.util.get_temp_dir()  # it keeps the first one, and the path of a socket must be short
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
    assert multiprocessing.active_children() == []


def words(text):
    return text.split()


def shown(answer):
    """What a page shows of some HTML, but for the link to the copy."""
    parts = re.sub("<a .*?</a>", " ", answer)
    return html.unescape(re.sub("<.*?>", " ", parts))


def copy_in(answer):
    """The name and the content of the marked copy."""
    name, content = re.search(r'download="(.*?)" href="data:.*?;base64,(.*?)"', answer).groups()
    return html.unescape(name), base64.b64decode(content)


def test_a_dropped_file_is_answered_as_the_audit_does_with_its_marked_copy(folder):
    answer = audited(WRONG.name, WRONG.read_bytes())
    audit = audit_file(WRONG)
    assert words(shown(answer)) == words(file_text(audit))
    name, content = copy_in(answer)
    assert name == "03a_Epartialw.audited.xlsx"
    address = audit.tables[0].findings[0].cells[0].address
    comment = openpyxl.load_workbook(io.BytesIO(content)).worksheets[1][address].comment
    assert comment.text.startswith("The first wrong cell. Right: dE/dw3 = ")


def test_what_the_audit_refuses_is_its_own_line(folder, tmp_path_factory):
    file = tmp_path_factory.mktemp("given") / "macros.xlsx"
    file.write_bytes(hostile.of_macro_type())
    answer = audited(file.name, file.read_bytes())
    assert shown(answer).strip() == audit_file(file).refused
    assert answer.count("<p") == 1


def test_a_file_is_not_waited_for_without_end(folder):
    answer = audited(WRONG.name, WRONG.read_bytes(), seconds=0)
    assert shown(answer).strip() == "03a_Epartialw.xlsx takes more than 0 seconds: give a smaller file"


def _killed(file):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_dies_takes_nobody_with_it(folder, monkeypatch):
    monkeypatch.setattr(bounded_audit, "_answer", _killed)
    assert shown(audited("a.xlsx", b"PK")).strip().startswith("a.xlsx takes more than 1 GB of memory, or ")


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("../../etc/a.csv", "a.csv"),
        ("", "file"),
        ("a\0b.csv", "ab.csv"),
        ("\ud800.csv", "?.csv"),
        ("<script>alert(1)<&script>.csv", "<script>alert(1)<&script>.csv"),
        ("ä" * 300 + ".csv", "ä" * 98 + ".csv"),
        ("a\nb\x1b[2J.csv", "a b?[2J.csv"),
    ],
)
def test_a_file_may_have_any_name(folder, name, seen):
    answer = audited(name, b"a,b\n1,2\n")
    assert re.fullmatch(r'<div class="audit"><p class="refused">[^<>]*</p></div>', answer)
    assert shown(answer).strip().startswith(f"{seen} ")


def test_several_people_at_once_get_their_own_answers_to_files_of_one_name(folder):
    files = [WORKBOOKS / name for name in ("00_right.xlsx", "04_empty_but_start.xlsx", "10b_times_t.xlsx")]
    with concurrent.futures.ThreadPoolExecutor(2 * len(files)) as people:
        answers = list(people.map(lambda file: audited("homework.xlsx", file.read_bytes()), files * 2))
    right = [words(file_text(audit_file(file))) for file in files]
    for file, answer, expected in zip(files * 2, answers, right * 2, strict=True):
        assert words(shown(answer).replace("homework.xlsx", file.name)) == expected
