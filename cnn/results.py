"""What a run leaves: metrics, confusion matrix, figures, summary and report."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnn import data, figures, train
from cnn.architecture import count_parameters
from cnn.augment import random_affine
from cnn.run import Run, device_name, on_device
from html_report import write_report
from workdir import save_figure, write_csv, write_json

_COLUMNS = ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "learning_rate", "seconds")


def write_metrics(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """metrics.csv: a row an epoch."""
    columns = [*_COLUMNS, *(name for name in history[0] if name.startswith("validation"))]
    write_csv(folder / "metrics.csv", columns, ([row[name] for name in columns] for row in history))


def write_results(run: Run, state: train.TrainState, history: Sequence[Mapping[str, Any]]) -> None:
    """Metrics, confusion matrix, figures and summary of a finished run."""
    write_metrics(run.folder, history)
    test = run.evaluated["test"]
    logits = np.asarray(train.evaluate(state, on_device(test), setup=run.setup).logits)
    counts = np.zeros((data.CLASSES, data.CLASSES), np.int64)
    np.add.at(counts, (test.labels, logits.argmax(-1)), 1)
    write_csv(
        run.folder / "confusion.csv",
        ["true", *(f"predicted_{label}" for label in range(data.CLASSES))],
        ([label, *row] for label, row in enumerate(counts.tolist())),
    )
    name, target = run.config.model, run.config.target_accuracy
    pictures = {
        "curves": figures.curves(history, name=name, target=target),
        "confusion": figures.confusion(counts, name=name),
        "misclassified": figures.misclassified(test.images, test.labels, logits, name=name),
    }
    if run.setup.recipe.augmentation is not None:
        pictures["augmented"] = figures.augmented(_augmented_samples(run))
    for file, figure in pictures.items():
        save_figure(run.folder, file, figure)
    summary = _summarize(run, history)
    write_json(run.folder / "summary.json", summary)
    title = f"{name}: {summary['final_test_accuracy']:.2%} of the test images correct"
    write_report(run.folder, title, figures=pictures, tables=["metrics"])
    first = summary["first_epoch_at_target"]
    print(
        f"\nfinal test accuracy {summary['final_test_accuracy']:.2%} after epoch {len(history)}"
        f"\nbest test accuracy  {summary['best_test_accuracy']:.2%} in epoch {summary['best_epoch']} "
        f"(chosen on the test images)"
        f"\ntarget {target:.2%} {f'first reached in epoch {first}' if first else 'not reached'}"
        f"\n{summary['parameters']:,} parameters, {summary['training_seconds']:.0f} s of training at "
        f"{summary['images_per_second']:,.0f} images/s\nresults in {run.folder}"
    )


def _summarize(run: Run, history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    best = max(history, key=lambda row: row["test_accuracy"])
    at_target = [row["epoch"] for row in history if row["test_accuracy"] >= run.config.target_accuracy]
    images = run.setup.steps_per_epoch * run.setup.recipe.batch_size
    return {
        "model": run.config.model,
        "dataset": run.config.dataset,
        "seed": run.config.seed,
        "parameters": count_parameters(run.config.entry.architecture),
        "epochs": len(history),
        "final_test_loss": history[-1]["test_loss"],
        "final_test_accuracy": history[-1]["test_accuracy"],
        "best_test_accuracy": best["test_accuracy"],
        "best_epoch": best["epoch"],
        "best_epoch_chosen_on": "test images",
        "target_accuracy": run.config.target_accuracy,
        "first_epoch_at_target": min(at_target, default=None),
        "images_per_second": statistics.median(images / row["seconds"] for row in history),
        "training_seconds": sum(row["seconds"] for row in history),
        "device": device_name(),
    }


def _augmented_samples(run: Run) -> np.ndarray:
    """The first training image of each class, and five random maps of each: 6 x classes x 28 x 28."""
    assert run.setup.recipe.augmentation is not None
    strength = run.setup.recipe.augmentation
    firsts = np.unique(run.training.labels, return_index=True)[1]
    originals = jnp.asarray(run.training.images[firsts]) / 255
    maps = [random_affine(originals, key, strength) for key in jax.random.split(run.key, 5)]
    return np.asarray(jnp.stack([originals, *maps])[..., 0])
