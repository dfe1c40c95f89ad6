import errno
import fcntl
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random

import matplotlib
import pytest
from matplotlib.figure import Figure

from harness import workdir
from harness.errors import UserError

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Flags:
    lrs: tuple[float, ...] = (0.1, 0.2)
    epochs: int = 3


def test_a_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = workdir.open_workdir("a/b", "mnist")
    assert folder.is_absolute()
    assert list(folder.iterdir()) == []
    assert re.fullmatch(r"mnist-\d{8}-\d{6}", workdir.open_workdir(None, "mnist").name)


@pytest.mark.parametrize(
    "path",
    ["/dev/null/run", "/dev/null", "/proc/run", "/sys/run", "a" * 300, "/a" * 3000, "", "  "],
    ids=range(8),
)
def test_a_folder_that_cannot_be_written_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"--workdir.*(cannot write there|empty)"):
        workdir.open_workdir(path, "mnist")


def test_flags_come_back_as_they_were(tmp_path):
    workdir.write_config(tmp_path, "backprop", Flags(), device="a device", extra=1)
    assert workdir.read_flags(str(tmp_path), "backprop") == {"lrs": (0.1, 0.2), "epochs": 3}
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["extra"] == 1
    with pytest.raises(UserError, match="holds a run of --task=backprop, not of --task=mnist"):
        workdir.read_flags(str(tmp_path), "mnist")


def test_every_start_of_a_run_is_kept(tmp_path):
    def starts():
        return json.loads((tmp_path / "config.json").read_text())["starts"]

    workdir.write_config(tmp_path, "mnist", Flags(), device="first")
    workdir.write_config(tmp_path, "mnist", Flags(epochs=4), device="second", resumed_after=2)
    workdir.write_config(tmp_path, "mnist", Flags(epochs=4), device="third", resumed_after=3)
    assert [start["device"] for start in starts()] == ["first", "second", "third"]
    assert [start["epochs_before"] for start in starts()] == [0, 2, 3]
    for start in starts():
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", start["time"])
        assert {"python", "jax", "flax"} <= set(start["versions"])
        assert "git_commit" in start
    assert workdir.read_flags(str(tmp_path), "mnist")["epochs"] == 4  # and the sha256 is right
    workdir.write_config(tmp_path, "mnist", Flags(), device="another run")
    assert [start["device"] for start in starts()] == ["another run"]


def test_a_config_that_kept_one_start_alone_is_read_and_goes_on(tmp_path):
    once = {"git_commit": "abc", "device": "first", "versions": {"jax": "0.7.2"}}
    old = {"task": "mnist", "flags": {"lrs": [0.1], "epochs": 3}, **once}
    workdir.write_json(tmp_path / "config.json", old | {"sha256": workdir._digest(old)})
    assert workdir.read_flags(str(tmp_path), "mnist") == {"lrs": (0.1,), "epochs": 3}
    workdir.write_config(tmp_path, "mnist", Flags(), device="second", resumed_after=1)
    first, second = json.loads((tmp_path / "config.json").read_text())["starts"]
    assert first == {"time": None, **once}
    assert (second["device"], second["epochs_before"]) == ("second", 1)


