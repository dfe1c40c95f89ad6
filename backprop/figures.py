"""Figures for a slide: the loss of each learning rate, and the frontier."""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from backprop.descent import TOLERANCE, Claims, Frontier, epochs_in_words, larger_is_faster

_INK, _BLUE, _ORANGE = "#333333", "#0072B2", "#D55E00"
_WHITE = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1}
_SMALLEST = 1e-12  # a loss below it is drawn as this: what is left is rounding
_OUTCOME_COLOURS = {
    "still falling": "#56B4E9",
    "converged": "#009E73",
    "stalled": "#D55E00",
    "oscillating": "#CC79A7",
    "diverged": "#999999",
}


def loss_curve(lr: float, loss: Float[np.ndarray, "epoch"]) -> Figure:
    """The loss of one descent against the epoch; on a logarithmic axis if it grows beyond all bounds."""
    figure, axes = _axes()
    shown = _drawable(loss, float(loss[0]))
    grows = not np.array_equal(shown, loss)
    axes.plot(shown, color=_BLUE, linewidth=2.5)
    for epoch, align in ((0, "left"), (len(loss) - 1, "right")):
        if not np.isfinite(loss[epoch]):
            continue
        axes.plot(epoch, shown[epoch], "o", color=_BLUE)
        text, place = f"{loss[epoch]:.3g}", (epoch, shown[epoch])
        axes.annotate(text, place, (0, 9), textcoords="offset points", ha=align, color=_BLUE)
    axes.set(xlabel="epoch (weight updates)", ylabel="loss $E_{total}$")
    if grows:
        axes.set(yscale="log", xlim=(0, len(loss) - 1))
        axes.set_ylim(top=min(axes.get_ylim()[1], _highest(float(loss[0]))))
    else:
        axes.set_ylim(0, 1.12 * loss.max() or 1)
    change = f"falls to {loss[-1] / loss[0]:.2g} of its start" if loss[-1] < loss[0] else "falls not at all"
    axes.set_title(f"Learning rate {lr:g}: the loss {change} in {epochs_in_words(len(loss) - 1)}")
    if not np.isfinite(loss[-1]):
        axes.set_title(f"Learning rate {lr:g}: the loss overflows in epoch {np.argmin(np.isfinite(loss))}")
    return figure


def all_loss_curves(lrs: Sequence[float], losses: Float[np.ndarray, "rate epoch"]) -> Figure:
    """The loss of every listed rate against the epoch; each curve is named where it ends."""
    figure, axes = _axes()
    order = np.argsort(lrs)
    colours = colormaps["viridis"](np.linspace(0, 0.85, len(lrs)))
    shown = np.maximum(_drawable(losses, float(losses[0, 0])), _SMALLEST)
    for colour, index in zip(colours, order, strict=True):
        axes.semilogy(shown[index], color=colour, linewidth=2.5)
    axes.set_ylim(top=min(axes.get_ylim()[1], _highest(float(losses[0, 0]))))
    named = order if len(lrs) <= 12 else order[[0, -1]]
    overflows = ~np.isfinite(losses[:, -1])
    ends = np.where(overflows, axes.get_ylim()[1], shown[:, -1])
    heights = _spread(np.log(ends[named]), np.diff(np.log(axes.get_ylim()))[0] / 18)
    for index, height in zip(named, heights, strict=True):
        name = f"η = {lrs[index]:g}" + (" overflows" if overflows[index] else "")
        colour = colours[np.flatnonzero(order == index)[0]]
        font = {"color": colour, "weight": "bold"}
        axes.text(1.02, np.exp(height), name, font, va="center", transform=axes.get_yaxis_transform())
    axes.set(xlabel="epoch (weight updates)", ylabel="loss $E_{total}$")
    best = f"{lrs[int(np.argmin(np.where(overflows, np.inf, losses[:, -1])))]:g}"
    ordered = losses[order, -1]
    title = f"Of these learning rates η, {best} ends with the smallest loss"
    if overflows.all():
        title = "With each of these learning rates η the loss overflows"
    elif len(lrs) == 1:
        title = f"The loss with learning rate η = {best}"
    elif not (ordered < losses[0, 0]).any():
        title = "With none of these learning rates η does the loss fall"
    elif larger_is_faster(float(losses[0, 0]), ordered):
        title = "The larger the learning rate η, the faster the loss falls"
    axes.set_title(title)
    axes.set_xlim(0, losses.shape[1] - 1)
    return figure


