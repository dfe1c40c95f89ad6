"""--task=mnist, top to bottom: data, network, training, evaluation, files."""

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from cnn import checkpoint, epoch, train
from cnn.architecture import format_table
from cnn.config import CnnConfig
from cnn.results import write_metrics, write_results
from cnn.run import Run, device_name, on_device, prepare
from errors import Diverged, require
from workdir import open_folder, write_config


def run(config: CnnConfig) -> None:
    """Describe, train or evaluate a network, as the flags say.

    Raises:
      UserError: a mistake in the flags, the data or a folder; an export that differs.
      Diverged: the loss is no longer a finite number.
    """
    print(f"{config.model}: {config.entry.note}\n\n{format_table(config.entry.architecture)}\n")
    if config.describe:
        return
    epoch.keep_freed_memory()
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
            write_config(run.folder, "mnist", started, device=device_name(), recipe=recipe)
            for stale in ("summary.json", "report.html"):  # of a run that now goes on for more epochs
                (run.folder / stale).unlink(missing_ok=True)
            for row, trained in _epochs(run, state, done=len(history)):
                history.append(row)
                checkpoint.save(checkpoints, row["epoch"], trained, history)
                write_metrics(run.folder, history)
                if config.tensorboard:
                    _write_events(run.folder, history)
                state = trained
            write_results(run, state, history)
    if config.tensorboard:
        _write_events(run.folder, history)  # now with the figures
    if config.export is not None:
        _export(run, state, config.export)


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
    run_epoch, seconds = epoch.compile_epoch(setup, state, on_device(run.training), run.key, scan=scan)
    print(f"{device_name()}; compiled in {seconds:.1f} s")
    splits = {name: on_device(split) for name, split in run.evaluated.items()}
    schedule = train.learning_rate_schedule(setup)
    images = setup.steps_per_epoch * recipe.batch_size
    with tqdm(total=recipe.epochs * images, unit=" images", unit_scale=True, disable=None) as bar:
        bar.update(done * images)
        bar.unpause()

        def report(steps: int, totals: train.Totals) -> None:
            bar.set_postfix(loss=f"{totals.loss / totals.seen:.4f}", refresh=False)
            bar.update(steps * recipe.batch_size)

        for number in range(done + 1, recipe.epochs + 1):
            start = time.perf_counter()
            state, totals = run_epoch(state, report)
            row: dict[str, Any] = {
                "epoch": number,
                "train_loss": float(totals.loss) / int(totals.seen),
                "train_accuracy": int(totals.correct) / int(totals.seen),
                "learning_rate": float(schedule(number * setup.steps_per_epoch - 1)),
                "seconds": time.perf_counter() - start,
            }
            for name, split in splits.items():
                result = train.evaluate(state, split, setup=setup)
                row[f"{name}_loss"] = float(result.loss)
                row[f"{name}_accuracy"] = int(result.correct) / len(split.labels)
            if not all(math.isfinite(value) for value in row.values()):
                raise Diverged(
                    f"the loss is {row['train_loss']} in epoch {number} at learning rate "
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
        result = train.evaluate(state, on_device(split), setup=run.setup)
        accuracy = int(result.correct) / len(split.labels)
        print(f"{name} loss {result.loss:.4f}, {name} accuracy {accuracy:.2%}")
