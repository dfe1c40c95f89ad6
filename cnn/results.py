"""The files of a finished run: metrics, confusion matrix, plots, summary and report."""

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, UInt32
from matplotlib.figure import Figure

from cnn import devices, plots, sweep, train, xla
from cnn.architecture import count_parameters
from cnn.augment import random_distortion
from cnn.data import Examples
from cnn.experiment import Experiment
from cnn.population import Progress
from harness.report import write_report
from harness.workdir import save_figure, write_csv, write_json

_MOST_AUGMENTED = 20  # classes that augmented.png shows
_COLUMNS = ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "learning_rate", "seconds")
_LABELS = {
    "best_learning_rate": "best learning rate",
    "best_learning_rate_chosen_on": "chosen on the",
    "learning_rates": "learning rates",
    "final_test_accuracy": "test accuracy after the last epoch",
    "our_final_test_accuracy": "ours, the mean of all seeds",
    "seeds_below": "seeds of ours below",
    "final_test_accuracy_95_interval": "95 % interval of its mean over the seeds",
    "final_test_accuracy_std": "its standard deviation over the seeds",
    "final_test_accuracy_worst": "the worst seed's",
    "best_test_accuracy": "best test accuracy of any epoch",
    "best_epoch": "in epoch",
    "our_best_test_accuracy": "ours, the mean of each seed's own best",
    "best_epoch_chosen_on": "chosen on the",
    "target_accuracy": "target of the test accuracy",
    "first_epoch_at_target": "first epoch at the target",
    "target_held_from_epoch": "from which epoch on it held to the end",
    "parameters": "parameters",
    "epochs": "epochs",
    "num_seeds": "seeds",
    "training_seconds": "seconds of training",
    "images_per_second": "images a second",
    "final_test_loss": "test loss after the last epoch",
    "reported": "its author's run, and ours",
    "departures": "points in which the recipe is not quite the author's",
}
"""What the summary's keys mean to a person, the important first."""

Rows = Sequence[Mapping[str, Any]]


class Run(NamedTuple):
    """An experiment in its folder.

    Attributes:
      config: what is constant in its compiled programs.
      splits: its images: train, test, and validation where some are held out.
      dataset: what was read, as config.json keeps it.
    """

    experiment: Experiment
    folder: Path
    config: train.Config
    splits: dict[str, Examples]
    dataset: dict[str, Any]


def write_metrics(folder: Path, history: Rows) -> None:
    """metrics.csv: a row an epoch; of several learning rates or seeds for each of them, which come first."""
    several_seeds = len({row["seed"] for row in history}) > 1
    first = ["base_learning_rate"] * ("base_learning_rate" in history[0]) + ["seed"] * several_seeds
    columns = [*first, *_COLUMNS, *(name for name in history[0] if name.startswith("validation"))]
    rows = sorted(history, key=lambda row: (row.get("base_learning_rate", 0), row["seed"], row["epoch"]))
    write_csv(folder / "metrics.csv", columns, ([row[name] for name in columns] for row in rows))


def mean_rows(history: Rows) -> list[dict[str, Any]]:
    """Return for each epoch the mean of its metrics over the seeds that have come so far."""
    by_epoch: dict[int, list[Mapping[str, Any]]] = {}
    for row in history:
        by_epoch.setdefault(row["epoch"], []).append(row)
    numbers = history[0].keys() - {"base_learning_rate", "seed", "epoch", "seeds_at_once"}
    return [
        {"epoch": epoch, **{name: statistics.fmean(row[name] for row in rows) for name in sorted(numbers)}}
        for epoch, rows in sorted(by_epoch.items())
    ]


