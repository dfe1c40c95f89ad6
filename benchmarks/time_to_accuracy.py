"""python -m benchmarks.time_to_accuracy: seconds from a process's start to 99.4 % of the test images.

Ours is the real command line, from its start to the line of the first epoch at the target. The
published networks are PyTorch's seconds an epoch, times the epochs after which their authors report
their best figure (SEEDS: bn_dropout_14k 20, strided_18k 19): the whole training is not run.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.spread import spread
from benchmarks.train import speeds
from cnn.config import CnnConfig
from cnn.zoo import ZOO

_IMAGES = 60_000
_REPORTED_EPOCHS = {"bn_dropout_14k": 20, "strided_18k": 19}


def ours(flags: list[str], seed: int, target: float) -> float | None:
    """Seconds from the start of launch.py to the first epoch's line at the target; None if there is none."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "launch.py", "--task=mnist", f"--seed={seed}", f"--workdir={folder}/run"]
        start = time.perf_counter()
        with subprocess.Popen(
            [*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                accuracy = re.search(r"test [\d.]+ ([\d.]+)%", line)
                if line.startswith("epoch") and accuracy and float(accuracy[1]) >= 100 * target:
                    seconds = time.perf_counter() - start
                    process.kill()
                    return seconds
    return None


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.time_to_accuracy", description=__doc__)
    parser.add_argument("--epochs", type=int, default=3, help="of our schedule")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="of PyTorch, a measurement")
    parser.add_argument("flags", nargs="*", help="more flags of launch.py, after --")
    given = parser.parse_args()
    target = CnnConfig().target_accuracy
    flags = [f"--epochs={given.epochs}", *given.flags]
    reached = [ours(flags, seed, target) for seed in range(given.seeds)]
    seconds = [each for each in reached if each is not None]
    what = f"{os.cpu_count()} cores; {CnnConfig().model} {' '.join(flags)}"
    print(f"{what}: {len(seconds)} of {given.seeds} seeds get there")
    if not seconds:
        return
    print(f"{'ours, from the start to 99.4 %':<44}{spread(seconds, '.1f')} s")
    for network, epochs in _REPORTED_EPOCHS.items():
        batch_size = ZOO[network].recipe.batch_size
        measured = speeds(network, batch_size, given.steps, given.seeds)
        best = max((statistics.median(measured[peer]), peer) for peer in measured if "PyTorch" in peer)[1]
        whole = [epochs * _IMAGES / speed for speed in measured[best]]
        times = [theirs / statistics.median(seconds) for theirs in whole]
        print(
            f"{network + f', {epochs} epochs, {best}':<44}{spread(whole, ',.0f')} s, "
            f"{spread(times, '.1f')} times ours"
        )


if __name__ == "__main__":
    main()
