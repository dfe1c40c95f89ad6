"""The walk through an update, without a browser: the same numbers as --task=backprop."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from backprop.config import BackpropConfig
from backprop.descent import COLUMNS, descend_each, table
from backprop.network import Example, Weights, total_error

pytest.importorskip("gradio", reason="the extra demo is not installed")

from demo import network_tab

SETTINGS = (2.0, 0.3, 0.7)  # eta, i1, i2


def descended(updates):
    """Weights and loss after each update, by --task=backprop's descent."""
    with jax.enable_x64(True):
        config = BackpropConfig(inputs=SETTINGS[1:])
        weights = Weights(*map(jnp.asarray, config.weights))
        example = Example(*map(jnp.asarray, (*config.inputs, *config.targets)))
        rows = table(descend_each(jnp.asarray([SETTINGS[0]]), weights, example, updates), example)[0]
    return rows[:, [COLUMNS.index(w) for w in Weights._fields]], rows[:, COLUMNS.index("E_total")]


@pytest.mark.parametrize("stepwise", [True, False])
def test_updates_are_those_of_the_descent(stepwise):
    walk = network_tab.begin(*SETTINGS[1:])
    if stepwise:
        for _ in range(7 * 20 + 1):
            walk = network_tab.step(walk, *SETTINGS)
        assert walk.shown == 1
    else:
        for _ in range(2):
            walk = network_tab.ten_updates(walk, *SETTINGS)
    weights, losses = descended(20)
    np.testing.assert_allclose(walk.weights, weights[20], rtol=1e-13)
    np.testing.assert_allclose(walk.losses, losses, rtol=1e-12)


def test_ten_updates_follow_the_one_that_is_shown():
    walk = network_tab.begin(*SETTINGS[1:])
    for _ in range(7):
        walk = network_tab.step(walk, *SETTINGS)
    assert len(walk.losses) == 1, "the update is shown, not yet made: eta may still change"
    assert len(network_tab.ten_updates(walk, *SETTINGS).losses) == 12


def test_every_step_shows_its_equations_and_the_update_jax_grad_gives():
    walk = network_tab.begin(*SETTINGS[1:])
    titles = []
    for _ in range(7):
        walk = network_tab.step(walk, *SETTINGS)
        drawing, equations, _ = network_tab.show(walk, *SETTINGS)
        titles.append(re.search(r"<h3>(.*?)</h3>", equations).group(1))
    assert [title[:17] for title in titles[:6]] == [f"Update 1. Step {n}." for n in range(1, 7)]
    assert titles[6].startswith("Update 1. The update")
    with jax.enable_x64(True):
        weights = Weights(*map(jnp.asarray, walk.weights))
        example = Example(*map(jnp.asarray, (*SETTINGS[1:], 0.01, 0.99)))
        gradient = jax.grad(total_error)(weights, example)
        for name, w, slope in zip(Weights._fields, weights, gradient, strict=True):
            assert f"<b>{name}</b>" in equations
            assert f"<span>= {w - SETTINGS[0] * slope:.6g}</span>" in equations
            assert f">{name} {w - SETTINGS[0] * slope:.4g}<" in drawing
            assert f">{slope:.3g}<" in drawing


def test_the_drawing_shows_only_what_the_steps_so_far_computed():
    walk = network_tab.begin(*SETTINGS[1:])
    shown = []
    for _ in range(7):
        shown.append(network_tab.show(walk, *SETTINGS)[0])
        walk = network_tab.step(walk, *SETTINGS)
    assert ["E_total" in drawing for drawing in shown] == [False] + 6 * [True]
    assert ["dE/da_h1" in drawing for drawing in shown] == 4 * [False] + 3 * [True]
    # By step: derivatives on the edges, those of w5, then w6 to w8, then w1 to w4.
    assert [len(re.findall(r"edge[ a-z]* backward|edge backward", drawing)) for drawing in shown] == [
        *(0, 0, 1, 4, 4, 8, 8)
    ]


def test_a_step_names_a_sigmoid_whose_slope_has_no_digits_left():
    settings = (0.5, 107.0, 107.0)
    walk, texts = network_tab.begin(*settings[1:]), []
    for _ in range(7):
        walk = network_tab.step(walk, *settings)
        texts.append(network_tab.show(walk, *settings)[1])
    told = "<p>Saturated beyond float64: the slope is 5.44e-17 (relative error 1).</p>"
    assert [told in text for text in texts] == [False, False, False, False, True, False, False]
