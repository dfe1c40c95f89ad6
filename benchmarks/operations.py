"""python -m benchmarks.operations [NETWORK ...]: what each operation of cnn/xla.py gains in a training step.

Images a second as they are, and with each alone in its plain form, on a virtual device a core.
"""

import argparse
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks.spread import spread
from benchmarks.training import Training
from cnn import devices, xla
from cnn.config import CnnConfig
from cnn.experiment import resolve
from cnn.zoo import DEFAULT

_STEPS, _REPEATS = 24, 5


def _batch_norm(x, scale, bias, valid=None):  # type: ignore[no-untyped-def]
    weights = jnp.ones(len(x)) if valid is None else valid.astype(x.dtype)
    weights = weights.reshape(-1, *[1] * (x.ndim - 1))
    count, axes = weights.sum() * (x[0].size // x.shape[-1]), tuple(range(x.ndim - 1))
    mean = (weights * x).sum(axes) / count
    var = (weights * x * x).sum(axes) / count - mean * mean
    return (x - mean) * (scale * jax.lax.rsqrt(var + xla.EPSILON)) + bias, mean, var


def _dropout(x, rate, key):  # type: ignore[no-untyped-def]
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


PLAIN = {
    "convolution": jax.lax.conv_general_dilated,
    "batch_norm": _batch_norm,
    "max_pool": lambda x, window: nn.max_pool(x, (window, window), (window, window)),
    "global_max": lambda x: x.max((1, 2)),
    "dropout": _dropout,
    "step_options": lambda devices, architecture: {
        "xla_cpu_multi_thread_eigen": devices == 1,
        "xla_backend_optimization_level": 1,
    },
}
"""Each operation as JAX and Flax have it; of step_options without oneDNN."""


def measure(network: str) -> None:
    """Print a network's table."""
    count = jax.device_count()
    trainings = {"as it is": Training(network, steps=_STEPS, num_devices=count)}
    for name, plain in PLAIN.items():
        with mock.patch.object(xla, name, plain):
            trainings[f"plain {name}"] = Training(network, steps=_STEPS, num_devices=count)
    speeds = [
        {name: training.images_a_second() for name, training in trainings.items()}
        for _ in range(_REPEATS + 1)
    ][1:]
    print(f"\n{network:<24}{'images/s':>26}{'as it is / this':>24}")
    for name in trainings:
        ratio = spread([each["as it is"] / each[name] for each in speeds], ".2f")
        print(f"{name:<24}{spread([each[name] for each in speeds], ',.0f'):>26}{ratio:>24}")


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operations", description=__doc__)
    parser.add_argument("networks", nargs="*", default=["bn_dropout_14k", DEFAULT])
    networks = parser.parse_args().networks
    devices.start(resolve(CnnConfig(compilation_cache="none")))
    print(f"{devices.name(jax.devices())}, {_STEPS} steps, median of {_REPEATS} alternating repeats")
    for network in networks:
        measure(network)


if __name__ == "__main__":
    main()
