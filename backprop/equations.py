"""Back-propagation by hand: the assignment's six major steps, as text for any network and as code."""

import ast
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from types import CodeType, MappingProxyType
from typing import Any

import jax

from backprop.network import FUNCTIONS, Example, Scalar, Scalars, Weights
from backprop.shape import CLASSROOM, Neuron, Shape


def by_hand(weights: Weights, example: Example) -> Weights:
    """The classroom network's dE_total/dw1 .. dw8 by the chain rule, without automatic differentiation."""
    w1, w2, w3, w4, w5, w6, w7, w8 = weights
    i1, i2, t1, t2 = example

    # Step 1: the forward pass. E_total = (t1 - a_o1)^2 / 2 + (t2 - a_o2)^2 / 2.
    h1 = w1 * i1 + w2 * i2
    h2 = w3 * i1 + w4 * i2
    a_h1, a_h2 = jax.nn.sigmoid(h1), jax.nn.sigmoid(h2)
    o1 = w5 * a_h1 + w6 * a_h2
    o2 = w7 * a_h1 + w8 * a_h2
    a_o1, a_o2 = jax.nn.sigmoid(o1), jax.nn.sigmoid(o2)

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
    do1_da_h1, do1_da_h2, do2_da_h1, do2_da_h2 = w5, w6, w7, w8
    dE_da_h1 = dE1_da_o1 * da_o1_do1 * do1_da_h1 + dE2_da_o2 * da_o2_do2 * do2_da_h1
    dE_da_h2 = dE1_da_o1 * da_o1_do1 * do1_da_h2 + dE2_da_o2 * da_o2_do2 * do2_da_h2

    # Step 5: from there to w1 .. w4. Step 6, the closed form, is CLOSED_FORM below.
    da_h1_dh1 = a_h1 * (1 - a_h1)
    da_h2_dh2 = a_h2 * (1 - a_h2)
    dh1_dw1, dh1_dw2, dh2_dw3, dh2_dw4 = i1, i2, i1, i2
    dE_dw1 = dE_da_h1 * da_h1_dh1 * dh1_dw1
    dE_dw2 = dE_da_h1 * da_h1_dh1 * dh1_dw2
    dE_dw3 = dE_da_h2 * da_h2_dh2 * dh2_dw3
    dE_dw4 = dE_da_h2 * da_h2_dh2 * dh2_dw4

    return Weights(dE_dw1, dE_dw2, dE_dw3, dE_dw4, dE_dw5, dE_dw6, dE_dw7, dE_dw8)


def derivatives(weights: Scalars, example: Scalars, shape: Shape = CLASSROOM) -> Scalars:
    """dE_total/dw for each weight of any network: by_hand, or steps 1 to 5 computed from their text."""
    if shape == CLASSROOM:
        found = list(by_hand(Weights(*weights), Example(*example)))
    else:
        values = named(weights, example, shape)
        for step in list(steps(shape).values())[:5]:
            values |= evaluate(step, values)
        found = [values[f"dE_d{weight}"] for weight in shape.weight_names]
    return jax.tree.unflatten(jax.tree.structure(weights), found)


def named(weights: Scalars, example: Scalars, shape: Shape = CLASSROOM) -> dict[str, Scalar]:
    """Return the values that are known before a forward pass, by name."""
    names = (*shape.weight_names, *shape.example_names)
    return dict(zip(names, (*weights, *example), strict=True))


_SLOPES = {"sigmoid": "{a} * (1 - {a})", "tanh": "(1 - {a}^2)", "relu": "({a} > 0)"}
"""The derivative of each activation function, by its value; a comparison counts as 1 or 0."""


@cache
def forward_equations(shape: Shape) -> Mapping[str, str]:
    """The equations of a forward pass: name -> right-hand side over the names before it."""
    hidden, output = shape.layers
    equations = {}
    for neuron in hidden + output:
        terms = [f"{weight}*{source}" for source, weight in neuron.incoming.items()]
        equations[neuron.name] = " + ".join(terms).removesuffix("*1")
        equations[neuron.a] = f"{shape.activation}({neuron.name})"
    *errors, total = shape.column_groups["error"]
    for error, target, neuron in zip(errors, shape.target_names, output, strict=True):
        equations[error] = f"({target} - {neuron.a})^2 / 2"
    return MappingProxyType(equations | {total: " + ".join(errors)})


@cache
def closed_form(shape: Shape) -> Mapping[str, str]:
    """Step 6: the derivative by each weight, over the names of the forward pass alone."""
    hidden, output = shape.layers
    slope = _SLOPES[shape.activation].replace(" ", "")
    equations = {}
    for neuron in hidden:
        routes = [
            f"({o.a}-{t})*{slope.format(a=o.a)}*{o.incoming[neuron.a]}"
            for o, t in zip(output, shape.target_names, strict=True)
        ]
        for source, weight in neuron.incoming.items():
            factors = [f"({' + '.join(routes)})", slope.format(a=neuron.a), source]
            equations[f"dE_d{weight}"] = " * ".join(factors)
    for o, t in zip(output, shape.target_names, strict=True):
        for source, weight in o.incoming.items():
            equations[f"dE_d{weight}"] = " * ".join([f"({o.a}-{t})", slope.format(a=o.a), source])
    return MappingProxyType(
        {name: equations[name].removesuffix(" * 1") for name in shape.column_groups["derivatives of E_total"]}
    )


