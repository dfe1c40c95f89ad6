"""python -m benchmarks.accuracy [RUN ...]: ours among 111 public submissions, in docs/accuracy.png.

Test accuracy after the last epoch against parameters, from docs/accuracy.csv. Each RUN is the folder of a
finished run of --task=mnist, of a network of our own, with several seeds; its figures take the place of
those that the table had of that network.
"""

import argparse
import csv
import itertools
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from audit.notebook.standing import published, published_axes
from cnn import sweep
from cnn.config import CnnConfig
from cnn.experiment import resolve
from cnn.zoo import DEFAULT, ZOO
from harness.errors import UserError, require
from harness.workdir import make_config, read_flags

PICTURE = Path(__file__).parents[1] / "docs" / "accuracy.png"
TABLE = PICTURE.with_suffix(".csv")
_TARGET, _BUDGET = 0.994, 20_000  # the assignment's
_ORANGE, _GREY = "#d55e00", "#7f7f7f"  # Okabe and Ito
_PADDING = 4  # points that stay free around a network of ours, or between its name and a submission
_BESIDE, _RISES = 8, range(-48, 49, 4)  # points from a network to its name


class Network(NamedTuple):
    """A network of ours.

    Attributes:
      accuracies: on the test images after the last epoch, of each of several seeds; fractions.
    """

    name: str
    parameters: int
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of the seeds."""
        return statistics.fmean(self.accuracies)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean."""
        low, high = sweep.interval(self.accuracies) or (self.mean, self.mean)
        return low, high


def read_table() -> dict[str, Network]:
    """What docs/accuracy.csv has, by name."""
    networks: dict[str, Network] = {}
    with TABLE.open(newline="") as stream:
        for row in csv.DictReader(stream):
            name = row["network"]
            earlier = networks[name].accuracies if name in networks else ()
            accuracies = (*earlier, float(row["test_accuracy"]))
            networks[name] = Network(name, int(row["parameters"]), accuracies)
    return networks


def write_table(networks: Sequence[Network]) -> None:
    """Write docs/accuracy.csv: a row for each seed, the largest network first."""
    with TABLE.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["network", "parameters", "test_accuracy"])
        for each in sorted(networks, key=lambda each: -each.parameters):
            writer.writerows([each.name, each.parameters, accuracy] for accuracy in each.accuracies)


def read(folder: str) -> Network:
    """What the run in a folder came to.

    Raises:
      UserError: it is not finished, or no mean of a network of ours that learned from all of MNIST.
    """
    path = Path(folder).expanduser()
    require((path / "config.json").exists(), f"{folder} holds no run: name the folder of a run")
    flags = make_config(CnnConfig, read_flags(folder, "mnist"), folder)
    ours = flags.reported is None and (flags.model is None or ZOO[flags.model].reported is None)
    rates, held_out = len(resolve(flags).learning_rates), flags.validation_size
    for right, what in (
        (ours, "is of a published network: name runs of our own"),
        (rates == 1, f"holds a run of {rates} learning rates: name runs of one each"),
        (flags.dataset == "mnist", f"was trained with --dataset={flags.dataset}: name runs with mnist"),
        (held_out == 0, f"was trained with --validation_size={held_out}: name runs that held out no images"),
        (flags.num_seeds > 2, "has no interval by so few seeds: name runs with --num_seeds=3 or more"),
        ((path / "summary.json").exists(), "is not finished: go on with --resume, or name another run"),
    ):
        require(right, f"{folder} {what}")
    try:
        summary = json.loads((path / "summary.json").read_bytes())
        accuracies = tuple(seed["final_test_accuracy"] for seed in summary["seeds"])
        return Network(flags.model or path.resolve().name, summary["parameters"], accuracies)
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}/summary.json is damaged: --resume writes it anew") from error


def picture(networks: Sequence[Network]) -> Figure:
    """Networks of ours among the public submissions, each with its interval, its name and its mean."""
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    axes = published_axes(figure, target=_TARGET)
    axes.axvline(_BUDGET, color=_GREY, linewidth=1, linestyle=":", label=f"budget {_BUDGET:,}")
    across = [*axes.lines]
    seeds = [len(each.accuracies) for each in networks]
    few, many = min(seeds), max(seeds)
    axes.errorbar(
        [each.parameters for each in networks],
        [each.mean for each in networks],
        [
            [each.mean - each.interval[0] for each in networks],
            [each.interval[1] - each.mean for each in networks],
        ],
        fmt="o",
        color=_ORANGE,
        capsize=3,
        label=f"ours, mean of {few if few == many else f'{few} to {many}'} seeds, 95% interval",
    )
    title = "MNIST: test accuracy after the last epoch, ours among submissions of one run each"
    figure.suptitle(title, fontsize=14)
    figure.legend(frameon=False, loc="outside lower center", ncols=4)
    figure.draw_without_rendering()  # settles what is where
    place = axes.transData.transform
    taken = [Bbox(place([(each.parameters, end) for end in each.interval])) for each in networks]
    taken = [box.padded(_PADDING * figure.dpi / 72) for box in taken]
    taken += [line.get_window_extent().padded(1) for line in across]
    for each in networks:
        taken.append(_write_name(axes, each, taken))
    return figure


def _write_name(axes: Axes, network: Network, taken: Sequence[Bbox]) -> Bbox:
    """Write a network's name and mean where they hide nothing that is taken, and few of the submissions.

    Returns:
      Where that is, in pixels.
    """
    submissions = axes.transData.transform([(row.parameters, row.last) for row in published()])
    text = axes.annotate(
        f"{network.name}  {network.mean:.2%}",
        (network.parameters, network.mean),
        (0, 0),
        textcoords="offset points",
        va="center",
        color=_ORANGE,
        weight="bold" if network.name == DEFAULT else "normal",
        path_effects=[withStroke(linewidth=3, foreground="white")],
        in_layout=False,
    )

    def put(side: int, rise: int) -> Bbox:
        text.set(ha=("center", "left", "right")[side], position=(_BESIDE * side, rise))
        return text.get_window_extent()

    def cost(where: tuple[int, int]) -> tuple[int, int, int]:
        box = put(*where)
        outside = not all(axes.bbox.contains(*corner) for corner in box.corners())
        around = box.padded(_PADDING * axes.figure.dpi / 72)  # a point is a disc
        hidden = sum(around.contains(*point) for point in submissions)
        return box.count_overlaps(taken) + outside, hidden, abs(where[1])

    return put(*min(itertools.product((1, -1, 0), _RISES), key=cost))


def main() -> None:
    """Draw the table, after the runs that the command line names are in it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("runs", nargs="*", metavar="RUN")
    try:
        new = [read(folder) for folder in parser.parse_args().runs]
    except UserError as error:
        parser.exit(2, f"{error}\n")
    networks = [*(read_table() | {each.name: each for each in new}).values()]
    write_table(networks)
    with style.context("default"):  # whatever a matplotlibrc says
        picture(networks).savefig(PICTURE, dpi=200)


if __name__ == "__main__":
    main()
