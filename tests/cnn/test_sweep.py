"""Several learning rates at once: what a sweep leaves, each network as it is alone, the best rate."""

import csv
import itertools
import json
import re
import shutil
from dataclasses import asdict

import jax
import numpy as np
import pytest

from cnn import data, fit, plots, sweep, task, train
from cnn.config import CnnConfig
from cnn.experiment import describe, resolve
from cnn.population import Progress
from cnn.recipe import Recipe
from cnn.zoo import Entry
from harness.errors import Diverged, UserError
from harness.workdir import write_config
from launch import main, parse
from tests import crash

SWEEP = crash.FLAGS["2 learning rates"]


def table(file):
    with file.open() as stream:
        return list(csv.DictReader(stream))


def launched(*flags):
    assert main(["launch.py", "--task=mnist", *flags]) == 0


def test_what_a_sweep_leaves(two_rates):
    shown = two_rates.with_suffix(".log").read_text()
    good, hopeless = table(two_rates / "learning_rates.csv")
    rows = table(two_rates / "metrics.csv")
    assert [*rows[0]][:3] == ["base_learning_rate", "seed", "epoch"]
    assert [(row["base_learning_rate"], row["seed"], row["epoch"]) for row in rows] == [
        ("0.02", seed, epoch) for seed in "01" for epoch in "12"
    ]
    for split, metric in itertools.product(("train", "validation", "test"), ("loss", "accuracy")):
        name = f"{split}_{metric}"
        values = np.array([float(row[name]) for row in rows[1::2]])
        assert float(good[name]) == pytest.approx(values.mean())
        assert good[f"{name}_low"] == good[f"{name}_high"] == ""  # of two seeds there is no interval
    assert (good["learning_rate"], good["seeds"], good["diverged"]) == ("0.02", "2", "")
    assert hopeless["diverged"] == "seed 0 at step 6; seed 1 at step 6"
    assert (hopeless["learning_rate"], hopeless["seeds"], hopeless["test_loss"]) == ("100.0", "0", "")
    assert "learning rate 100, seed 1: diverged at step 6 (epoch 1)\n" in shown
    verdict = "learning rate 0.02 is best by the validation images; no smaller one was tried"
    assert f"\n{verdict}\n" in shown
    summary = json.loads((two_rates / "summary.json").read_text())
    assert (summary["best_learning_rate"], summary["learning_rates"]) == (0.02, [0.02, 100])
    assert summary["final_test_accuracy"] == float(good["test_accuracy"])
    assert [each["seed"] for each in summary["seeds"]] == [0, 1]
    report = (two_rates / "report.html").read_text()
    for text in ("seed 0 at step 6; seed 1 at step 6", "at learning rate 0.02: ", 'alt="learning_rates"'):
        assert text in report
    assert verdict in (two_rates / "learning_rates.svg").read_text()
    config = json.loads((two_rates / "config.json").read_text())
    assert (config["chunk_size"], config["recipe"]["learning_rate"]) == (2, [100.0, 0.02])
    assert "--learning_rate=100.0,0.02\n" in (two_rates / "flags.txt").read_text()
    _, again = parse(["", f"--flagfile={two_rates / 'flags.txt'}"])
    kept = json.loads(json.dumps(asdict(again)))
    assert kept == config["flags"] | {"workdir": None}


def test_a_sweep_is_evaluated_again_and_its_best_exported_but_not_compared(two_rates, tmp_path, capsys):
    again = ["--eval_only", "--num_devices=1", f"--workdir={two_rates}", f"--export={tmp_path}"]
    launched(*again)
    shown = capsys.readouterr().out
    assert f"\nlearning rate 0.02, seed 0 exported to {tmp_path}: largest difference" in shown
    assert json.loads((tmp_path / "export.json").read_text())["model"] == "custom at learning rate 0.02"
    assert "learning rate 100, seed 0: diverged at step 6\n" in shown
    rows = table(two_rates / "metrics.csv")
    for seed in (0, 1):
        accuracy = float(rows[2 * seed + 1]["test_accuracy"])
        assert f"learning rate 0.02, seed {seed}: test loss" in shown
        assert f"test accuracy {accuracy:.2%}" in shown
    assert main(["launch.py", "--task=compare", f"--workdir={two_rates}", f"--against={two_rates}"]) == 2
    assert "holds a run of several learning rates: compare runs of one" in capsys.readouterr().err


def test_where_all_so_far_diverged_they_are_named_and_nothing_is_exported(two_rates, tmp_path, capsys):
    """As the run was before its second chunk, in which the networks stay finite."""
    run = tmp_path / "run"
    shutil.copytree(two_rates, run, ignore=shutil.ignore_patterns("chunk_2"))
    again = ["--eval_only", "--num_devices=1", f"--workdir={run}", f"--export={tmp_path / 'new'}"]
    assert main(["launch.py", "--task=mnist", *again]) == 2
    shown = capsys.readouterr()
    assert shown.out.endswith("seed 0: diverged at step 6\nlearning rate 100, seed 1: diverged at step 6\n")
    assert shown.err.startswith("launch.py: all networks trained so far diverged, there is none to be shown")
    assert not [*(tmp_path / "new").iterdir()]


