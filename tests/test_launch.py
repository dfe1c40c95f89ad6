"""The command line as a whole; tests/test_flags.py has every flag with every kind of wrong value."""

import ast
import dataclasses
import errno
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

import launch
from backprop.config import BackpropConfig
from cnn.config import CnnConfig
from cnn.experiment import describe, resolve
from cnn.zoo import ZOO
from harness.errors import UserError
from harness.workdir import write_config

ROOT = Path(__file__).parents[1]


def parse(line):
    return launch.parse(["launch.py", *line.split()])


def test_the_command_ends_with_2_and_one_line():
    command = [sys.executable, "launch.py", "--task=minst"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("launch.py: --task=minst is not known (did you mean mnist?)")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
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
def test_a_mistake_is_one_line(line, message, capsys):
    assert launch.main(["launch.py", *line.split()]) == 2
    said = capsys.readouterr().err
    assert said.startswith(message)
    assert said.count("\n") == 1


def test_flags_become_a_configuration():
    task, config = parse("--task=mnist --model=bn_4k --epochs=3 --seed=7 --noenforce_budget")
    assert task == "mnist"
    assert (config.model, resolve(config).recipe.epochs, config.seed) == ("bn_4k", 3, 7)
    assert resolve(config).recipe.batch_size == ZOO["bn_4k"].recipe.batch_size
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


def test_flags_txt_starts_the_same_run_anew_with_what_comes_after_it(tmp_path):
    run = CnnConfig(
        model="bn_4k", seed=3, epochs=2, enforce_budget=False, workdir="a", wait=True, num_seeds=2
    )
    write_config(tmp_path, "mnist", run, device="CPU")
    file = f"--flagfile={tmp_path}/flags.txt"
    assert parse(file) == ("mnist", dataclasses.replace(run, workdir=None, wait=False))
    assert parse(f"{file} --seed=4 --workdir=b")[1] == dataclasses.replace(
        run, seed=4, workdir="b", wait=False
    )
    assert parse(f"--seed=4 {file}")[1].seed == 3
    write_config(tmp_path, "backprop", BackpropConfig(lrs=(0.1 + 0.2, 1e-7)), device="CPU")
    assert parse(file) == ("backprop", BackpropConfig(lrs=(0.1 + 0.2, 1e-7)))


def test_a_file_of_flags_may_name_another(tmp_path):
    (tmp_path / "a").write_text("# a run\n\n  --task=mnist\n")
    (tmp_path / "b").write_text(f"--flagfile={tmp_path}/a\n-seed=2\n// more\n--nodescribe\n")
    assert parse(f"-flagfile {tmp_path}/b --epochs 3")[1] == CnnConfig(seed=2, epochs=3)


def test_a_file_of_flags_that_names_itself_is_read_once(tmp_path, capsys):
    (tmp_path / "a").write_text(f"--task=mnist\n--flagfile={tmp_path}/a\n--seed=2\n")
    assert parse(f"--flagfile={tmp_path}/a")[1] == CnnConfig(seed=2)
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"--epoch=3", "--epoch is not a flag (did you mean --epochs?)"),
        (b"--epochs 3", "--epochs 3 is not a flag (did you mean --epochs?)"),
        (b"--epochs=three", "'three' is not a whole number"),
        (b"mnist", "'mnist' belongs to no flag"),
        (b"\x7fELF\xff\xfe", "what it names is no text"),
        (b"--workdir=a\x1bb", "\\x1b"),
    ],
)
def test_a_wrong_file_of_flags_is_one_line(tmp_path, content, message):
    (tmp_path / "flags").write_bytes(content)
    with pytest.raises(UserError) as caught:
        parse(f"--task=mnist --flagfile={tmp_path}/flags")
    assert message in str(caught.value)


def test_without_the_budget_more_epochs_are_allowed():
    _, config = parse("--task=mnist --epochs=21 --noenforce_budget")
    assert resolve(config).recipe.epochs == 21


