import jax.numpy as jnp
import pytest

from backprop.equations import EQUATIONS, FORWARD, STEPS, compute, evaluate, heading


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
