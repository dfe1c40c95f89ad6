"""The members of a run, in chunks: their start, and their metrics at the end of an epoch.

A member is a network that is trained: one for each seed, or in a sweep one for each learning rate and seed.
The members of a chunk are trained at once, in one program, all at the same step. A chunk has checkpoints of
its own.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int32, UInt32

from cnn import devices, optimizer, train, xla
from cnn.data import Examples
from cnn.train import Config, TrainState
from harness.errors import Diverged

Row = dict[str, Any]
SEED, DATA = "seed", "data"
"""The axes of a run's mesh: members side by side, and the images of each one's batch."""


def make_mesh(devices: Sequence[Any], members: int) -> Mesh:
    """Return the devices as rows of members, each row sharing the batches of its members.

    In their own order: jax.make_mesh refuses three of a TPU's 2x2 chips, or two rows of 4x4x4.
    """
    rows = math.gcd(members, len(devices))
    return Mesh(np.array(devices).reshape(rows, -1), (SEED, DATA))


def each_member(function: Callable[..., Any], mesh: Mesh, *, shared: int = 0) -> Callable[..., Any]:
    """Return a function of one member as one of several, whose trees have a leading axis of members.

    Each row of the mesh computes its own members, as a program that knows of no others; within a row jit
    divides the work by how the arguments are sharded over the axis of data.

    Args:
      shared: how many of the last arguments are the same for all members.
    """

    def of_row(*arguments: Any) -> Any:
        own = len(arguments) - shared
        if len(jax.tree.leaves(arguments[0])[0]) > 1:
            return jax.vmap(function, (0,) * own + (None,) * shared)(*arguments)
        # One alone: without the batched convolutions of a vmap.
        alone = jax.tree.map(lambda leaf: leaf[0], arguments[:own])
        return jax.tree.map(lambda leaf: leaf[None], function(*alone, *arguments[own:]))

    @functools.wraps(function)  # the compiled program has its name
    def of_all(*arguments: Any) -> Any:
        own = len(arguments) - shared
        specs = (PartitionSpec(SEED),) * own + (PartitionSpec(),) * shared
        return jax.shard_map(
            of_row,
            mesh=mesh,
            in_specs=specs,
            out_specs=PartitionSpec(SEED),
            axis_names={SEED},
            check_vma=False,
        )(*arguments)

    return of_all


class Progress(NamedTuple):
    """The state and history of a run, or of a chunk of it; NumPy arrays with a leading axis of members.

    Attributes:
      seeds: one a member, for all of its randomness.
      state: stacked states; a member that has not begun is at step 0.
      seconds: time spent so far on the epoch that each member is in.
      history: rows of metrics.csv.
      learning_rates: one a member of a sweep; empty where all have the recipe's.
      test_logits: logits of the test images after the last epoch; None where an earlier start trained it.
    """

    seeds: UInt32[np.ndarray, " members"]
    state: TrainState
    seconds: Float[np.ndarray, " members"]
    history: list[Row]
    learning_rates: tuple[float, ...] = ()
    test_logits: Float[np.ndarray, "members images classes"] | None = None

    @property
    def diverged(self) -> Bool[np.ndarray, " members"]:
        """True for the members that have diverged, at the step state.metrics.diverged_at."""
        return np.asarray(self.state.metrics.diverged_at) >= 0

    def of(self, members: Sequence[int] | slice) -> "Progress":
        """Return some members' part."""
        index = np.arange(len(self.seeds))[members]
        rates = tuple(self.learning_rates[each] for each in index) if self.learning_rates else ()
        own = {*zip(rates or [None] * len(index), self.seeds[index].tolist(), strict=True)}
        return Progress(
            self.seeds[index],
            jax.tree.map(lambda leaf: leaf[index], self.state),
            self.seconds[index],
            [row for row in self.history if (row.get("base_learning_rate"), row["seed"]) in own],
            rates,
            None if self.test_logits is None else self.test_logits[index],
        )

    def name(self, member: int) -> str:
        """Return a member's name, such as learning rate 0.1, seed 3."""
        rate = f"learning rate {self.learning_rates[member]:g}, " if self.learning_rates else ""
        return f"{rate}seed {self.seeds[member]}"


