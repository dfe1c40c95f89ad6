"""Train on parts of eight virtual CPU devices, in a process of its own: python -m tests.cnn.curves OUT RUNS.

RUNS is a JSON list of runs with the keys flags, devices and seeds; learning_rates where there are several,
each for all seeds; and as_gpu where it is to go the way of a GPU: all at once, an epoch in one dispatch.
Every float32 of the code is a float64 here, so that runs differ by 1e-9 where they differ by rounding
alone. OUT, an .npz, gets metrics and weights.
"""

import json
import sys
from unittest import mock

import jax
import jax.numpy as jnp

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_enable_x64", True)
jnp.float32 = jnp.float64

import numpy as np  # noqa: E402

from cnn import data, loop, population, train  # noqa: E402
from cnn.config import CnnConfig  # noqa: E402
from cnn.devices import chunk_size  # noqa: E402
from cnn.experiment import resolve  # noqa: E402
from cnn.model import Network  # noqa: E402

METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


def curve(
    flags: dict[str, str], devices: int, seeds: list[int], learning_rates: list[float], as_gpu: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Metrics (members x epochs x METRICS) and all weights (members x weights): two epochs of 27 images."""
    experiment = resolve(CnnConfig(**flags, batch_size=16, epochs=2))
    mnist = data.load("mnist", None)
    training, test = (
        data.Examples(*(leaf[:count] for leaf in split))
        for split, count in ((mnist.train, 27), (mnist.test, 20))
    )
    network = Network(experiment.architecture, experiment.recipe.initialization, jnp.float64)
    setup = train.Config(network, experiment.recipe, 27, 0.1307, 0.3081)
    splits = {"train": training, "test": test}
    with mock.patch("jax.default_backend", return_value="gpu" if as_gpu else "cpu"):
        begun = population.start(setup, seeds, learning_rates)
        chunks = population.split(begun, chunk_size(devices, 16, len(begun.seeds)))
        for number, chunk in loop.train_epochs(setup, splits, tuple(chunks), num_devices=devices):
            chunks[number] = chunk
        result = population.join(chunks)
    rows = sorted(result.history, key=lambda row: (row.get("base_learning_rate"), row["seed"], row["epoch"]))
    metrics = np.array([[row[name] for name in METRICS] for row in rows])
    leaves = jax.tree.leaves((result.state.params, result.state.batch_stats, result.state.ema))
    weights = np.concatenate([leaf.reshape(len(result.seeds), -1) for leaf in leaves], axis=1)
    assert weights.dtype == np.float64
    return metrics.reshape(len(result.seeds), 2, -1), weights


if __name__ == "__main__":
    results = {}
    for number, each in enumerate(json.loads(sys.argv[2])):
        results[f"metrics{number}"], results[f"weights{number}"] = curve(
            **{"as_gpu": False, "learning_rates": []} | each
        )
    np.savez(sys.argv[1], **results)
