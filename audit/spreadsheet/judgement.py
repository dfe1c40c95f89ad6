"""Formulas judged as functions: right or wrong whatever their digits, and why where they are wrong."""

import functools
from collections.abc import Iterator
from itertools import islice, product
from typing import NamedTuple

import numpy as np

from audit.spreadsheet.formulas import Node, Place, Tree, nodes
from audit.spreadsheet.mistakes import alternatives
from audit.spreadsheet.points import Points, agree
from audit.spreadsheet.quantities import Quantities
from audit.spreadsheet.repairs import cause
from audit.spreadsheet.tables import Table

_MOST_READINGS = 300


class Judgement(NamedTuple):
    """A formula's meaning, and whether it computes what its column should hold."""

    tree: Tree
    right: bool


class Judge:
    """Judges the formulas of one table; each meaning once.

    quantities reads formulas, helpers as well, but with cells outside the columns as quantities of their own;
    anywhere are the points at which formulas are compared.
    """

    def __init__(self, table: Table, eta: float, places: list[Place], known: dict[str, float]):
        """Prepare, with the learning rate, the cells that hold it, and what is given by its name."""
        network = table.network
        self._network = network
        self.eta = eta
        self.quantities = Quantities(table, places)
        self.helpers = Quantities(table, places, keep_helpers=True)
        self.anywhere = Points(network, {name: known[name] for name in network.biases if name in known})
        self._known = known | ({"eta": eta} if np.isfinite(eta) else {})
        self._judge = functools.cache(self._judge)  # type: ignore[method-assign]
        self.why = functools.cache(self.why)  # type: ignore[method-assign]

    def of(self, name: str, row: int) -> Judgement | None:
        """The judgement of a cell; None for a constant or a formula not known here."""
        if name not in (self._network.weights if row else ()) and name not in self._network.equations:
            return None
        tree = self.quantities.meaning(name, row)
        return None if tree is None else self._judge(name, tree)

    def _judge(self, name: str, tree: Tree) -> Judgement | None:
        values = self.anywhere.of_tree(tree)
        if values is None:
            return None
        right = self.anywhere.right(self._network, name)
        readings = (self.anywhere.of_tree(reading) for reading in self._readings(tree))
        return Judgement(tree, agree(values, right) or any(agree(reading, right) for reading in readings))

    def why(self, name: str, tree: Tree) -> str | None:
        """The cause of a wrong formula, in words; None where none is known."""
        known = [(words, self.anywhere.of_text(text)) for words, text in alternatives(name, self._network)]
        readings = [tree, *islice(self._readings(tree), 20)]
        for reading in readings:
            values = self.anywhere.of_tree(reading)
            for words, wrong in known:
                if agree(values, wrong) and np.ptp(wrong) > 0:
                    return words
        right = self.anywhere.right(self._network, name)
        points = self.anywhere
        found = (cause(each, name, self._network, points, self.eta, right) for each in readings[:4])
        return next(filter(None, found), None)

    def _readings(self, tree: Tree) -> Iterator[Tree]:
        """The formula with inputs, targets and eta in place of numbers that are theirs."""
        numbers = [part for part in nodes(tree) if isinstance(part, float)]
        meant = {number: self._names_of(number) for number in numbers}
        places = [number for number in numbers if len(meant[number]) > 1]
        for names in islice(product(*(meant[number] for number in places)), 1, _MOST_READINGS):
            yield _with_numbers(tree, meant, iter(names))

    def _names_of(self, number: float) -> list[Tree]:
        same = [name for name, known in self._known.items() if known == number]
        names = [name for name in same if name not in self._network.biases]
        return [number, *sorted(names, key=lambda name: name != "eta")]


def _with_numbers(tree: Tree, meant: dict[float, list[Tree]], names: Iterator[Tree]) -> Tree:
    """A tree with the next of the names in place of each number that may mean several things."""
    if isinstance(tree, float):
        return next(names) if len(meant[tree]) > 1 else tree
    if isinstance(tree, Node):
        return Node(tree.operation, tuple(_with_numbers(part, meant, names) for part in tree.parts))
    return tree