def test_flags_txt_has_the_task_and_what_differs_from_the_defaults(tmp_path):
    workdir.write_config(tmp_path, "backprop", Flags(lrs=(1e-7, 2.0)), device="CPU")
    assert (tmp_path / "flags.txt").read_text() == "--task=backprop\n--lrs=1e-07,2.0\n"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"task": "mnist", "flags": {}, "sha256": null}'],
    ids=range(7),
)
def test_a_damaged_config_is_named(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config.json is damaged or was edited"):
        workdir.read_flags(str(tmp_path), "mnist")


def test_an_edited_config_is_named(tmp_path):
    workdir.write_config(tmp_path, "backprop", Flags(), device="a device")
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(dict(reversed(config.items()))))  # another order, other spaces: the same
    assert workdir.read_flags(str(tmp_path), "backprop")["epochs"] == 3
    for change in ({"flags": {"lrs": [0.1, 0.2], "epochs": 4}}, {"starts": []}, {"more": 1}):
        file.write_text(json.dumps(config | change))
        with pytest.raises(UserError, match="its sha256 is missing or of another content"):
            workdir.read_flags(str(tmp_path), "backprop")


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_a_config_damaged_anywhere_is_never_read_as_another(tmp_path, damage):
    workdir.write_config(tmp_path, "backprop", Flags(), device="a device", extra=[1.5, "three"])
    file, random = tmp_path / "config.json", Random(0)
    whole, right = file.read_bytes(), workdir.read_flags(str(tmp_path), "backprop")
    named = 0
    for _ in range(600 if damage == "flipped" else 150):
        position = random.randrange(len(whole))
        other = whole[position] ^ random.randrange(1, 256)
        file.write_bytes(
            whole[:position] + (bytes([other]) + whole[position + 1 :] if damage == "flipped" else b"")
        )
        try:
            assert workdir.read_flags(str(tmp_path), "backprop") == right
            assert json.loads(file.read_bytes()) == json.loads(whole)  # only the spaces differ
        except UserError as error:
            named += "is damaged or was edited" in str(error)
    assert named > (500 if damage == "flipped" else 140)


HOLD = """
import sys, time
from pathlib import Path
from harness.workdir import lock
with lock(Path(sys.argv[1]), wait="--wait" in sys.argv):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(folder, seconds, *flags):
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(seconds), *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_second_run_is_refused_and_told_who_holds_the_folder(tmp_path):
    first = holder(tmp_path, 60)
    assert first.stdout.readline() == "held\n"
    with (
        pytest.raises(
            UserError, match=rf"is in use by process {first.pid} on \S+ since \d{{4}}-.*add --wait"
        ),
        workdir.lock(tmp_path, wait=False),
    ):
        raise AssertionError("two runs hold one folder")
    first.kill()  # SIGKILL: it tidies nothing up
    first.wait()
    assert str(first.pid) in (tmp_path / ".lock").read_text()
    with workdir.lock(tmp_path, wait=False):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
    assert (tmp_path / ".lock").read_text() == ""


def test_a_second_run_waits_if_asked_to(tmp_path):
    first = holder(tmp_path, 60)
    assert first.stdout.readline() == "held\n"
    second = holder(tmp_path, 0, "--wait")
    assert second.stderr.readline().startswith(f"waiting for process {first.pid} on ")
    assert second.poll() is None
    first.kill()
    assert second.communicate(timeout=600)[0] == "held\n"
    assert second.returncode == 0
    first.wait()


COUNT = """
import sys
from pathlib import Path
from harness.workdir import lock
file = Path(sys.argv[1], "count")
for _ in range(20):
    with lock(file.parent, wait=True):
        file.write_text(str(int(file.read_text()) + 1))
