"""Pictures of a run, for a slide."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter

_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#7f7f7f"  # Okabe and Ito: told apart by everyone
_MOST_SHOWN = 100


def curves(history: Sequence[Mapping[str, Any]], *, name: str, target: float) -> Figure:
    """Accuracy and loss of every epoch, training and test; of several seeds the mean, and their range.

    Args:
      history: the rows of metrics.csv, and the seed of each.
      target: the accuracy to reach, as a fraction.
    """
    epochs = sorted({row["epoch"] for row in history})
    seeds = len({row["seed"] for row in history})

    def of_epochs(column: str) -> Float[np.ndarray, "epochs seeds"]:
        return np.array([[row[column] for row in history if row["epoch"] == epoch] for epoch in epochs])

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    accuracy, loss = figure.subplots(1, 2)
    for split, colour in (("train", _GREY), ("validation", _BLUE), ("test", _ORANGE)):
        if f"{split}_loss" not in history[0]:
            continue
        for axes, metric in ((accuracy, "accuracy"), (loss, "loss")):
            values = of_epochs(f"{split}_{metric}")
            axes.plot(epochs, values.mean(1), color=colour, marker="o", markersize=4, label=split)
            axes.fill_between(epochs, values.min(1), values.max(1), color=colour, alpha=0.2, linewidth=0)
    test = of_epochs("test_accuracy")
    accuracy.axhline(target, color="black", linewidth=1, linestyle="--", label=f"target {target:.2%}")
    lowest = test[len(epochs) // 4 :].min()
    lowest = min(lowest, target)
    accuracy.set_ylim(max(0, lowest - 0.25 * (1 - lowest) - 1e-3), 1.0005)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    accuracy.set(title="accuracy", xlabel="epoch", ylabel="images classified correctly")
    loss.set(title="loss", xlabel="epoch", ylabel="cross-entropy (nats)", yscale="log")
    loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    loss.yaxis.set_major_formatter("{x:g}")
    loss.minorticks_off()
    for axes in (accuracy, loss):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    over = f", mean of {seeds} seeds" if seeds > 1 else ""
    title = f"{name}: {test[-1].mean():.2%} of the test images correct after epoch {epochs[-1]}{over}"
    figure.suptitle(title, fontsize=14)
    return figure


def confusion(counts: Int[np.ndarray, "true predicted"], *, name: str) -> Figure:
    """How often each true digit was taken for each digit."""
    figure = Figure(figsize=(7.5, 6.5), layout="constrained")
    axes = figure.subplots()
    mistakes = counts - np.diag(np.diag(counts))
    shade = np.ma.masked_equal(mistakes, 0)
    axes.imshow(shade, cmap="Oranges", vmin=0, vmax=max(1, 1.6 * mistakes.max()))
    for (true, predicted), count in np.ndenumerate(counts):
        if count:
            weight = "normal" if true == predicted else "bold"
            colour = _GREY if true == predicted else "black"
            axes.text(predicted, true, f"{count:,}", ha="center", va="center", color=colour, weight=weight)
    classes = range(len(counts))
    axes.set(xticks=classes, yticks=classes, xlabel="predicted class", ylabel="true class")
    axes.set_title(
        f"{name}: {mistakes.sum():,} of {counts.sum():,} test images are misclassified", fontsize=13
    )
    return figure


def misclassified(
    images: UInt8[np.ndarray, "images 28 28 1"],
    labels: Int[np.ndarray, " images"],
    logits: Float[np.ndarray, "images classes"],
    *,
    name: str,
) -> Figure:
    """The misclassified images with true and predicted class, the most certain mistakes first."""
    predicted = logits.argmax(-1)
    wrong = np.flatnonzero(predicted != labels)
    margin = logits[wrong].max(-1) - logits[wrong, labels[wrong]]
    shown = wrong[np.argsort(-margin, kind="stable")][:_MOST_SHOWN]
    columns = 10
    rows = max(1, -(-len(shown) // columns))
    figure = Figure(figsize=(8, 0.95 * rows + 0.9), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    pitch_x, pitch_y = 34, 40
    mosaic = np.zeros((rows * pitch_y, columns * pitch_x), np.uint8)
    for place, index in enumerate(shown):
        x, y = place % columns * pitch_x, place // columns * pitch_y
        mosaic[y : y + 28, x : x + 28] = images[index, :, :, 0]
        text = f"{labels[index]} → {predicted[index]}"
        axes.text(x + 14, y + 29, text, ha="center", va="top", fontsize=9, color=_ORANGE)
    axes.imshow(255 - mosaic, cmap="gray", vmin=0, vmax=255, extent=(0, columns * pitch_x, rows * pitch_y, 0))
    axes.set(xlim=(-2, columns * pitch_x), ylim=(rows * pitch_y, -2))
    which = (
        f"the {len(shown)} most certain of {len(wrong)}" if len(shown) < len(wrong) else f"all {len(wrong)}"
    )
    axes.set_title(f"{name}: {which} misclassified test images (true → predicted)", fontsize=13)
    return figure


def augmented(samples: Float[np.ndarray, "rows columns 28 28"]) -> Figure:
    """Training images, in the first row as they are, below as the network sees them."""
    rows, columns, side, _ = samples.shape
    framed = np.pad(samples, ((0, 0), (0, 0), (2, 2), (2, 2)))
    mosaic = framed.transpose(0, 2, 1, 3).reshape(rows * (side + 4), columns * (side + 4))
    figure = Figure(figsize=(9, 9 * rows / columns + 0.5), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.imshow(-mosaic, cmap="gray", vmin=-1, vmax=0)
    axes.axhline(side + 3.5, color=_BLUE, linewidth=2)
    axes.set_title("training images: as they are, and randomly distorted below", fontsize=13)
    return figure