def frontier_figure(frontier: Frontier, claims: Claims, listed: Sequence[float]) -> Figure:
    """The final loss, above the smallest possible one, against the learning rate.

    Args:
      listed: the rates to mark on the curve.
    """
    figure, axes = _axes()
    lrs = frontier.lrs
    start = frontier.start_loss - frontier.smallest_loss
    above = frontier.ending.loss.astype(np.float64) - frontier.smallest_loss
    excess = np.maximum(_drawable(np.asarray(above), start), _SMALLEST)
    axes.loglog(lrs, excess, color=_INK, linewidth=2.5)

    edges = np.flatnonzero(frontier.outcome[1:] != frontier.outcome[:-1]) + 1
    for first, last in itertools.pairwise([0, *edges, len(lrs) - 1]):
        outcome = str(frontier.outcome[first])
        axes.axvspan(lrs[first], lrs[last], color=_OUTCOME_COLOURS[outcome], alpha=0.2, linewidth=0)
        if np.log(lrs[last] / lrs[first]) > 0.08 * np.log(lrs[-1] / lrs[0]):
            middle = np.sqrt(lrs[first] * lrs[last])
            axes.text(middle, 1.01, outcome, transform=axes.get_xaxis_transform(), ha="center", color=_INK)

    axes.axhline(start, color=_INK, linestyle=":")
    axes.axhline(TOLERANCE, color=_OUTCOME_COLOURS["converged"], linestyle=":")
    for text, height in (("loss at the start", start), (f"tolerance {TOLERANCE:g}", TOLERANCE)):
        axes.annotate(text, (lrs[-1], height), (-4, -14), textcoords="offset points", ha="right", bbox=_WHITE)
    shown = [lr for lr in listed if lrs[0] <= lr <= lrs[-1]]
    axes.plot(shown, np.interp(shown, lrs, excess), "o", color=_BLUE, label="the listed rates")
    if claims.best_rate is not None:
        label = f"smallest loss: {claims.best_rate:.4g}"
        axes.plot([claims.best_rate], [np.nanmin(excess)], "D", color=_ORANGE, label=label)
    axes.legend(loc="lower left", frameon=False)

    goal = f" above its minimum of {frontier.smallest_loss:.3g}" if frontier.smallest_loss else ""
    axes.set(xlabel="learning rate", ylabel=f"loss after {epochs_in_words(frontier.epochs)}{goal}")
    axes.set(xlim=(lrs[0], lrs[-1]), ylim=(None, min(axes.get_ylim()[1], _highest(start))))
    beyond = "no rate above it fails" if claims.best_rate != lrs[-1] else "no larger one was tried"
    if claims.failing_from is not None and claims.fails is None:
        beyond = "it fails to converge all the same"
    elif claims.failing_from is not None:
        all_or_some = "all" if claims.failing_from == claims.failing_always_from else "some"
        beyond = f"from {claims.failing_from:.4g} on {all_or_some} fail to converge"
    best = "Every learning rate overflows"
    if claims.best_rate is not None:
        best = f"Learning rate {claims.best_rate:.4g} ends lowest; {beyond}"
    axes.set_title(best, pad=24)
    return figure


def _drawable(losses: np.ndarray, start: float) -> np.ndarray:
    """Losses that a figure can hold: too large a one leaves it at the top, and an overflow is a gap."""
    shown = np.minimum(losses.astype(np.float64), 1e3 * _highest(start))
    return np.where(np.isfinite(losses), shown, np.nan)


def _highest(start: float) -> float:
    """The top of a figure whose losses grow beyond all bounds."""
    return 1e6 * max(1, start)


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _spread(heights: np.ndarray, gap: float) -> np.ndarray:
    """Move labels apart, upwards, until neighbours are at least a gap from each other."""
    order = np.argsort(heights)
    moved = heights[order].copy()
    for place in range(1, len(moved)):
        moved[place] = max(moved[place], moved[place - 1] + gap)
    return moved[np.argsort(order)]