@pytest.mark.parametrize(
    ("line", "tasks"),
    [
        *((line, launch.CONFIGS) for line in ("--help", "--helpfull", "-help", "-h")),
        ("--task=mnist --epochs=3 --help", ["mnist"]),
        ("-h --task=audit", ["audit"]),
    ],
)
def test_help_names_every_flag_of_the_task_or_of_all(line, tasks, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(line)
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert re.findall(r"^--task=(\w+)", shown, re.MULTILINE) == [*tasks]
    for task in tasks:
        for field in dataclasses.fields(launch.CONFIGS[task]()):
            assert f"  --{field.name}: " in shown
    for group in ("network", "recipe", "distortion of training images", "devices", "budget"):
        assert (f"\n {group}:\n" in shown) == ("mnist" in tasks)


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse("--version --task=mnist")
    assert capsys.readouterr().out == f"backprop-and-cnn {importlib.metadata.version('backprop-and-cnn')}\n"


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("--task=mnist --lr=0.1", "--learning_rate?"),
        ("--task=mnist --lrs=0.1", "--learning_rate?"),
        ("--task=backprop --lr=0.1", "--lrs?"),
        ("--task=backprop --learning_rate=0.1", "--lrs?"),
        ("--task=mnist --BS=64", "--batch_size?"),
        ("--task=tpu --bs=64", "--batch_size?"),
        ("--task=mnist --wd 0.1", "--weight_decay?"),
        ("--task=mnist --dropout=0.1", "--layers='..., dropout 0.1, ...'?"),
        ("--task=audit --output_dir=x", "--workdir?"),
    ],
)
def test_what_people_type_leads_to_the_tasks_own_flag(line, meant):
    with pytest.raises(UserError, match=re.escape(f"(did you mean {meant})")):
        parse(line)


@pytest.mark.parametrize("name", ZOO)
def test_describe_prints_the_layers_and_stops(name, capsys):
    assert launch.main(["launch.py", "--task=mnist", "--describe", f"--model={name}"]) == 0
    shown = capsys.readouterr().out
    assert "receptive field" in shown
    assert "compiled" not in shown
    assert shown == f"{describe(resolve(CnnConfig(model=name)))}\n"
    assert "reconstruction" not in shown.lower()


