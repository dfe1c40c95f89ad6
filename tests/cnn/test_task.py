"""The real command line on real images: a run, an interruption, a resumption, an evaluation."""

import csv
import errno
import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from cnn import data, task
from harness.errors import UserError
from launch import main, parse
from tests.audit.notebook.written import IMPORTS, LOADERS, LOOPS, NET, TRAINING, log, write
from tests.cnn.prepare import LAYERS

ROOT = Path(__file__).parents[2]
COLUMNS = ["epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "learning_rate", "seconds"]
FIGURES = ["curves", "confusion", "misclassified", "augmented"]


@pytest.fixture
def finished(default_run):
    """The folder and the output of an uninterrupted run of two epochs."""
    return default_run / "run", (default_run / "output").read_text()


def command(*flags):
    return [sys.executable, "launch.py", "--task=mnist", *flags]


def launch(*flags):
    return subprocess.run(command(*flags), cwd=ROOT, capture_output=True, text=True)


def table(file):
    with file.open() as stream:
        return list(csv.DictReader(stream))


def without_seconds(workdir):
    return [
        {name: value for name, value in row.items() if name != "seconds"}
        for row in table(workdir / "metrics.csv")
    ]


@pytest.mark.slow
def test_a_submission_on_the_bundled_mnist(tmp_path, capsys, monkeypatch):
    """1,500 of its training images, 500 of them held out: the whole test set, an epoch of 16 steps."""
    loaders = LOADERS.replace("datasets.MNIST(", "torch.utils.data.random_split(datasets.MNIST(", 1)
    loaders = loaders.replace("])),\n    batch", "])), [59500, 500])[0],\n    batch", 1)
    training = TRAINING.replace("range(1, 16)", "range(1, 2)")
    file = write(tmp_path, IMPORTS, NET, loaders, LOOPS, training, printed=log([9999], 930))
    workdir = tmp_path / "run"
    train, test, *_ = data.load("mnist")
    some = data.Dataset(data.Examples(train.images[:1500], train.labels[:1500]), test, 10)
    monkeypatch.setattr(data, "load_bundled_mnist", lambda folder: some)
    assert main(["launch.py", "--task=mnist", f"--model={file}", f"--workdir={workdir}"]) == 0
    shown = capsys.readouterr().out
    assert "13,618" in shown
    assert re.search(r"epoch  1/1  train .* validation .* test .* images/s", shown)
    (row,) = table(workdir / "metrics.csv")
    assert list(row) == [*COLUMNS, "validation_loss", "validation_accuracy"]
    assert len(row["test_accuracy"]) <= len("0.1234")  # of 10,000 images
    summary = json.loads((workdir / "summary.json").read_text())
    ours = summary["final_test_accuracy"]
    assert ours == float(row["test_accuracy"])
    assert summary["reported"] == {
        "final_test_accuracy": 0.9999,
        "our_final_test_accuracy": ours,
        "seeds_below": 1,
        "best_test_accuracy": 0.9999,
        "best_epoch": 1,
        "our_best_test_accuracy": ours,
        "best_epoch_chosen_on": "test images",
        "departures": 1,  # other images are held out
    }
    beside = (
        f"last epoch: its author reports 99.99%, ours {ours:.2%}\nbest epoch: its author reports 99.99% ("
    )
    assert beside in shown
    assert "its author&#x27;s run, and ours" in (workdir / "report.html").read_text()
    counts = np.loadtxt(workdir / "confusion.csv", delimiter=",", skiprows=1, dtype=int)[:, 1:]
    assert counts.sum(axis=1).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert not (workdir / "augmented.png").exists()
    file.unlink()
    assert main(["launch.py", "--task=mnist", "--eval_only", f"--workdir={workdir}"]) == 0
    assert beside in capsys.readouterr().out


def test_what_a_run_leaves(finished):
    workdir, _ = finished
    rows = table(workdir / "metrics.csv")
    assert list(rows[0]) == COLUMNS
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[-1]["train_loss"]) < 0.7 * float(rows[0]["train_loss"])
    assert not (workdir / "profile").exists()
    counts = np.loadtxt(workdir / "confusion.csv", delimiter=",", skiprows=1, dtype=int)[:, 1:]
    assert counts.shape == (10, 10)
    assert counts.sum() == 500
    assert np.trace(counts) == round(float(rows[-1]["test_accuracy"]) * 500)
    for name in FIGURES:
        assert (workdir / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (workdir / f"{name}.svg").read_bytes()
    config = json.loads((workdir / "config.json").read_text())
    assert config["flags"]["dataset"] == "tiny_mnist"
    assert config["recipe"]["epochs"] == 2
    assert (
        f"{float(rows[-1]['test_accuracy']):.2%} of the test images" in (workdir / "report.html").read_text()
    )
    (start,) = config["starts"]
    assert {"time", "versions", "device", "git_commit"} <= set(start)
    assert asdict(parse(["", f"--flagfile={workdir / 'flags.txt'}"])[1]) == config["flags"] | {
        "workdir": None
    }
    assert sorted(folder.name for folder in (workdir / "checkpoints").iterdir()) == ["126", "63"]


def test_summary_is_what_the_metrics_say(finished):
    workdir, output = finished
    rows = table(workdir / "metrics.csv")
    summary = json.loads((workdir / "summary.json").read_text())
    accuracies = [float(row["test_accuracy"]) for row in rows]
    assert summary["parameters"] == 19_975
    assert summary["epochs"] == 2
    assert summary["final_test_accuracy"] == accuracies[-1]
    assert summary["best_test_accuracy"] == max(accuracies)
    assert summary["best_epoch"] == 1 + accuracies.index(max(accuracies))
    assert summary["first_epoch_at_target"] is None
    assert summary["images_per_second"] > 0
    assert f"final test accuracy {accuracies[-1]:.2%} after epoch 2" in output
    assert "(chosen on the test images)" in output
    assert "target 99.40% not reached" in output


def test_a_finished_run_is_evaluated_again(finished, tmp_path, capsys):
    workdir = shutil.copytree(finished[0], tmp_path / "copy")  # another test may lock the run meanwhile
    before = {file: file.stat().st_mtime_ns for file in workdir.glob("*")}
    summary = json.loads((workdir / "summary.json").read_text())
    assert main(["launch.py", "--task=mnist", "--eval_only", f"--workdir={workdir}"]) == 0
    shown = capsys.readouterr().out
    assert f"test accuracy {summary['final_test_accuracy']:.2%}" in shown
    assert f"test loss {summary['final_test_loss']:.4f}" in shown
    assert before == {file: file.stat().st_mtime_ns for file in workdir.glob("*")}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "holds a run already: add --resume"),
        (["--resume", "--model=bn_4k"], "--model=bn_4k is not what the run in"),
        (["--resume", "--seed=1"], "--seed=1 is not what the run in"),
        (["--resume", "--epochs=5"], "--epochs=5 is not what the run in"),
        (["--resume", "--dataset=mnist"], "--data_dir="),
        (["--eval_only", "--batch_size=32"], "--batch_size=32 is not what the run in"),
        (["--resume", "--eval_only"], "exclude each other"),
    ],
)
def test_a_run_is_not_continued_as_another(finished, flags, message, capsys):
    workdir, _ = finished
    assert main(["launch.py", "--task=mnist", f"--workdir={workdir}", *flags]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("workdir", [None, "here"])
@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."),
            "out of memory: close other programs, then add --resume{}; "
            "or, in a new run, ask for less at once (--batch_size, --num_seeds)",
        ),
        (OSError(errno.ENOSPC, "x"), "No space left on device: make room there, then add --resume{}"),
        (
            OSError(errno.EROFS, "x"),
            "Read-only file system: make it writable, then add --resume{}; "
            "or, in a new run, give another folder",
        ),
    ],
)
def test_resuming_is_advised_where_there_is_a_run_to_go_on_with(workdir, error, line, tmp_path):
    with pytest.raises(type(error)), task._refused(tmp_path, workdir):
        raise error
    (tmp_path / "config.json").touch()
    with pytest.raises(UserError) as caught, task._refused(tmp_path, workdir):
        raise error
    assert str(caught.value) == line.format("" if workdir else f" --workdir={tmp_path}")


