"""--task=mnist, top to bottom: data, network, training, evaluation, files."""

import dataclasses
import math
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from tqdm import tqdm

from cnn import checkpoint, data, figures, train
from cnn.architecture import count_parameters, format_table
from cnn.augment import random_affine
from cnn.config import CnnConfig
from cnn.model import Network
from errors import Diverged, require, require_installed
from html_report import write_report
from workdir import open_folder, open_workdir, read_flags, save_figure, write_config, write_csv, write_json

_MAY_CHANGE_ON_RESUME = {
    *("workdir", "data_dir", "resume", "eval_only", "enforce_budget", "target_accuracy"),
    *("export", "tensorboard"),
}
_EXPORT_PACKAGES = ("flatbuffers", "onnx", "onnxruntime", "safetensors")
_COLUMNS = ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "learning_rate", "seconds")


class Run(NamedTuple):
    """What a run works with.

    Attributes:
      training: the images it learns from.
      evaluated: the images it is evaluated on after every epoch, by name: test, and validation
        where some are held out.
      key: all its randomness.
    """

    config: CnnConfig
    folder: Path
    training: data.Split
    evaluated: dict[str, data.Split]
    setup: train.Setup
    key: Key[Array, ""]


def run(config: CnnConfig) -> None:
    """Describe, train or evaluate a network, as the flags say.

    Raises:
      UserError: a mistake in the flags, the data or a folder; an export that differs.
      Diverged: the loss is no longer a finite number.
    """
    print(f"{config.model}: {config.entry.note}\n\n{format_table(config.entry.architecture)}\n")
    if config.describe:
        return
    train.keep_freed_memory()
    run = prepare(config)
    state = train.init_state(run.setup, run.key)
    history: list[dict[str, Any]] = []
    with checkpoint.open_checkpoints(run.folder) as checkpoints:
        restored = checkpoint.restore(checkpoints, like=state)
        if restored is not None:
            state, history = restored
            print(f"restored the checkpoint after epoch {len(history)} in {run.folder}")
        if config.eval_only:
            require(restored is not None, f"--workdir={config.workdir} holds no checkpoint: use --resume")
            _evaluate_again(run, state)
        else:
            started = dataclasses.replace(config, resume=False)
            recipe = dataclasses.asdict(config.recipe)
            write_config(run.folder, "mnist", started, device=_device_name(), recipe=recipe)
            for row, trained in _epochs(run, state, done=len(history)):
                history.append(row)
                checkpoint.save(checkpoints, row["epoch"], trained, history)
                _write_metrics(run.folder, history)
                if config.tensorboard:
                    _write_events(run.folder, history)
                state = trained
            _write_results(run, state, history)
    if config.tensorboard:
        _write_events(run.folder, history)  # now with the figures
    if config.export is not None:
        _export(run, state, config.export)


def prepare(config: CnnConfig) -> Run:
    """Check the folder, read the data, derive what is constant; nothing is written."""
    if config.tensorboard:
        require_installed("tensorboard", ["tensorboardX"], extra="tensorboard")
    if config.export is not None:
        require_installed("export", _EXPORT_PACKAGES, extra="export")
        open_folder("export", config.export)
    folder = open_workdir(config.workdir, "mnist")
    if config.resume or config.eval_only:
        _require_same_run(config, folder)
    else:
        require(
            not (folder / "config.json").exists(),
            f"--workdir={config.workdir} holds a run already: add --resume to go on with it, "
            "or choose another folder",
        )
    dataset = data.load(config.dataset, config.data_dir)
    training, validation = data.hold_out(dataset.train, config.validation_size)
    recipe, count = config.recipe, len(training.labels)
    require(
        recipe.batch_size <= count,
        f"--batch_size={recipe.batch_size} is more than the {count} training images: give {count} or fewer",
    )
    mean, deviation = data.grey_statistics(training.images)
    setup = train.Setup(
        network=Network(config.entry.architecture, recipe.initialization),
        recipe=recipe,
        steps_per_epoch=count // recipe.batch_size,
        mean=mean,
        deviation=deviation,
    )
    held_out = {"validation": validation} if config.validation_size else {}
    return Run(
        config=config,
        folder=folder,
        training=training,
        evaluated={**held_out, "test": dataset.test},
        setup=setup,
        key=jax.random.key(config.seed),
    )


def _require_same_run(config: CnnConfig, folder: Path) -> None:
    """Refuse to go on with a run under flags that would make it another run."""
    before = CnnConfig(**read_flags(str(folder), "mnist"))
    changeable = set(_MAY_CHANGE_ON_RESUME)
    if config.recipe.schedule == "constant" and config.recipe.epochs >= before.recipe.epochs:
        changeable.add("epochs")
    was, now = (dataclasses.asdict(each) | dataclasses.asdict(each.recipe) for each in (before, config))
    for name, value in now.items():
        require(
            value == was[name] or name in changeable,
            f"--{name}={value} is not what the run in {folder} has ({was[name]}): "
            "leave it out, or start a new run in another --workdir",
        )


