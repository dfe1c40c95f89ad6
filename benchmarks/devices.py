"""python -m benchmarks.devices: training images a second with one device and with a virtual one a core."""

import jax

from benchmarks.spread import spread
from benchmarks.training import Training
from cnn import devices
from cnn.config import CnnConfig
from cnn.experiment import resolve

_STEPS, _REPEATS = 40, 5


def measure(name: str) -> None:
    """Print one row of the table."""
    one, all_cores = (Training(name, steps=_STEPS, num_devices=count) for count in (1, jax.device_count()))
    speeds = []
    for _ in range(_REPEATS + 1):
        speeds.append((one.images_a_second(), all_cores.images_a_second()))
    speeds = speeds[1:]
    single, many = (spread(each, ",.0f") for each in zip(*speeds, strict=True))
    ratio = spread([both / alone for alone, both in speeds], ".2f")
    print(f"{name:<16}{single:>26}{many:>26}{ratio:>24}")


def main() -> None:
    """Print the table."""
    devices.start(resolve(CnnConfig()))
    print(f"{devices.name(jax.devices())}, {_STEPS} steps, median of {_REPEATS} alternating repeats")
    print(f"{'':16}{'one device, images/s':>26}{'all, images/s':>26}{'all / one':>24}")
    for name in ("compact_20k", "bn_dropout_14k"):
        measure(name)


if __name__ == "__main__":
    main()
