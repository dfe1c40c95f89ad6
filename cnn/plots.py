"""Pictures of a run, for a slide."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, LogLocator, MaxNLocator, PercentFormatter

_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#7f7f7f"  # Okabe and Ito: told apart by everyone
_MOST_SHOWN = 100
_MOST_COUNTS = 30  # classes whose counts can be read in a figure
_MOST_LEVEL = 6  # learning rates whose numbers fit beside each other
_TITLE = 84  # characters that fit beside each other above a figure of 8 inches


_SPLITS = {"train": _GREY, "validation": _BLUE, "test": _ORANGE}
_NAMES = {"train": "training", "validation": "validation", "test": "test"}


def curves(history: Sequence[Mapping[str, Any]], *, name: str, target: float) -> Figure:
    """Draw accuracy, error and loss after every epoch; of several seeds the mean, and their range.

    The error is on a logarithmic axis: there the last epochs near 100 % can be told apart.

    Args:
      history: the rows of metrics.csv, and the seed of each.
      target: the accuracy to reach, as a fraction.
    """
    epochs = sorted({row["epoch"] for row in history})
    seeds = len({row["seed"] for row in history})

    def of_epochs(column: str) -> Float[np.ndarray, "epochs seeds"]:
        return np.array([[row[column] for row in history if row["epoch"] == epoch] for epoch in epochs])

    figure = Figure(figsize=(13, 4.5), layout="constrained")
    accuracy, error, loss = figure.subplots(1, 3)
    for split, colour in _SPLITS.items():
        if f"{split}_loss" not in history[0]:
            continue
        right = of_epochs(f"{split}_accuracy")
        for axes, values in ((accuracy, right), (error, 1 - right), (loss, of_epochs(f"{split}_loss"))):
            line = {"color": colour, "marker": "o", "markersize": 4, "label": f"{_NAMES[split]} images"}
            axes.plot(epochs, values.mean(1), **line)
            if seeds > 1:
                band = {"color": colour, "alpha": 0.2, "linewidth": 0, "label": f"range of {seeds} seeds"}
                axes.fill_between(epochs, values.min(1), values.max(1), **band)
    dashed = {"color": "black", "linewidth": 1, "linestyle": "--"}
    accuracy.axhline(target, label=f"target {target:.2%}", **dashed)
    error.axhline(1 - target, **dashed)
    test = of_epochs("test_accuracy")
    lowest = min(test[len(epochs) // 4 :].min(), target)
    accuracy.set_ylim(max(0, lowest - 0.25 * (1 - lowest) - 1e-3), 1.0005)
    accuracy.set(title="accuracy", ylabel="images classified correctly")
    error.set(title="error", ylabel="images misclassified", yscale="log")
    loss.set(title="loss", ylabel="cross-entropy (nats)", yscale="log")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    error.yaxis.set_major_formatter(PercentFormatter(1))
    loss.yaxis.set_major_formatter("{x:g}")
    for axes in (error, loss):
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.minorticks_off()
    for axes in (accuracy, error, loss):
        axes.set(xlabel="epoch", xlim=(epochs[0] - 0.5, epochs[-1] + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _tidy(axes)
    _legend_below(figure, accuracy)
    over = f", mean of {seeds} seeds" if seeds > 1 else f", seed {history[0]['seed']}"
    title = f"{name}: {test[-1].mean():.2%} of the test images correct after epoch {epochs[-1]}{over}"
    figure.suptitle(title, fontsize=14)
    return figure


def learning_rates(rows: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """Draw accuracy and loss after the last epoch against the learning rate, with intervals of the means.

    Args:
      rows: of sweep.table.
    """
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        for split, colour in _SPLITS.items():
            whole = [row for row in rows if row.get(f"{split}_{metric}") is not None]
            if not whole:
                continue
            mean, low, high = (
                np.array([row[f"{split}_{metric}{end}"] for row in whole], float)
                for end in ("", "_low", "_high")
            )
            rates, error = [row["learning_rate"] for row in whole], np.array([mean - low, high - mean])
            within = "" if np.isnan(error).all() else ", 95 % interval"
            style = {"color": colour, "marker": "o", "markersize": 4, "capsize": 3}
            axes.errorbar(rates, mean, np.nan_to_num(error), label=f"{_NAMES[split]} images{within}", **style)
        diverged = [row["learning_rate"] for row in rows if row["diverged"]]
        if diverged:
            across = axes.get_xaxis_transform()
            axes.plot(
                diverged, np.zeros(len(diverged)), "kx", transform=across, clip_on=False, label="diverged"
            )
        axes.set(title=metric, xlabel="learning rate", xscale="log")
        ticks = [row["learning_rate"] for row in rows]
        axes.set_xticks(
            ticks, [f"{rate:g}" for rate in ticks], rotation=45 if len(ticks) > _MOST_LEVEL else 0
        )
        axes.minorticks_off()
        _tidy(axes)
    accuracy, loss = figure.axes
    accuracy.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    accuracy.set(ylabel="images classified correctly")
    bottom, top = accuracy.get_ylim()
    accuracy.set_ylim(max(0, bottom), min(1.0005, top))
    loss.set(ylabel="cross-entropy (nats)", yscale="log")
    loss.yaxis.set_major_formatter("{x:g}")
    loss.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
    _legend_below(figure, accuracy)
    figure.suptitle(title, fontsize=14)
    return figure


def _tidy(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)


def _legend_below(figure: Figure, axes: Any) -> None:
    """Put the legend of some axes below the figure, where it hides no curve."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=len(labels))


