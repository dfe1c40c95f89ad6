import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from backprop.descent import COLUMNS, TOLERANCE, descend_each, explore, loss_range, settle, table
from backprop.network import Example, Weights
from backprop.shape import Shape

from .test_network import CASE, START, scalars

LRS = (0.1, 0.2, 0.5, 0.8, 1.0, 2.0)


def spreadsheet(lr, weights, example, epochs):
    """The assignment's arithmetic in plain Python, one row after another."""
    i1, i2, t1, t2 = example
    w1, w2, w3, w4, w5, w6, w7, w8 = weights
    rows = []
    for _ in range(epochs + 1):
        h1, h2 = w1 * i1 + w2 * i2, w3 * i1 + w4 * i2
        a_h1, a_h2 = 1 / (1 + math.exp(-h1)), 1 / (1 + math.exp(-h2))
        o1, o2 = w5 * a_h1 + w6 * a_h2, w7 * a_h1 + w8 * a_h2
        a_o1, a_o2 = 1 / (1 + math.exp(-o1)), 1 / (1 + math.exp(-o2))
        E1, E2 = (t1 - a_o1) ** 2 / 2, (t2 - a_o2) ** 2 / 2
        d1, d2 = (a_o1 - t1) * a_o1 * (1 - a_o1), (a_o2 - t2) * a_o2 * (1 - a_o2)
        s1, s2 = (d1 * w5 + d2 * w7) * a_h1 * (1 - a_h1), (d1 * w6 + d2 * w8) * a_h2 * (1 - a_h2)
        slopes = (s1 * i1, s1 * i2, s2 * i1, s2 * i2, d1 * a_h1, d1 * a_h2, d2 * a_h1, d2 * a_h2)
        rows.append(
            [
                *(t1, t2, i1, i2, w1, w2, w3, w4, h1, a_h1, h2, a_h2, w5, w6, w7, w8),
                *(o1, a_o1, o2, a_o2, E1, E2, E1 + E2, *slopes),
            ]
        )
        w1, w2, w3, w4, w5, w6, w7, w8 = (
            w - lr * slope for w, slope in zip((w1, w2, w3, w4, w5, w6, w7, w8), slopes, strict=True)
        )
    return np.array(rows)


def descents(lrs, weights, case, epochs):
    example = scalars(Example, case)
    return table(descend_each(jnp.asarray(lrs), scalars(Weights, weights), example, epochs), example)


def test_float64_reproduces_a_spreadsheets_arithmetic():
    with jax.enable_x64(True):
        found = descents(LRS, START, CASE, 100)
    assert found.shape == (6, 101, len(COLUMNS)) == (6, 101, 31)
    for lr, rows in zip(LRS, found, strict=True):
        np.testing.assert_allclose(rows, spreadsheet(lr, START, CASE, 100), rtol=0, atol=1e-13)


