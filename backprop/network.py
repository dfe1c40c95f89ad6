"""The classroom network: two inputs, two hidden and two output neurons, no biases."""

from typing import NamedTuple

import jax
from jaxtyping import Array, Float

Scalar = Float[Array, ""]


class Weights(NamedTuple):
    """The eight weights, or the derivative of E_total with respect to each.

    Eight scalars, not one array: XLA then keeps each in a register of its own, which makes a
    descent over many learning rates some 70 times as fast.
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


class Forward(NamedTuple):
    """Every value of a forward pass."""

    h1: Scalar
    a_h1: Scalar
    h2: Scalar
    a_h2: Scalar
    o1: Scalar
    a_o1: Scalar
    o2: Scalar
    a_o2: Scalar
    E1: Scalar
    E2: Scalar
    E_total: Scalar


def forward(weights: Weights, example: Example) -> Forward:
    """Step 1: from the inputs to E_total, by the assignment's equations."""
    w1, w2, w3, w4, w5, w6, w7, w8 = weights
    i1, i2, t1, t2 = example

    h1 = w1 * i1 + w2 * i2
    h2 = w3 * i1 + w4 * i2
    a_h1 = jax.nn.sigmoid(h1)
    a_h2 = jax.nn.sigmoid(h2)

    o1 = w5 * a_h1 + w6 * a_h2
    o2 = w7 * a_h1 + w8 * a_h2
    a_o1 = jax.nn.sigmoid(o1)
    a_o2 = jax.nn.sigmoid(o2)

    E1 = (t1 - a_o1) ** 2 / 2
    E2 = (t2 - a_o2) ** 2 / 2
    return Forward(h1, a_h1, h2, a_h2, o1, a_o1, o2, a_o2, E1, E2, E_total=E1 + E2)


def total_error(weights: Weights, example: Example) -> Scalar:
    """E_total, the loss that gradient descent lowers."""
    return forward(weights, example).E_total