def _epochs(
    run: Run, state: train.TrainState, *, done: int
) -> Iterator[tuple[dict[str, Any], train.TrainState]]:
    """Train the epochs after the first `done`; yield each one's row of metrics and the state.

    The state is valid until the next row is asked for: training donates it.
    """
    setup, recipe = run.setup, run.setup.recipe
    if done >= recipe.epochs:
        return
    scan = jax.default_backend() != "cpu"
    run_epoch, seconds = train.compile_epoch(setup, state, _on_device(run.training), run.key, scan=scan)
    print(f"{_device_name()}; compiled in {seconds:.1f} s")
    splits = {name: _on_device(split) for name, split in run.evaluated.items()}
    schedule = train.learning_rate_schedule(setup)
    images = setup.steps_per_epoch * recipe.batch_size
    with tqdm(total=recipe.epochs * images, unit=" images", unit_scale=True, disable=None) as bar:
        bar.update(done * images)
        bar.unpause()

        def report(steps: int, totals: train.Totals) -> None:
            bar.set_postfix(loss=f"{totals.loss / totals.seen:.4f}", refresh=False)
            bar.update(steps * recipe.batch_size)

        for epoch in range(done + 1, recipe.epochs + 1):
            start = time.perf_counter()
            state, totals = run_epoch(state, report)
            row: dict[str, Any] = {
                "epoch": epoch,
                "train_loss": float(totals.loss) / int(totals.seen),
                "train_accuracy": int(totals.correct) / int(totals.seen),
                "learning_rate": float(schedule(epoch * setup.steps_per_epoch - 1)),
                "seconds": time.perf_counter() - start,
            }
            for name, split in splits.items():
                result = train.evaluate(state, split, setup=setup)
                row[f"{name}_loss"] = float(result.loss)
                row[f"{name}_accuracy"] = int(result.correct) / len(split.labels)
            if not all(math.isfinite(value) for value in row.values()):
                raise Diverged(
                    f"the loss is {row['train_loss']} in epoch {epoch} at learning rate "
                    f"{row['learning_rate']:g}: start again with a smaller --learning_rate"
                )
            bar.write(_line(row, epochs=recipe.epochs, images=images))
            yield row, state


def _line(row: Mapping[str, Any], *, epochs: int, images: int) -> str:
    splits = [name for name in ("train", "validation", "test") if f"{name}_loss" in row]
    metrics = "  ".join(f"{name} {row[f'{name}_loss']:.4f} {row[f'{name}_accuracy']:.2%}" for name in splits)
    return (
        f"epoch {row['epoch']:2d}/{epochs}  {metrics}  rate {row['learning_rate']:.4f}  "
        f"{row['seconds']:.1f} s  {images / row['seconds']:,.0f} images/s"
    )


def _write_metrics(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    columns = [*_COLUMNS, *(name for name in history[0] if name.startswith("validation"))]
    write_csv(folder / "metrics.csv", columns, ([row[name] for name in columns] for row in history))


def _write_events(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    from cnn.events import write_events  # an optional extra

    write_events(folder, history)


def _export(run: Run, state: train.TrainState, path: str) -> None:
    from cnn.export import export  # an optional extra

    folder = open_folder("export", path)
    variables = train.evaluated_variables(state, run.setup)
    images = run.evaluated["test"].images
    description = export(folder, variables, images, name=run.config.model, setup=run.setup)
    print(
        f"exported to {folder}: largest difference from our logits (they reach "
        f"{description['largest_logit']:.1f}) over the {len(images):,} test images"
    )
    for file, difference in description["largest_difference"].items():
        print(f"  {file:<17}  {difference:.1e}")


def _evaluate_again(run: Run, state: train.TrainState) -> None:
    for name, split in run.evaluated.items():
        result = train.evaluate(state, _on_device(split), setup=run.setup)
        accuracy = int(result.correct) / len(split.labels)
        print(f"{name} loss {result.loss:.4f}, {name} accuracy {accuracy:.2%}")


def _write_results(run: Run, state: train.TrainState, history: Sequence[Mapping[str, Any]]) -> None:
    """Metrics, confusion matrix, figures and summary of a finished run."""
    _write_metrics(run.folder, history)
    test = run.evaluated["test"]
    logits = np.asarray(train.evaluate(state, _on_device(test), setup=run.setup).logits)
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
        "device": _device_name(),
    }


def _augmented_samples(run: Run) -> np.ndarray:
    """The first training image of each class, and five random maps of each: 6 x classes x 28 x 28."""
    assert run.setup.recipe.augmentation is not None
    strength = run.setup.recipe.augmentation
    firsts = np.unique(run.training.labels, return_index=True)[1]
    originals = jnp.asarray(run.training.images[firsts]) / 255
    maps = [random_affine(originals, key, strength) for key in jax.random.split(run.key, 5)]
    return np.asarray(jnp.stack([originals, *maps])[..., 0])


def _on_device(split: data.Split) -> train.Images:
    return train.Images(*jax.device_put(split))


def _device_name() -> str:
    device = jax.devices()[0]
    cores = f" with {os.cpu_count()} cores" if device.platform == "cpu" else ""
    return f"{device.platform}: {device.device_kind}{cores}"
