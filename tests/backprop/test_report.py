"""What a run says: where digits end, and what its rates show of the claims."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from backprop.check import gradients
from backprop.config import BackpropConfig
from backprop.descent import explore, larger_is_faster, settle
from backprop.figures import all_loss_curves
from backprop.report import claims_in_words, claims_text, precision_text, walk_through
from backprop.task import descend_from_start, start


def said(**flags):
    """The walk through the first update, and the words on precision."""
    config = BackpropConfig(**flags)
    with jax.enable_x64(config.precision == "float64"):
        weights, example = start(config)
        found = gradients(weights, example, config.shape)
        words = precision_text(weights, example, found, config.shape)
        return walk_through(weights, example, 0.5, config.shape), words.replace("\n", " ")


def test_digits_are_not_mentioned_where_all_are_there():
    walk, words = said()
    assert "Saturated" not in walk
    assert words == ""


def test_a_saturated_sigmoid_is_named_with_its_exact_slope():
    walk, words = said(inputs=(107.0, 107.0))
    lines = walk.splitlines()
    slope = next(place for place, line in enumerate(lines) if line.startswith("  da_h1/dh1"))
    assert lines[slope].endswith("= 1 * (1 - 1) = 0")
    assert lines[slope + 1].strip() == "Saturated beyond float64: the slope is 5.44e-17 (relative error 1)."
    assert "da_h1/dh1 is 5.44e-17 (relative error 1), da_h2/dh2 is 2.77e-26 (relative error 1)." in words
    assert "their agreement shows nothing" in words


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"inputs": (40.0, 40.0), "precision": "float32"}, "Saturated beyond float32"),
        ({"inputs": (107.0, 107.0), "activation": "tanh"}, "da_h1/dh1 is 1.18e-32 (relative error 1)"),
        ({"inputs": (-8000.0, 60.0)}, "da_h1/dh1 is less than 1e-323 (relative error 1)"),
        ({"weights": (0.1,) * 4 + (50.0,) * 4, "targets": (0.0, 1.0)}, "So a_o2 - t2 is computed as 0"),
        ({"inputs": (1e-9, 1.0)}, "Below the error of differences, about 4e-11: dE/dw1, dE/dw3."),
        (
            {"inputs": (1.0, 1.0), "weights": (1.0, -1.0) + (0.5,) * 6, "activation": "relu"},
            "At ReLU's kink: a_h1. The slope is 0 below it and 1 above",
        ),
    ],
)
def test_where_agreement_shows_nothing_is_said(flags, message):
    assert message in said(**flags)[1]


@pytest.mark.parametrize(
    ("losses", "answer"),
    [
        ((0.1, 0.05, 0.01), True),
        ((0.1, 0.01, 0.05), False),
        ((0.1, np.inf), False),
        ((0.1, np.nan), False),
        ((0.1,), None),
        ((0.1, 0.1), None),
        ((0.1, 0.05, 0.05), None),
        ((0.0, 0.0), None),
        ((1e-33, 3e-33), None),  # an output is off by a rounding
        ((np.inf, np.inf), None),
        ((np.nan, np.nan), None),
        ((0.5, 0.4), None),  # neither loss falls: it was 0.3
        ((0.4, 0.2), None),
    ],
)
def test_a_larger_rate_is_faster_only_if_the_losses_show_it(losses, answer):
    assert larger_is_faster(0.3, np.array(losses)) is answer
    curves = np.array([(0.3, loss) for loss in losses])
    title = all_loss_curves(tuple(map(float, range(1, len(losses) + 1))), curves).axes[0].get_title()
    assert ("the faster" in title) == (answer is True)
    assert ("Of these" in title) == (
        len(losses) > 1 and np.nanmin([1.0, *losses]) < 0.3 and answer is not True
    )


def claims(rates=(1e-3, 1e4), **flags):
    """The answers of a small run, and its words."""
    config = BackpropConfig(**{"epochs": 20, "frontier_epochs": 200} | flags)
    with jax.enable_x64(config.precision == "float64"):
        losses = descend_from_start(config)[:, :, config.shape.columns.index("E_total")]
        lrs = jnp.geomspace(*rates, 64)
        frontier = explore(lrs, *start(config), config.frontier_epochs, config.shape)
        words = claims_in_words(config.lrs, losses, frontier, settle(frontier), config.shape)
    return [claim["holds"] for claim in words], " ".join(claims_text(words).split())


@pytest.mark.parametrize(
    ("flags", "answers", "evidence"),
    [
        ({}, [True, False, True], "the outputs are saturated"),
        ({"lrs": (0.5,)}, [None, False, True], "Not shown. One rate cannot be compared: give --lrs two or"),
        ({"epochs": 1}, [True, False, True], "After 1 epoch the loss is"),
        ({"rates": (1e-3, 1.0)}, [True, True, None], "The largest rate tried, 1, ends lowest: raise"),
        ({"rates": (1e3, 1e4)}, [True, None, None], "All smaller rates stall or oscillate, too"),
        (
            {"rates": (1e-12, 1e-11), "precision": "float32", "frontier_epochs": 1},
            [True, None, None],
            "With 64 rates from 1e-12 to 1e-11 the loss after 1 epoch shows none to be faster",
        ),
        (  # by symmetry, no weight ever moves
            {"weights": (0.0,) * 8, "activation": "tanh"},
            [None, None, None],
            "The loss does not fall with any of them.",
        ),
        ({"rates": (1e-3, 1e4), "lrs": (0.1, 0.1 + 1e-12)}, [None, False, True], "Some end alike"),
    ],
)
def test_a_claim_is_answered_by_what_the_rates_show(flags, answers, evidence):
    holds, words = claims(**flags)
    assert holds == answers
    assert evidence in words
    assert words.count("Not shown.") == answers.count(None)
