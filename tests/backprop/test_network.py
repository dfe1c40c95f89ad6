import math

import jax
import jax.numpy as jnp
import pytest

from backprop.network import Example, Weights, forward

START = (0.15, 0.20, 0.25, 0.30, 0.40, 0.45, 0.50, 0.55)
CASE = (0.05, 0.10, 0.01, 0.99)


def scalars(kind, values):
    return kind(*map(jnp.asarray, values))


def test_the_assignments_start_gives_its_loss():
    with jax.enable_x64(True):
        values = forward(scalars(Weights, START), scalars(Example, CASE))
    s = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    a_h1, a_h2 = s(0.15 * 0.05 + 0.20 * 0.10), s(0.25 * 0.05 + 0.30 * 0.10)
    a_o1, a_o2 = s(0.40 * a_h1 + 0.45 * a_h2), s(0.50 * a_h1 + 0.55 * a_h2)
    E1, E2 = (0.01 - a_o1) ** 2 / 2, (0.99 - a_o2) ** 2 / 2
    assert float(values.a_h2) == pytest.approx(a_h2, rel=1e-15)
    assert float(values.E1) == pytest.approx(E1, rel=1e-15)
    assert float(values.E2) == pytest.approx(E2, rel=1e-15)
    assert float(values.E_total) == pytest.approx(0.24251985734837728, rel=1e-14)