"""


def test_only_one_holds_the_folder_at_a_time(tmp_path):
    (tmp_path / "count").write_text("0")
    command = [sys.executable, "-c", COUNT, str(tmp_path)]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) for _ in range(6)]
    assert [process.wait(timeout=600) for process in processes] == [0] * 6
    assert (tmp_path / "count").read_text() == "120"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_without_flock_a_line_says_so(tmp_path, monkeypatch, capsys, number):
    def unsupported(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    (tmp_path / ".summary.json.abc.partial").touch()  # of another run that is still writing, perhaps
    with workdir.lock(tmp_path, wait=False):
        workdir.write_bytes(tmp_path / "file", b"written")
    assert {file.name for file in tmp_path.iterdir()} == {".lock", ".summary.json.abc.partial", "file"}
    assert "start no second run" in capsys.readouterr().err


def test_what_a_killed_run_left_is_removed(tmp_path):
    (tmp_path / "sub").mkdir()
    killed = (
        "import os, sys; from pathlib import Path; from harness import workdir; "
        "os.replace = lambda *paths: os._exit(9); "
        "workdir.write_bytes(Path(sys.argv[1], 'summary.json'), b'half')"
    )
    for folder in (tmp_path, tmp_path / "sub"):
        subprocess.run([sys.executable, "-c", killed, str(folder)], cwd=ROOT)
        assert len([*folder.glob(".summary.json.*")]) == 1
    (tmp_path / ".mine").write_text("a user's file")
    with workdir.lock(tmp_path, wait=False):
        assert {file.name for file in tmp_path.rglob("*")} == {".lock", ".mine", "sub"}


@pytest.mark.parametrize("name", ["checkpoints", "tensorboard", "anything"])
@pytest.mark.parametrize("target", ["a folder", "nothing"])
def test_a_link_in_a_workdir_that_leads_elsewhere_is_refused(tmp_path, name, target):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run.mkdir()
    if target == "a folder":
        elsewhere.mkdir()
    (run / name).symlink_to(elsewhere)
    with pytest.raises(UserError, match=rf"{name} is a symbolic link, and a run writes nothing outside"):
        workdir.open_workdir(str(run), "mnist")
    assert not elsewhere.exists() or list(elsewhere.iterdir()) == []


def test_a_link_as_lock_is_refused(tmp_path):
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(UserError, match=r"\.lock is a symbolic link"),
        workdir.lock(workdir.open_workdir(str(tmp_path / "run"), "mnist"), wait=False),
    ):
        raise AssertionError("locked through a link")
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_a_link_to_a_file_is_replaced_and_the_workdir_may_be_a_link(tmp_path):
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / "real").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "summary.json").symlink_to(tmp_path / "elsewhere")
    folder = workdir.open_workdir(str(tmp_path / "run"), "mnist")
    workdir.write_bytes(folder / "summary.json", b"new")
    assert (tmp_path / "elsewhere").read_text() == "precious"
    assert (tmp_path / "real" / "summary.json").read_bytes() == b"new"
    assert not (tmp_path / "real" / "summary.json").is_symlink()


def test_a_rename_is_on_the_disk_before_the_next_step(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: synced.append(os.path.isdir(f"/proc/self/fd/{descriptor}"))
    )
    workdir.write_bytes(tmp_path / "summary.json", b"new")
    assert synced == [False, True]


def test_runs_of_the_same_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [workdir.open_workdir(None, "mnist") for _ in range(5)]
    assert len(set(folders)) == 5


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o002])
def test_a_file_is_readable_to_whom_the_umask_says(tmp_path, umask):
    before = os.umask(umask)
    try:
        workdir.write_bytes(tmp_path / "summary.json", b"{}")
    finally:
        os.umask(before)
    assert (tmp_path / "summary.json").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "summary.json"
    workdir.write_bytes(file, b"first")

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match=r"No space.*summary\.json"):
        workdir.write_bytes(file, b"second")
    assert file.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [file]


def test_a_number_that_is_not_finite_is_not_written_as_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        workdir.write_json(tmp_path / "summary.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_floats_read_back_as_they_were(tmp_path):
    workdir.write_csv(tmp_path / "t.csv", ["x"], [[0.1 + 0.2], [1e-300], [2]])
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[0] == "x"
    assert [float(line) for line in lines[1:]] == [0.1 + 0.2, 1e-300, 2]


def test_what_could_not_be_written_is_named_in_the_words_of_its_error(tmp_path):
    def fail(error):
        raise error

    files = {
        "export": lambda: fail(UserError("the logits differ: try other versions")),
        "curves": lambda: fail(ValueError("a bug")),
        "table": lambda: (tmp_path / "table").write_text("written"),
    }
    with pytest.raises(UserError) as raised:
        workdir.write_each(tmp_path, files, again="start again")
    assert str(raised.value) == (
        f"{tmp_path} lacks export: the logits differ: try other versions; curves: ValueError: a bug, "
        "then start again to have them written"
    )
    assert (tmp_path / "table").exists()


def test_a_users_matplotlibrc_changes_no_figure(tmp_path):
    def drawn(folder):
        def figure():
            figure = Figure(figsize=(3, 2), layout="constrained")
            figure.subplots().set(title="a title", xlabel="x")
            return figure

        folder.mkdir()
        workdir.save_figure(folder, "figure", figure)
        return [(folder / f"figure.{kind}").read_bytes() for kind in ("png", "svg")]

    theirs = {"text.usetex": True, "font.size": 30, "axes.facecolor": "black", "savefig.transparent": True}
    plain = drawn(tmp_path / "plain")
    with matplotlib.rc_context(theirs):
        assert drawn(tmp_path / "theirs") == plain
        assert matplotlib.rcParams["font.size"] == 30