def write_results(run: Run, result: Progress) -> dict[str, Callable[[], None]]:
    """Write and print what a finished run came to: metrics, confusion matrix, summary; of a sweep its table.

    Of a sweep the figures show the seeds at one learning rate (sweep.shown). The confusion matrix counts
    every seed's answers; misclassified images are the first seed's.

    Returns:
      A function for each figure, and for the report, that writes it.
    """
    write_metrics(run.folder, result.history)
    swept = sweep.table(result) if result.learning_rates else []
    test, name, target = run.splits["test"], run.experiment.name, run.experiment.flags.target_accuracy
    pictures: dict[str, Callable[[], Figure]] = {}
    tables = ["metrics"]
    if swept:
        write_csv(run.folder / "learning_rates.csv", [*swept[0]], ([*row.values()] for row in swept))
        title = f"{name}: {sweep.verdict(swept)}"
        pictures["learning_rates"] = partial(plots.learning_rates, swept, title=title)
        tables = ["learning_rates", "metrics"]
    part = sweep.shown(result)
    name = sweep.name_of(part, name)
    logits: Any = part.test_logits
    if logits is None:
        states = (state_of(part, seed) for seed in range(len(part.seeds)))
        logits = [train.evaluate(state, test, config=run.config).logits for state in states]
    classes = logits[0].shape[1]
    counts = np.zeros((classes, classes), np.int64)
    for of_seed in logits:
        np.add.at(counts, (test.labels, of_seed.argmax(-1)), 1)
    header = ["true", *(f"predicted_{label}" for label in range(classes))]
    rows = ([label, *row] for label, row in enumerate(counts.tolist()))
    write_csv(run.folder / "confusion.csv", header, rows)
    summary = _summarize(run, result, part)
    write_json(run.folder / "summary.json", summary)
    if swept:
        print(f"\n{sweep.text(swept)}")
    print(_closing(summary, run.folder))
    title = f"{run.experiment.name}: {len(swept)} learning rates"
    if "final_test_accuracy" in summary:
        title = f"{name}: {summary['final_test_accuracy']:.2%} of the test images correct"
    pictures |= {
        "curves": partial(plots.curves, part.history, name=name, target=target),
        "confusion": partial(plots.confusion, counts, name=f"{name}, {_seeds_in_words(part)}"),
        "misclassified": partial(
            plots.misclassified, test.images, test.labels, logits[0], name=f"{name}, seed {part.seeds[0]}"
        ),
    }
    if run.config.recipe.distorts:
        pictures["augmented"] = lambda: plots.augmented(_augmented_samples(run))
    files: dict[str, Callable[[], None]] = {
        name: partial(save_figure, run.folder, name, draw) for name, draw in pictures.items()
    }
    files["report.html"] = partial(
        write_report, run.folder, title, figures=pictures, tables=tables, labels=_LABELS
    )
    return files


def _seeds_in_words(part: Progress) -> str:
    return f"{len(part.seeds)} seeds" if len(part.seeds) > 1 else f"seed {part.seeds[0]}"


def state_of(result: Progress, seed: int) -> train.TrainState:
    """Return the state of one of a run's seeds, counted from 0."""
    return jax.tree.map(lambda leaf: leaf[seed], result.state)


def _closing(summary: Mapping[str, Any], folder: Path) -> str:
    accuracies = _accuracy_lines(summary) if "final_test_accuracy" in summary else ""
    return (
        f"{accuracies}\n"
        f"{summary['parameters']:,} parameters, {summary['training_seconds']:.0f} s of training at "
        f"{summary['images_per_second']:,.0f} images/s\nresults in {folder}"
    )


def _accuracy_lines(summary: Mapping[str, Any]) -> str:
    first, held, spread = summary["first_epoch_at_target"], summary["target_held_from_epoch"], ""
    lasted = f", held to the end from epoch {held} on" if held else ", not held to the end"
    beside = reported_lines(summary["reported"], summary.get("num_seeds", 1)) if "reported" in summary else ""
    reached = f"first reached in epoch {first}{lasted}" if first else "not reached"
    if "num_seeds" in summary:
        within = " to ".join(f"{end:.3%}" for end in summary["final_test_accuracy_95_interval"])
        spread = (
            f"\nover {summary['num_seeds']} seeds: "
            f"standard deviation {summary['final_test_accuracy_std']:.3%}, "
            f"{f'95 % interval of the mean {within}, ' if within else ''}"
            f"worst {summary['final_test_accuracy_worst']:.2%}"
        )
    return (
        f"\nfinal test accuracy {summary['final_test_accuracy']:.2%} after epoch {summary['epochs']}{spread}"
        f"\nbest test accuracy  {summary['best_test_accuracy']:.2%} in epoch {summary['best_epoch']} "
        f"(chosen on the test images)"
        f"\ntarget {summary['target_accuracy']:.2%} {reached}"
        f"{beside}"
    )


def beside_reported(experiment: Experiment, result: Progress) -> dict[str, Any] | None:
    """Return its author's accuracies and ours, last with last and best with best.

    None where nobody reports this network by this recipe, or where not all epochs are trained.
    """
    claim, epochs = experiment.claim, experiment.recipe.epochs
    if claim is None or len(result.history) < epochs * len(result.seeds):
        return None
    of_seeds = [
        [row["test_accuracy"] for row in result.history if row["seed"] == seed] for seed in result.seeds
    ]
    final = [accuracies[-1] for accuracies in of_seeds]
    return {
        "final_test_accuracy": claim.last,
        "our_final_test_accuracy": statistics.fmean(final),
        "seeds_below": sum(accuracy < claim.last for accuracy in final),
        "best_test_accuracy": claim.best,
        "best_epoch": claim.best_epoch,
        "our_best_test_accuracy": statistics.fmean(map(max, of_seeds)),
        "best_epoch_chosen_on": "test images",
        "departures": claim.departures,
    }


