"""Where a submission stands among 111 public ones: published.csv has their figures, one run each."""

import csv
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FILE = Path(__file__).with_name("published.csv")
_NEIGHBOURS = 30
_LOWEST = 0.985  # accuracy in the picture; what is below stands at its edge
_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#7f7f7f"  # Okabe and Ito


class Published(NamedTuple):
    """A public submission; accuracies are fractions of the images that its log evaluates."""

    parameters: int
    best: float
    last: float


class Standing(NamedTuple):
    """Where a submission stands among so many of its size, whose parameters are from smallest to largest."""

    percentile: float  # of them, the percentage that is less accurate, half of those that are equal included
    smallest: int
    largest: int
    among: int


@functools.cache
def published() -> tuple[Published, ...]:
    """All of them, the smallest first."""
    columns = ("best_test_accuracy", "last_test_accuracy")
    with _FILE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    read = (Published(int(row["parameters"]), *(float(row[each]) for each in columns)) for row in rows)
    return tuple(sorted(read))


def standing(parameters: int, last: float) -> Standing:
    """Compare a last accuracy with those of the 30 submissions whose sizes are the nearest in ratio."""
    parameters = max(1, parameters)

    def ratio(row: Published) -> float:
        return max(row.parameters / parameters, parameters / row.parameters)

    near = sorted(published(), key=ratio)[:_NEIGHBOURS]
    less, equal = sum(row.last < last for row in near), sum(row.last == last for row in near)
    sizes = [row.parameters for row in near]
    return Standing(100 * (less + equal / 2) / len(near), min(sizes), max(sizes), len(near))


class Point(NamedTuple):
    """A submission in the picture; accuracies are fractions."""

    name: str
    parameters: int
    best: float
    last: float


def picture(submissions: Sequence[Point], *, target: float) -> "Figure":
    """Submissions among all, each with a line up to its best epoch; a triangle stands further below."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = published_axes(figure, target=target)
    names = ", ".join(each.name for each in submissions)
    label = f"{names}, up to the best epoch" if len(submissions) == 1 else "these, each up to its best epoch"
    for each in submissions:
        axes.plot([each.parameters] * 2, [each.last, each.best], color=_ORANGE, linewidth=1.5)
    axes.scatter(
        [each.parameters for each in submissions],
        [each.last for each in submissions],
        s=70,
        color=_ORANGE,
        zorder=3,
        label=label,
    )
    below = [each.parameters for each in submissions if each.last < _LOWEST]
    axes.scatter(below, [_LOWEST] * len(below), s=70, color=_ORANGE, marker="v", zorder=3)
    shown = sorted(row.last for row in published())
    shown = shown[len(shown) // 20 :]  # a few are far below
    shown += [accuracy for each in submissions for accuracy in (each.best, each.last)]
    axes.set_ylim(max(min(shown), _LOWEST) - 5e-4, max(shown) + 5e-4)
    if max(each.parameters for each in submissions) >= 10**6:
        axes.xaxis.set_major_locator(LogLocator())
    figure.legend(frameon=False, loc="outside lower center", ncols=3)
    return figure


def published_axes(figure: "Figure", *, target: float) -> "Axes":
    """The public submissions as points, last accuracy against parameters, with a line at the target."""
    from matplotlib.ticker import FuncFormatter, LogLocator, PercentFormatter

    rows, axes = published(), figure.subplots()
    label = f"{len(rows)} public submissions, last epoch"
    axes.scatter([row.parameters for row in rows], [row.last for row in rows], s=18, color=_GREY, label=label)
    axes.axhline(target, color=_BLUE, linewidth=1, linestyle="--", label=f"target {target:.2%}")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,.0f}"))
    axes.xaxis.set_minor_formatter("")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    axes.set(xlabel="parameters", ylabel="test images classified correctly")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return axes
