"""python -m benchmarks.time_to_accuracy: seconds from a process's start to 99.4 % of the test images.

Ours is the real command line with sprint_20k and nothing compiled before, from its start to the line of
the first epoch at the target; a seed that does not get there is counted as such. The published networks
are the seconds an epoch of PyTorch's fastest mode, times the epochs after which their authors report their
best figure (SEEDS: bn_dropout_14k 20, strided_18k 19): the whole training is not run.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.spread import spread
from benchmarks.train import PEERS, speeds
from cnn import cores
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
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="of PyTorch, a measurement")
    parser.add_argument("flags", nargs="*", help="more flags of launch.py, after --")
    given = parser.parse_args()
    target = CnnConfig().target_accuracy
    flags = ["--model=sprint_20k", "--compilation_cache=none", *given.flags]
    reached = [ours(flags, seed, target) for seed in range(given.seeds)]
    seconds = [each for each in reached if each is not None]
    print(f"{cores.described()}; {' '.join(flags)}: {len(seconds)} of {given.seeds} seeds get there")
    if not seconds:
        return
    print(f"{'ours, from the start to 99.4 %':<52}{spread(seconds, '.1f')} s")
    for network, epochs in _REPORTED_EPOCHS.items():
        batch_size = ZOO[network].recipe.batch_size
        theirs = [peer for peer in PEERS if peer.startswith("PyTorch")]
        measured = speeds(network, batch_size, given.steps, given.seeds, theirs)
        best = max(measured, key=lambda peer: statistics.median(measured[peer]))
        whole = [epochs * _IMAGES / speed for speed in measured[best]]
        times = [each / statistics.median(seconds) for each in whole]
        print(
            f"{network + f', {epochs} epochs, {best}':<52}{spread(whole, ',.0f')} s, "
            f"{spread(times, '.1f')} times ours"
        )


if __name__ == "__main__":
    main()
