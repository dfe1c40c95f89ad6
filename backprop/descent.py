"""Gradient descent over many learning rates at once, and what becomes of each rate."""

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from backprop.equations import by_hand
from backprop.network import Example, Forward, Scalar, Weights, forward, total_error

COLUMNS = (
    *("t1", "t2", "i1", "i2", "w1", "w2", "w3", "w4", "h1", "a_h1", "h2", "a_h2", "w5", "w6", "w7", "w8"),
    *("o1", "a_o1", "o2", "a_o2", "E1", "E2", "E_total"),
    *("dE_dw1", "dE_dw2", "dE_dw3", "dE_dw4", "dE_dw5", "dE_dw6", "dE_dw7", "dE_dw8"),
)
"""The assignment's columns in the assignment's order."""

TOLERANCE = 1e-5
"""A loss this close to the smallest possible one has converged: each output is some 0.003 off."""

_RATES_AT_ONCE = 65_536  # the fastest batch: the state of more rates does not fit the cache


class Epoch(NamedTuple):
    """All values before one update: a row of the assignment's spreadsheet."""

    weights: Weights
    forward: Forward
    derivatives: Weights


class Ending(NamedTuple):
    """What one descent comes to.

    Attributes:
      loss: E_total after the last epoch.
      gradient: Euclidean norm of the gradient there.
      last_rise: the last epoch whose loss was above that of the epoch before, 0 if none.
      epochs_to_tolerance: the first epoch whose loss is within TOLERANCE of the smallest
        possible loss, -1 if none.
    """

    loss: Float[Array, "*rate"]
    gradient: Float[Array, "*rate"]
    last_rise: Int[Array, "*rate"]
    epochs_to_tolerance: Int[Array, "*rate"]


def descend(lr: Scalar, weights: Weights, example: Example, epochs: int) -> Epoch:
    """One gradient descent: w <- w - lr * dE/dw, for a number of epochs.

    Returns:
      Epochs 0 (the start) to `epochs`; each leaf has shape [epochs + 1].
    """

    def epoch(weights: Weights, _: None) -> tuple[Weights, Epoch]:
        derivatives = by_hand(weights, example)
        updated = jax.tree.map(lambda w, dE_dw: w - lr * dE_dw, weights, derivatives)
        return updated, Epoch(weights, forward(weights, example), derivatives)

    _, rows = jax.lax.scan(epoch, weights, length=epochs + 1)
    return rows


descend_each = jax.jit(jax.vmap(descend, in_axes=(0, None, None, None)), static_argnums=3)
"""descend for an array of learning rates; each leaf has shape [rate, epochs + 1]."""


def table(rows: Epoch, example: Example) -> Float[np.ndarray, "rate epoch column"]:
    """What descend_each returns, as COLUMNS."""
    derivatives = {f"dE_d{name}": value for name, value in rows.derivatives._asdict().items()}
    values = example._asdict() | rows.weights._asdict() | rows.forward._asdict() | derivatives
    shape = rows.forward.E_total.shape
    return np.stack([np.broadcast_to(values[name], shape) for name in COLUMNS], axis=-1)


def loss_range(example: Example) -> tuple[Scalar, Scalar]:
    """The smallest and the largest E_total of any weights: an output lies between 0 and 1."""
    targets = jnp.stack([example.t1, example.t2])
    nearest = targets - jnp.clip(targets, 0, 1)
    farthest = jnp.maximum(jnp.abs(targets), jnp.abs(1 - targets))
    return (nearest**2).sum() / 2, (farthest**2).sum() / 2


def ending(lr: Scalar, weights: Weights, example: Example, epochs: int) -> Ending:
    """The same descent, keeping only what it comes to."""
    smallest, _ = loss_range(example)

    def epoch(state: tuple[Weights, Ending], number: Int[Array, ""]) -> tuple[tuple[Weights, Ending], None]:
        weights, before = state
        loss = total_error(weights, example)
        derivatives = by_hand(weights, example)
        now = Ending(
            loss,
            gradient=sum((dE_dw**2 for dE_dw in derivatives), jnp.zeros_like(lr)),
            last_rise=jnp.where(loss > before.loss, number, before.last_rise),
            epochs_to_tolerance=jnp.where(
                (before.epochs_to_tolerance < 0) & (loss - smallest <= TOLERANCE),
                number,
                before.epochs_to_tolerance,
            ),
        )
        return (jax.tree.map(lambda w, dE_dw: w - lr * dE_dw, weights, derivatives), now), None

    start = Ending(jnp.full_like(lr, jnp.inf), jnp.zeros_like(lr), jnp.int32(0), jnp.int32(-1))
    (_, end), _ = jax.lax.scan(epoch, (weights, start), jnp.arange(epochs + 1, dtype=jnp.int32))
    return end._replace(gradient=jnp.sqrt(end.gradient))


