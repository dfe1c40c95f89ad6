"""What people get wrong in this table: equations that reproduce a wrong cell, and their names."""

import re
from collections.abc import Iterator, Sequence
from itertools import combinations

from audit.spreadsheet.arithmetic import names_in
from audit.spreadsheet.network import Network
from backprop.equations import heading
from backprop.shape import ACTIVATIONS

_NAME = r"\b{}\b"


def alternatives(name: str, network: Network) -> Iterator[tuple[str, str]]:
    """The mistakes that a column is known for, the likeliest first: (in words, as an equation)."""
    if name in network.weights:
        yield from _updates(name, network)
    elif name in network.equations:
        text = network.equations[name].replace(" ", "")
        yield from mixed_up(name, text, network)
        yield from _changed(text, network)
        yield from _misplaced(name, text, network)


def _updates(w: str, network: Network) -> Iterator[tuple[str, str]]:
    slope = f"prev_dE_d{w}"
    yield "the update was skipped: the weight of the row above was copied", f"prev_{w}"
    yield "the sign of the update: + eta*dE/dw was used instead of - eta*dE/dw", f"prev_{w}+prev_eta*{slope}"
    yield "eta was left out of the update", f"prev_{w}-{slope}"
    yield "eta was left out, and the sign is +", f"prev_{w}+{slope}"
    for other in network.weights:
        if other != w:
            yield f"dE/d{other} was used instead of dE/d{w}", f"prev_{w}-prev_eta*prev_dE_d{other}"
            yield f"{other} was used instead of {w}", f"prev_{other}-prev_eta*{slope}"
            yield f"the whole update of {other} was used", f"prev_{other}-prev_eta*prev_dE_d{other}"
            words = f"the already updated {other} of the same row was used instead of {w}"
            yield words, f"{other}-prev_eta*{slope}"
    updated = _with_next(network.equations[f"dE_d{w}"].replace(" ", ""), network)
    now = re.sub(r"\b(?!next_)([a-zA-Z]\w*)", r"prev_\1", updated).replace("next_", "")
    yield "its derivative uses the already updated weights to the output layer", f"prev_{w}-prev_eta*({now})"
    yield "the derivative of the same row was used, not of the row above", f"prev_{w}-prev_eta*dE_d{w}"
    yield "the weight was replaced by the update alone", f"prev_eta*{slope}"


def mixed_up(name: str, text: str, network: Network) -> Iterator[tuple[str, str]]:
    """A quantity in place of another one of its kind."""
    for wanted in names_in(text):
        for used in _taken_for(wanted, network):
            words = f"{used} was used instead of {wanted}"
            places = list(re.finditer(_NAME.format(wanted), text))
            if text == f"{network.shape.activation}({wanted})":
                if used.startswith("a_"):
                    continue
                words = f"{name} is computed from {used}: {words}"
            yield words, re.sub(_NAME.format(wanted), used, text)
            if len(places) > 1:
                for place in places:
                    yield f"{words} in one place", text[: place.start()] + used + text[place.end() :]


def _taken_for(wanted: str, network: Network) -> Sequence[str]:
    """What a quantity is mixed up with: others of its kind, or the sum for its activation."""
    wanted_kind = network.column_kinds.get(wanted, "")
    of_kind = [name for name, kind in network.column_kinds.items() if kind == wanted_kind and name != wanted]
    pair = wanted[2:] if wanted.startswith("a_") else f"a_{wanted}"
    return [*of_kind, *([pair] if pair in network.equations else [])]


