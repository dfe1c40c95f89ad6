"""Three ways to the same derivatives, and the published equations put to the test."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from backprop.equations import CLOSED_FORM, EQUATIONS, FORWARD, derivatives, evaluate, named
from backprop.network import Scalar, Scalars, forward, total_error
from backprop.shape import CLASSROOM, Shape


class Gradients(NamedTuple):
    """dE_total/dw for each weight, found in three ways."""

    by_hand: Scalars
    autodiff: Scalars
    finite_difference: Scalars


@partial(jax.jit, static_argnums=2)
def gradients(weights: Scalars, example: Scalars, shape: Shape = CLASSROOM) -> Gradients:
    """The derivatives by hand, by jax.grad and by central differences."""
    return Gradients(
        derivatives(weights, example, shape),
        jax.grad(total_error)(weights, example, shape),
        central_differences(weights, example, shape),
    )


def central_differences(weights: Scalars, example: Scalars, shape: Shape = CLASSROOM) -> Scalars:
    """(E(w + h) - E(w - h)) / 2h for each weight.

    h is the cube root of the precision, where rounding (eps / h) and truncation (h^2) are in
    balance, and grows with w: the error is about eps^(2/3).
    """
    start = jnp.stack(jax.tree.leaves(weights))
    h = jnp.cbrt(jnp.finfo(start.dtype).eps) * jnp.maximum(1, jnp.abs(start))
    above, below = start + h, start - h

    def loss(moved: Float[Array, "weight"]) -> Scalar:
        return total_error(tuple(moved), example, shape)

    one_moved = jnp.eye(len(start), dtype=bool)
    higher, lower = (jax.lax.map(loss, jnp.where(one_moved, moved, start)) for moved in (above, below))
    return jax.tree.unflatten(jax.tree.structure(weights), (higher - lower) / (above - below))


class Slope(NamedTuple):
    """da/dh of a neuron, as the run's floating-point numbers give it and as it is."""

    computed: float
    exact: float


def lost_slopes(values: Mapping[str, float], shape: Shape, eps: float) -> dict[str, Slope]:
    """Neurons so saturated that their slope has lost more than half of its digits.

    a * (1 - a) and 1 - a^2 are differences from 1: near it, an activation has no digits left for them.

    Args:
      values: those of steps 1 to 5, by name.
      eps: of the numbers that they were computed in.
    """
    lost = {}
    for neuron in (*shape.layers[0], *shape.layers[1]):
        computed = values[f"d{neuron.a}_d{neuron.name}"]
        exact = exact_slope(shape.activation, values[neuron.name])
        if exact is not None and (exact == 0 or abs(computed - exact) > math.sqrt(eps) * exact):
            lost[neuron.name] = Slope(computed, exact)
    return lost


def exact_slope(activation: str, h: float) -> float | None:
    """The derivative of a sigmoid, s(h) * s(-h), or of tanh, to all digits; None for ReLU, which loses none.

    It is 0 only where it is below the smallest float64.
    """
    if activation == "relu":
        return None
    times = {"sigmoid": 1, "tanh": 2}[activation]  # tanh(h) = 2 s(2h) - 1
    tail = math.exp(-times * abs(h))
    return times**2 * tail / (1 + tail) ** 2


@dataclass(frozen=True)
class Published:
    """An equation as a document prints it, in the names of EQUATIONS.

    Attributes:
      name: the quantity that it is printed for; meant is the one that its author derived.
    """

    document: str
    name: str
    text: str
    meant: str


PUBLISHED = (
    *(Published("assignment", name, EQUATIONS[name], meant=name) for name in ("E1", "E2", *CLOSED_FORM)),
    Published("000", "dE_dw8", "(a_o2-t2) * a_o2*(1-a_o2) * a_h1", meant="dE_dw8"),
    Published("002", "E2", "(t2 - a_o1)^2 / 2", meant="E2"),
    Published("003", "dE_dw7", "(a_o2-t2) * a_o2*(1-a_o2) * a_h2", meant="dE_dw8"),
)
"""The assignment's equations, and the three that students printed wrong."""


@dataclass(frozen=True)
class Verdict:
    """The comparison of an equation's text with the truth.

    Attributes:
      printed, right: the value by the text, and the one that autodiff or the forward pass gives.
      gradient_off: the largest error of a derivative if the forward pass used the text; 0 for a
        derivative's own equation.
      wrong: whether the text is off by more than rounding.
      fits: the quantities whose right value the text gives.
    """

    printed: float
    right: float
    gradient_off: float
    wrong: bool
    fits: tuple[str, ...]


def judge(name: str, text: str, weights: Scalars, example: Scalars) -> Verdict:
    """Evaluate an equation of the classroom network from its text and compare it with autodiff.

    Args:
      name: the quantity it is printed for, one of EQUATIONS.
      text: its right-hand side, in the names of EQUATIONS.
      weights, example: where to compare; scalars. Where a value is 0, any text with such a factor fits it.
    """

    def loss_as_printed(weights: Scalars) -> tuple[Scalar, Scalar]:
        given = named(weights, example) | dict(zip(FORWARD, forward(weights, example), strict=True))
        values = evaluate({**FORWARD, name: text}, given)
        return values["E_total"], values[name]

    gradient, printed = jax.grad(loss_as_printed, has_aux=True)(weights)
    values, autodiff = _forward_and_gradient(weights, example)
    right = dict(zip((*FORWARD, *CLOSED_FORM), (*values, *autodiff), strict=True))
    rounding = float(jnp.sqrt(jnp.finfo(printed.dtype).eps))
    fits = tuple(other for other, value in right.items() if math.isclose(printed, value, rel_tol=rounding))
    return Verdict(
        printed=float(printed),
        right=float(right[name]),
        gradient_off=max(float(abs(a - b)) for a, b in zip(gradient, autodiff, strict=True)),
        wrong=name not in fits,
        fits=fits,
    )


@jax.jit
def _forward_and_gradient(weights: Scalars, example: Scalars) -> tuple[Scalars, Scalars]:
    return forward(weights, example), jax.grad(total_error)(weights, example)


def judge_published(weights: Scalars, example: Scalars) -> dict[Published, Verdict]:
    """The verdict on each of PUBLISHED."""
    return {equation: judge(equation.name, equation.text, weights, example) for equation in PUBLISHED}
