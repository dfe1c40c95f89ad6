"""Equations over whole columns, and how far digits that were rounded away can move a result."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from backprop import equations

Column = Float[np.ndarray, "row"]

_EPS = float(np.finfo(np.float64).eps)
_STEP = 1e-6  # the smallest step, relative: a smaller one drowns in float64's own error


class Columns(NamedTuple):
    """The columns of a table by name, and for each number how far it may be from the exact one."""

    values: dict[str, Column]
    rounding: dict[str, Column]


FUNCTIONS = {"sigmoid": lambda x: 1 / (1 + np.exp(-x)), "tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}


def names_in(text: str) -> list[str]:
    """The columns that an equation refers to."""
    return list(dict.fromkeys(name for name in re.findall(r"\b[a-zA-Z_]\w*", text) if name not in FUNCTIONS))


def compute(text: str, values: Mapping[str, Column]) -> Column:
    """An equation's value in each row; not a finite number where it overflows."""
    with np.errstate(all="ignore"):
        return 1.0 * equations.compute(text, {**values, **FUNCTIONS})


def bounded(text: str, columns: Columns) -> tuple[Column, Column]:
    """An equation's value in each row, and how far the inputs' rounding, or float64's, can move it.

    Summed over the inputs, that covers cancellation, such as in a_o1 - t1.
    """
    values, rounding = columns
    result = compute(text, values)
    bound = 8 * _EPS * np.abs(result)
    for name in names_in(text):
        x = values[name]
        step = np.maximum(rounding[name], np.maximum(_STEP * np.abs(x), 1e-12))
        up, down = (np.abs(compute(text, {**values, name: x + way * step}) - result) for way in (1, -1))
        bound = bound + np.maximum(up, down) / step * np.maximum(rounding[name], 4 * _EPS * np.abs(x))
    return result, bound


def with_neighbours(columns: Columns, names: Iterable[str]) -> Columns:
    """The same, with prev_NAME for the row above and next_NAME for the row below; NaN outside."""
    values, rounding = dict(columns.values), dict(columns.rounding)
    for name in names:
        for table in (values, rounding):
            table[f"prev_{name}"] = np.concatenate([[np.nan], table[name][:-1]])
            table[f"next_{name}"] = np.concatenate([table[name][1:], [np.nan]])
    return Columns(values, rounding)


def shortest(value: float, spread: float) -> float:
    """The number with the fewest digits that is no further than spread from a value."""
    rounded = (float(f"{value:.{digits}g}") for digits in range(1, 16))
    return next((short for short in rounded if abs(short - value) <= spread), value)