@cache
def all_equations(shape: Shape) -> Mapping[str, str]:
    """The columns of the assignment's spreadsheet that are computed in a row, in its order."""
    return MappingProxyType({**forward_equations(shape), **closed_form(shape)})


@cache
def steps(shape: Shape) -> Mapping[str, Mapping[str, str]]:
    """The six major steps, each a table of name -> right-hand side over the names before it."""
    hidden, output = shape.layers
    slope = _SLOPES[shape.activation]
    numbered = list(enumerate(output, start=1))

    def to_sum(k: int, o: Neuron) -> str:
        return f"dE{k}_d{o.a} * d{o.a}_d{o.name}"

    def factors_of_to_sum(k: int, o: Neuron) -> dict[str, str]:
        return {f"dE{k}_d{o.a}": f"{o.a} - t{k}", f"d{o.a}_d{o.name}": slope.format(a=o.a)}

    source, first = next(iter(output[0].incoming.items()))
    step_2 = factors_of_to_sum(1, output[0])
    step_2[f"do1_d{first}"] = source
    step_2[f"dE_d{first}"] = f"{to_sum(1, output[0])} * do1_d{first}"

    step_3: dict[str, str] = {}
    for k, o in numbered:
        step_3 |= factors_of_to_sum(k, o) if k > 1 else {}
        step_3 |= {f"dE_d{w}": f"{to_sum(k, o)} * {x}" for x, w in o.incoming.items() if w != first}

    step_4: dict[str, str] = {}
    for h in hidden:
        routes = {f"dE{k}_d{h.a}": f"{to_sum(k, o)} * {o.incoming[h.a]}" for k, o in numbered}
        step_4 |= routes | {f"dE_d{h.a}": " + ".join(routes)}

    step_5 = {}
    for h in hidden:
        step_5[f"d{h.a}_d{h.name}"] = slope.format(a=h.a)
        step_5 |= {f"dE_d{w}": f"dE_d{h.a} * d{h.a}_d{h.name} * {x}" for x, w in h.incoming.items()}

    groups = list(shape.column_groups.values())
    to_hidden, others, errors = [f"d{w}" for w in groups[2]], groups[4][1:], groups[6][:-1]
    routes_in_words = f"{_COUNT[len(errors)]} {'route' if len(errors) == 1 else 'routes'}"
    return MappingProxyType(
        {
            "1. The forward pass and E_total": forward_equations(shape),
            f"2. dE_total/d{first} by the chain rule": step_2,
            f"3. The same for {_listed(others) or 'other weights to an output: there are none'}": step_3,
            f"4. Each hidden activation is reached by {routes_in_words}, {_listed(errors)}": step_4,
            f"5. dE_total/{_listed(to_hidden)} as chains through da_h/dh and dh/dw": step_5,
            "6. The same, expanded into closed form": closed_form(shape),
        }
    )


_COUNT = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


def _listed(names: Sequence[str]) -> str:
    """Return names as in a sentence: w6, w7 and w8; more than three of a letter as w8 .. w14; biases last."""
    parts = []
    for _, letter in groupby(names, key=lambda name: name.rstrip("0123456789")):
        *before, last = letter
        parts.append(f"{before[0]} .. {last}" if len(before) > 2 else " and ".join([", ".join(before), last]))
    return ", ".join(part.removeprefix(" and ") for part in parts)


FORWARD = forward_equations(CLASSROOM)
CLOSED_FORM = closed_form(CLASSROOM)
EQUATIONS = all_equations(CLASSROOM)
STEPS = steps(CLASSROOM)


def evaluate(equations: Mapping[str, str], given: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The value of each equation, computed from its text, in order.

    Args:
      equations: name -> right-hand side; ^ is a power, a > 0 is 1 or 0, the functions are FUNCTIONS.
      given: the values known beforehand; an equation may also use those before it.
    """
    values: dict[str, Any] = {**FUNCTIONS, **given}
    for name, text in equations.items():
        values[name] = 1.0 * compute(text, values)
    return {name: values[name] for name in equations}


_ARITHMETIC = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.Name, ast.Constant, ast.Load),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.USub, ast.Gt),
)


def compute(text: str, values: Mapping[str, Any]) -> Any:
    """An equation's value: arithmetic on values, numbers or arrays, and calls of functions among them.

    Raises:
      ValueError: the text holds anything else, such as an attribute, which could reach what is not in values.
    """
    return eval(_compiled(text), {"__builtins__": {}}, values)


@cache
def _compiled(text: str) -> CodeType:
    tree = ast.parse(text.replace("^", "**"), mode="eval")
    for node in ast.walk(tree):
        called = isinstance(node, ast.Call) and not isinstance(node.func, ast.Name)
        if called or not isinstance(node, _ARITHMETIC):
            raise ValueError(f"{text!r} holds a {type(node).__name__}, which is not arithmetic")
    return compile(tree, text, "eval")


def heading(name: str) -> str:
    """A name as people write it: dE_dw1 -> dE/dw1."""
    return name.replace("_d", "/d")
