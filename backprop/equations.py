"""Back-propagation by hand: the assignment's six major steps, as code and as text."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax

from backprop.network import Example, Scalar, Weights, forward


def by_hand(weights: Weights, example: Example) -> Weights:
    """dE_total/dw1 .. dE_total/dw8 by the chain rule, without automatic differentiation."""
    i1, i2, t1, t2 = example

    # Step 1: the forward pass.
    values = forward(weights, example)
    a_h1, a_h2, a_o1, a_o2 = values.a_h1, values.a_h2, values.a_o1, values.a_o2

    # Step 2: dE/dw5 by the chain rule.
    dE1_da_o1 = a_o1 - t1
    da_o1_do1 = a_o1 * (1 - a_o1)
    do1_dw5 = a_h1
    dE_dw5 = dE1_da_o1 * da_o1_do1 * do1_dw5

    # Step 3: the same for w6, w7 and w8.
    dE2_da_o2 = a_o2 - t2
    da_o2_do2 = a_o2 * (1 - a_o2)
    do1_dw6, do2_dw7, do2_dw8 = a_h2, a_h1, a_h2
    dE_dw6 = dE1_da_o1 * da_o1_do1 * do1_dw6
    dE_dw7 = dE2_da_o2 * da_o2_do2 * do2_dw7
    dE_dw8 = dE2_da_o2 * da_o2_do2 * do2_dw8

    # Step 4: the loss reaches each hidden activation by two routes, E1 and E2.
    do1_da_h1, do1_da_h2 = weights.w5, weights.w6
    do2_da_h1, do2_da_h2 = weights.w7, weights.w8
    dE_da_h1 = dE1_da_o1 * da_o1_do1 * do1_da_h1 + dE2_da_o2 * da_o2_do2 * do2_da_h1
    dE_da_h2 = dE1_da_o1 * da_o1_do1 * do1_da_h2 + dE2_da_o2 * da_o2_do2 * do2_da_h2

    # Step 5: from there to w1 .. w4. Step 6, the closed form, is EQUATIONS below.
    da_h1_dh1 = a_h1 * (1 - a_h1)
    da_h2_dh2 = a_h2 * (1 - a_h2)
    dh1_dw1, dh1_dw2, dh2_dw3, dh2_dw4 = i1, i2, i1, i2
    dE_dw1 = dE_da_h1 * da_h1_dh1 * dh1_dw1
    dE_dw2 = dE_da_h1 * da_h1_dh1 * dh1_dw2
    dE_dw3 = dE_da_h2 * da_h2_dh2 * dh2_dw3
    dE_dw4 = dE_da_h2 * da_h2_dh2 * dh2_dw4

    return Weights(dE_dw1, dE_dw2, dE_dw3, dE_dw4, dE_dw5, dE_dw6, dE_dw7, dE_dw8)


FORWARD = MappingProxyType(
    {
        "h1": "w1*i1 + w2*i2",
        "a_h1": "sigmoid(h1)",
        "h2": "w3*i1 + w4*i2",
        "a_h2": "sigmoid(h2)",
        "o1": "w5*a_h1 + w6*a_h2",
        "a_o1": "sigmoid(o1)",
        "o2": "w7*a_h1 + w8*a_h2",
        "a_o2": "sigmoid(o2)",
        "E1": "(t1 - a_o1)^2 / 2",
        "E2": "(t2 - a_o2)^2 / 2",
        "E_total": "E1 + E2",
    }
)

CLOSED_FORM = MappingProxyType(
    {
        "dE_dw1": "((a_o1-t1)*a_o1*(1-a_o1)*w5 + (a_o2-t2)*a_o2*(1-a_o2)*w7) * a_h1*(1-a_h1) * i1",
        "dE_dw2": "((a_o1-t1)*a_o1*(1-a_o1)*w5 + (a_o2-t2)*a_o2*(1-a_o2)*w7) * a_h1*(1-a_h1) * i2",
        "dE_dw3": "((a_o1-t1)*a_o1*(1-a_o1)*w6 + (a_o2-t2)*a_o2*(1-a_o2)*w8) * a_h2*(1-a_h2) * i1",
        "dE_dw4": "((a_o1-t1)*a_o1*(1-a_o1)*w6 + (a_o2-t2)*a_o2*(1-a_o2)*w8) * a_h2*(1-a_h2) * i2",
        "dE_dw5": "(a_o1-t1) * a_o1*(1-a_o1) * a_h1",
        "dE_dw6": "(a_o1-t1) * a_o1*(1-a_o1) * a_h2",
        "dE_dw7": "(a_o2-t2) * a_o2*(1-a_o2) * a_h1",
        "dE_dw8": "(a_o2-t2) * a_o2*(1-a_o2) * a_h2",
    }
)

EQUATIONS = MappingProxyType(FORWARD | CLOSED_FORM)
"""The columns of the assignment's spreadsheet that are computed in a row, in its order."""

