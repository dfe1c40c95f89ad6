"""What may go wrong under a run, and what becomes of it: signals, disks, damage, other flags, divergence."""

import dataclasses
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

import launch
from cnn.config import CnnConfig
from cnn.experiment import resolve, resolve_recipe
from cnn.task import require_new_or_same
from harness.errors import UserError
from harness.workdir import write_config
from tests import crash, damage
from tests.cnn.prepare import LAYERS
from tests.cnn.test_environment import ASCII

ROOT = Path(__file__).parents[2]
EPOCHS = 4
LONGEST = crash.LONGEST
RESUME = {"--resume": True}
MORE = RESUME | {"--epochs": EPOCHS, "--checkpoint_every_steps": 7, "--tensorboard": True, "--wait": True}


@pytest.fixture(scope="module")
def flags(small):
    """Of a run of 44 steps on two devices, saved every three."""
    return {
        **dict(flag.split("=", 1) for flag in small),
        "--layers": LAYERS,
        "--recipe": "plain_4k",
        "--epochs": EPOCHS,
        "--checkpoint_every_steps": 3,
        "--num_devices": 2,
    }


@pytest.fixture(scope="module")
def finished(flags, once):
    """The folder, with an umlaut, of a run that nothing happened to where the locale knows none."""
    return once("trusted", lambda folder: started(flags, folder / "ü", 0, **ASCII)) / "ü"


def command(flags, workdir):
    given = [name if value is True else f"{name}={value}" for name, value in flags.items()]
    return [sys.executable, "launch.py", "--task=mnist", f"--workdir={workdir}", *given]


def started(flags, workdir, code, **environment):
    """Run to its end, which has to be the exit code, with nothing or one line said; returns the line."""
    done = subprocess.run(
        command(flags, workdir),
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=LONGEST,
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == (code != 0), done.stderr
    return done.stderr


def popen(flags, workdir):
    return subprocess.Popen(
        command(flags, workdir),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.001)


def steps(workdir):
    names = [folder.name for folder in (workdir / "checkpoints").iterdir()]
    return sorted(int(name) for name in names if name.isdigit())


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        *(pytest.param(each, marks=pytest.mark.slow) for each in (signal.SIGTERM, signal.SIGHUP)),
    ],
)
def test_a_signal_saves_and_what_may_change_changes_no_number(flags, finished, tmp_path, number):
    workdir = tmp_path / "run"
    interrupt(number, flags, workdir)
    started(MORE, workdir, 0)
    assert {*crash.differences(workdir, finished)} <= {"names_of_files"}  # events; other steps are saved


def interrupt(number, flags, workdir):
    """Let a signal end a run of an epoch less than `finished` has."""
    process = popen(flags | {"--epochs": EPOCHS - 1}, workdir)
    wait_for(workdir / "checkpoints" / "3", process)
    process.send_signal(number)
    _, said = process.communicate(timeout=LONGEST)
    assert process.returncode == 128 + number
    assert said == (f"launch.py: {number.name}: saved; go on with --resume --workdir={workdir}\n")
    assert 3 <= steps(workdir)[-1] < 33


