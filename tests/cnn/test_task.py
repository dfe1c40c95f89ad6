"""The real command line on real images: a run, an interruption, a resumption, an evaluation."""

import csv
import errno
import json
import re
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from cnn import data, task
from cnn.config import CnnConfig
from cnn.run import Run
from errors import UserError
from launch import main, parse
from tests.cnn.prepare import prepare

ROOT = Path(__file__).parents[2]
COLUMNS = ["epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "learning_rate", "seconds"]
FIGURES = ["curves", "confusion", "misclassified", "augmented"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Flags that train on 1,300 and test on 530 images of MNIST, through tensorflow-datasets."""
    folder = tmp_path_factory.mktemp("tfds")
    mnist = data.load("mnist", None)
    prepare(folder, train=mnist.train, test=mnist.test, counts=(1300, 530))
    return ["--dataset=tiny_mnist", f"--data_dir={folder}", "--batch_size=64"]


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    """The folder and the output of an uninterrupted run of four epochs."""
    workdir = tmp_path_factory.mktemp("finished")
    done = launch("--epochs=4", f"--workdir={workdir}", *small)
    assert done.returncode == 0, done.stderr
    return workdir, done.stdout


def command(*flags):
    return [sys.executable, "launch.py", "--task=mnist", *flags]


def launch(*flags):
    return subprocess.run(command(*flags), cwd=ROOT, capture_output=True, text=True, timeout=300)


def table(file):
    with file.open() as stream:
        return list(csv.DictReader(stream))


def without_seconds(workdir):
    return [
        {name: value for name, value in row.items() if name != "seconds"}
        for row in table(workdir / "metrics.csv")
    ]


def test_a_run_on_the_bundled_mnist(tmp_path):
    """1,000 training images, the other 59,000 held out: the whole test set, an epoch of 15 steps."""
    done = launch("--model=plain_4k", "--validation_size=59000", "--epochs=1", f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "3,816" in done.stdout
    assert re.search(r"epoch  1/1  train .* validation .* test .* images/s", done.stdout)
    (row,) = table(tmp_path / "metrics.csv")
    assert list(row) == [*COLUMNS, "validation_loss", "validation_accuracy"]
    assert len(row["test_accuracy"]) <= len("0.1234")  # of 10,000 images
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["final_test_accuracy"] == float(row["test_accuracy"])
    counts = np.loadtxt(tmp_path / "confusion.csv", delimiter=",", skiprows=1, dtype=int)[:, 1:]
    assert counts.sum(axis=1).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert not (tmp_path / "augmented.png").exists()


def test_what_a_run_leaves(finished):
    workdir, _ = finished
    rows = table(workdir / "metrics.csv")
    assert list(rows[0]) == COLUMNS
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[-1]["train_loss"]) < 0.7 * float(rows[0]["train_loss"])
    counts = np.loadtxt(workdir / "confusion.csv", delimiter=",", skiprows=1, dtype=int)[:, 1:]
    assert counts.shape == (10, 10)
    assert counts.sum() == 530
    assert np.trace(counts) == round(float(rows[-1]["test_accuracy"]) * 530)
    for name in FIGURES:
        assert (workdir / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (workdir / f"{name}.svg").read_bytes()
    config = json.loads((workdir / "config.json").read_text())
    assert config["flags"]["dataset"] == "tiny_mnist"
    assert config["recipe"]["epochs"] == 4
    assert (
        f"{float(rows[-1]['test_accuracy']):.2%} of the test images" in (workdir / "report.html").read_text()
    )
    (start,) = config["starts"]
    assert {"time", "versions", "device", "git_commit"} <= set(start)
    assert asdict(parse(["", f"--flagfile={workdir / 'flags.txt'}"])[1]) == config["flags"] | {
        "workdir": None
    }
    assert sorted(folder.name for folder in (workdir / "checkpoints").iterdir()) == ["60", "80"]


def test_summary_is_what_the_metrics_say(finished):
    workdir, output = finished
    rows = table(workdir / "metrics.csv")
    summary = json.loads((workdir / "summary.json").read_text())
    accuracies = [float(row["test_accuracy"]) for row in rows]
    assert summary["parameters"] == 19_975
    assert summary["epochs"] == 4
    assert summary["final_test_accuracy"] == accuracies[-1]
    assert summary["best_test_accuracy"] == max(accuracies)
    assert summary["best_epoch"] == 1 + accuracies.index(max(accuracies))
    assert summary["first_epoch_at_target"] is None
    assert summary["images_per_second"] > 0
    assert f"final test accuracy {accuracies[-1]:.2%} after epoch 4" in output
    assert "(chosen on the test images)" in output
    assert "target 99.40% not reached" in output


def test_interrupted_and_resumed_a_run_ends_the_same(finished, small, tmp_path):
    workdir, _ = finished
    flags = ["--epochs=4", f"--workdir={tmp_path}", *small]
    process = subprocess.Popen(
        command(*flags), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.startswith("epoch  2/4"):
            process.send_signal(signal.SIGINT)
            break
    assert process.wait(timeout=60) == 130
    assert re.fullmatch(
        rf"launch.py: SIGINT: saved; go on with --resume --workdir={tmp_path}\n", process.stderr.read()
    )
    assert not (tmp_path / "summary.json").exists()
    resumed = launch("--resume", f"--workdir={tmp_path}")
    assert resumed.returncode == 0, resumed.stderr
    assert re.search(r"restored the checkpoint after [123] epochs ", resumed.stdout)
    assert without_seconds(tmp_path) == without_seconds(workdir)
    assert (tmp_path / "confusion.csv").read_bytes() == (workdir / "confusion.csv").read_bytes()
    ours, theirs = (json.loads((folder / "summary.json").read_text()) for folder in (tmp_path, workdir))
    for timing in ("images_per_second", "training_seconds"):
        ours.pop(timing), theirs.pop(timing)
    assert ours == theirs
    first, second = json.loads((tmp_path / "config.json").read_text())["starts"]
    assert first["epochs_before"] == 0 < second["epochs_before"] < 4
    again = launch("--eval_only", f"--workdir={tmp_path}")
    assert again.returncode == 0, again.stderr
    assert f"test accuracy {ours['final_test_accuracy']:.2%}" in again.stdout


def test_a_finished_run_is_evaluated_again(finished):
    workdir, _ = finished
    before = {file: file.stat().st_mtime_ns for file in workdir.glob("*")}
    summary = json.loads((workdir / "summary.json").read_text())
    done = launch("--eval_only", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert f"test accuracy {summary['final_test_accuracy']:.2%}" in done.stdout
    assert f"test loss {summary['final_test_loss']:.4f}" in done.stdout
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
    run = Run(CnnConfig(workdir=workdir), tmp_path, *[None] * 4)
    with pytest.raises(type(error)), task._refused(run):
        raise error
    (tmp_path / "config.json").touch()
    with pytest.raises(UserError) as caught, task._refused(run):
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


def test_several_seeds_have_one_summary(small, tmp_path):
    flags = [*small, "--model=plain_4k", "--epochs=2", "--learning_rate=0.2"]
    done = launch("--num_seeds=3", "--seed=5", f"--workdir={tmp_path / 'all'}", *flags)
    assert done.returncode == 0, done.stderr
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
    assert np.trace(counts) == round(final.sum() * 530)
    assert "over 3 seeds: standard deviation" in done.stdout
    alone = launch("--seed=6", f"--workdir={tmp_path / 'one'}", *flags, "--num_devices=1")
    assert alone.returncode == 0, alone.stderr
    for ours, theirs in zip(table(tmp_path / "one" / "metrics.csv"), rows[2:4], strict=True):
        assert float(ours["train_loss"]) == pytest.approx(float(theirs["train_loss"]), rel=1e-3)


def test_a_diverging_run_says_so(small, tmp_path):
    done = launch(
        *small[:2], "--model=deep_15k", "--learning_rate=2", "--batch_size=8", f"--workdir={tmp_path}"
    )
    assert done.returncode == 3
    assert re.fullmatch(
        r"launch.py: (the loss|a weight) of seed 0 is not a finite number at step \d+ \(epoch \d+\), "
        r"learning rate 2; the gradient's norm before was [\d.e+]+: "
        r"start a new run, in another folder, with a smaller --learning_rate\n",
        done.stderr,
    )
    assert not (tmp_path / "summary.json").exists()


def test_a_batch_larger_than_the_data_is_refused(small, tmp_path):
    done = launch(*small[:2], "--batch_size=2000", f"--workdir={tmp_path / 'new'}")
    assert done.returncode == 2
    assert "--batch_size=2000 is more than the 1300 training images" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_default_run_reaches_its_target(tmp_path):
    done = subprocess.run(command(f"--workdir={tmp_path}"), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["parameters"] < 20_000
    assert summary["epochs"] < 20
    assert summary["final_test_accuracy"] >= 0.994