def confusion(counts: Int[np.ndarray, "true predicted"], *, name: str) -> Figure:
    """Draw the confusion matrix, with counts where the classes are few."""
    figure = Figure(figsize=(7.5, 6.5), layout="constrained")
    axes = figure.subplots()
    mistakes = counts - np.diag(np.diag(counts))
    shade = np.ma.masked_equal(mistakes, 0)
    axes.imshow(shade, cmap="Oranges", vmin=0, vmax=max(1, 1.6 * mistakes.max()))
    if len(counts) <= _MOST_COUNTS:
        size, classes = min(10, 120 / len(counts)), range(len(counts))
        axes.set(xticks=classes, yticks=classes)
        axes.tick_params(labelsize=size)
        for true, predicted in np.argwhere(counts):
            colour, weight = (_GREY, "normal") if true == predicted else ("black", "bold")
            font, count = {"color": colour, "weight": weight, "size": size}, counts[true, predicted]
            axes.text(predicted, true, f"{count:,}", font, ha="center", va="center", in_layout=False)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(
        f"{name}: {mistakes.sum():,} of {counts.sum():,} test images are misclassified", fontsize=13
    )
    return figure


def misclassified(
    images: UInt8[np.ndarray, "images height width channels"],
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
    side = images.shape[1]
    pitch_x, pitch_y = side + max(1, side * 6 // 28), side + max(2, side * 12 // 28)
    mosaic = np.full((rows * pitch_y, columns * pitch_x, 3), 255, np.uint8)
    for place, index in enumerate(shown):
        x, y = place % columns * pitch_x, place // columns * pitch_y
        mosaic[y : y + side, x : x + side] = picture(images[index])
        text = f"{labels[index]} → {predicted[index]}"
        font = {"color": _ORANGE, "size": 9}
        axes.text(x + side / 2, y + side * 29 / 28, text, font, ha="center", va="top", in_layout=False)
    axes.imshow(mosaic, extent=(0, columns * pitch_x, rows * pitch_y, 0))
    axes.set(xlim=(-side / 14, columns * pitch_x), ylim=(rows * pitch_y, -side / 14))
    which = (
        f"the {len(shown)} most certain of {len(wrong)}" if len(shown) < len(wrong) else f"all {len(wrong)}"
    )
    title = f"{name}: {which} misclassified test images (true → predicted)"
    axes.set_title(textwrap.fill(title, _TITLE), fontsize=13)
    return figure


def augmented(samples: Float[np.ndarray, "rows columns height width channels"]) -> Figure:
    """Training images (0 to 1), in the first row as they are, below as the network sees them."""
    rows, columns, side, *_ = samples.shape
    frame = max(1, side // 14)
    pictures = picture(np.rint(255 * samples.clip(0, 1)).astype(np.uint8))
    framed = np.pad(pictures, ((0, 0), (0, 0), (frame, frame), (frame, frame), (0, 0)), constant_values=255)
    pitch = side + 2 * frame
    mosaic = framed.transpose(0, 2, 1, 3, 4).reshape(rows * pitch, columns * pitch, 3)
    figure = Figure(figsize=(9, 9 * rows / columns + 0.5), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.imshow(mosaic)
    axes.axhline(pitch - 0.5, color=_BLUE, linewidth=2)
    axes.set_title("training images: as they are, and randomly distorted below", fontsize=13)
    return figure


def picture(images: UInt8[np.ndarray, "*shape channels"]) -> UInt8[np.ndarray, "*shape 3"]:
    """Images to be looked at: three channels are red, green and blue, others one grey, dark on white."""
    if images.shape[-1] == 3:
        return images
    grey = 255 - images.mean(-1, keepdims=True)
    return np.repeat(np.rint(grey).astype(np.uint8), 3, -1)