STEPS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "1. The forward pass and E_total": FORWARD,
        "2. dE_total/dw5 by the chain rule": {
            "dE1_da_o1": "a_o1 - t1",
            "da_o1_do1": "a_o1 * (1 - a_o1)",
            "do1_dw5": "a_h1",
            "dE_dw5": "dE1_da_o1 * da_o1_do1 * do1_dw5",
        },
        "3. The same for w6, w7 and w8": {
            "dE_dw6": "dE1_da_o1 * da_o1_do1 * a_h2",
            "dE2_da_o2": "a_o2 - t2",
            "da_o2_do2": "a_o2 * (1 - a_o2)",
            "dE_dw7": "dE2_da_o2 * da_o2_do2 * a_h1",
            "dE_dw8": "dE2_da_o2 * da_o2_do2 * a_h2",
        },
        "4. Each hidden activation is reached by two routes, E1 and E2": {
            "dE1_da_h1": "dE1_da_o1 * da_o1_do1 * w5",
            "dE2_da_h1": "dE2_da_o2 * da_o2_do2 * w7",
            "dE_da_h1": "dE1_da_h1 + dE2_da_h1",
            "dE1_da_h2": "dE1_da_o1 * da_o1_do1 * w6",
            "dE2_da_h2": "dE2_da_o2 * da_o2_do2 * w8",
            "dE_da_h2": "dE1_da_h2 + dE2_da_h2",
        },
        "5. dE_total/dw1 .. dw4 as chains through da_h/dh and dh/dw": {
            "da_h1_dh1": "a_h1 * (1 - a_h1)",
            "dE_dw1": "dE_da_h1 * da_h1_dh1 * i1",
            "dE_dw2": "dE_da_h1 * da_h1_dh1 * i2",
            "da_h2_dh2": "a_h2 * (1 - a_h2)",
            "dE_dw3": "dE_da_h2 * da_h2_dh2 * i1",
            "dE_dw4": "dE_da_h2 * da_h2_dh2 * i2",
        },
        "6. The same, expanded into closed form": CLOSED_FORM,
    }
)
"""The six major steps, each a table of name -> right-hand side over the names before it."""


def evaluate(equations: Mapping[str, str], given: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The value of each equation, computed from its text, in order.

    Args:
      equations: name -> right-hand side; ^ is a power, sigmoid(x) the only function. Python
        evaluates the text: pass no text from outside the program.
      given: the values known beforehand; an equation may also use those before it.
    """
    values: dict[str, Any] = {"sigmoid": jax.nn.sigmoid, **given}
    for name, text in equations.items():
        values[name] = eval(text.replace("^", "**"), {"__builtins__": {}}, values)
    return {name: values[name] for name in equations}


def heading(name: str) -> str:
    """A name as people write it: dE_dw1 -> dE/dw1."""
    return name.replace("_d", "/d")
