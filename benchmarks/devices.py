"""python -m benchmarks.devices: training images a second with one device and with a virtual one a core."""

import os
import statistics

import jax

from benchmarks.training import Training
from cnn import devices, epoch
from cnn.config import CnnConfig

_STEPS, _REPEATS = 40, 5


def measure(name: str) -> None:
    """Print one row of the table."""
    one, all_cores = (Training(name, steps=_STEPS, num_devices=count) for count in (1, jax.device_count()))
    speeds = []
    for _ in range(_REPEATS + 1):
        speeds.append((one.images_a_second(), all_cores.images_a_second()))
    speeds = speeds[1:]
    cells = [
        f"{statistics.median(s):,.0f} ({min(s):,.0f} to {max(s):,.0f})" for s in zip(*speeds, strict=True)
    ]
    ratios = [many / single for single, many in speeds]
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    print(f"{name:<16}{cells[0]:>26}{cells[1]:>26}{ratio:>24}")


def main() -> None:
    """Print the table."""
    epoch.keep_freed_memory()
    devices.start(CnnConfig(num_devices=os.cpu_count()))
    print(f"{devices.name(jax.devices())}, {_STEPS} steps, median of {_REPEATS} alternating repeats")
    print(f"{'':16}{'one device, images/s':>26}{'all, images/s':>26}{'all / one':>24}")
    for name in ("compact_20k", "bn_dropout_14k"):
        measure(name)


if __name__ == "__main__":
    main()
