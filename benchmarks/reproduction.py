"""python -m benchmarks.reproduction: the eight published networks by their authors' recipes.

Each is one run of the command line with --num_seeds, in a folder of its own below --workdir; a second
start goes on where the first one was stopped, and leaves what is finished as it is. In all it takes hours
on two cores. The authors report the best epoch of one run; next to it stand the best epoch of each of our
seeds, chosen on the test images as theirs was, how far their mean is from it, and the last epochs.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from cnn.zoo import ZOO

_CLOSE = 0.0015
PUBLISHED = [name for name, entry in ZOO.items() if entry.reported is not None]


def train(name: str, folder: Path, num_seeds: int) -> None:
    """Train the network in the folder, or go on with it there; raise what the command line ends with."""
    begun = (folder / "config.json").exists()
    flags = ["--resume"] if begun else [f"--model={name}", f"--num_seeds={num_seeds}"]
    command = [sys.executable, "launch.py", "--task=mnist", f"--workdir={folder}", *flags]
    with (folder.parent / f"{name}.log").open("a") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log)


def row(name: str, folder: Path) -> str:
    """A line of the table, from the run's summary.json."""
    summary, reported = json.loads((folder / "summary.json").read_text()), ZOO[name].reported
    assert reported is not None
    seeds = summary.get("seeds", [summary])
    best, final = ([seed[f"{which}_test_accuracy"] for seed in seeds] for which in ("best", "final"))
    difference = statistics.fmean(best) - reported
    cells = [
        name,
        f"{reported:.2%}",
        ", ".join(f"{accuracy:.2%}" for accuracy in best),
        f"{difference:+.2%}" + " OUTSIDE" * (abs(difference) > _CLOSE),
        ", ".join(f"{accuracy:.2%}" for accuracy in final),
        f"{statistics.fmean(final):.2%}",
        f"{summary['training_seconds']:.0f} s",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Train those that are not trained yet; print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reproduction", description=__doc__)
    parser.add_argument("names", nargs="*", default=PUBLISHED, metavar="NAME", help=", ".join(PUBLISHED))
    parser.add_argument("--workdir", type=Path, default=Path("runs/reproduction"))
    parser.add_argument("--num_seeds", type=int, default=3)
    flags = parser.parse_args()
    if not {*flags.names} <= {*PUBLISHED} or flags.num_seeds < 1:
        parser.error(f"give names among {', '.join(PUBLISHED)}, and one seed or more")
    flags.workdir.mkdir(parents=True, exist_ok=True)
    print("| network | reported | best epoch, each seed | difference | last, each seed | mean | training |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in flags.names:
        if not (flags.workdir / name / "summary.json").exists():
            train(name, flags.workdir / name, flags.num_seeds)
        print(row(name, flags.workdir / name), flush=True)


if __name__ == "__main__":
    main()