def test_a_refused_run_leaves_no_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["launch.py", "--task=mnist", "--validation_size=59990", "--num_devices=1"]) == 2
    assert "more than the 10 training images" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_at_a_constant_rate_goes_on_for_more_epochs(small, tmp_path):
    flags = [*small, "--model=plain_4k"]
    assert launch("--epochs=1", f"--workdir={tmp_path / 'run'}", *flags).returncode == 0
    longer = launch("--resume", "--epochs=2", f"--workdir={tmp_path / 'run'}")
    assert longer.returncode == 0, longer.stderr
    assert launch("--epochs=2", f"--workdir={tmp_path / 'at_once'}", *flags).returncode == 0
    assert without_seconds(tmp_path / "run") == without_seconds(tmp_path / "at_once")
    shorter = launch("--resume", "--epochs=1", f"--workdir={tmp_path / 'run'}")
    assert shorter.returncode == 2
    assert "--epochs=1 is not what the run in" in shorter.stderr


def test_several_seeds_have_one_summary(small, tmp_path, capsys):
    flags = ["launch.py", "--task=mnist", *small, f"--layers={LAYERS}", "--recipe=plain_4k", "--epochs=2"]
    assert main([*flags, "--num_seeds=3", "--seed=5", f"--workdir={tmp_path / 'all'}"]) == 0
    shown = capsys.readouterr().out
    rows = table(tmp_path / "all" / "metrics.csv")
    assert list(rows[0]) == ["seed", *COLUMNS]
    assert [(row["seed"], row["epoch"]) for row in rows] == [(s, e) for s in "567" for e in "12"]
    final = np.array([float(row["test_accuracy"]) for row in rows[1::2]])
    summary = json.loads((tmp_path / "all" / "summary.json").read_text())
    assert summary["num_seeds"] == 3
    assert summary["final_test_accuracy"] == pytest.approx(final.mean())
    assert summary["final_test_accuracy_std"] == pytest.approx(final.std(ddof=1))
    low, high = summary["final_test_accuracy_95_interval"]
    assert high - low == pytest.approx(2 * 4.302653 * final.std(ddof=1) / 3**0.5)  # t of 2 degrees of freedom
    assert summary["final_test_accuracy_worst"] == final.min()
    assert [each["final_test_accuracy"] for each in summary["seeds"]] == final.tolist()
    counts = np.loadtxt(tmp_path / "all" / "confusion.csv", delimiter=",", skiprows=1, dtype=int)[:, 1:]
    assert np.trace(counts) == round(final.sum() * 250)
    assert "over 3 seeds: standard deviation" in shown