def reported_lines(reported: Mapping[str, Any], seeds: int) -> str:
    """Return the lines of beside_reported, each after a line's end."""
    mean = f", mean of {seeds} seeds" if seeds > 1 else ""
    below = f" ({reported['seeds_below']} below)" if seeds > 1 else ""
    points = reported["departures"]
    departures = f"\nthe recipe is not quite its author's, points that differ: {points}" if points else ""
    return (
        f"\nlast epoch: its author reports {reported['final_test_accuracy']:.2%}, "
        f"ours {reported['our_final_test_accuracy']:.2%}{mean}{below}"
        f"\nbest epoch: its author reports {reported['best_test_accuracy']:.2%} (epoch "
        f"{reported['best_epoch']}), ours {reported['our_best_test_accuracy']:.2%}{mean}; "
        f"each chosen on the test images{departures}"
    )


def _summarize(run: Run, result: Progress, part: Progress) -> dict[str, Any]:
    """Return the summary of a run.

    Args:
      part: of sweep.shown. The accuracies are those of its seeds; of a sweep only where its rate was chosen.
    """
    history, flags = result.history, run.experiment.flags
    at_once = max(row["seeds_at_once"] for row in history)
    size = run.config.recipe.batch_size
    used = devices.available(flags.num_devices, size, len(result.seeds), at_once)
    images = run.config.images
    speeds = [images * row["seeds_at_once"] / row["seconds"] for row in history]
    summary = {
        "model": run.experiment.name,
        "dataset": flags.dataset,
        "parameters": count_parameters(run.config.network.architecture),
        "epochs": run.config.recipe.epochs,
        "target_accuracy": flags.target_accuracy,
        "best_epoch_chosen_on": "test images",
        "images_per_second": statistics.median(speeds),
        "training_seconds": sum(row["seconds"] / row["seeds_at_once"] for row in history),
        "device": devices.name(used),
    }
    if reported := beside_reported(run.experiment, result):
        summary["reported"] = reported
    if result.learning_rates:
        chosen = sweep.best(sweep.table(result))
        summary["learning_rates"] = sorted({*result.learning_rates})
        summary["num_seeds"] = flags.num_seeds
        summary["best_learning_rate"] = chosen and chosen["learning_rate"]
        if chosen is None:
            del summary["best_epoch_chosen_on"]
            return summary
        summary["best_learning_rate_chosen_on"] = "validation images"
    history = part.history
    target = flags.target_accuracy
    of_seeds = [_of_seed([row for row in history if row["seed"] == seed], target) for seed in part.seeds]
    if len(of_seeds) == 1:
        return summary | of_seeds[0]
    means = mean_rows(history)
    best = max(of_seeds, key=lambda each: each["best_test_accuracy"])
    final = [each["final_test_accuracy"] for each in of_seeds]
    return summary | {
        "num_seeds": len(of_seeds),
        "final_test_loss": means[-1]["test_loss"],
        "final_test_accuracy": statistics.fmean(final),
        "final_test_accuracy_std": statistics.stdev(final),
        "final_test_accuracy_95_interval": list(sweep.interval(final) or ()),
        "final_test_accuracy_worst": min(final),
        "best_test_accuracy": best["best_test_accuracy"],
        "best_epoch": best["best_epoch"],
        **_at_target(means, target),
        "seeds": of_seeds,
    }


def _of_seed(rows: Rows, target: float) -> dict[str, Any]:
    best = max(rows, key=lambda row: row["test_accuracy"])
    return {
        "seed": rows[0]["seed"],
        "final_test_loss": rows[-1]["test_loss"],
        "final_test_accuracy": rows[-1]["test_accuracy"],
        "best_test_accuracy": best["test_accuracy"],
        "best_epoch": best["epoch"],
        **_at_target(rows, target),
    }


def _at_target(rows: Rows, target: float) -> dict[str, int | None]:
    """Return the first epoch at the target, and the one from which on each was; None where there is none."""
    reached = [row["epoch"] for row in rows if row["test_accuracy"] >= target]
    held = [*itertools.takewhile(lambda row: row["test_accuracy"] >= target, reversed(rows))]
    return {
        "first_epoch_at_target": min(reached, default=None),
        "target_held_from_epoch": held[-1]["epoch"] if held else None,
    }


def _augmented_samples(run: Run) -> np.ndarray:
    """Return the first training image of each class, twenty classes at most, and five random maps of each.

    Rows x classes x height x width x channels.
    """

    @partial(jax.jit, compiler_options=xla.RUN_ONCE)
    def maps(images: Float[Array, "*shape"], seed: UInt32[Array, ""]) -> Float[Array, "*shape"]:
        keys = train.sample_keys(jax.random.key(seed), len(images))
        return random_distortion(images, keys, run.config.recipe)

    firsts = np.unique(run.splits["train"].labels, return_index=True)[1][:_MOST_AUGMENTED]
    originals = run.splits["train"].images[firsts] / np.float32(255)
    distorted = maps(np.tile(originals, (5, 1, 1, 1)), np.uint32(run.experiment.flags.seed))
    return np.concatenate([originals, distorted]).reshape(6, *originals.shape)
