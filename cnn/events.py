"""A run's metrics and figures as TensorBoard event files."""

import itertools
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.image
from tensorboardX import SummaryWriter

from harness.workdir import require_no_link, write_bytes


def write_events(workdir: Path, history: Sequence[Mapping[str, Any]], name: str = "") -> None:
    """Write workdir/tensorboard anew: one event file with all epochs and the run's figures.

    A whole file after every epoch, from the checkpoint's history, as metrics.csv: a resumed run
    has each epoch once.

    Args:
      workdir: the run's folder; its PNG files become images.
      history: the rows of metrics.csv; the columns' names become the scalars'.
      name: of one of several such runs, which has a folder of its own in there, without figures.
    """
    folder = workdir / "tensorboard" / name
    folder.mkdir(parents=True, exist_ok=True)
    require_no_link(folder)
    seconds = [row["seconds"] for row in history]
    start = time.time() - sum(seconds)
    with tempfile.TemporaryDirectory() as scratch:
        with SummaryWriter(scratch) as writer:
            for row, elapsed in zip(history, itertools.accumulate(seconds), strict=True):
                for column in row.keys() - {"epoch"}:
                    writer.add_scalar(column, row[column], row["epoch"], walltime=start + elapsed)
            for file in () if name else sorted(workdir.glob("*.png")):
                picture = matplotlib.image.imread(file)[..., :3]
                writer.add_image(file.stem, picture, len(history), dataformats="HWC")
        (written,) = Path(scratch).iterdir()
        for earlier in folder.glob("events.out.tfevents.*"):
            earlier.unlink()
        write_bytes(folder / written.name, written.read_bytes())
