import numpy as np
import pytest

from audit.spreadsheet.arithmetic import Columns, bounded, names_in, shortest, with_neighbours


def columns(rounding, **values):
    arrays = {name: np.array([value]) for name, value in values.items()}
    return Columns(arrays, {name: np.array([rounding]) for name in values})


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("w1*i1+w2*i2", {"w1": 0.15, "i1": 0.05, "w2": -2.0, "i2": 0.1}),
        ("sigmoid(h1)", {"h1": 1.5}),
        ("(t1-a_o1)^2/2", {"t1": 0.01, "a_o1": 0.75}),
        ("(t1-a_o1)^2/2", {"t1": 0.5, "a_o1": 0.5}),  # no slope there, and yet rounding moves it
    ],
)
def test_the_bound_holds_every_input_within_its_rounding(text, values):
    exact, bound = bounded(text, columns(1e-3, **values))
    ways = np.random.default_rng(0).uniform(-5e-4, 5e-4, (200, len(values)))
    moved = [
        bounded(text, columns(0.0, **dict(zip(values, np.add(list(values.values()), way), strict=True))))[0]
        for way in ways
    ]
    off = np.abs(np.array(moved) - exact)
    assert off.max() <= bound
    assert bound <= 20 * off.max()


def test_exact_inputs_leave_only_float64s_own_error():
    _, bound = bounded("a_o1-t1", columns(0.0, a_o1=0.9900001, t1=0.99))
    assert 0 < bound < 1e-14


def test_a_sigmoid_that_overflows_is_0():
    value, bound = bounded("sigmoid(h1)", columns(0.0, h1=-1e4))
    assert (value, bound) == (0, 0)


def test_neighbours_are_the_rows_above_and_below():
    around = with_neighbours(Columns({"w1": np.arange(3.0)}, {"w1": np.zeros(3)}), ["w1"]).values
    np.testing.assert_array_equal(around["prev_w1"], [np.nan, 0, 1])
    np.testing.assert_array_equal(around["next_w1"], [1, 2, np.nan])


def test_names_in_an_equation():
    assert names_in("sigmoid(h1)*prev_w1 - 2.5*h1") == ["h1", "prev_w1"]


@pytest.mark.parametrize(
    ("value", "spread", "short"),
    [(0.4999, 1e-3, 0.5), (0.37, 1e-9, 0.37), (0.37, 0.05, 0.4), (200.3, 1.0, 200.0)],
)
def test_the_number_with_the_fewest_digits(value, spread, short):
    assert shortest(value, spread) == short
