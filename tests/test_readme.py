"""README.md's step does what it says: it is run as it stands there."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnn import data, xla
from cnn.architecture import Architecture
from cnn.model import Network
from cnn.text import parse

README = (Path(__file__).parents[1] / "README.md").read_text()


class State(NamedTuple):
    params: Any
    batch_stats: Any
    opt_state: Any


def test_the_step_learns():
    (code,) = re.findall(r"```python\n(def train_step.*?)```", README, re.DOTALL)
    small = Architecture(parse("max pool 2x2, conv 8 3x3, batch norm, ReLU, dense 10 bias"))
    network, optimizer = Network(small, "torch"), optax.sgd(0.05, 0.9)
    names = {"jax": jax, "optax": optax, "network": network, "optimizer": optimizer}
    exec(code, names)
    train = data.load("mnist").train
    images, labels = (train.images[:64] / np.float32(255) - 0.1307) / 0.3081, train.labels[:64]
    variables = network.init(jax.random.key(0), jnp.asarray(images), train=False)
    state = State(*variables.values(), optimizer.init(variables["params"]))
    step = jax.jit(names["train_step"], compiler_options=xla.RUN_ONCE)
    losses = []
    for _ in range(20):
        state, loss = step(state, images, labels)
        losses.append(float(loss))
    assert losses[-1] < losses[0] / 2
