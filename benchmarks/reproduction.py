"""python -m benchmarks.reproduction: the eight published networks by their authors' recipes.

Each is one run of the command line with --num_seeds, in a folder of its own below --workdir; a second
start goes on where the first one was stopped, and leaves what is finished as it is. In all it takes hours
on two cores.

The authors report one run: its best epoch, chosen on the test images, and its last. Best is compared
with best, chosen in the same way for each of our seeds, and last with last. curves.png shows every epoch
of the three networks whose authors' logs are in reported_curves.csv.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnn.zoo import ZOO, Reported

_CLOSE = 0.15  # points
_REPORTED_CURVES = Path(__file__).with_name("reported_curves.csv")
PUBLISHED = {name: entry.reported for name, entry in ZOO.items() if entry.reported is not None}
SEEDS = dict.fromkeys(PUBLISHED, 3) | {"plain_4k": 10}  # its author's run began with 36.62 %
HEADER = (
    "network",
    *("reported best", "best, each seed", "mean", "difference"),
    *("reported last", "last, each seed", "mean", "difference", "seeds below"),
    "training",
)


def train(name: str, folder: Path, num_seeds: int) -> None:
    """Train the network in the folder, or go on with it there; raise what the command line ends with."""
    begun = (folder / "config.json").exists()
    flags = ["--resume"] if begun else [f"--model={name}", f"--num_seeds={num_seeds}"]
    command = [sys.executable, "launch.py", "--task=mnist", f"--workdir={folder}", *flags]
    with (folder.parent / f"{name}.log").open("a") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log)


def row(name: str, reported: Reported, summary: Mapping[str, Any]) -> list[str]:
    """A line of the table, from the run's summary.json; accuracies in percent."""
    seeds = summary.get("seeds", [summary])
    best, last = ([seed[f"{which}_test_accuracy"] for seed in seeds] for which in ("best", "final"))
    below = sum(accuracy < reported.last for accuracy in last)
    return [
        name,
        f"{100 * reported.best:.2f} ({reported.best_epoch})",
        *_compared(best, reported.best),
        f"{100 * reported.last:.2f}",
        *_compared(last, reported.last),
        f"{below} of {len(last)}",
        f"{summary['training_seconds']:.0f} s",
    ]


def _compared(accuracies: Sequence[float], reported: float) -> tuple[str, str, str]:
    mean = 100 * statistics.fmean(accuracies)
    difference = mean - 100 * reported
    return (
        ", ".join(f"{100 * accuracy:.2f}" for accuracy in accuracies),
        f"{mean:.2f}",
        f"{difference:+.2f}" + " OUTSIDE" * (abs(difference) > _CLOSE),
    )


def reported_curves() -> dict[str, list[float]]:
    """The authors' test accuracies after each epoch, in percent."""
    with _REPORTED_CURVES.open(newline="") as stream:
        rows = list(csv.reader(stream))
    return {name: [float(number) for number in numbers.split()] for name, numbers in rows[1:]}


def draw_curves(folder: Path, names: Sequence[str]) -> None:
    """curves.png: for each of the networks every epoch of our seeds and of the author's run."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for ax, name in zip(axes, names, strict=True):
        with (folder / name / "metrics.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        of_seeds: dict[str | None, list[float]] = {}  # one seed alone has no column of its own
        for row in rows:
            of_seeds.setdefault(row.get("seed"), []).append(100 * float(row["test_accuracy"]))
        curves = [*of_seeds.values(), reported_curves()[name]]
        for curve in curves:
            theirs = curve is curves[-1]
            color, width, label = ("black", 2, "its author's run") if theirs else ("C0", 1, "ours, each seed")
            errors = [100 - accuracy for accuracy in curve]
            ax.plot(
                range(1, len(curve) + 1),
                errors,
                color=color,
                lw=width,
                label=label if theirs or curve is curves[0] else None,
            )
        ax.set(title=name, xlabel="epoch", ylabel="test images wrong, in %", yscale="log")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.legend()
    figure.savefig(folder / "curves.png", dpi=150)


def main() -> None:
    """Train those that are not trained yet; print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reproduction", description=__doc__)
    parser.add_argument(
        "names", nargs="*", default=list(PUBLISHED), metavar="NAME", help=", ".join(PUBLISHED)
    )
    parser.add_argument("--workdir", type=Path, default=Path("runs/reproduction"))
    parser.add_argument("--num_seeds", type=int, help="default: 3, and 10 of plain_4k")
    flags = parser.parse_args()
    if not {*flags.names} <= {*PUBLISHED} or (flags.num_seeds or 1) < 1:
        parser.error(f"give names among {', '.join(PUBLISHED)}, and one seed or more")
    flags.workdir.mkdir(parents=True, exist_ok=True)
    print("| " + " | ".join(HEADER) + " |")
    print("| " + " | ".join(["---"] * len(HEADER)) + " |")
    for name in flags.names:
        folder = flags.workdir / name
        if not (folder / "summary.json").exists():
            train(name, folder, flags.num_seeds or SEEDS[name])
        summary = json.loads((folder / "summary.json").read_text())
        print("| " + " | ".join(row(name, PUBLISHED[name], summary)) + " |", flush=True)
    from matplotlib import style

    if drawn := [name for name in flags.names if name in reported_curves()]:
        with style.context("default"):  # whatever a matplotlibrc says
            draw_curves(flags.workdir, drawn)


if __name__ == "__main__":
    main()