@pytest.mark.slow
def test_a_run_goes_on_on_another_number_of_devices(flags, finished, tmp_path):
    """Equal but for the rounding of sums.

    A gradient of about 1 sums 64 images at up to 12 x 12 places; 44 steps at a rate of 0.01 and a momentum
    of 0.9 move a weight by ten times the rate each.
    """
    interrupt(signal.SIGINT, flags, tmp_path / "run")
    assert launch.main(command(MORE | {"--num_devices": 1}, tmp_path / "run")[1:]) == 0
    ours, theirs = (crash.weights(folder)[0] for folder in (finished, tmp_path / "run"))
    for (dtype, shape, one), (_, _, other) in zip(ours, theirs, strict=True):
        arrays = (np.frombuffer(each, dtype).reshape(shape) for each in (one, other))
        rounding = np.finfo(np.float32).eps * np.sqrt(64 * 12 * 12)
        np.testing.assert_allclose(*arrays, rtol=rounding, atol=44 * 10 * 0.01 * rounding)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (signal.SIGINT, signal.SIGINT),
        pytest.param(signal.SIGTERM, signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_a_second_signal_ends_at_once(flags, tmp_path, monkeypatch, first, second):
    """Both come while the step is compiled, which takes seconds for a larger network."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    large = {name: value for name, value in flags.items() if name not in ("--layers", "--recipe")}
    process = popen(large | {"--compilation_cache": "none"}, tmp_path)
    wait_for(tmp_path / "config.json", process)
    time.sleep(0.5)
    process.send_signal(first)
    time.sleep(0.5)
    process.send_signal(second)
    shown, said = process.communicate(timeout=LONGEST)
    assert process.returncode in (128 + second, -second)  # a shell shows 128 + second for both
    assert "compiled" not in shown
    assert "Traceback" not in said
    assert steps(tmp_path) == []


def resize(disk, size):
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def fill_up(flags, finished, disk, sizes):
    """Run on a disk that grows whenever it is full; returns what was refused, and where."""
    refused = []
    for size in sizes:
        resize(disk, size)
        workdir = disk / "run"
        again = RESUME if (workdir / "config.json").exists() else flags
        before = steps(workdir) if (workdir / "checkpoints").exists() else []
        had_summary = (workdir / "summary.json").exists()
        said = started(again, workdir, 2)
        go_on = "add --resume" if (workdir / "config.json").exists() else "start again"
        full = "No space left on device: make room there"
        match = re.fullmatch(
            rf"launch.py: {workdir}(/| lacks )(.*): {full}, then {go_on}( --workdir.*)?\n", said
        )
        assert match, said
        refused += match[2].split(", ") if match[1] == " lacks " else [match[2].partition("/")[0]]
        assert not before or steps(workdir)[-1] >= before[-1]
        untouched = refused[-1] == "config.json" and had_summary  # a start that ended before it did anything
        assert (workdir / "summary.json").exists() == (match[1] == " lacks " or untouched)
    resize(disk, "16m")
    started(RESUME, disk / "run", 0)
    assert crash.differences(disk / "run", finished) == []
    return refused


@pytest.mark.slow
def test_a_full_disk_loses_nothing(flags, finished, small_disk):
    refused = fill_up(flags, finished, small_disk("64k"), ["64k", "700k"])
    assert "checkpoints" in refused


@pytest.mark.slow
def test_a_disk_full_at_every_file_loses_nothing(flags, finished, small_disk):
    pages = [5, 10, 25, 40, *range(50, 80), *range(85, 320, 15)]  # one by one where the smallest file is left
    sizes = [f"{4 * each}k" for each in pages]
    refused = fill_up(flags, finished, small_disk("20k"), sizes)
    print(refused)
    assert {"checkpoints", "config.json", "curves", "report.html"} <= {*refused}


def test_a_disk_full_at_the_metrics_loses_nothing(finished, tmp_path, monkeypatch, capsys):
    """No size of a disk is sure to end there."""
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    again = ["launch.py", "--task=mnist", "--resume", "--num_devices=1", f"--workdir={workdir}"]

    def full(file, *_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))

    with monkeypatch.context() as patched:
        patched.setattr("cnn.results.write_csv", full)
        assert launch.main(again) == 2
    assert capsys.readouterr().err == (
        f"launch.py: {workdir}/metrics.csv: No space left on device: make room there, then add --resume\n"
    )
    assert not (workdir / "summary.json").exists()
    assert launch.main(again) == 0
    for name in ("metrics.csv", "confusion.csv"):
        assert (workdir / name).read_bytes() == (finished / name).read_bytes()
    assert (workdir / "summary.json").exists()


def test_a_figure_that_fails_costs_itself_alone(finished, tmp_path, monkeypatch, capsys):
    """So do an export, and whatever comes after a training."""
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    again = ["launch.py", "--task=mnist", "--resume", "--num_devices=1", f"--workdir={workdir}"]
    with monkeypatch.context() as patched:
        patched.setattr("cnn.plots.confusion", lambda *_, name: 1 / 0)
        patched.setattr("cnn.export.export", lambda *_, **__: (tmp_path / "no" / "folder").touch())
        assert launch.main([*again, f"--export={tmp_path / 'export'}"]) == 2
    shown, said = capsys.readouterr()
    assert "final test accuracy" in shown
    assert re.fullmatch(
        rf"launch.py: {workdir} lacks confusion: ZeroDivisionError: division by zero; "
        rf"export: No such file or directory: .*, then add --resume --workdir={workdir} .*\n",
        said,
    )
    assert (workdir / "summary.json").exists()
    assert "curves.svg" in (workdir / "report.html").read_text()
    assert "confusion.svg" not in (workdir / "report.html").read_text()
    assert not (workdir / "confusion.png").exists()
    assert launch.main(again) == 0
    assert (workdir / "confusion.png").read_bytes() == (finished / "confusion.png").read_bytes()
    assert {file.name for file in (tmp_path / "export").iterdir()} >= {"model.onnx", "export.json"}


def test_a_workdir_that_vanishes_is_named(flags, tmp_path):
    process = popen(flags, tmp_path / "run")
    wait_for(tmp_path / "run" / "checkpoints" / "3", process)
    (tmp_path / "run").rename(tmp_path / "gone")
    _, said = process.communicate(timeout=LONGEST)
    assert process.returncode == 2
    assert re.fullmatch(rf"launch.py: {tmp_path}/run\S* .*\n", said), said
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.slow
def test_a_disk_that_becomes_read_only_is_named(flags, finished, small_disk, tmp_path):
    """Of the checkpoints alone: Linux makes no disk read-only where .lock is open."""
    disk = small_disk("16m")
    workdir = tmp_path / "run"
    (workdir / "checkpoints").mkdir(parents=True)
    subprocess.run(["mount", "--bind", str(disk), str(workdir / "checkpoints")], check=True)
    try:
        process = popen(flags, workdir)
        wait_for(workdir / "checkpoints" / "6", process)
        while subprocess.run(["mount", "-o", "remount,ro", str(disk)], capture_output=True).returncode:
            assert process.poll() is None, process.stderr.read()  # a file is open: between two saves
        _, said = process.communicate(timeout=LONGEST)
        assert process.returncode == 2
        assert re.fullmatch(r"launch.py: .*Read-only file system: .*, then add --resume; or, .*\n", said), (
            said
        )
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        started(RESUME, workdir, 0)
        assert crash.differences(workdir, finished) == []
    finally:
        subprocess.run(["umount", "--lazy", str(workdir / "checkpoints")], check=True)


@pytest.mark.slow
def test_a_checkpoint_damaged_at_random_is_named_or_the_same(tmp_path):
    damage.save_two(tmp_path / "whole")
    results = damage.run(tmp_path / "whole", range(30))
    assert {result for *_, result in results.values()} == set(damage.GOOD), results


@pytest.mark.slow
def test_a_checkpoint_damaged_in_1000_ways_is_named_or_the_same(tmp_path):
    damage.save_two(tmp_path / "whole")
    results = damage.run(tmp_path / "whole", range(1000))
    assert [result for result in results.values() if result[-1] not in damage.GOOD] == []


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(finished, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    last = workdir / "checkpoints" / str(steps(workdir)[-1])
    for file in last.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-1])
    for task in ("--resume", "--eval_only"):
        flags = [task, "--num_devices=1", f"--workdir={workdir}"]
        assert launch.main(["launch.py", "--task=mnist", *flags]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"launch.py: {last} cannot be restored (")
        assert said.endswith(
            "): if it is damaged, move that folder away, and --resume goes on from the checkpoint before it\n"
        )
    shutil.rmtree(last)
    started(RESUME, workdir, 0)
    assert crash.differences(workdir, finished) == []


MAY_CHANGE = {  # to another value than the run's below
    "target_accuracy": 0.5,
    "data_dir": "elsewhere",
    "wait": True,
    "export": "folder",
    "checkpoint_every_steps": 7,
    "profile_steps": 20,
    "num_devices": 3,
    "compilation_cache": "none",
    "deterministic": True,
    "tensorboard": True,
    "max_parameters": 30_000,
    "max_epochs": 30,
    "enforce_budget": False,
    "epochs": 6,
}
MAY_NOT_CHANGE = {
    "model": "bn_4k",
    "epochs": 4,  # fewer
    "recipe": "bn_4k",
    "batch_size": 32,
    "optimizer": "adamw",
    "momentum": 0.8,
    "nesterov": True,
    "weight_decay": 0.01,
    "learning_rate": 0.02,
    "schedule": "cosine",
    "ema_decay": 0.9,
    "initialization": "he",
    "label_smoothing": 0.1,
    **dict.fromkeys(("rotation", "scale", "shear", "shift", "elastic", "brightness", "contrast"), 0.5),
    **dict.fromkeys(("erasing", "zoom"), 0.5),
    "seed": 1,
    "num_seeds": 2,
    "compute_dtype": "bfloat16",
    "validation_size": 100,
    "dataset": "kmnist",
    "reported": "0.99,1,0.98@00000000",
}
OTHERWISE = {  # the first eight are of no use to the run below
    "warmup",
    "step_size",
    "milestones",
    "gamma",
    "factor",
    "patience",
    "crop_size",
    "fade",
    "layers",
    "workdir",
    "resume",
    "eval_only",
    "describe",
    "coordinator_address",
    "num_processes",
    "process_id",
}
RUN = CnnConfig(model="plain_4k", epochs=5, dataset="tiny_mnist", data_dir="data", batch_size=64)


def resume_with(workdir, **changed):
    write_config(workdir, "mnist", RUN, device="a device")
    given = [
        f"--{name}={value}" if not isinstance(value, bool) else f"--{'' if value else 'no'}{name}"
        for name, value in changed.items()
    ]
    _, config = launch.parse(["launch.py", "--task=mnist", "--resume", f"--workdir={workdir}", *given])
    require_new_or_same(resolve(config), workdir)
    return config


def test_every_flag_either_may_change_or_may_not():
    names = {field.name for field in dataclasses.fields(CnnConfig)}
    assert names == {*MAY_CHANGE, *MAY_NOT_CHANGE, *OTHERWISE}


@pytest.mark.parametrize("name", MAY_CHANGE)
def test_a_run_goes_on_with_what_may_change(tmp_path, name):
    config = resume_with(tmp_path, **{name: MAY_CHANGE[name]})
    assert getattr(config, name) == MAY_CHANGE[name] != getattr(RUN, name)


@pytest.mark.parametrize("name", MAY_NOT_CHANGE)
def test_a_run_does_not_go_on_as_another(tmp_path, name):
    now = MAY_NOT_CHANGE[name]
    before = (dataclasses.asdict(RUN) | dataclasses.asdict(resolve_recipe(RUN)))[name]
    with pytest.raises(UserError) as caught:
        resume_with(tmp_path, **{name: now})
    assert caught.value.exit_code == 2
    assert f"--{name}={now} is not what the run in {tmp_path} has ({before})" in str(caught.value)
    assert "leave it out, or start a new run in another --workdir" in str(caught.value)


def test_a_one_cycle_run_has_its_length_from_the_start(tmp_path):
    write_config(tmp_path, "mnist", CnnConfig(), device="a device")
    argv = ["launch.py", "--task=mnist", "--resume", "--epochs=20", f"--workdir={tmp_path}"]
    with pytest.raises(UserError, match=r"--epochs=20 is not what the run in .* has \(\d+\)"):
        require_new_or_same(resolve(launch.parse(argv)[1]), tmp_path)


def test_a_run_that_diverges_keeps_finite_numbers(flags, tmp_path, capsys):
    layers = "conv 8 5x5 stride 3, conv 8 3x3 stride 2, dense 10 bias"  # nothing bounds what they give
    diverging = {"--layers": layers, "--learning_rate": 100, "--checkpoint_every_steps": 1}
    assert launch.main(command(flags | diverging | {"--num_devices": 1}, tmp_path)[1:]) == 3
    said = capsys.readouterr().err
    match = re.fullmatch(
        r"launch.py: (?:the loss|a weight) of seed 0 is not a finite number at step (\d+) \(epoch 1\), "
        r"learning rate 100; the gradient's norm before was \S+: start a new run, in another "
        r"folder, with a smaller --learning_rate\n",
        said,
    )
    assert match, said
    assert 0 < steps(tmp_path)[-1] <= int(match[1])
    with ocp.StandardCheckpointer() as checkpointer:
        arrays = checkpointer.restore(tmp_path / "checkpoints" / str(steps(tmp_path)[-1]) / "arrays")
    leaves = jax.tree.leaves(arrays)
    assert len(leaves) > 10
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert not (tmp_path / "summary.json").exists()