def start(config: Config, seeds: Sequence[int], learning_rates: Sequence[float] = ()) -> Progress:
    """Return a run before its first step: every seed, at the recipe's learning rate or at each of several."""
    rates = [rate for rate in learning_rates for _ in seeds] if len(learning_rates) > 1 else []
    states = [jax.device_get(train.init_state(config, jax.random.key(np.uint32(seed)))) for seed in seeds]
    states *= len(rates) // len(seeds) or 1
    state = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
    if rates:
        state = state._replace(learning_rate=np.array(rates, state.learning_rate.dtype))
    of_members = np.resize(np.array(seeds, np.uint32), len(states))
    return Progress(of_members, state, np.zeros(len(states)), [], tuple(rates))


def split(begun: Progress, size: int) -> list[Progress]:
    """Cut a run before its first step into chunks, which are trained one after the other."""
    ends = itertools.accumulate(devices.chunk_sizes(len(begun.seeds), size), initial=0)
    return [begun.of(slice(first, last)) for first, last in itertools.pairwise(ends)]


def join(chunks: Sequence[Progress]) -> Progress:
    """Join chunks into the whole run."""
    seeds, states, seconds, histories, rates, logits = zip(*chunks, strict=True)
    return Progress(
        np.concatenate(seeds),
        jax.tree.map(lambda *leaves: np.concatenate(leaves), *states),
        np.concatenate(seconds),
        [row for history in histories for row in history],
        tuple(rate for each in rates for rate in each),
        None if any(each is None for each in logits) else np.concatenate(logits),
    )


def find_diverged(config: Config, chunk: Progress) -> Progress:
    """Return the chunk with the step at which each member's loss or weights stopped being finite.

    Raises:
      Diverged: there is one, and this is no sweep. Says what led to it.
    """
    state, metrics, count = chunk.state, chunk.state.metrics, len(chunk.seeds)
    leaves = jax.tree.leaves(state._replace(metrics=None))  # type: ignore[arg-type]
    finite = np.all([np.isfinite(leaf).reshape(count, -1).all(1) for leaf in leaves], axis=0)
    diverged_at = np.where((metrics.diverged_at < 0) & ~finite, state.step - 1, metrics.diverged_at)
    if not chunk.learning_rates and (diverged_at >= 0).any():
        index = int(np.argmax(diverged_at >= 0))
        what, step = "the loss" if metrics.diverged_at[index] >= 0 else "a weight", int(diverged_at[index])
        rate = _learning_rate(config, chunk, index, step)
        raise Diverged(
            f"{what} of seed {chunk.seeds[index]} is not a finite number at step {step} "
            f"(epoch {step // config.steps_per_epoch + 1}), learning rate {rate:g}; the gradient's norm "
            f"before was {metrics.gradient_norm[index]:g}: start a new run, in another folder, "
            "with a smaller --learning_rate"
        )
    metrics = metrics._replace(diverged_at=diverged_at)  # type: ignore[arg-type]
    return chunk._replace(state=state._replace(metrics=metrics))


def end_epoch(
    config: Config, splits: Mapping[str, Examples], chunk: Progress, logits: Mapping[str, np.ndarray]
) -> Progress:
    """Return the chunk at the end of an epoch with its rows of metrics, ready for the next one."""
    state, diverged_at = chunk.state, chunk.state.metrics.diverged_at.copy()
    end, rows, losses = int(state.step[0]), [], np.full(len(chunk.seeds), np.nan, np.float32)
    for index in map(int, np.flatnonzero(~chunk.diverged)):
        row = _metrics_row(config, splits, chunk, index, logits)
        infinite = [name for name in logits if not math.isfinite(row[f"{name}_loss"])]
        if not infinite:
            rows.append(row)
            losses[index] = row["validation_loss" if "validation" in splits else "train_loss"]
        elif chunk.learning_rates:
            diverged_at[index] = end - 1
        else:
            raise Diverged(
                f"the {infinite[0]} loss of seed {row['seed']} is {row[f'{infinite[0]}_loss']} after epoch "
                f"{row['epoch']}: start a new run, in another folder, with a smaller --learning_rate"
            )
    if state.plateau is not None:
        step = jax.vmap(functools.partial(train.end_epoch, config=config))
        state = jax.device_get(step(state, jax.device_put(losses)))
    empty = jax.tree.map(lambda leaf: np.full(len(chunk.seeds), leaf), train.no_metrics())
    state = state._replace(metrics=empty._replace(diverged_at=diverged_at))
    return chunk._replace(
        state=state,
        seconds=0 * chunk.seconds,
        history=[*chunk.history, *rows],
        test_logits=logits["test"],
    )


