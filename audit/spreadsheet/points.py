"""Random points at which formulas are compared as functions, whatever their digits."""

import zlib
from collections.abc import Mapping

import numpy as np

from audit.spreadsheet.arithmetic import compute
from audit.spreadsheet.formulas import Tree, UnknownFormula, value
from audit.spreadsheet.network import UPDATE, Network

Values = np.ndarray

_POINTS = 16
_NEAR = 1e-9  # relative; float64 is better by far, e typed with 10 digits is not


class Points(dict[str, Values]):
    """Values of a network's quantities, shape [point], in three rows of a right descent.

    Names are those of quantities.py. What stands in another row, such as h1@12, has values of its own.
    """

    def __init__(self, network: Network, known: Mapping[str, float]):
        """Draw them; known quantities, such as the table's biases, have one value at all points."""
        super().__init__()
        self.network = network
        for name in (*network.given, *network.weights, "eta"):
            self[name] = np.full(_POINTS, known[name]) if name in known else _drawn(name)
        constant = (*network.given, "eta")
        row = {name: self[name] for name in (*constant, *network.weights)}
        for shift in ("prev_", "", "next_"):
            for name, text in network.equations.items():
                row[name] = compute(text, row)
            self.update({shift + name: values for name, values in row.items()})
            row |= {w: row[w] - row["eta"] * row[f"dE_d{w}"] for w in network.weights}

    def __missing__(self, name: str) -> Values:
        if "@" not in name and ":" not in name:
            raise KeyError(name)
        self[name] = _drawn(name)
        return self[name]

    def of_text(self, text: str) -> Values:
        """An equation's values."""
        return np.broadcast_to(compute(text, self), (_POINTS,))

    def of_tree(self, tree: Tree | None) -> Values | None:
        """A formula's values, None where it cannot be computed or is none."""
        if tree is None:
            return None
        try:
            with np.errstate(all="ignore"):
                return np.broadcast_to(np.asarray(value(tree, self), float), (_POINTS,))
        except UnknownFormula:
            return None

    def right(self, network: Network, name: str) -> Values:
        """What a column should hold."""
        return self.of_text(UPDATE.format(w=name) if name in network.weights else network.equations[name])


def agree(one: Values | None, other: Values | None) -> bool:
    """Whether two functions have the same values."""
    if one is None or other is None:
        return False
    with np.errstate(all="ignore"):
        known = np.isfinite(one) & np.isfinite(other)
        near = np.abs(one - other) <= _NEAR * (np.abs(one) + np.abs(other)) + 1e-14
    return bool(
        2 * known.sum() > _POINTS and near[known].all() and np.array_equal(np.isnan(one), np.isnan(other))
    )


def _drawn(name: str) -> Values:
    """The same numbers for a name each time, away from 0 and from each other."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    sign = random.choice([-1.0, 1.0], _POINTS) if name[0] in "wbi" else 1.0
    return sign * random.uniform(0.2, 1.6, _POINTS)