def test_float32_follows_float64():
    single = descents(LRS, START, CASE, 100)
    assert single.dtype == np.float32
    for lr, rows in zip(LRS, single, strict=True):
        np.testing.assert_allclose(rows, spreadsheet(lr, START, CASE, 100), rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def frontier():
    with jax.enable_x64(True):
        lrs = jnp.geomspace(1e-3, 1e4, 4096)
        return explore(lrs, scalars(Weights, START), scalars(Example, CASE), 1000)


def test_the_frontier_ends_where_the_descent_ends(frontier):
    for place in (0, 1000, 2600, 3000, 4095):
        rows = spreadsheet(frontier.lrs[place], START, CASE, 1000)
        loss = rows[:, COLUMNS.index("E_total")]
        assert frontier.ending.loss[place] == pytest.approx(loss[-1], rel=1e-6, abs=1e-14)
        assert frontier.ending.gradient[place] == pytest.approx(
            np.linalg.norm(rows[-1, -8:]), rel=1e-6, abs=1e-14
        )
        reached = np.flatnonzero(loss <= TOLERANCE)
        assert frontier.ending.epochs_to_tolerance[place] == (reached[0] if reached.size else -1)
        rises = np.flatnonzero(np.diff(loss) > 1e-16) + 1
        assert frontier.ending.last_rise[place] == (rises[-1] if rises.size else 0)


def test_the_claims_on_the_assignments_start(frontier):
    claims = settle(frontier)
    assert claims.falls_up_to_rate == claims.best_rate == pytest.approx(67.3, rel=0.005)
    assert claims.best_loss == pytest.approx(4.15e-9, rel=0.01)
    assert claims.converged_from == pytest.approx(11.53, rel=0.005)
    assert claims.converged_to == pytest.approx(90.73, rel=0.005)
    assert claims.fewest_epochs == 112
    assert claims.failing_from == claims.failing_always_from == pytest.approx(181.9, rel=0.005)
    assert set(claims.outcomes) == {"still falling", "converged", "stalled"}
    assert sum(claims.outcomes.values()) == 4096
    assert claims.failing == claims.outcomes["stalled"] == (frontier.lrs >= claims.failing_from).sum()


def test_float32_tells_the_same_story(frontier):
    single = explore(jnp.geomspace(1e-3, 1e4, 4096), scalars(Weights, START), scalars(Example, CASE), 1000)
    assert single.ending.loss.dtype == np.float32
    assert (single.outcome == frontier.outcome).mean() > 0.999
    assert settle(single).best_rate == pytest.approx(settle(frontier).best_rate, rel=0.01)
    # Not the same: where the loss is near its smallest, rounding ends the strict fall some rates earlier.
    assert 60 < settle(single).falls_up_to_rate <= settle(frontier).best_rate * 1.001


@pytest.mark.parametrize(
    ("case", "weights", "lr", "outcome"),
    [
        ((0.05, 0.1, 0.5, 0.5), START, 10.0, "converged"),
        ((0.05, 0.1, 0.5, 0.5), START, 2000.0, "stalled"),
        ((0.05, 0.1, 0.5, 0.5), START, 1e-3, "still falling"),
        ((1.0, 1.0, 0.3, 0.6), (1.0,) * 8, 75.0, "oscillating"),
        ((0.05, 0.1, 0.0, 1.0), START, 1e4, "converged"),  # saturated, and right to be
        ((0.05, 0.1, 2.0, 0.5), START, 200.0, "converged"),  # to the smallest loss possible, 0.5
    ],
)
def test_outcomes(case, weights, lr, outcome):
    with jax.enable_x64(True):
        found = explore(jnp.asarray([lr]), scalars(Weights, weights), scalars(Example, case), 1000)
        assert found.outcome.tolist() == [outcome]


def test_a_frontier_in_which_nothing_fails():
    with jax.enable_x64(True):
        lrs = jnp.geomspace(0.1, 1.0, 8)
        claims = settle(explore(lrs, scalars(Weights, START), scalars(Example, CASE), 10))
    assert claims.falls_up_to_rate == claims.best_rate == 1.0
    assert (claims.failing, claims.failing_from, claims.failing_always_from) == (0, None, None)
    assert (claims.converged_from, claims.fewest_epochs, claims.fewest_epochs_rate) == (None, None, None)


def test_more_rates_than_fit_at_once_come_out_in_order(monkeypatch):
    with jax.enable_x64(True):
        lrs = jnp.geomspace(1e-3, 1e4, 1003)
        weights, example = scalars(Weights, START), scalars(Example, CASE)
        whole = explore(lrs, weights, example, 20)
        monkeypatch.setattr("backprop.descent._RATES_AT_ONCE", 100)
        jax.clear_caches()
        parts = explore(lrs, weights, example, 20)
    np.testing.assert_allclose(parts.ending.loss, whole.ending.loss, rtol=1e-12)


def test_the_range_of_the_loss():
    smallest, largest = loss_range(scalars(Example, (0.0, 0.0, 2.0, 0.25)))
    assert float(smallest) == 0.5
    assert float(largest) == (4 + 0.75**2) / 2


def test_the_range_of_the_loss_of_other_activations():
    with jax.enable_x64(True):
        case = scalars(Example, (0.5, 0.0, 2.0, -0.25))
        ranges = {
            shape.activation: tuple(map(float, loss_range(case, shape)))
            for shape in (Shape(activation="tanh"), Shape(activation="relu"))
        }
        assert ranges == {"tanh": (0.5, (9 + 1.25**2) / 2), "relu": (0.25**2 / 2, math.inf)}
        silent = scalars(Example, (0.0, 0.0, 2.0, -0.25))  # the outputs are 0 whatever the weights
        for activation in ("tanh", "relu"):
            assert tuple(map(float, loss_range(silent, Shape(activation=activation)))) == (2.03125, 2.03125)
            biased = loss_range(silent, Shape(activation=activation, biases=True))
            assert float(biased[0]) == ranges[activation][0]


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize(("lr", "outcome"), [(0.5, "converged"), (1e-4, "still falling"), (1e5, "stalled")])
def test_outcomes_of_other_activations(activation, lr, outcome):
    with jax.enable_x64(True):
        weights, example = scalars(Weights, START), scalars(Example, (0.5, 1.0, 0.3, 0.6))
        found = explore(jnp.asarray([lr]), weights, example, 1000, Shape(activation=activation))
        assert found.outcome.tolist() == [outcome]


def test_an_overflow_is_a_divergence():
    shape = Shape(activation="relu")
    found = explore(  # float32
        jnp.asarray([1e-9, 1e12]), scalars(Weights, START), scalars(Example, (1e5, 1e5, 1e6, 1e6)), 20, shape
    )
    assert found.outcome[1] == "diverged"
    assert found.ending.loss[1] == math.inf
    claims = settle(found)
    assert (claims.best_rate, claims.failing, claims.largest_loss) == (pytest.approx(1e-9), 1, None)
