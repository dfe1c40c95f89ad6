"""python -m benchmarks.drivers: training images a second (min to max), both drivers in one run."""

import statistics
import time

import jax

from cnn import data, epoch, train
from cnn.config import CnnConfig
from cnn.model import Network

_STEPS, _REPEATS = 20, 5


def measure(name: str) -> None:
    """Print one row of the table: a network's speed in a Python loop and in a scan."""
    config = CnnConfig(model=name)
    recipe = config.recipe
    network = Network(config.entry.architecture, recipe.initialization)
    setup = train.Setup(network, recipe, steps_per_epoch=_STEPS, mean=0.1307, deviation=0.3081)
    key = jax.random.key(0)
    images = train.Images(*jax.device_put(data.load("mnist", None).train))
    drivers = []
    for scan in (False, True):
        state = train.init_state(setup, key)
        drivers.append((epoch.compile_epoch(setup, state, images, key, scan=scan)[0], state))

    speeds = []
    for _ in range(_REPEATS):
        row = []
        for index, (run_epoch, state) in enumerate(drivers):
            start = time.perf_counter()
            state, totals = run_epoch(state, lambda steps, totals: None)
            jax.block_until_ready(totals)
            row.append(_STEPS * recipe.batch_size / (time.perf_counter() - start))
            drivers[index] = run_epoch, state
        speeds.append(row)
    cells = [
        f"{statistics.median(s):,.0f} ({min(s):,.0f} to {max(s):,.0f})" for s in zip(*speeds, strict=True)
    ]
    ratios = [loop / scan for loop, scan in speeds]
    ratio = f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
    print(f"{name:<16}{cells[0]:>26}{cells[1]:>26}{ratio:>22}")


def main() -> None:
    """Print the table."""
    print(f"{jax.devices()[0].device_kind}, {_STEPS} steps, median of {_REPEATS} alternating repeats")
    print(f"{'':16}{'loop, images/s':>26}{'scan, images/s':>26}{'loop / scan':>22}")
    for name in ("compact_20k", "bn_dropout_14k"):
        measure(name)


if __name__ == "__main__":
    main()