@partial(jax.jit, static_argnums=3)
def endings(lrs: Float[Array, "rate"], weights: Weights, example: Example, epochs: int) -> Ending:
    """The ending for each learning rate; each leaf has shape [rate]."""
    return jax.lax.map(lambda lr: ending(lr, weights, example, epochs), lrs, batch_size=_RATES_AT_ONCE)


@dataclass(frozen=True)
class Frontier:
    """What becomes of each learning rate; arrays have shape [rate], rates rise.

    Attributes:
      outcome: converged: the loss ends within TOLERANCE of the smallest possible one;
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


def explore(lrs: Float[Array, "rate"], weights: Weights, example: Example, epochs: int) -> Frontier:
    """Descend with every learning rate and name the outcomes."""
    end = jax.tree.map(np.asarray, endings(lrs, weights, example, epochs))
    smallest, largest = map(float, loss_range(example))
    excess = end.loss.astype(np.float64) - smallest
    next_fall = epochs * np.asarray(lrs, np.float64) * end.gradient.astype(np.float64) ** 2
    outcome = np.select(
        [excess <= TOLERANCE, next_fall < 0.01 * excess, 2 * end.last_rise > epochs],
        ["converged", "stalled", "oscillating"],
        "still falling",
    )
    start = float(total_error(weights, example))
    return Frontier(np.asarray(lrs), end, outcome, epochs, start, smallest, largest)


@dataclass(frozen=True)
class Claims:
    """What the frontier says about "faster with a larger rate" and "too large a rate fails".

    Attributes:
      falls_up_to_rate: from the smallest rate to this one the final loss falls with every step.
      best_rate: the (first) rate with the smallest final loss, best_loss.
      converged_from: the smallest rate that converged, None if none did; converged_to the largest.
      fewest_epochs: of those to tolerance, by fewest_epochs_rate (the smallest such rate).
      failing: how many rates above the fastest stalled or oscillate.
      failing_from: the smallest of them; failing_always_from: no larger rate escapes.
      largest_loss: the largest final loss.
      outcomes: how many rates came to each outcome.
    """

    falls_up_to_rate: float
    best_rate: float
    best_loss: float
    converged_from: float | None
    converged_to: float | None
    fewest_epochs: int | None
    fewest_epochs_rate: float | None
    failing: int
    failing_from: float | None
    failing_always_from: float | None
    largest_loss: float
    outcomes: dict[str, int]


def settle(frontier: Frontier) -> Claims:
    """Test the two claims on a frontier."""
    lrs, outcome = frontier.lrs, frontier.outcome
    loss, reached = frontier.ending.loss, frontier.ending.epochs_to_tolerance
    fastest = int(np.argmin(loss))
    not_falling = np.flatnonzero(np.diff(loss) >= 0)
    converged = lrs[outcome == "converged"]
    quickest = np.flatnonzero(reached == np.min(reached, where=reached >= 0, initial=frontier.epochs + 1))
    fails = np.isin(outcome, ["stalled", "oscillating"]) & (lrs > lrs[fastest])
    last_escape = np.flatnonzero(~fails)[-1]
    return Claims(
        falls_up_to_rate=float(lrs[not_falling[0] if not_falling.size else -1]),
        best_rate=float(lrs[fastest]),
        best_loss=float(loss[fastest]),
        converged_from=float(converged[0]) if converged.size else None,
        converged_to=float(converged[-1]) if converged.size else None,
        fewest_epochs=int(reached[quickest[0]]) if quickest.size else None,
        fewest_epochs_rate=float(lrs[quickest[0]]) if quickest.size else None,
        failing=int(fails.sum()),
        failing_from=float(lrs[fails][0]) if fails.any() else None,
        failing_always_from=float(lrs[last_escape + 1]) if fails[-1] else None,
        largest_loss=float(loss.max()),
        outcomes=dict(Counter(outcome.tolist())),
    )
