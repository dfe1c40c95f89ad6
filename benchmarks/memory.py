"""python -m benchmarks.memory: training images a second with and without xla.keep_freed_memory.

The C library's setting holds for a process, so each measurement is a process of its own.
"""

import resource
import statistics
import subprocess
import sys

from benchmarks.spread import spread
from benchmarks.training import Training
from cnn import xla

_STEPS, _REPEATS = 100, 5


def measure() -> tuple[float, float]:
    """Images a second of the default network, and the share of processor time that went to the kernel."""
    training = Training("compact_20k", steps=_STEPS, num_devices=1)
    training.images_a_second()
    before = resource.getrusage(resource.RUSAGE_SELF)
    speed = training.images_a_second()
    after = resource.getrusage(resource.RUSAGE_SELF)
    kernel, user = after.ru_stime - before.ru_stime, after.ru_utime - before.ru_utime
    return speed, kernel / (kernel + user)


def main() -> None:
    """Print the table; with an argument, keep or return, measure once and print two numbers."""
    if len(sys.argv) > 1:
        if sys.argv[1] == "keep":
            xla.keep_freed_memory(one_device=True)
        print(*measure())
        return
    speeds: dict[str, list[float]] = {"keep": [], "return": []}
    kernel: dict[str, list[float]] = {"keep": [], "return": []}
    for _ in range(_REPEATS):
        for name in speeds:
            command = [sys.executable, "-m", "benchmarks.memory", name]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            speeds[name].append(float(printed[0]))
            kernel[name].append(float(printed[1]))
    print(f"compact_20k, median of {_REPEATS} alternating repeats (min to max)")
    for name, values in speeds.items():
        print(
            f"freed memory: {name:<7}{spread(values, ',.0f')} images/s, "
            f"{statistics.median(kernel[name]):.0%} in the kernel"
        )
    ratios = [keep / back for keep, back in zip(speeds["keep"], speeds["return"], strict=True)]
    print(f"keep / return: {spread(ratios, '.2f')}")


if __name__ == "__main__":
    main()