@pytest.mark.slow
def test_a_seed_among_several_is_what_it_is_alone(small, tmp_path):
    flags = ["launch.py", "--task=mnist", *small, "--model=plain_4k", "--epochs=2", "--learning_rate=0.2"]
    assert main([*flags, "--num_seeds=3", "--seed=5", f"--workdir={tmp_path / 'all'}"]) == 0
    rows = table(tmp_path / "all" / "metrics.csv")
    assert main([*flags, "--seed=6", f"--workdir={tmp_path / 'one'}"]) == 0
    for ours, theirs in zip(table(tmp_path / "one" / "metrics.csv"), rows[2:4], strict=True):
        for name in ("train_loss", "test_loss"):
            assert ours[name] == theirs[name]  # one after the other on the one device of this process


def test_a_batch_larger_than_the_data_is_refused(small, tmp_path, capsys):
    flags = [small[0], "--batch_size=2000", f"--workdir={tmp_path / 'new'}"]
    assert main(["launch.py", "--task=mnist", *flags]) == 2
    said = capsys.readouterr().err
    assert "--batch_size=2000 is more than the 650 training images" in said
    assert said.count("\n") == 1


@pytest.mark.slow
def test_the_default_run_reaches_its_target(tmp_path):
    done = subprocess.run(command(f"--workdir={tmp_path}"), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["parameters"] < 20_000
    assert summary["epochs"] < 20
    assert summary["final_test_accuracy"] >= 0.994