def of_member(folder, seed):
    """The weights of a seed at the rate 0.02, and its metrics."""
    _, result = task.load(task.experiment_of(str(folder)))
    rates = result.learning_rates or (0.02,) * len(result.seeds)
    (index,) = (i for i, each in enumerate(zip(rates, result.seeds, strict=True)) if each == (0.02, seed))
    state = jax.tree.map(lambda leaf: leaf[index], result.state)
    rows = [
        {name: row[name] for name in row.keys() - {"seconds", "seeds_at_once", "base_learning_rate"}}
        for row in result.history
        if row["seed"] == seed and row.get("base_learning_rate", 0.02) == 0.02
    ]
    return jax.tree.leaves((state.params, state.batch_stats, state.ema)), rows


@pytest.mark.slow
def test_each_network_is_what_it_is_alone_and_on_another_number_of_devices(two_rates, small, tmp_path):
    """Alone bit for bit: the step is plain SGD's at a constant rate. XLA compiles for two devices otherwise.

    A gradient of about 1 sums 64 images at up to 12 x 12 places; 18 steps at a rate of 0.02 and a momentum of
    0.9 move a weight by ten times the rate each.
    """
    one, alone = tmp_path / "one", tmp_path / "alone"
    launched(*small, *SWEEP, "--num_devices=1", f"--workdir={one}")
    launched(*small, *SWEEP, *ALONE, "--num_devices=1", f"--workdir={alone}")
    assert json.loads((one / "config.json").read_text())["chunk_size"] == 1
    (ours, our_rows), (theirs, their_rows) = of_member(one, 1), of_member(alone, 1)
    assert our_rows == their_rows
    assert all(map(np.array_equal, ours, theirs))
    assert not (alone / "learning_rates.csv").exists()
    rounding = np.finfo(np.float32).eps * np.sqrt(64 * 12 * 12)
    (ours, our_rows), (theirs, their_rows) = of_member(one, 0), of_member(two_rates, 0)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=rounding, atol=18 * 10 * 0.02 * rounding)
    for mine, other in zip(our_rows, their_rows, strict=True):
        assert mine["test_loss"] == pytest.approx(other["test_loss"], rel=18 * 10 * 0.02 * rounding)
    assert table(one / "learning_rates.csv")[1]["diverged"] == "seed 0 at step 6; seed 1 at step 6"


ALONE = ["--learning_rate=0.02", "--seed=1", "--num_seeds=1"]


@pytest.mark.slow
def test_a_sweep_killed_in_its_second_chunk_goes_on_with_it(two_rates, small, tmp_path):
    moments = iter([crash.Moment("checkpoint", 3, 0.005)])
    (kill,) = crash.disturbed([*small, *SWEEP], tmp_path / "run", moments)
    assert any(name.startswith("chunk_2/") for name in kill.names), kill
    assert crash.differences(tmp_path / "run", two_rates) == []


ENTRY = Entry(
    "conv 4 5x5 stride 4, ReLU, conv 10 3x3, global average pool",
    Recipe(epochs=2, batch_size=32, learning_rate=0.1, weight_decay=1.0),
    note="",
)