def _changed(text: str, network: Network) -> Iterator[tuple[str, str]]:
    if activation := re.fullmatch(r"(sigmoid|tanh|relu)(\(\w+\))", text):
        yield f"the {activation[1]} is missing", activation[2]
        for other in (other for other in ACTIVATIONS if other != activation[1]):
            names = ("the sigmoid" if name == "sigmoid" else name for name in (other, activation[1]))
            yield " was used instead of ".join(names), other + activation[2]
    if text.startswith("sigmoid"):
        yield "the sign in the sigmoid: e^x was used instead of e^-x", text.replace("(", "(-", 1)
        for e in ("2.7", "2.71", "2.718", "2.7182", "2.7183", "2.71828"):
            yield f"{e} was used instead of e: write EXP", f"1/(1+{e}^(-{text.removeprefix('sigmoid')}))"
    if text.endswith("^2/2"):
        yield "the factor 1/2 is missing", text.removesuffix("/2")
        yield "the square is missing", text.replace("^2", "")
    for one, other in combinations(dict.fromkeys(re.findall(r"\*(i\d+|a_h\d+)\b", text)), 2):
        if "-" not in text:
            swapped = text.replace(one, "?").replace(other, one).replace("?", other)
            yield f"{one} and {other} are swapped", swapped
    for added in re.findall(r"\bE\d\b|\bw\d+\*\w+|\bb\d+\b", text) if "+" in text and "^" not in text else ():
        yield f"{added} is missing", text.replace(added, "0")
    if re.fullmatch(r"E1(\+E\d)+", text):
        yield "the mean was used instead of the sum", f"({text})/{network.shape.outputs}"
    if "-t" in text:
        yield "the sign: t - a_o was used instead of a_o - t", f"-({text})"
        for a in sorted(set(re.findall(r"(a_\w\d)\*\(1-", text))):
            for kept in ("1", a, f"(1-{a})"):
                shown = f"only {kept} was used" if kept != "1" else "it is missing"
                yield f"the factor {a}*(1-{a}): {shown}", text.replace(f"{a}*(1-{a})", kept)
        for w in re.findall(r"\bw\d+", text):
            yield f"the route through {w} is missing", re.sub(_NAME.format(w), "0", text)
        yield from _of_routes(text, network)
        if re.search(r"\bw\d", text):
            yield "the already updated weights (of the row below) were used", _with_next(text, network)
            for w in re.findall(r"\bw\d+", text):
                updated = re.sub(_NAME.format(w), f"next_{w}", text)
                yield f"the already updated {w} (of the row below) was used", updated


ROUTES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


def _of_routes(text: str, network: Network) -> Iterator[tuple[str, str]]:
    """A derivative whose bracket is missing, whose a-t became a*t, or with another input in a route."""
    yield "a_o*t was used instead of a_o-t", re.sub(r"(a_o\d)-(t\d)", r"(\1*\2)", text)
    if not (closed := re.fullmatch(r"\((.*)\)(\*a_h\d\*\(1-a_h\d\)|\*\(1-a_h\d\^2\))(\*i\d)?", text)):
        return
    routes, slope, source = re.split(r"\+(?=\(a_o)", closed[1]), closed[2], closed[3] or ""
    if len(routes) > 1:
        words = "a bracket is missing: only the {} route is multiplied by " + f"{slope}{source}"[1:]
        yield words.format(ROUTES[len(routes) - 1]), f"{closed[1]}{slope}{source}"
        yield words.format("first"), f"{routes[0]}{slope}{source}+{'+'.join(routes[1:])}"
    for other in network.shape.input_names if source else ():
        for place, route in enumerate(ROUTES[: len(routes)] if f"*{other}" != source else ()):
            terms = [f"{term}*{other}" if n == place else f"{term}{source}" for n, term in enumerate(routes)]
            words = f"{other} was used instead of {source[1:]} in the {route} route"
            yield words, f"({'+'.join(terms)}){slope}"


def _misplaced(name: str, text: str, network: Network) -> Iterator[tuple[str, str]]:
    yield "the cell above was copied", f"prev_{name}"
    yield "the row above was used", re.sub(r"\b(?!(?:sigmoid|tanh|relu)\b)([a-zA-Z]\w*)", r"prev_\1", text)
    for other, its in network.equations.items():
        if other != name:
            yield f"the equation of {heading(other)} was used", its.replace(" ", "")
    for start in dict.fromkeys((name, network.weights_of(1)[-1], network.weights_of(0)[-1])):
        for other in (*network.given, *network.weights, *network.equations):
            words = "the cell was filled with an update formula"
            if start.startswith("w") and other == f"dE_d{start}":
                words = f"the whole update of {start} was used: {words}"
            yield words, f"prev_{start}-prev_eta*prev_{other}"


def _with_next(text: str, network: Network) -> str:
    return re.sub(rf"\b({'|'.join(network.weights_of(1))})\b", r"next_\1", text)
