"""The command line as a whole; tests/test_flags.py has every flag with every kind of wrong value."""

import dataclasses
import errno
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import launch
from cnn.config import CnnConfig
from cnn.zoo import ZOO
from errors import UserError
from workdir import write_config

ROOT = Path(__file__).parents[1]


def parse(line):
    return launch.parse(["launch.py", *line.split()])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--task=minst", "launch.py: --task=minst is not known (did you mean mnist?)"),
        ("--task=mnist --epochs=ten", "launch.py: flag --epochs=ten: 'ten' is not a whole number"),
        ("--task=mnist --epochs=21", "launch.py: --epochs=21 is over the budget"),
        ("--task=backprop --lrs=0.1,oops", "launch.py: flag --lrs=0.1,oops: 'oops' is not a number"),
        ("--task=mnist --workdir=/dev/null/run", "launch.py: --workdir=/dev/null/run: cannot write there"),
        ("--task=backprop --workdir=/dev/null/run", "launch.py: --workdir=/dev/null/run: cannot write there"),
        ("--task=mnist --workdir=/proc", "launch.py: --workdir=/proc: cannot write there"),
        ("--task=mnist --workdir=", "launch.py: --workdir is empty"),
        ("--task=mnist --export=/dev/null/here", "launch.py: --export=/dev/null/here: cannot write there"),
        ("--task=mnist --export=", "launch.py: --export is empty"),
    ],
)
def test_the_command_ends_with_2_and_one_line(line, message):
    done = subprocess.run(
        [sys.executable, "launch.py", *line.split()], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_flags_become_a_configuration():
    task, config = parse("--task=mnist --model=bn_4k --epochs=3 --seed=7 --noenforce_budget")
    assert task == "mnist"
    assert (config.model, config.recipe.epochs, config.seed) == ("bn_4k", 3, 7)
    assert config.recipe.batch_size == ZOO["bn_4k"].recipe.batch_size
    task, config = parse("--task=backprop --lrs=0.1,2 --epochs=3")
    assert (task, config.lrs, config.epochs) == ("backprop", (0.1, 2.0), 3)


@pytest.mark.parametrize("kept", [{"model": "bn_4k", "colour": 3}, {"epochs": "three"}, {"dataset": 3}])
def test_a_config_that_does_not_fit_is_named(tmp_path, kept):
    another_version = dataclasses.make_dataclass("AnotherVersion", kept)
    write_config(tmp_path, "mnist", another_version(**kept), device="CPU")
    with pytest.raises(UserError, match=r"config.json does not fit this version"):
        parse(f"--task=mnist --resume --workdir={tmp_path}")


def test_a_resumed_run_waits_and_exports_only_if_asked_anew(tmp_path):
    write_config(tmp_path, "mnist", CnnConfig(wait=True, export="a", tensorboard=True), device="CPU")
    _, resumed = parse(f"--task=mnist --resume --workdir={tmp_path}")
    assert (resumed.wait, resumed.export, resumed.tensorboard) == (False, "a", True)
    _, evaluated = parse(f"--task=mnist --eval_only --workdir={tmp_path} --wait")
    assert (evaluated.wait, evaluated.export, evaluated.tensorboard) == (True, None, False)


def test_without_the_budget_more_epochs_are_allowed():
    _, config = parse("--task=mnist --epochs=21 --noenforce_budget")
    assert config.recipe.epochs == 21


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        launch.parse(["launch.py", "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for name in launch.define_flags():
        assert f"--{name}" in shown or name == "help"


@pytest.mark.parametrize("name", ZOO)
def test_describe_prints_the_layers_and_stops(name, capsys):
    assert launch.main(["launch.py", "--task=mnist", "--describe", f"--model={name}"]) == 0
    shown = capsys.readouterr().out
    assert "receptive field" in shown
    assert "compiled" not in shown
    assert ("RECONSTRUCTION" in shown) == (name == "reduced_19k")


def failing(monkeypatch, error, task="mnist"):
    """Make a task end with an exception; run it."""

    def run(config):
        raise error

    monkeypatch.setattr(launch.importlib, "import_module", lambda name: types.SimpleNamespace(run=run))
    return launch.main(["launch.py", f"--task={task}"])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "x", "/a/b"),
            "/a/b: No space left on device: make room there, then add --resume",
        ),
        (OSError(errno.EDQUOT, "x", "/a"), "/a: Disk quota exceeded: make room there, then add --resume"),
        (OSError(errno.EROFS, "x", "/a"), "Read-only file system: make it writable, or give another folder"),
        (OSError(errno.EACCES, "x", "/a"), "Permission denied: make it writable, or give another folder"),
        (OSError(errno.ENOENT, "x", "/a"), "No such file or directory: put it back or mount it again"),
        (OSError(errno.EIO, "x", "/a"), "Input/output error: check the disk"),
        (OSError(errno.ENOSPC, "x", "/a\nb\udcff"), "/a\\nb\\udcff: No space left"),
        (
            ValueError(
                'RESOURCE_EXHAUSTED: Error writing "a/0" in OCDBT database at local file '
                '"/run/checkpoints/1/": '
                "Failed to write 324919 bytes to file 14: No space left on device [os_error_code='28']"
            ),
            "/run/checkpoints/1/: No space left on device: make room there, then add --resume",
        ),
        (MemoryError(), "out of memory: ask for less at once"),
        (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."),
            "out of memory: ask for less",
        ),
    ],
)
def test_what_the_system_refuses_is_one_line(monkeypatch, capsys, error, line):
    assert failing(monkeypatch, error) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert line in said
    assert said.isprintable()


def test_another_tasks_run_is_started_again(monkeypatch, capsys):
    assert failing(monkeypatch, OSError(errno.ENOSPC, "x", "/a"), task="backprop") == 2
    assert capsys.readouterr().err.endswith("make room there, then start again\n")


def test_a_mistake_of_ours_is_not_called_the_users(monkeypatch):
    for error in (ValueError("our mistake"), RuntimeError("and another")):
        with pytest.raises(type(error)):
            failing(monkeypatch, error)


@pytest.mark.parametrize("flag", ["--help", "--describe"])
def test_a_full_disk_under_the_output_is_one_line(flag):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "launch.py", "--task=mnist", flag],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("launch.py: No space left on device: make room there")


def test_a_reader_that_ends_early_is_one_line():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "launch.py", "--task=mnist", "--describe"],
        cwd=ROOT,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("launch.py: Broken pipe: what read the output has ended")
