"""python -m benchmarks.drivers: training images a second (min to max), both drivers in one run."""

import time

import jax
import numpy as np

from benchmarks.spread import spread
from benchmarks.training import Training
from cnn.loop import epoch_function, member_keys, put_order

_STEPS, _REPEATS = 20, 5


def measure(name: str) -> None:
    """Print one row of the table: a network's speed as a loop over steps and in one dispatch."""
    training = Training(name, steps=_STEPS, num_devices=1)
    first, last = np.int32(0), np.int32(_STEPS)
    epoch = jax.jit(epoch_function(training.config, training.mesh))
    order = put_order(training.config, training.mesh, member_keys(training.state), 0)
    whole = epoch.lower(training.state, order, training.images, first, last).compile()
    speeds = []
    for _ in range(_REPEATS):
        loop = training.images_a_second()
        start = time.perf_counter()
        jax.block_until_ready(whole(training.state, order, training.images, first, last))
        speeds.append((loop, training.config.images / (time.perf_counter() - start)))
    looped, dispatched = (spread(each, ",.0f") for each in zip(*speeds, strict=True))
    ratio = spread([one / other for one, other in speeds], ".1f")
    print(f"{name:<16}{looped:>26}{dispatched:>30}{ratio:>24}")


def main() -> None:
    """Print the table."""
    print(f"{jax.devices()[0].device_kind}, {_STEPS} steps, median of {_REPEATS} alternating repeats")
    print(f"{'':16}{'loop, images/s':>26}{'one dispatch, images/s':>30}{'loop / dispatch':>24}")
    for name in ("compact_20k", "bn_dropout_14k"):
        measure(name)


if __name__ == "__main__":
    main()
