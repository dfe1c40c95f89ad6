"""Work in processes of their own: what takes too much ends, with all that it started, and leaves nothing."""

import multiprocessing.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from audit.bounded import Exceeded, bounded, each_bounded
from harness.errors import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where temporary files go; after the test none is left there."""
    multiprocessing.util.get_temp_dir()  # it keeps the first one, and the path of a socket must be short
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def _leaves_files(item):
    Path(tempfile.gettempdir(), "a").write_text(item)
    subprocess.run(["sh", "-c", "mktemp && mktemp --directory"], check=True, stdout=subprocess.DEVNULL)
    return item, tempfile.gettempdir(), os.environ["TMPDIR"], os.environ["HOME"]


def test_each_item_has_a_folder_which_goes_with_it(folder):
    answers = list(each_bounded(_leaves_files, ["x", "y", "z"]))
    assert [item for item, *_ in answers] == ["x", "y", "z"]
    assert len({own for _, *folders in answers for own in folders}) == 3


def test_what_hangs_ends_with_its_children_and_the_others_go_on(folder):
    mark = f"100.{os.getpid()}"
    start = time.monotonic()
    first, second = each_bounded(_hangs_if_told, [mark, ""], seconds=2)
    assert (str(first), second) == ("takes more than 2 seconds: give a smaller file", "done")
    assert time.monotonic() - start < 30
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert f"sleep {mark}" not in listed


def _hangs_if_told(mark):
    if mark:
        subprocess.run(["sh", "-c", f"sleep {mark} & sleep {mark}; true"])
    return "done"


def _takes(gigabytes):
    return len(bytearray(int(gigabytes * 2**30)))


def _program_takes(gigabytes):
    code = f"bytearray(int({gigabytes} * 2**30))"
    return subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL).returncode


def test_neither_it_nor_its_programs_take_more_than_a_gigabyte(folder):
    small, large = each_bounded(_takes, [0.5, 1.5])
    assert small == 2**29
    assert str(large).startswith("takes more than 1 GB of memory")
    assert [code != 0 for code in each_bounded(_program_takes, [0.5, 2])] == [False, True]


def _fails(how):
    match how:
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "is refused":
            raise UserError("in one line")
        case _:
            raise ZeroDivisionError


def test_what_raises_or_dies_is_one_line(folder):
    with pytest.raises(Exceeded, match="breaks this program"):
        bounded(_fails, "dies")
    with pytest.raises(UserError, match="in one line"):
        bounded(_fails, "is refused")
    with pytest.raises(Exceeded, match=r"fault of this program \(ZeroDivisionError in test_bounded.py, line"):
        bounded(_fails, "is wrong")


class _Placed(UserError):
    def __init__(self, place, reason):
        super().__init__(f"{place}: {reason}")


def _raises(item):
    raise _Placed(item, "no")


def test_an_error_of_a_class_of_its_own_arrives_in_its_words(folder):
    with pytest.raises(UserError, match=r"^here: no$"):
        bounded(_raises, "here")
