"""Kill a run at any moment, resume it, compare: python -m tests.crash --kills=100.

Small but whole runs of --task=mnist, as processes of their own. SIGKILL comes at random: half of the
moments are uniform over a run's duration, the others follow the appearance of a checkpoint's or a file's
temporary name, so that many fall into the writing. Each kill is followed by --resume; the end of each run
is left alone, and what it leaves has to be what an undisturbed run leaves, bit for bit but for times.
JAX's compilation cache, filled by the undisturbed runs, saves the time to compile.
"""

import argparse
import collections
import csv
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import logging

from cnn import task
from tests.cnn.prepare import LAYERS, some_of_mnist

ROOT = Path(__file__).parents[1]
FLAGS = {
    "compact_20k": ["--model=compact_20k", "--epochs=3", "--checkpoint_every_steps=4"],
    "2 seeds": [f"--layers={LAYERS}", "--epochs=2", "--num_seeds=2", "--checkpoint_every_steps=7"],
    "2 seeds in turn, events": [
        *(f"--layers={LAYERS}", "--recipe=bn_4k", "--epochs=2", "--num_seeds=2", "--num_devices=1"),
        *("--checkpoint_every_steps=3", "--tensorboard"),
    ],
    "2 learning rates": [  # of two seeds each, in two chunks; at the first one no network stays finite
        *(f"--layers={LAYERS}", "--recipe=plain_4k", "--epochs=2", "--num_seeds=2", "--num_devices=2"),
        *("--learning_rate=100,0.02", "--weight_decay=1", "--validation_size=100"),
        "--checkpoint_every_steps=7",
    ],
}
_COUNTS = 650, 250
_MOST_KILLS_A_RUN = 8
LONGEST = 1800  # seconds for a process: it hangs
_TIMES = {"seconds", "images_per_second", "training_seconds"}


class Moment(NamedTuple):
    """When to kill.

    Attributes:
      after: "the start", or the appearance of a "checkpoint" or of a "file".
      count: which one since the process started.
      delay: seconds from there.
    """

    after: str
    count: int
    delay: float

    def __str__(self) -> str:
        return f"{self.delay:.3f} s after {f'{self.after} {self.count}' if self.count else self.after}"


class Kill(NamedTuple):
    """A kill and what it hit."""

    moment: Moment
    what: str
    names: list[str]


def prepare_data(folder: Path) -> None:
    """Write a small data set to the folder."""
    some_of_mnist(folder / "mnist.npz", _COUNTS)


def flags_of_data(folder: Path) -> list[str]:
    """Flags of a run on the data set in the folder."""
    return [f"--dataset={folder / 'mnist.npz'}", "--batch_size=64"]


def undisturbed(flags: Sequence[str], workdir: Path) -> float:
    """Let a run end; the seconds it took."""
    start = time.monotonic()
    process = _launch(flags, workdir)
    assert process.wait(LONGEST) == 0, _said(workdir)
    return time.monotonic() - start


def random_moments(generator: random.Random, seconds: float) -> Iterator[Moment]:
    """Moments for a run that takes so many seconds."""
    while True:
        match generator.randrange(4):
            case 0 | 1:
                yield Moment("the start", 0, generator.uniform(0, seconds))
            case 2:
                yield Moment("checkpoint", generator.randint(1, 4), generator.uniform(0, 0.2))
            case 3:
                yield Moment("file", generator.randint(1, 14), generator.uniform(0, 0.01))


def disturbed(flags: Sequence[str], workdir: Path, moments: Iterator[Moment]) -> Iterator[Kill]:
    """Run to the end, killed at each of the moments and resumed; yields each kill that came in time."""
    for moment in itertools.chain(moments, [None]):
        process, before = _launch([] if _started(workdir) else flags, workdir), {*workdir.rglob("*")}
        if moment is not None and _reached(process, workdir, moment):
            process.kill()
            process.wait()
            what, names = _in_the_folder(workdir)
            yield Kill(moment, "in the start" if {*workdir.rglob("*")} == before else what, names)
        else:  # it ended before the moment
            assert process.wait(LONGEST) == 0, _said(workdir)
            return


def differences(workdir: Path, reference: Path) -> list[str]:
    """What of a finished run is not what the other one left."""
    different = []
    for read in (names_of_files, metrics, summary_without_times, weights):
        different += [read.__name__] * (read(workdir) != read(reference))
    for file in sorted(reference.glob("*.csv")) + sorted(reference.glob("*.png")):
        if file.name != "metrics.csv" and file.read_bytes() != (workdir / file.name).read_bytes():
            different.append(file.name)
    return different


def _launch(flags: Sequence[str], workdir: Path) -> subprocess.Popen:
    """A process of the command line; without flags it resumes."""
    command = [sys.executable, "launch.py", "--task=mnist", f"--workdir={workdir}", *(flags or ["--resume"])]
    with workdir.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def _said(workdir: Path) -> str:
    return workdir.with_suffix(".log").read_text()[-2000:]


def _started(workdir: Path) -> bool:
    """Whether --resume finds a run. Where it does not, it says so, and the run starts anew."""
    if (workdir / "config.json").exists():
        return True
    if workdir.exists():
        process = _launch([], workdir)
        assert process.wait(LONGEST) == 2, _said(workdir)
        assert "holds no run (no config.json)" in _said(workdir).splitlines()[-1]
    return False


