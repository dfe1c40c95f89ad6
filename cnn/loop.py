"""The loop over seeds and epochs: trains, evaluates, and says when to save."""

import functools
import math
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Array, Float, Int32
from tqdm import tqdm

from cnn import devices, epoch, train
from cnn.checkpoint import Progress
from cnn.devices import SEED
from cnn.interrupt import Interrupted
from cnn.run import Run
from cnn.train import Totals
from harness.errors import Diverged

Row = dict[str, Any]


class _Programs(NamedTuple):
    """What is compiled for a number of seeds at once.

    Attributes:
      put: from arrays of the host, with a leading axis of seeds, to arrays on the devices.
      logits: from a state on the devices to each split's logits, on the host.
    """

    put: Callable[[Any], Any]
    run_steps: epoch.RunSteps
    logits: Callable[[train.TrainState], dict[str, np.ndarray]]


def start(run: Run) -> Progress:
    """A run's progress before its first step."""
    states = [jax.device_get(train.init_state(run.setup, jax.random.key(seed))) for seed in run.seeds]
    state = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
    return Progress(state, _no_totals(len(states)), np.zeros(len(states)), [])


def train_on(run: Run, progress: Progress, interrupted: Callable[[], int | None]) -> Iterator[Progress]:
    """Train what is left of a run; yield its progress wherever it is to be saved.

    That is after every epoch, every --checkpoint_every_steps, and when a signal came.

    Args:
      interrupted: the number of the signal that came, None while none has.

    Raises:
      Diverged: the loss or the weights are no longer finite numbers.
      Interrupted: a signal came; what was yielded last is where the run can go on.
    """
    recipe, steps = run.setup.recipe, run.setup.steps_per_epoch
    before = (progress.state.step // steps).sum() * run.setup.images + progress.totals.seen.sum()
    usable = devices.available(run.config.num_devices, recipe.batch_size, len(run.seeds))
    programs: dict[int, _Programs] = {}
    with tqdm(
        total=len(run.seeds) * recipe.epochs * run.setup.images,
        initial=int(before),
        unit=" images",
        unit_scale=True,
        disable=None if devices.is_main() else True,
    ) as bar:
        while (pending := np.flatnonzero(progress.state.step < recipe.epochs * steps)).size:
            alike = pending[progress.state.step[pending] == progress.state.step[pending[0]]]
            count = devices.seeds_at_once(len(alike), len(usable))
            if count not in programs:
                programs[count] = _compile(run, usable, progress, count)
            group = alike[:count]
            while progress.state.step[group[0]] < recipe.epochs * steps:
                progress = _advance(run, programs[count], progress, group, bar, interrupted)
                yield progress
                if devices.agree(interrupted() is not None):
                    number = interrupted() or signal.SIGTERM
                    where = run.folder if devices.is_main() else "FOLDER, the one that process 0 names"
                    raise Interrupted(number, f"saved; go on with --resume --workdir={where}")


def _compile(run: Run, usable: list[jax.Device], progress: Progress, count: int) -> _Programs:
    """Compile training and evaluation of `count` seeds at once."""
    mesh = devices.make_mesh(usable, count)
    devices.require_divides(run.setup.recipe.batch_size, mesh)

    def put(tree: Any) -> Any:
        return devices.put(tree, mesh, SEED)

    arrays = put(_take((progress.state, progress.totals, run.seeds), slice(count)))
    images = epoch.put_images(run.training, mesh)
    run_steps, seconds = epoch.compile_steps(run.setup, mesh, images, *arrays)
    print(f"{devices.name(usable)}; compiled in {seconds:.1f} s")
    evaluation = epoch.evaluation_function(run.setup, mesh)
    splits = {
        name: (len(split.labels), epoch.put_images(split, mesh)) for name, split in run.evaluated.items()
    }

    def logits(state: train.TrainState) -> dict[str, np.ndarray]:
        return {
            name: devices.fetch(evaluation(state, split))[:, :size] for name, (size, split) in splits.items()
        }

    return _Programs(put, run_steps, logits)


def _advance(
    run: Run,
    programs: _Programs,
    progress: Progress,
    group: np.ndarray,
    bar: tqdm,
    interrupted: Callable[[], int | None],
) -> Progress:
    """Train the seeds of the group up to where the run is saved next."""
    setup, every = run.setup, run.config.checkpoint_every_steps
    first = int(progress.state.step[group[0]])
    end = (first // setup.steps_per_epoch + 1) * setup.steps_per_epoch
    last = min(end, (first // every + 1) * every) if every else end
    alone = jax.process_count() == 1  # several processes have to stop at the same step
    seen = int(progress.totals.seen[group[0]])

    def report(totals: Totals) -> bool:
        nonlocal seen
        here = jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), totals)
        bar.set_postfix(loss=f"{here.loss[0] / here.seen[0]:.4f}", refresh=False)
        bar.update((int(here.seen[0]) - seen) * len(group))
        seen = int(here.seen[0])
        return not alone or (interrupted() is None and bool((here.diverged_at < 0).all()))

    began = time.perf_counter()
    on_devices, totals, seeds = programs.put(_take((progress.state, progress.totals, run.seeds), group))
    on_devices, totals, reached = programs.run_steps(on_devices, totals, seeds, first, last, report)
    state, totals = devices.fetch((on_devices, totals))
    _require_finite(run, state, totals, group)
    seconds = progress.seconds[group] + (time.perf_counter() - began)
    rows: list[Row] = []
    if reached == end:
        rows = _rows(run, state, totals, seconds, programs.logits(on_devices), group)
        for row in rows:
            bar.write(_line(row, run))
        state = _end_epoch(run, state, rows)
        totals, seconds = _no_totals(len(group)), 0 * seconds
    before = progress._replace(history=[])
    new = Progress(state, totals, seconds, [])
    return _replace(before, new, group)._replace(history=[*progress.history, *rows])


@jax.jit  # one program, where each operation would be compiled alone
def _mean_loss(logits: Float[Array, "images classes"], labels: Int32[Array, " images"]) -> Float[Array, ""]:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def _rows(
    run: Run,
    state: train.TrainState,
    totals: Totals,
    seconds: np.ndarray,
    logits: dict[str, np.ndarray],
    group: np.ndarray,
) -> list[Row]:
    """A row of metrics for each seed of the group, which has come to the end of an epoch."""
    end = int(state.step[0])
    rows = []
    for index, seed in enumerate(group):
        row: Row = {
            "seed": int(run.seeds[seed]),
            "epoch": end // run.setup.steps_per_epoch,
            "train_loss": float(totals.loss[index]) / int(totals.seen[index]),
            "train_accuracy": int(totals.correct[index]) / int(totals.seen[index]),
            "learning_rate": train.learning_rate(_take(state, index), end - 1, setup=run.setup),
            "seconds": float(seconds[index]),
            "seeds_at_once": len(group),
        }
        for name, of_all in logits.items():
            labels = run.evaluated[name].labels
            row[f"{name}_loss"] = float(_mean_loss(of_all[index], labels))
            row[f"{name}_accuracy"] = int((of_all[index].argmax(-1) == labels).sum()) / len(labels)
            if not math.isfinite(row[f"{name}_loss"]):
                raise Diverged(
                    f"the {name} loss of seed {row['seed']} is {row[f'{name}_loss']} after epoch "
                    f"{row['epoch']}: start a new run, in another folder, with a smaller --learning_rate"
                )
        rows.append(row)
    return rows


def _end_epoch(run: Run, state: train.TrainState, rows: list[Row]) -> train.TrainState:
    """The states with what plateau takes from the epoch's loss: on held-out images where there are some."""
    if run.setup.recipe.schedule != "plateau":
        return state
    watched = "validation_loss" if "validation" in run.evaluated else "train_loss"
    losses = jax.device_put(np.array([row[watched] for row in rows], np.float32))
    end_epoch = functools.partial(train.end_epoch, setup=run.setup)
    return jax.device_get(jax.vmap(end_epoch)(state, losses))


def _require_finite(run: Run, state: train.TrainState, totals: Totals, group: np.ndarray) -> None:
    """Raise Diverged, with the step and what led to it, unless all numbers are finite."""
    for index, seed in enumerate(group):
        step = int(totals.diverged_at[index])
        finite = all(np.isfinite(leaf[index]).all() for leaf in jax.tree.leaves(state))
        if step < 0 and finite:
            continue
        what, step = ("the loss", step) if step >= 0 else ("a weight", int(state.step[index]) - 1)
        rate = train.learning_rate(_take(state, index), step, setup=run.setup)
        raise Diverged(
            f"{what} of seed {run.seeds[seed]} is not a finite number at step {step} "
            f"(epoch {step // run.setup.steps_per_epoch + 1}), learning rate "
            f"{rate:g}; the gradient's norm before was "
            f"{totals.gradient_norm[index]:g}: start a new run, in another folder, with a smaller "
            "--learning_rate"
        )


def _line(row: Row, run: Run) -> str:
    splits = [name for name in ("train", "validation", "test") if f"{name}_loss" in row]
    metrics = "  ".join(f"{name} {row[f'{name}_loss']:.4f} {row[f'{name}_accuracy']:.2%}" for name in splits)
    images = run.setup.images * row["seeds_at_once"]
    seed = f"seed {row['seed']}  " if len(run.seeds) > 1 else ""
    return (
        f"{seed}epoch {row['epoch']:2d}/{run.setup.recipe.epochs}  {metrics}  "
        f"rate {row['learning_rate']:.4f}  {row['seconds']:.1f} s  {images / row['seconds']:,.0f} images/s"
    )


def _no_totals(count: int) -> Totals:
    return jax.tree.map(lambda leaf: np.full(count, leaf), train.no_totals())


def _take(tree: Any, group: np.ndarray | slice | int) -> Any:
    return jax.tree.map(lambda leaf: leaf[group], tree)


def _replace(tree: Any, part: Any, group: np.ndarray) -> Any:
    """The tree with the group's rows replaced by those of `part`."""

    def replace(leaf: np.ndarray, rows: np.ndarray) -> np.ndarray:
        leaf = leaf.copy()
        leaf[group] = rows
        return leaf

    return jax.tree.map(replace, tree, part)