@pytest.fixture
def as_gpu(monkeypatch):
    """All members at once, an epoch in one dispatch; the data set is a little of MNIST."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    whole = data.load("mnist")
    some = [data.Examples(*(array[:100] for array in split)) for split in (whole.train, whole.test)]
    return data.Dataset(*some, 10)


def test_the_others_of_a_chunk_go_on_where_one_diverges(as_gpu):
    result = fit(ENTRY, as_gpu, seeds=[0, 1], learning_rates=[100.0, 0.01])
    assert result.diverged.tolist() == [True, True, False, False]
    assert result.learning_rates == (100, 100, 0.01, 0.01)
    assert [(row["base_learning_rate"], row["seed"], row["epoch"]) for row in result.history] == [
        *((rate, seed, 1) for rate in (100, 0.01) for seed in (0, 1)),
        *((0.01, seed, 2) for seed in (0, 1)),
    ]
    assert {row["seeds_at_once"] for row in result.history} == {4}
    assert sweep.shown(result).learning_rates == (0.01, 0.01)
    for rates, error, words in (
        (
            [90.0, 100.0],
            Diverged,
            "with none of the learning rates 90, 100 does any network stay finite: start",
        ),
        ([0.1, 0.1], UserError, "--learning_rate has 0.1 twice: give each"),
        ([0.1, 1000.0], UserError, "--learning_rate=1000.0: give a number from 1e-08 to 100"),
    ):
        with pytest.raises(error, match=words):
            fit(ENTRY, as_gpu, learning_rates=rates)


def swept(*outcomes, validation=True):
    """Of two seeds for each rate from 0.1 on: their (accuracy, loss), or the step at which they diverged."""
    rates = [round(0.1 * (1 + index // 2), 1) for index in range(len(outcomes))]
    steps, history = [], []
    for index, (rate, outcome) in enumerate(zip(rates, outcomes, strict=True)):
        steps.append(outcome if isinstance(outcome, int) else -1)
        if not isinstance(outcome, int):
            of_test = {"test_loss": 0.5, "test_accuracy": 0.1}
            held_out = dict(zip(("validation_accuracy", "validation_loss"), outcome, strict=True))
            row = {"base_learning_rate": rate, "seed": index % 2, "epoch": 1, **of_test}
            history.append(row | (held_out if validation else {}))
    zeros = np.zeros(len(steps))
    metrics = train.Metrics(zeros, zeros, zeros, np.array(steps, np.int32), zeros)
    state = train.TrainState(*[zeros] * 8, metrics)
    return Progress(np.arange(len(steps), dtype=np.uint32) % 2, state, zeros, history, tuple(rates))


def test_one_learning_rate_is_kept_as_it_was_before_there_could_be_several():
    for given in (0.02, (0.02,)):
        one = resolve(CnnConfig(model="plain_4k", learning_rate=given, num_seeds=3))
        assert (one.flags.learning_rate, one.learning_rates, one.members) == (0.02, (0.02,), 3)
    several = resolve(CnnConfig(model="plain_4k", learning_rate=(0.02, 0.1), num_seeds=3))
    assert (several.learning_rates, several.members) == ((0.02, 0.1), 6)
    assert describe(several).endswith(" --learning_rate=0.02,0.1\n")
    assert resolve(CnnConfig(model="plain_4k")).claim is not None
    for rates in ((0.01, 0.1), (0.1, 0.01)):  # the first is its own
        assert resolve(CnnConfig(model="plain_4k", learning_rate=rates)).claim is None


def test_a_sweep_does_not_go_on_with_other_rates(tmp_path):
    write_config(tmp_path, "mnist", CnnConfig(model="plain_4k", learning_rate=(0.02, 0.1)), device="none")
    argv = ["launch.py", "--task=mnist", "--resume", f"--workdir={tmp_path}"]
    task.require_new_or_same(resolve(parse(argv)[1]), tmp_path)
    for other in ("0.02", "0.1,0.02", "0.02,0.1,0.2"):
        with pytest.raises(
            UserError, match=r"--learning_rate=.* is not what the run in .* has \(\(0.02, 0.1"
        ):
            task.require_new_or_same(resolve(parse([*argv, f"--learning_rate={other}"])[1]), tmp_path)


LOW, GOOD, BETTER = (0.5, 0.9), (0.9, 0.3), (0.9, 0.2)


@pytest.mark.parametrize(
    ("outcomes", "best", "verdict"),
    [
        ([LOW, LOW, GOOD, GOOD, LOW, LOW], 0.2, "learning rate 0.2 is best by the validation images"),
        ([GOOD, GOOD, BETTER, BETTER], 0.2, "learning rate 0.2 is best by the .*; no larger one was tried"),
        ([LOW, GOOD, GOOD, 7], 0.1, "learning rate 0.1 is best by the .*; no smaller one was tried"),
        ([GOOD, 0, 5, GOOD], None, "at every learning rate a network diverged: none is chosen"),
    ],
)
def test_the_best_rate_is_that_of_the_highest_validation_accuracy(outcomes, best, verdict):
    result = swept(*outcomes)
    rows = sweep.table(result)
    found = sweep.best(rows)
    assert (found and found["learning_rate"]) == best
    assert re.fullmatch(verdict, sweep.verdict(rows))
    accuracy, loss = plots.learning_rates(rows, title="").axes
    marked = {line.get_label(): [*line.get_xdata()] for line in accuracy.lines}
    assert marked.get("diverged", []) == [row["learning_rate"] for row in rows if row["diverged"]]
    assert (accuracy.get_xscale(), loss.get_yscale()) == ("log", "log")


@pytest.mark.parametrize(
    ("values", "most"), [((0.2, 0.3, 0.5), 1.0), ((0.97, 0.99, 1.0), 1.0), ((0.1, 9.0, 2.0), 10.0)]
)
def test_an_interval_is_students_and_stays_within_what_can_be(values, most):
    half = 4.302653 * np.std(values, ddof=1) / 3**0.5  # t, two degrees of freedom
    low, high = max(0, np.mean(values) - half), min(most, np.mean(values) + half)
    assert sweep.interval(values, most) == pytest.approx((low, high))
    assert sweep.interval(values[:2], most) is sweep.interval(values[:1], most) is None


def test_without_held_out_images_no_rate_is_named():
    rows = sweep.table(swept(GOOD, GOOD, LOW, LOW, validation=False))
    assert sweep.best(rows) is None
    said = "no images were held out to choose a learning rate by (--validation_size)"
    assert sweep.verdict(rows) == said == sweep.text(rows).splitlines()[-1]
    assert "is best" not in sweep.text(rows)


def test_of_a_rate_at_which_a_seed_diverged_the_others_are_shown():
    result = swept(3, GOOD, 4, 5)
    first, second = sweep.table(result)
    assert (first["seeds"], first["diverged"], first["validation_loss_low"]) == (1, "seed 0 at step 3", None)
    assert (second["seeds"], second["test_accuracy"]) == (0, None)
    assert sweep.shown(result).seeds.tolist() == [1]
