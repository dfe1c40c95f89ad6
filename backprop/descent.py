"""Gradient descent over many learning rates at once, and what becomes of each rate."""

from collections import Counter
from dataclasses import dataclass
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from backprop.equations import closed_form, derivatives
from backprop.network import Scalar, Scalars, forward, total_error
from backprop.shape import CLASSROOM, Shape

COLUMNS = CLASSROOM.columns
"""The assignment's columns in the assignment's order."""

TOLERANCE = 1e-5
"""A loss this close to the smallest possible one has converged: each output is some 0.003 off."""

_RATES_AT_ONCE = 65_536  # the fastest batch: the state of more rates does not fit the cache
_OUTPUT_RANGE = {"sigmoid": (0, 1), "tanh": (-1, 1), "relu": (0, np.inf)}


class Epoch(NamedTuple):
    """All values before one update: a row of the assignment's spreadsheet."""

    weights: tuple[Array, ...]
    forward: tuple[Array, ...]
    derivatives: tuple[Array, ...]


class Ending(NamedTuple):
    """The end of one descent.

    Attributes:
      loss: E_total after the last epoch.
      gradient: Euclidean norm of the gradient there.
      last_rise: the last epoch whose loss was above that of the epoch before, 0 if none.
      epochs_to_tolerance: the epoch from which on the loss stays within TOLERANCE of the smallest
        possible loss, -1 if it does not end there.
      margin: the largest distance of an output from the nearest limit of its activation there.
    """

    loss: Float[Array, "*rate"]
    gradient: Float[Array, "*rate"]
    last_rise: Int[Array, "*rate"]
    epochs_to_tolerance: Int[Array, "*rate"]
    margin: Float[Array, "*rate"]


def descend(lr: Scalar, weights: Scalars, example: Scalars, epochs: int, shape: Shape = CLASSROOM) -> Epoch:
    """One gradient descent: w <- w - lr * dE/dw, for a number of epochs.

    Returns:
      Epochs 0 (the start) to `epochs`; each leaf has shape [epochs + 1].
    """

    def epoch(weights: Scalars, _: None) -> tuple[Scalars, Epoch]:
        gradient = derivatives(weights, example, shape)
        updated = jax.tree.map(lambda w, dE_dw: w - lr * dE_dw, weights, gradient)
        return updated, Epoch(weights, forward(weights, example, shape), gradient)

    _, rows = jax.lax.scan(epoch, weights, length=epochs + 1)
    return rows


@partial(jax.jit, static_argnums=(3, 4))
def descend_each(
    lrs: Float[Array, "rate"],
    weights: Scalars,
    example: Scalars,
    epochs: int,
    shape: Shape = CLASSROOM,
) -> Epoch:
    """descend for an array of learning rates; each leaf has shape [rate, epochs + 1]."""
    return jax.vmap(lambda lr: descend(lr, weights, example, epochs, shape))(lrs)


def table(rows: Epoch, example: Scalars, shape: Shape = CLASSROOM) -> Float[np.ndarray, "rate epoch column"]:
    """Return what descend_each returns, as shape.columns."""
    names = (*shape.example_names, *shape.weight_names, *shape.forward_names, *closed_form(shape))
    values = dict(zip(names, (*example, *rows.weights, *rows.forward, *rows.derivatives), strict=True))
    size = rows.forward[-1].shape
    return np.stack([np.broadcast_to(values[name], size) for name in shape.columns], axis=-1)


def loss_range(example: Scalars, shape: Shape = CLASSROOM) -> tuple[Scalar, Scalar]:
    """Return the smallest and the largest E_total of any weights: the outputs' range is the activation's.

    Where every input is 0, and there are no biases, each weighted sum of a tanh or ReLU network is 0,
    and so are its outputs.
    """
    inputs, targets = jnp.stack(example[: shape.inputs]), jnp.stack(example[shape.inputs :])
    bounds = jnp.array(_OUTPUT_RANGE[shape.activation], inputs.dtype)
    if shape.activation != "sigmoid" and not shape.biases:
        bounds = jnp.where((inputs != 0).any(), bounds, 0)
    low, high = bounds
    nearest = targets - jnp.clip(targets, low, high)
    farthest = jnp.maximum(jnp.abs(targets - low), jnp.abs(high - targets))
    return (nearest**2).sum() / 2, (farthest**2).sum() / 2