def test_describe_imports_none_of_the_large_packages():
    program = (
        "import sys, launch; code = launch.main(['', '--task=mnist', '--describe']); large = "
        "{'jax', 'flax', 'optax', 'orbax', 'numpy', 'scipy', 'matplotlib', 'tensorboardX', 'tqdm'}; "
        "large |= {'audit', 'backprop', 'demo', 'cnn.compare', 'cnn.tpu'}; "  # the other tasks
        "sys.exit(str(large & sys.modules.keys()) if large & sys.modules.keys() else code)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "19,975" in done.stdout


OLD = "import runpy, sys; sys.version_info = (3, 10, 13); runpy.run_path('launch.py', run_name='__main__')"


@pytest.fixture
def alone(tmp_path):
    """launch.py and what it imports, without an environment beside it."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "mnist", "docs", "tests", "runs"))
    return folder


@pytest.mark.parametrize(
    ("flags", "lack"),
    [
        (["-S", "launch.py"], "has no absl-py, which this project needs"),
        (["-c", OLD], "is Python 3.10.13, and 3.11 or newer is needed"),
    ],
    ids=["without_packages", "too_old"],
)
def test_another_python_is_told_which_one_to_use(flags, lack, alone):
    def said(folder):
        command = [sys.executable, *flags, "--task=mnist", "--describe"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        return done.stderr

    begin = f"launch.py: {sys.executable} {lack}: "
    assert said(alone) == (
        begin + "first run `make run`, which finds a Python that fits and installs what is needed\n"
    )
    (alone / ".venv-python3.12" / "bin").mkdir(parents=True)
    (alone / ".venv-python3.12" / "bin" / "python").touch()
    assert ".venv-python3.12/bin/python instead" in said(alone)
    (alone / ".venv" / "bin").mkdir(parents=True)
    (alone / ".venv" / "bin" / "python").touch()
    assert said(alone) == begin + "use .venv/bin/python instead, or first run . .venv/bin/activate\n"


def test_a_package_that_a_task_lacks_is_named(monkeypatch, capsys):
    def run(config):
        import a_package_that_nobody_has  # noqa: F401

    monkeypatch.setitem(sys.modules, launch.TASKS["mnist"][1], types.SimpleNamespace(run=run))
    with pytest.raises(SystemExit) as stop:
        launch.main(["launch.py", "--task=mnist"])
    assert stop.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert f"{sys.executable} has no a_package_that_nobody_has, which this project needs: " in said


def test_an_old_python_can_read_launch_py():
    """Its syntax; python3.6 launch.py says the rest, where there is one."""
    ast.parse((ROOT / "launch.py").read_text(), feature_version=(3, 6))
    old = shutil.which("python3.6") or shutil.which("python3.10")
    if old and subprocess.run([old, "--version"], capture_output=True).returncode == 0:
        done = subprocess.run([old, "launch.py"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2
        assert re.fullmatch(r"launch.py: \S+ is Python 3\.\d+\.\d+, and 3.11 or newer is .*\n", done.stderr)


def test_the_oldest_python_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = ".".join(map(str, launch.OLDEST_PYTHON))
    assert project["requires-python"] == f">={oldest}"
    assert f"sys.version_info < {launch.OLDEST_PYTHON}" in (ROOT / "Makefile").read_text()
    for file in ("Makefile", "launch.py", "README.md"):
        assert f"{oldest} or newer" in (ROOT / file).read_text()
    assert "\n    . .venv/bin/activate " in (ROOT / "README.md").read_text()  # as launch.py advises


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("target", ["run", "test", "test-slow", "lint"])
@pytest.mark.parametrize(
    ("python", "found"), [("old", "3.10.13"), ("missing", "no Python"), ("ls", "no Python")]
)
def test_make_says_which_python_it_needs(target, python, found, tmp_path):
    old = tmp_path / "old"
    old.write_text(
        f"""#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 10, 13)\n$2"\n"""
    )
    old.chmod(0o755)
    named = "ls" if python == "ls" else str(tmp_path / python)
    command = ["make", f"PYTHON={named}", f"VENV={tmp_path}/venv", target]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        f"Python 3.11 or newer is needed, and {named} is {found}: "
        "name another, such as make run PYTHON=python3.12"
    )
    assert not (tmp_path / "venv").exists()


def failing(monkeypatch, error, task="mnist"):
    """Make a task end with an exception; run it."""

    def run(config):
        raise error

    monkeypatch.setitem(sys.modules, launch.TASKS[task.split()[0]][1], types.SimpleNamespace(run=run))
    return launch.main(["launch.py", *f"--task={task}".split()])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "x", "/a/b"),
            "/a/b: No space left on device: make room there, then start again",
        ),
        (OSError(errno.EDQUOT, "x", "/a"), "/a: Disk quota exceeded: make room there, then start again"),
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
            "/run/checkpoints/1/: No space left on device: make room there, then start again",
        ),
    ],
)
def test_what_the_system_refuses_is_one_line(monkeypatch, capsys, error, line):
    assert failing(monkeypatch, error) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert line in said
    assert said.isprintable()


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")]
)
def test_out_of_memory_advises_what_the_task_takes(monkeypatch, capsys, tmp_path, error):
    def said(line):
        assert failing(monkeypatch, error, line) == 2
        return capsys.readouterr().err

    begin = "launch.py: out of memory: close other programs"
    for line, flags in (("mnist", "--batch_size, --num_seeds"), ("backprop", "--frontier_rates")):
        assert said(line) == f"{begin}, or ask for less at once ({flags}), then start again\n"
    assert said("demo") == f"{begin}, then start again\n"
    write_config(tmp_path, "mnist", CnnConfig(), device="CPU")
    for flag in ("--resume", "--eval_only"):  # which take no other --batch_size
        assert said(f"mnist {flag} --workdir={tmp_path}") == f"{begin}, then start again\n"


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