def _reached(process: subprocess.Popen, workdir: Path, moment: Moment) -> bool:
    """Wait for the moment; False where the process ends before."""
    count, seen, start = 0, {*_appeared(workdir, moment.after)}, time.monotonic()
    while count < moment.count:
        new = {*_appeared(workdir, moment.after)} - seen
        count, seen = count + len(new), seen | new
        if process.poll() is not None:
            return False
        assert time.monotonic() - start < LONGEST, "it hangs: " + _said(workdir)
        time.sleep(0.0005)
    try:
        process.wait(moment.delay)
    except subprocess.TimeoutExpired:
        return True
    return False


def _appeared(workdir: Path, what: str) -> Iterator[Path]:
    """The temporary names that a moment may follow."""
    match what:
        case "checkpoint":
            yield from (path for path in checkpoints(workdir) if "tmp" in path.name)
        case "file":
            yield from workdir.glob(".*.partial")


def checkpoints(workdir: Path) -> list[Path]:
    """The folders of all checkpoints, those of each chunk in a folder of its own."""
    every = [*workdir.glob("checkpoints/*"), *workdir.glob("checkpoints/chunk_*/*")]
    return [path for path in every if not path.name.startswith("chunk_")]


def _in_the_folder(workdir: Path) -> tuple[str, list[str]]:
    """Where a kill hit a run, by what it left."""
    files = [file.name for file in workdir.rglob(".*.partial")]
    every = [path.relative_to(workdir / "checkpoints").as_posix() for path in checkpoints(workdir)]
    unfinished = [name for name in every if "tmp" in name]
    kept = sorted({*every} - {*unfinished})
    most = max(collections.Counter(os.path.dirname(name) for name in kept).values(), default=0)
    if files:
        return "in a file", files
    if unfinished:
        return "in a checkpoint", unfinished
    if most > 2:
        return "in the removal of a checkpoint", kept
    if not (workdir / "config.json").exists():
        return "before config.json", kept
    if (workdir / "confusion.csv").exists():
        return "in the results", sorted(file.name for file in workdir.glob("*.*") if file.is_file())
    return "in training", kept


def names_of_files(workdir: Path) -> set[str]:
    """Nothing is missing, and nothing that a kill left is still there."""
    events = {*workdir.glob("tensorboard/*")}  # their names hold the time
    steps = {*checkpoints(workdir)}
    inside = {file.relative_to(workdir).as_posix() for file in {*workdir.glob("*")} | steps}
    return inside | {f"{len(events)} event files"}


def metrics(workdir: Path) -> list[dict[str, str]]:
    with (workdir / "metrics.csv").open() as stream:
        return [{name: row[name] for name in row.keys() - _TIMES} for row in csv.DictReader(stream)]


def summary_without_times(workdir: Path) -> dict:
    summary = json.loads((workdir / "summary.json").read_text())
    return {name: summary[name] for name in summary.keys() - _TIMES}


def weights(workdir: Path) -> tuple:
    """The last checkpoint, as --eval_only reads it; arrays as their bytes."""
    _, result = task.load(task.experiment_of(str(workdir)))
    history = [{name: row[name] for name in row.keys() - _TIMES} for row in result.history]
    arrays = jax.tree.leaves(result.state)
    return [(str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes()) for leaf in arrays], history


def main() -> None:
    """Run until the kills are used up; exit with 1 unless every run ended as if undisturbed."""
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--at_once", type=int, default=2, help="processes")
    arguments = parser.parse_args()
    logging.set_verbosity(logging.ERROR)
    folder = Path(tempfile.mkdtemp(prefix="crash-"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "cache")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    prepare_data(folder)
    small = flags_of_data(folder)
    seconds = {}
    for name, flags in FLAGS.items():
        for _ in ("fills the cache", "is measured"):
            shutil.rmtree(folder / name, ignore_errors=True)
            seconds[name] = undisturbed([*small, *flags], folder / name)
        print(f"{name}: {seconds[name]:.1f} s undisturbed", flush=True)

    def one_run(number: int, kills: int) -> tuple[str, Path, list[Kill]]:
        name = [*FLAGS][number % len(FLAGS)]
        moments = random_moments(random.Random(f"{arguments.seed} {number}"), seconds[name])
        workdir = folder / f"run{number}"
        some = itertools.islice(moments, kills)
        return name, workdir, [*disturbed([*small, *FLAGS[name]], workdir, some)]

    killed, equal, hits, numbers = 0, 0, collections.Counter[str](), itertools.count()
    with ThreadPoolExecutor(arguments.at_once) as pool:
        while killed < arguments.kills:
            share = -(-(arguments.kills - killed) // arguments.at_once)
            runs = [
                pool.submit(one_run, next(numbers), min(_MOST_KILLS_A_RUN, share))
                for _ in range(arguments.at_once)
            ]
            for name, workdir, kills in (run.result() for run in runs):
                different = differences(workdir, folder / name)
                for kill in kills:
                    killed += 1
                    hits[kill.what] += 1
                    print(f"{killed:3} {name}: {kill.moment}, {kill.what}: {' '.join(kill.names)}")
                equal += 0 if different else len(kills)
                print(f"    {workdir.name} differs in {different or 'nothing'}", flush=True)
    print(", ".join(f"{count} {what}" for what, count in hits.most_common()))
    print(f"{equal} of {killed} equal")
    if equal == killed:
        shutil.rmtree(folder)
    sys.exit(equal != killed)


if __name__ == "__main__":
    main()