def _metrics_row(
    config: Config,
    splits: Mapping[str, Examples],
    chunk: Progress,
    index: int,
    logits: Mapping[str, np.ndarray],
) -> Row:
    """Return a member's row of metrics.csv; in a sweep with the learning rate that it was given."""
    metrics, end = chunk.state.metrics, int(chunk.state.step[0])
    row: Row = {"base_learning_rate": chunk.learning_rates[index]} if chunk.learning_rates else {}
    row |= {
        "seed": int(chunk.seeds[index]),
        "epoch": end // config.steps_per_epoch,
        "train_loss": float(metrics.loss[index]) / int(metrics.seen[index]),
        "train_accuracy": int(metrics.correct[index]) / int(metrics.seen[index]),
        "learning_rate": _learning_rate(config, chunk, index, end - 1),
        "seconds": float(chunk.seconds[index]),
        "seeds_at_once": len(chunk.seeds),
    }
    for name, of_all in logits.items():
        labels = splits[name].labels
        evaluation = train.score(of_all[index], labels)
        row[f"{name}_loss"] = evaluation.loss
        row[f"{name}_accuracy"] = evaluation.correct / len(labels)
    return row


def _learning_rate(config: Config, chunk: Progress, index: int, step: int) -> float:
    """Return train.learning_rate of a member from its own rate as it was given, not as float32 has it."""
    own = chunk.learning_rates[index] if chunk.learning_rates else config.recipe.learning_rate
    factor = 1.0 if chunk.state.plateau is None else float(chunk.state.plateau.scale[index])
    return own * _seven_digits(factor) * _seven_digits(_compiled_schedule(step, config=config))


@functools.partial(jax.jit, static_argnames="config", compiler_options=xla.RUN_ONCE)
def _compiled_schedule(step: Int32[Array, ""], *, config: Config) -> Float[Array, ""]:
    """Return the schedule at a step; uncompiled, each of its operations would be compiled by itself."""
    return jnp.asarray(optimizer.schedule(config.recipe, config.steps_per_epoch)(step), jnp.float32)


def _seven_digits(number: Any) -> float:
    """Return a float32 as the decimal number that it stands for."""
    return float(f"{float(number):.7g}")


def lines(config: Config, before: Progress, chunk: Progress, members: int) -> Iterator[str]:
    """Yield the terminal's lines about a chunk: its new epochs, and the members that diverged."""
    for row in chunk.history[len(before.history) :]:
        yield _line(row, config, members)
    for member in map(int, np.flatnonzero(chunk.diverged & ~before.diverged)):
        step = chunk.state.metrics.diverged_at[member]
        yield f"{chunk.name(member)}: diverged at step {step} (epoch {step // config.steps_per_epoch + 1})"


def _line(row: Row, config: Config, members: int) -> str:
    splits = [name for name in ("train", "validation", "test") if f"{name}_loss" in row]
    metrics = "  ".join(f"{name} {row[f'{name}_loss']:.4f} {row[f'{name}_accuracy']:.2%}" for name in splits)
    images = config.images * row["seeds_at_once"]
    member = f"seed {row['seed']}  " if members > 1 else ""
    if "base_learning_rate" in row:
        member = f"learning rate {row['base_learning_rate']:g}  {member}"
    return (
        f"{member}epoch {row['epoch']:2d}/{config.recipe.epochs}  {metrics}  "
        f"rate {row['learning_rate']:.4f}  {row['seconds']:.1f} s  {images / row['seconds']:,.0f} images/s"
    )