def ending(lr: Scalar, weights: Scalars, example: Scalars, epochs: int, shape: Shape = CLASSROOM) -> Ending:
    """Descend, and return only what the descent comes to."""
    smallest, _ = loss_range(example, shape)
    low, high = _OUTPUT_RANGE[shape.activation]
    zero = jnp.zeros_like(lr)

    def epoch(state: tuple[Scalars, Ending], number: Int[Array, ""]) -> tuple[tuple[Scalars, Ending], None]:
        weights, before = state
        values = forward(weights, example, shape)
        loss, outputs = values[-1], [getattr(values, neuron.a) for neuron in shape.layers[1]]
        gradient = derivatives(weights, example, shape)
        first = jnp.where(before.epochs_to_tolerance < 0, number, before.epochs_to_tolerance)
        now = Ending(
            loss,
            gradient=sum((dE_dw**2 for dE_dw in gradient), zero),
            last_rise=jnp.where(loss > before.loss, number, before.last_rise),
            epochs_to_tolerance=jnp.where(loss - smallest <= TOLERANCE, first, -1),
            margin=reduce(jnp.maximum, [jnp.minimum(a - low, high - a) for a in outputs]),
        )
        return (jax.tree.map(lambda w, dE_dw: w - lr * dE_dw, weights, gradient), now), None

    start = Ending(jnp.full_like(lr, jnp.inf), zero, jnp.int32(0), jnp.int32(-1), zero)
    (_, end), _ = jax.lax.scan(epoch, (weights, start), jnp.arange(epochs + 1, dtype=jnp.int32))
    return end._replace(gradient=jnp.sqrt(end.gradient))


@partial(jax.jit, static_argnums=(3, 4))
def endings(
    lrs: Float[Array, "rate"],
    weights: Scalars,
    example: Scalars,
    epochs: int,
    shape: Shape = CLASSROOM,
) -> Ending:
    """Return the ending for each learning rate; each leaf has shape [rate]."""
    return jax.lax.map(lambda lr: ending(lr, weights, example, epochs, shape), lrs, batch_size=_RATES_AT_ONCE)


@dataclass(frozen=True)
class Frontier:
    """The outcomes of many learning rates; arrays have shape [rate], rates rise.

    Attributes:
      ending: a loss that is no longer a finite number is infinite.
      outcome: converged: the loss ends within TOLERANCE of the smallest possible one;
        diverged: it outgrew the floating-point numbers;
        stalled: it does not, and as many epochs again would, by the gradient, not bring it 1 % closer;
        oscillating: neither, and the loss rose in the second half of the epochs;
        still falling: none of these.
      start_loss: E_total before the first update.
      smallest_loss, largest_loss: no weights give a loss outside these.
    """

    lrs: np.ndarray
    ending: Ending
    outcome: np.ndarray
    epochs: int
    start_loss: float
    smallest_loss: float
    largest_loss: float


def explore(
    lrs: Float[Array, "rate"],
    weights: Scalars,
    example: Scalars,
    epochs: int,
    shape: Shape = CLASSROOM,
) -> Frontier:
    """Descend with every learning rate and name the outcomes."""
    end = jax.tree.map(np.asarray, endings(lrs, weights, example, epochs, shape))
    end = end._replace(loss=np.where(np.isfinite(end.loss), end.loss, np.inf))
    smallest, largest = map(float, loss_range(example, shape))
    excess = end.loss.astype(np.float64) - smallest
    with np.errstate(over="ignore"):
        next_fall = epochs * np.asarray(lrs, np.float64) * end.gradient.astype(np.float64) ** 2
    converged = end.epochs_to_tolerance >= 0
    outcome = np.select(
        [np.isinf(excess), converged, next_fall < 0.01 * excess, 2 * end.last_rise > epochs],
        ["diverged", "converged", "stalled", "oscillating"],
        "still falling",
    )
    start = float(total_error(weights, example, shape))
    return Frontier(np.asarray(lrs), end, outcome, epochs, start, smallest, largest)


def rises(losses: Float[np.ndarray, "rate"]) -> np.ndarray:
    """Return True where a loss is above that of a smaller rate by more than rounding."""
    lowest = np.minimum.accumulate(losses)
    return losses > lowest + _rounding(lowest)


