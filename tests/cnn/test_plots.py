"""What can be read from the figures of a run: epochs, rates, intervals, seeds."""

import numpy as np
import pytest

from cnn import plots


def history(seeds, epochs):
    metrics = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    return [
        {"seed": seed, "epoch": epoch} | dict.fromkeys(metrics, 1 - 0.5**epoch - 0.001 * seed)
        for seed in range(seeds)
        for epoch in range(1, epochs + 1)
    ]


@pytest.mark.parametrize(("seeds", "epochs"), [(1, 1), (1, 18), (3, 2)])
def test_epochs_are_whole_and_the_legend_hides_no_curve(seeds, epochs):
    figure = plots.curves(history(seeds, epochs), name="mine", target=0.994)
    figure.canvas.draw()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert shown
        assert all(float(tick).is_integer() and 1 <= tick <= epochs for tick in shown)
        assert axes.get_legend() is None
    (legend,) = figure.legends
    words = [text.get_text() for text in legend.get_texts()]
    band = [f"range of {seeds} seeds"] * (seeds > 1)
    assert words == ["training images", *band, "test images", *band, "target 99.40%"]
    assert figure.get_suptitle().endswith(", seed 0" if seeds == 1 else ", mean of 3 seeds")


def test_the_error_is_logarithmic_and_in_per_cent():
    _, error, _ = plots.curves(history(1, 18), name="mine", target=0.994).axes
    np.testing.assert_allclose(error.lines[0].get_ydata(), [0.5**epoch for epoch in range(1, 19)])
    assert error.get_yscale() == "log"
    assert error.yaxis.get_major_formatter()(0.005, 0).endswith("%")


@pytest.mark.parametrize("half", [None, 0.01])
def test_every_rate_of_a_sweep_is_a_tick_and_an_interval_is_named(half):
    rates = (0.003, 0.02, 0.1, 0.25)
    rows = []
    for rate in rates:
        row = {"learning_rate": rate, "diverged": ""}
        for name in ("test_accuracy", "test_loss"):
            ends = (None, None) if half is None else (0.9 - half, 0.9 + half)
            row |= {name: 0.9} | dict(zip((f"{name}_low", f"{name}_high"), ends, strict=True))
        rows.append(row)
    figure = plots.learning_rates(rows, title="")
    for axes in figure.axes:
        assert tuple(axes.get_xticks()) == rates
        assert [label.get_text() for label in axes.get_xticklabels()] == ["0.003", "0.02", "0.1", "0.25"]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["test images" if half is None else "test images, 95 % interval"]
