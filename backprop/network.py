"""A network with one hidden layer as a function: from the inputs to E_total."""

import operator
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, reduce
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float

from backprop.shape import CLASSROOM, Shape

try:
    from jax import enable_x64
except ImportError:  # before JAX 0.8; Colab brings 0.7.2
    from jax.experimental import enable_x64  # type: ignore[attr-defined, no-redef]

Scalar = Float[Array, ""]
Scalars = tuple[Scalar, ...]

FUNCTIONS: Mapping[str, Callable[[Scalar], Scalar]] = MappingProxyType(
    {"sigmoid": jax.nn.sigmoid, "tanh": jax.numpy.tanh, "relu": jax.nn.relu}
)
"""shape.ACTIVATIONS as functions."""


class Weights(NamedTuple):
    """The eight weights of the classroom network, or the derivative of E_total by each.

    Eight scalars, not one array: XLA then keeps each in a register of its own, which makes a
    descent over many learning rates far faster.
    """

    w1: Scalar
    w2: Scalar
    w3: Scalar
    w4: Scalar
    w5: Scalar
    w6: Scalar
    w7: Scalar
    w8: Scalar


class Example(NamedTuple):
    """Two inputs and the two outputs wanted for them."""

    i1: Scalar
    i2: Scalar
    t1: Scalar
    t2: Scalar


@contextmanager
def on_cpu(*, float64: bool) -> Iterator[None]:
    """Compute on the CPU: a TPU has no float64, and so small a network gains nothing from a GPU."""
    with jax.default_device(jax.devices("cpu")[0]), enable_x64(float64):
        yield


@cache
def _forward_type(shape: Shape) -> Any:
    return namedtuple("Forward", shape.forward_names)


def forward(weights: Scalars, example: Scalars, shape: Shape = CLASSROOM) -> Scalars:
    """Step 1: from the inputs to E_total, by the assignment's equations.

    Args:
      weights: in the order of shape.weight_names; for the classroom network, a Weights.
      example: the inputs, then the targets; for the classroom network, an Example.

    Returns:
      A named tuple of all values, in the order of shape.forward_names.
    """
    next_weight = iter(weights)

    def layer(inputs: Sequence[Scalar], neurons: int) -> tuple[list[Scalar], list[Scalar]]:
        sums = [_sum(next(next_weight) * value for value in inputs) for _ in range(neurons)]
        if shape.biases:
            sums = [value + next(next_weight) for value in sums]
        return sums, [FUNCTIONS[shape.activation](value) for value in sums]

    h, a_h = layer(example[: shape.inputs], shape.hidden)
    o, a_o = layer(a_h, shape.outputs)
    E = [(t - a) ** 2 / 2 for t, a in zip(example[shape.inputs :], a_o, strict=True)]

    neurons = chain(*zip(h, a_h, strict=True), *zip(o, a_o, strict=True))
    return _forward_type(shape)(*neurons, *E, _sum(E))


def _sum(terms: Iterable[Scalar]) -> Scalar:
    return reduce(operator.add, terms)


def total_error(weights: Scalars, example: Scalars, shape: Shape = CLASSROOM) -> Scalar:
    """E_total, the loss that gradient descent lowers."""
    return forward(weights, example, shape)[-1]
