"""What is wrong in a formula: the smallest change that makes it right, in words.

A formula is changed in one place or two until it is the right function: another quantity, another
operator or factor. So the cause is found in the formula itself, however it is written.
"""

import re
from collections.abc import Iterator
from itertools import combinations, islice
from typing import NamedTuple

import numpy as np

from audit.spreadsheet.arithmetic import names_in
from audit.spreadsheet.formulas import Node, Tree, nodes, replaced, symbols, written
from audit.spreadsheet.mistakes import ROUTES
from audit.spreadsheet.network import UPDATE, Network
from audit.spreadsheet.points import Points, Values, agree
from backprop.equations import heading

_MOST_CHANGES = 400  # tried alone
_MOST_PAIRS = 4000


class Change(NamedTuple):
    """A formula with one change; the words say what was done in the formula as it stands."""

    words: str
    tree: Tree


def cause(tree: Tree, name: str, network: Network, points: Points, eta: float, right: Values) -> str | None:
    """What makes the formula of a column differ from the right one; None where no small change mends it."""
    for words, changed in islice(_changes(tree, network, eta), _MOST_CHANGES):
        if agree(points.of_tree(changed), right):
            return _in_words(words, name)
    if factor := _factor(tree, points, right):
        return factor
    for words, changed in islice(_pairs(tree, name, network), _MOST_PAIRS):
        if agree(points.of_tree(changed), right):
            return _in_words(words, name)
    return None


def _in_words(words: str, name: str) -> str:
    return words if name.startswith("dE_d") else words.replace(" route", " term")


def _changes(tree: Tree, network: Network, eta: float) -> Iterator[Change]:
    yield from _swaps(tree)
    yield from _quantities(tree, network, symbols(tree))
    yield from _operators(tree)
    yield from _numbers(tree, network, eta)


def _pairs(tree: Tree, name: str, network: Network) -> Iterator[Change]:
    """Two changes: of operators and quantities that the right formula does not have, first."""
    wanted = set(names_in(UPDATE.format(w=name) if name in network.weights else network.equations[name]))

    def foreign(of: Tree) -> list[str]:
        return [symbol for symbol in symbols(of) if symbol not in wanted]

    for first in (*_operators(tree), *_quantities(tree, network, foreign(tree))):
        for second in _quantities(first.tree, network, foreign(first.tree) or symbols(first.tree), few=True):
            words = (first.words, second.words) if second.words not in first.words else (first.words,)
            yield Change(", and ".join(words), second.tree)


def _quantities(tree: Tree, network: Network, which: list[str], *, few: bool = False) -> Iterator[Change]:
    """Another quantity: everywhere, then in one place."""
    places = list(_places(tree))
    for found in which:
        at = [path for path, part in places if part == found]
        for wanted in _near(found, network, few=few):
            words = f"{shown(found)} was used instead of {shown(wanted)}"
            yield Change(f"{words}{_route(tree, at)}", replaced(tree, found, wanted))
            for path in at if len(at) > 1 else ():
                where = _route(tree, [path]) or " in one place"
                yield Change(f"{words}{where}", _put(tree, path, wanted))


def _swaps(tree: Tree) -> Iterator[Change]:
    """Two quantities of a kind in each other's place, inputs and targets first."""
    found = sorted(symbol for symbol in symbols(tree) if re.fullmatch(r"(prev_|next_)?\w*[a-z]\d+", symbol))
    kinds = {symbol: re.sub(r"\d+$", "", symbol) for symbol in found}
    pairs = (pair for pair in combinations(found, 2) if kinds[pair[0]] == kinds[pair[1]])
    for one, other in sorted(pairs, key=lambda pair: pair[0][0] not in "it"):
        changed = replaced(replaced(replaced(tree, one, "?"), other, one), "?", other)
        yield Change(f"{shown(one)} and {shown(other)} are swapped", changed)


def _route(tree: Tree, at: list[tuple[int, ...]]) -> str:
    """In which of several routes places stand; "" where they stand in more than one."""
    terms = list(_terms(tree, ()))
    of_places = {number for number, term in enumerate(terms) for path in at if path[: len(term)] == term}
    if len(terms) > 1 and len(of_places) == 1 and (number := of_places.pop()) < len(ROUTES):
        return f" in the {ROUTES[number]} route"
    return ""


