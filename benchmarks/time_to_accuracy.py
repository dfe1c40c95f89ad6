"""python -m benchmarks.time_to_accuracy: seconds from a process's start to 99.4 % of the test images.

Ours is the real command line with nothing compiled before: sprint_20k, or what flags say
(`--target=99.6 -- --model=sprint_20k --epochs=10`). It prints when the first epoch reached the target, for
how many seeds, and what the last epoch came to, when.

The published networks are the seconds an epoch of PyTorch's fastest mode, times the epochs after which
their authors report their best figure (SEEDS: bn_dropout_14k 20, strided_18k 19): the whole training is
not run.
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


def ours(flags: list[str], seed: int) -> list[tuple[float, float]]:
    """Of each epoch's line: seconds since launch.py was started, and per cent of the test images.

    Raises:
      SystemExit: with its last line, where it ended with an error.
    """
    reached = []
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        command = [sys.executable, "launch.py", "--task=mnist", f"--seed={seed}", f"--workdir={folder}/run"]
        start = time.perf_counter()
        with subprocess.Popen(
            [*command, *flags], stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                accuracy = re.search(r"test [\d.]+ ([\d.]+)%", line)
                if line.startswith("epoch") and accuracy:
                    reached.append((time.perf_counter() - start, float(accuracy[1])))
        if process.returncode:
            errors.seek(0)
            sys.exit(errors.read().strip().rpartition("\n")[2])
    return reached


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.time_to_accuracy", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    target = 100 * CnnConfig().target_accuracy
    parser.add_argument("--target", type=float, default=target, help="per cent of the test images")
    parser.add_argument("--steps", type=int, default=40, help="of PyTorch, a measurement; 0: leave it out")
    parser.add_argument("--peer_python", default=sys.executable, help="the Python that has PyTorch")
    parser.add_argument("flags", nargs="*", help="of launch.py and of one seed, after --")
    given = parser.parse_args()
    flags = ["--model=sprint_20k", "--compilation_cache=none", *given.flags]
    runs = [ours(flags, seed) for seed in range(given.seeds)]
    first = [next((when for when, accuracy in run if accuracy >= given.target), None) for run in runs]
    seconds = [when for when in first if when is not None]
    ends, last = zip(*(run[-1] for run in runs), strict=True)
    print(f"{cores.described()}; {' '.join(flags)}; {given.seeds} seeds")
    mean = f"{statistics.mean(last):.2f} % (worst {min(last):.2f} %)"
    print(f"mean of the last epochs: {mean} after {spread(ends, '.1f')} s")
    print(f"{given.target} % in any epoch: {len(seconds)} of {given.seeds} seeds")
    if not seconds:
        return
    print(f"{f'ours, from the start to {given.target} %':<52}{spread(seconds, '.1f')} s")
    for network, epochs in _REPORTED_EPOCHS.items() if given.steps else ():
        batch_size = ZOO[network].recipe.batch_size
        theirs = [peer for peer in PEERS if peer.startswith("PyTorch")]
        measured = speeds(network, batch_size, given.steps, given.seeds, theirs, given.peer_python)
        best = max(measured, key=lambda peer: statistics.median(measured[peer]))
        whole = [epochs * _IMAGES / speed for speed in measured[best]]
        times = [each / statistics.median(seconds) for each in whole]
        print(
            f"{network + f', {epochs} epochs, {best}':<52}{spread(whole, ',.0f')} s, "
            f"{spread(times, '.1f')} times ours"
        )


if __name__ == "__main__":
    main()
