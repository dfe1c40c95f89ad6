from decimal import Context, Decimal

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backprop.check import PUBLISHED, Published, exact_slope, gradients, judge, judge_published
from backprop.equations import EQUATIONS
from backprop.network import Example, Weights

from .test_network import CASE, START, scalars


@pytest.fixture(scope="module")
def verdicts():
    with jax.enable_x64(True):
        return judge_published(scalars(Weights, START), scalars(Example, CASE))


def test_exactly_the_three_known_documents_are_wrong(verdicts):
    wrong = {(e.document, e.name) for e, verdict in verdicts.items() if verdict.wrong}
    assert wrong == {("000", "dE_dw8"), ("002", "E2"), ("003", "dE_dw7")}
    assert len(verdicts) == len(PUBLISHED) == 13


def found(verdicts, document):
    return next(verdict for equation, verdict in verdicts.items() if equation.document == document)


def test_document_000_uses_the_other_hidden_activation(verdicts):
    verdict = found(verdicts, "000")
    a_h1, a_h2 = 0.5068745667645342, 0.5106234010049637
    assert verdict.printed / verdict.right == pytest.approx(a_h1 / a_h2, rel=1e-12)


def test_document_002_shifts_the_loss_and_its_gradient(verdicts):
    verdict = found(verdicts, "002")
    a_o1, a_o2 = 0.606477732206728, 0.6304808354506348
    assert verdict.printed == pytest.approx((0.99 - a_o1) ** 2 / 2, rel=1e-14)
    assert verdict.right == pytest.approx((0.99 - a_o2) ** 2 / 2, rel=1e-14)
    # As printed, w5 and w6 also lower E2 and w7 and w8 do nothing: w6 is off by most.
    assert verdict.gradient_off == pytest.approx(abs((a_o1 - 0.99) * a_o1 * (1 - a_o1) * 0.5106234010049637))


def test_document_003_prints_the_right_formula_under_the_wrong_label(verdicts):
    assert found(verdicts, "003").fits == ("dE_dw8",)


def test_what_was_meant_is_right_for_each_published_equation():
    with jax.enable_x64(True):
        weights, example = scalars(Weights, START), scalars(Example, CASE)
        for equation in PUBLISHED:
            assert not judge(equation.meant, EQUATIONS[equation.meant], weights, example).wrong


def test_an_equation_may_be_written_in_another_way_but_not_with_another_sign():
    with jax.enable_x64(True):
        weights, example = scalars(Weights, START), scalars(Example, CASE)
        assert not judge("E1", "0.5 * (a_o1 - t1)^2", weights, example).wrong
        assert judge("dE_dw5", "(t1 - a_o1) * a_o1*(1-a_o1) * a_h1", weights, example).wrong
        assert judge("a_h1", "sigmoid(h2)", weights, example).gradient_off > 1e-4


def test_published_equations_name_known_quantities():
    for equation in PUBLISHED:
        assert isinstance(equation, Published)
        assert {equation.name, equation.meant} <= set(EQUATIONS)


@pytest.mark.parametrize(("x64", "tolerance"), [(False, 3e-4), (True, 1e-9)])
def test_central_differences_are_near_autodiff(x64, tolerance):
    @given(st.lists(st.floats(-3, 3), min_size=12, max_size=12))
    def near(values):
        with jax.enable_x64(x64):
            weights, example = scalars(Weights, values[:8]), scalars(Example, values[8:])
            _, autodiff, finite = gradients(weights, example)
            size = 1 + max(map(abs, values)) ** 2
            np.testing.assert_allclose(np.stack(finite), np.stack(autodiff), atol=tolerance * size**2, rtol=0)

    near()


def test_central_differences_of_a_known_slope():
    with jax.enable_x64(True):
        three = gradients(scalars(Weights, START), scalars(Example, CASE))
        assert float(three.finite_difference.w5) == pytest.approx(0.07215707291213624, abs=1e-10)
        assert float(three.by_hand.w5) == pytest.approx(0.07215707291213624, rel=1e-14)


@pytest.mark.parametrize(("activation", "times"), [("sigmoid", 1), ("tanh", 2)])
def test_an_exact_slope_is_the_derivative_in_700_digits(activation, times):
    """exp rounds once; the sum, the square and the quotient round once each."""
    many = Context(prec=700)

    @given(st.floats(-350, 350))
    def agree(h):
        tail = many.exp(Decimal(-times * h))
        a = many.divide(Decimal(1), many.add(Decimal(1), tail))  # of tanh, (1 + tanh(h)) / 2
        right = many.multiply(a, many.subtract(Decimal(1), a)) * times**2
        assert exact_slope(activation, h) == pytest.approx(float(right), rel=8 * 2**-52)

    agree()
