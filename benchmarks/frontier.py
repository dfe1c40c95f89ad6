"""python -m benchmarks.frontier: descents a second, JAX beside NumPy in the same run."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from backprop.config import BackpropConfig
from backprop.descent import endings
from backprop.task import start
from benchmarks.spread import spread

_RATES, _EPOCHS, _NUMPY_EPOCHS, _REPEATS = 65_536, 1_000, 50, 5


def numpy_losses(lrs: np.ndarray, weights: np.ndarray, example: np.ndarray, epochs: int) -> np.ndarray:
    """The final loss for each rate: the peer, every operation on all rates at once."""
    i1, i2, t1, t2 = example
    w1, w2, w3, w4, w5, w6, w7, w8 = (np.full_like(lrs, w) for w in weights)
    for epoch in range(epochs + 1):
        a_h1 = 1 / (1 + np.exp(-(w1 * i1 + w2 * i2)))
        a_h2 = 1 / (1 + np.exp(-(w3 * i1 + w4 * i2)))
        a_o1 = 1 / (1 + np.exp(-(w5 * a_h1 + w6 * a_h2)))
        a_o2 = 1 / (1 + np.exp(-(w7 * a_h1 + w8 * a_h2)))
        if epoch == epochs:
            break
        d1 = lrs * (a_o1 - t1) * a_o1 * (1 - a_o1)
        d2 = lrs * (a_o2 - t2) * a_o2 * (1 - a_o2)
        d3 = (d1 * w5 + d2 * w7) * a_h1 * (1 - a_h1)
        d4 = (d1 * w6 + d2 * w8) * a_h2 * (1 - a_h2)
        w1, w2, w3, w4 = w1 - d3 * i1, w2 - d3 * i2, w3 - d4 * i1, w4 - d4 * i2
        w5, w6, w7, w8 = w5 - d1 * a_h1, w6 - d1 * a_h2, w7 - d2 * a_h1, w8 - d2 * a_h2
    return ((t1 - a_o1) ** 2 + (t2 - a_o2) ** 2) / 2


def seconds(function: Callable[[], object]) -> float:
    """Wall time of one call."""
    before = time.perf_counter()
    function()
    return time.perf_counter() - before


def measure(precision: str) -> None:
    """Print one row of the table."""
    lrs = np.geomspace(1e-3, 1e4, _RATES).astype(precision)
    weights, example = start(BackpropConfig())
    numpy_weights, numpy_example = np.array(weights, precision), np.array(example, precision)

    def ours(epochs: int) -> np.ndarray:
        return np.asarray(endings(jnp.asarray(lrs), weights, example, epochs).loss)

    def peer() -> np.ndarray:
        with np.errstate(over="ignore"):
            return numpy_losses(lrs, numpy_weights, numpy_example, _NUMPY_EPOCHS)

    np.testing.assert_allclose(ours(_NUMPY_EPOCHS), peer(), rtol=1e-3, atol=1e-6)
    ours(_EPOCHS)
    speeds = []
    for _ in range(_REPEATS):
        jax_seconds, numpy_seconds = seconds(lambda: ours(_EPOCHS)), seconds(peer)
        speeds.append((_EPOCHS / jax_seconds * _RATES / 1e6, _NUMPY_EPOCHS / numpy_seconds * _RATES / 1e6))
    ratios = [a / b for a, b in speeds]
    cells = [spread(each, ".1f") for each in zip(*speeds, strict=True)]
    ratio = spread(ratios, ".1f")
    print(f"{precision:<10}{cells[0]:>26}{cells[1]:>26}{ratio:>24}")


def main() -> None:
    """Print the table for both precisions."""
    print(
        f"Million rate-steps a second, {_RATES:,} rates, JAX {_EPOCHS:,} epochs, NumPy {_NUMPY_EPOCHS}: "
        f"median of {_REPEATS} alternating repeats (smallest to largest)"
    )
    print(f"{'precision':<10}{'JAX':>26}{'NumPy':>26}{'ratio':>24}")
    for precision in ("float32", "float64"):
        with jax.enable_x64(precision == "float64"):
            measure(precision)


if __name__ == "__main__":
    main()
