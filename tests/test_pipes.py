"""A pipe that nobody writes to, or a device without an end, in the place of each file that a flag names."""

import json
import os
import signal

import pytest

from tests.audit.test_task import launched

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
PLACES = {
    # the flags, and the file that is no file
    "--flagfile={}/flags.txt": "flags.txt",
    "--flagfile={}/outer.txt": "flags.txt",
    "--task=audit --workbook={}/table.xlsx": "table.xlsx",
    "--task=audit --notebook={}/net.ipynb": "net.ipynb",
    "--task=audit --notebook={}/net.py": "net.py",
    "--task=audit --notebook={}": "net.py",
    "--task=mnist --describe --model={}/net.txt": "net.txt",
    "--task=mnist --describe --model={}/net.ipynb": "net.ipynb",
    "--task=mnist --describe --dataset={}/images.npz": "images.npz",
    "--task=mnist --describe --dataset={}": "train-images-idx3-ubyte",
    "--task=mnist --resume --workdir={}": "config.json",
    "--task=backprop --workdir={}": ".lock",
}


@pytest.fixture
def in_time():
    """What waits for a pipe is interrupted."""

    def stop(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("flags", PLACES)
@pytest.mark.parametrize("kind", ["a pipe", "a device"])
def test_what_is_no_file_is_not_waited_for(flags, kind, in_time, tmp_path):
    file = tmp_path / PLACES[flags]
    (tmp_path / "outer.txt").write_text(f"--task=audit\n--flagfile={tmp_path}/flags.txt\n")
    if kind == "a pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")
    done = launched(*flags.format(tmp_path).split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("launch.py: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", NAMES)
def test_none_of_the_four_files_of_a_data_set_is_waited_for(name, in_time, tmp_path):
    for each in NAMES:
        (tmp_path / each).write_bytes(bytes((0, 0, 8, 3 if "images" in each else 1)) + bytes(12))
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / f"{name}.gz")
    done = launched("--task=mnist", "--describe", f"--dataset={tmp_path}")
    assert done.returncode == 2
    assert f"{name}.gz cannot be read (it is not a file)" in done.stderr


def test_a_config_of_thousands_of_digits_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"task": "mnist"})[:-1] + f', "a": {"9" * 5000}}}')
    done = launched("--task=mnist", "--resume", f"--workdir={tmp_path}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