def _terms(tree: Tree, path: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The paths of the terms of the outermost sum, which may be a factor."""
    part = _get(tree, path)
    if isinstance(part, Node) and part.operation in ("+", "SUM"):
        for place, _ in enumerate(part.parts):
            inner = _get(tree, (*path, place))
            more = isinstance(inner, Node) and inner.operation in ("+", "SUM")
            yield from _terms(tree, (*path, place)) if more else ((*path, place),)
    elif isinstance(part, Node) and part.operation in ("*", "/"):
        for place, inner in enumerate(part.parts):
            if any(isinstance(deep, Node) and deep.operation in ("+", "SUM") for deep in nodes(inner)):
                yield from _terms(tree, (*path, place))
                return
    else:
        yield path


def _near(found: str, network: Network, *, few: bool) -> Iterator[str]:
    """The quantities that one is likely to be mistaken for, the likeliest first."""
    shift, name = re.fullmatch(r"(prev_|next_|)(.*)", found).groups()  # type: ignore[union-attr]
    base = name.partition("@")[0]
    yield from (f"{other}{base}" for other in ("", "prev_", "next_") if f"{other}{base}" != found)
    if "@" in name:
        return
    kind = re.sub(r"\d+$", "", base)
    everything = (*network.given, *network.weights, *network.equations)
    siblings = [other for other in everything if re.sub(r"\d+$", "", other) == kind and other != base]
    yield from (shift + other for other in siblings)
    pair = base[2:] if base.startswith("a_") else f"a_{base}"
    if pair in everything:
        of_pair = re.sub(r"\d+$", "", pair)
        yield shift + pair
        yield from (shift + other for other in everything if re.sub(r"\d+$", "", other) == of_pair)
    if few:
        return
    if base.startswith("dE_d"):
        yield from (shift + other for other in network.weights)
    for others in ("a_h", "i", "t", "a_o", "w"):
        if kind != others:
            yield from (shift + other for other in everything if re.fullmatch(rf"{others}\d+", other))


def _operators(tree: Tree) -> Iterator[Change]:
    """Another operator: in all places of one kind, then in one."""
    places = [(path, part) for path, part in _places(tree) if isinstance(part, Node)]
    for old, new in ("*-", "+-", "-+", "+*", "*+", "-*", "/*", "*/"):
        kinds: dict[str, list[tuple[tuple[int, ...], Node]]] = {}
        for path, part in places:
            simple = len(part.parts) == 2 and not any(isinstance(inner, Node) for inner in part.parts)
            if simple and part.operation == old:
                kinds.setdefault(_kind(part), []).append((path, part))
        for kind, same in kinds.items():
            changed = tree
            for path, part in same:
                changed = _put(changed, path, part._replace(operation=new))
            yield Change(f"{kind} was used instead of {kind.replace(old, new)}", changed)
            for path, part in same if len(same) > 1 else ():
                mended = part._replace(operation=new)
                words = f"{written(part)} was used instead of {written(mended)} in one place"
                yield Change(shown(words), _put(tree, path, mended))


def _kind(tree: Tree) -> str:
    """A part in names without numbers: a_o1*t1 and a_o2*t2 are a_o*t."""
    return re.sub(r"([a-z])\d+\b", r"\1", shown(written(tree)))


def _numbers(tree: Tree, network: Network, eta: float) -> Iterator[Change]:
    """A number where a quantity belongs, or another number."""
    places = [(path, part) for path, part in _places(tree) if isinstance(part, float)]
    for number in dict.fromkeys(part for _, part in places):
        at = [path for path, part in places if part == number]
        above = [f"prev_{kind}{w}" for kind in ("dE_d", "") for w in network.weights]
        for wanted in ("eta", *network.given, *above, *network.weights, *network.equations):
            used = f"the number {number:.15g}" if number else "a blank cell, or 0,"
            words = f"{used} was used instead of {shown(wanted)}"
            if wanted == "eta":
                words = f"eta = {number:g} was used instead of {eta:g}"
            elif wanted not in network.given:
                words = f"one frozen value in every row: {words}"
            for path in at:
                yield Change(words, _put(tree, path, wanted))


def _factor(tree: Tree, points: Points, right: Values) -> str | None:
    """A factor that is missing or too much."""
    values = points.of_tree(tree)
    if values is None:
        return None
    factors = {name: points[name] for name in points if "@" not in name}
    for a in [name for name in factors if "a_" in name and "d" not in name]:
        factors |= {f"(1-{a})": 1 - points[a], f"{a}*(1-{a})": points[a] * (1 - points[a])}
    with np.errstate(all="ignore"):
        if np.ptp(ratio := values / right) < 1e-9 * np.abs(ratio[0]):
            return f"it is {ratio[0]:.6g} times what it should be"
        for name, factor in factors.items():
            if agree(values * factor, right):
                return f"the factor {shown(name)} is missing"
            if agree(values / factor, right):
                return f"the factor {shown(name)} is too much"
    return None


def shown(name: str) -> str:
    """Quantities as people write them: prev_dE_dw1 is dE/dw1, h1@12 is h1 of row 12, frozen by $."""
    name = re.sub(r"(\w+)@(\d+)", r"\1 of row \2 (frozen by $)", name)
    name = re.sub(r"(\w+)@-(\d+)", r"\1 of \2 rows above", name)
    name = re.sub(r"(\w+)@\+(\d+)", r"\1 of \2 rows below", name)
    return heading(re.sub(r"\b(prev_|next_)", "", name))


def _places(tree: Tree, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Tree]]:
    yield path, tree
    if isinstance(tree, Node):
        for place, part in enumerate(tree.parts):
            yield from _places(part, (*path, place))


def _get(tree: Tree, path: tuple[int, ...]) -> Tree:
    for place in path:
        tree = tree.parts[place]  # type: ignore[union-attr]
    return tree


def _put(tree: Tree, path: tuple[int, ...], new: Tree) -> Tree:
    if not path:
        return new
    assert isinstance(tree, Node)
    parts = list(tree.parts)
    parts[path[0]] = _put(parts[path[0]], path[1:], new)
    return Node(tree.operation, tuple(parts))