def larger_is_faster(start: float, losses: Float[np.ndarray, "rate"]) -> bool | None:
    """Return True if a larger rate ends with a smaller loss, each of them below the start's; rates rise.

    None where the losses show neither: of one rate, of rates none of which lowers the loss, of losses alike.
    """
    losses = np.where(np.isfinite(losses), losses, np.inf).astype(losses.dtype)
    if len(losses) < 2 or not (losses < start).any():
        return None
    if rises(losses).any():
        return False
    falls = losses[1:] + _rounding(losses[1:]) < losses[:-1]
    return True if falls.all() and (losses < start).all() else None


def _rounding(losses: np.ndarray) -> np.ndarray:
    """Half of a loss's digits, or the square of a few roundings of an output."""
    eps = np.finfo(losses.dtype).eps
    return np.sqrt(eps) * losses + (8 * eps) ** 2


def epochs_in_words(number: int) -> str:
    """1 epoch, 2 epochs, 1,000 epochs."""
    return f"{number:,} epoch{'s' * (number != 1)}"


@dataclass(frozen=True)
class Claims:
    """The answers of a frontier to "faster with a larger rate" and "too large a rate fails".

    Attributes:
      faster: whether a larger rate always ends with a smaller loss; None if the rates show neither.
      falls_up_to_rate: from the smallest rate to this one the final loss falls, or stays but for rounding.
      best_rate: the (first) rate with the smallest final loss, best_loss; None if all diverged.
      converged_from: the smallest rate that converged, None if none did; converged_to the largest.
      fewest_epochs: of those to tolerance of a rate that converged; fewest_epochs_rate is the first with it.
      fails: whether too large a rate fails: one does, and a smaller one does not. None if the rates show
        neither, because all do as badly, or because the best is the largest.
      failing: how many rates above the best stalled, oscillate or diverged.
      failing_from: the smallest of them; failing_always_from: no larger rate escapes.
      largest_loss: the largest final loss, None if one diverged.
      outcomes: how many rates came to each outcome.
    """

    faster: bool | None
    falls_up_to_rate: float
    best_rate: float | None
    best_loss: float | None
    converged_from: float | None
    converged_to: float | None
    fewest_epochs: int | None
    fewest_epochs_rate: float | None
    fails: bool | None
    failing: int
    failing_from: float | None
    failing_always_from: float | None
    largest_loss: float | None
    outcomes: dict[str, int]


def settle(frontier: Frontier) -> Claims:
    """Test the two claims on a frontier."""
    lrs, outcome = frontier.lrs, frontier.outcome
    loss, reached = np.asarray(frontier.ending.loss), frontier.ending.epochs_to_tolerance
    best = int(np.argmin(loss))
    all_diverged = bool(np.isinf(loss).all())
    falls, rising = bool(loss[best] < frontier.start_loss), np.flatnonzero(rises(loss))
    converged = lrs[outcome == "converged"]
    quickest = np.flatnonzero(reached == np.min(reached, where=reached >= 0, initial=frontier.epochs + 1))
    fails = np.isin(outcome, ["stalled", "oscillating", "diverged"]) & ((lrs > lrs[best]) | all_diverged)
    escapes = np.flatnonzero(~fails)
    does_not = np.isin(outcome[: np.argmax(fails)], ["converged", "still falling"]).any()
    shown = does_not or "diverged" in outcome if fails.any() else best < len(lrs) - 1
    return Claims(
        faster=False if rising.size and falls else larger_is_faster(frontier.start_loss, loss[[0, -1]]),
        falls_up_to_rate=float(lrs[min(best, rising[0] - 1) if rising.size else best]),
        best_rate=None if all_diverged else float(lrs[best]),
        best_loss=None if all_diverged else float(loss[best]),
        converged_from=float(converged[0]) if converged.size else None,
        converged_to=float(converged[-1]) if converged.size else None,
        fewest_epochs=int(reached[quickest[0]]) if quickest.size else None,
        fewest_epochs_rate=float(lrs[quickest[0]]) if quickest.size else None,
        fails=bool(fails.any()) if shown else None,
        failing=int(fails.sum()),
        failing_from=float(lrs[fails][0]) if fails.any() else None,
        failing_always_from=float(lrs[escapes[-1] + 1 if escapes.size else 0]) if fails[-1] else None,
        largest_loss=None if np.isinf(loss).any() else float(loss.max()),
        outcomes=dict(Counter(outcome.tolist())),
    )
