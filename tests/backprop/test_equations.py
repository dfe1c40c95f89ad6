import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example as also
from hypothesis import given
from hypothesis import strategies as st

from backprop.equations import CLOSED_FORM, EQUATIONS, FORWARD, STEPS, by_hand, compute, evaluate, heading
from backprop.network import Example, Weights, forward, total_error

from .test_network import CASE, START, scalars

moderate = st.floats(-3, 3)
numbers = st.lists(moderate, min_size=12, max_size=12)


def from_numbers(values):
    return scalars(Weights, values[:8]), scalars(Example, values[8:])


autodiff = jax.jit(jax.grad(total_error))
hand = jax.jit(by_hand)


@jax.jit
def from_text(weights, example):
    return evaluate(EQUATIONS, {**weights._asdict(), **example._asdict()})


@jax.jit
def from_steps(weights, example):
    values = {**weights._asdict(), **example._asdict()}
    chains = {}
    for equations in STEPS.values():
        if equations is not CLOSED_FORM:
            values |= evaluate(equations, values)
            chains |= {name: values[name] for name in equations}
    return chains


@jax.jit
def scale(weights, example):
    """The size of the terms each derivative is a sum of: rounding is relative to them."""
    values = forward(weights, example)
    route1 = jnp.abs(values.a_o1 - example.t1) * values.a_o1 * (1 - values.a_o1)
    route2 = jnp.abs(values.a_o2 - example.t2) * values.a_o2 * (1 - values.a_o2)
    hidden1 = route1 * jnp.abs(weights.w5) + route2 * jnp.abs(weights.w7)
    hidden2 = route1 * jnp.abs(weights.w6) + route2 * jnp.abs(weights.w8)
    i1, i2 = jnp.abs(example.i1), jnp.abs(example.i2)
    return Weights(hidden1 * i1, hidden1 * i2, hidden2 * i1, hidden2 * i2, route1, route1, route2, route2)


def assert_same(found, right, scales, eps):
    for name, a, b, size in zip(Weights._fields, found, right, scales, strict=True):
        assert abs(float(a) - float(b)) <= 8 * eps * float(size) + 1e-37, (name, float(a), float(b))


@pytest.mark.parametrize("x64", [False, True])
def test_by_hand_the_texts_and_autodiff_agree(x64):
    @given(numbers)
    @also([*START, *CASE])
    def agree(values):
        with jax.enable_x64(x64):
            weights, example = from_numbers(values)
            eps = float(jnp.finfo(weights.w1.dtype).eps)
            right, scales = autodiff(weights, example), scale(weights, example)
            text, steps = from_text(weights, example), from_steps(weights, example)
            assert_same(hand(weights, example), right, scales, eps)
            assert_same([text[name] for name in CLOSED_FORM], right, scales, eps)
            assert_same([steps[name] for name in CLOSED_FORM], right, scales, eps)
            for name, value in forward(weights, example)._asdict().items():
                np.testing.assert_allclose(float(text[name]), float(value), rtol=8 * eps, atol=8 * eps)

    agree()


@pytest.mark.parametrize("x64", [False, True])
def test_by_hand_stays_finite_where_neurons_saturate(x64):
    @given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=12, max_size=12))
    def finite(values):
        with jax.enable_x64(x64):
            assert np.isfinite([float(value) for value in hand(*from_numbers(values))]).all()

    finite()


def test_equations_are_the_computed_columns_in_order():
    assert tuple(FORWARD) == ("h1", "a_h1", "h2", "a_h2", "o1", "a_o1", "o2", "a_o2", "E1", "E2", "E_total")
    assert tuple(EQUATIONS) == (*FORWARD, *(f"dE_dw{n}" for n in range(1, 9)))
    assert [step[0] for step in STEPS] == list("123456")


def test_evaluate_reaches_nothing_but_the_names_given():
    with pytest.raises(NameError):
        evaluate({"x": "abs(w1)"}, {"w1": jnp.ones(())})


def test_headings_are_written_as_people_write_them():
    assert heading("dE_dw1") == "dE/dw1"
    assert heading("da_o1_do1") == "da_o1/do1"
    assert heading("E_total") == "E_total"


@pytest.mark.parametrize(
    "text",
    [
        "().__class__",
        "w1.real",
        "[w1][0]",
        "(lambda: 1)()",
        "sigmoid(w1)(2)",
        "'a'*9 if w1 else 2",
        "[x for x in w1]",
        "w1 := 2",
    ],
)
def test_what_is_not_arithmetic_is_not_computed(text):
    with pytest.raises((ValueError, SyntaxError)):
        compute(text, {"w1": 1.0, "sigmoid": abs})


def test_arithmetic_is_computed():
    assert compute("-w1^2*(3 - 1)/4 + (w1 > 0)", {"w1": 2.0}) == -1.0
