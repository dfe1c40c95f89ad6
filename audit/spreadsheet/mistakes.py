"""What people get wrong in this table: equations that reproduce a wrong cell, and their names."""

import re
from collections.abc import Iterator

from audit.spreadsheet.tables import GIVEN, WEIGHTS
from backprop.equations import EQUATIONS, heading

UPDATE = "prev_{w} - prev_eta*prev_dE_d{w}"
"""A weight's equation; prev_ is the row above, next_ the row below."""

_NAME = r"\b{}\b"
_MIXED_UP = (
    *(("a_h1", "a_h2"), ("a_o1", "a_o2"), ("t1", "t2"), ("i1", "i2"), ("E1", "E2")),
    *(("h1", "h2"), ("o1", "o2"), ("a_h1", "h1"), ("a_h2", "h2"), ("a_o1", "o1"), ("a_o2", "o2")),
    *((a, b) for a in WEIGHTS for b in WEIGHTS if a < b and (a <= "w4") == (b <= "w4")),
)


def alternatives(name: str) -> Iterator[tuple[str, str]]:
    """The mistakes that a column is known for, the likeliest first: (in words, as an equation)."""
    if name in WEIGHTS:
        yield from _updates(name)
    elif name in EQUATIONS:
        text = EQUATIONS[name].replace(" ", "")
        yield from _mixed_up(text)
        yield from _changed(text)
        yield from _misplaced(name, text)


def _updates(w: str) -> Iterator[tuple[str, str]]:
    slope = f"prev_dE_d{w}"
    yield "the update was skipped: the weight of the row above was copied", f"prev_{w}"
    yield "the sign of the update: + eta*dE/dw was used instead of - eta*dE/dw", f"prev_{w}+prev_eta*{slope}"
    yield "eta was left out of the update", f"prev_{w}-{slope}"
    yield "eta was left out, and the sign is +", f"prev_{w}+{slope}"
    for other in WEIGHTS:
        if other != w:
            yield f"dE/d{other} was used instead of dE/d{w}", f"prev_{w}-prev_eta*prev_dE_d{other}"
            yield f"{other} was used instead of {w}", f"prev_{other}-prev_eta*{slope}"
            yield (
                f"the already updated {other} of the same row was used instead of {w}",
                f"{other}-prev_eta*{slope}",
            )
    updated = _with_next(EQUATIONS[f"dE_d{w}"].replace(" ", ""))
    now = re.sub(r"\b(?!next_)([a-zA-Z]\w*)", r"prev_\1", updated).replace("next_", "")
    yield "its derivative uses the already updated weights w5 .. w8", f"prev_{w}-prev_eta*({now})"
    yield "the derivative of the same row was used, not of the row above", f"prev_{w}-prev_eta*dE_d{w}"
    yield "the weight was replaced by the update alone", f"prev_eta*{slope}"


def _mixed_up(text: str) -> Iterator[tuple[str, str]]:
    for one, other in _MIXED_UP:
        for wanted, used in ((one, other), (other, one)):
            words = f"{used} was used instead of {wanted}"
            places = list(re.finditer(_NAME.format(wanted), text))
            if not places or (f"sigmoid({wanted})" == text and used.startswith("a_")):
                continue
            yield words, re.sub(_NAME.format(wanted), used, text)
            if len(places) > 1:
                for place in places:
                    yield f"{words} in one place", text[: place.start()] + used + text[place.end() :]


def _changed(text: str) -> Iterator[tuple[str, str]]:
    if text.startswith("sigmoid"):
        yield "the sigmoid is missing", text.removeprefix("sigmoid")
        yield "the sign in the sigmoid: e^x was used instead of e^-x", text.replace("(", "(-", 1)
        for e in ("2.7", "2.71", "2.718", "2.7182", "2.7183", "2.71828"):
            yield f"{e} was used instead of e: write EXP", f"1/(1+{e}^(-{text.removeprefix('sigmoid')}))"
    if text.endswith("^2/2"):
        yield "the factor 1/2 is missing", text.removesuffix("/2")
        yield "the square is missing", text.replace("^2", "")
    for added in re.findall(r"\bE[12]\b|\bw\d\*\w+", text) if "+" in text and "^" not in text else ():
        yield f"{added} is missing", text.replace(added, "0")
    if text == "E1+E2":
        yield "the mean was used instead of the sum", "(E1+E2)/2"
    if "-t" in text:
        yield "the sign: t - a_o was used instead of a_o - t", f"-({text})"
        for a in sorted(set(re.findall(r"(a_\w\d)\*\(1-", text))):
            for kept in ("1", a, f"(1-{a})"):
                shown = f"only {kept} was used" if kept != "1" else "it is missing"
                yield f"the factor {a}*(1-{a}): {shown}", text.replace(f"{a}*(1-{a})", kept)
        for w in re.findall(r"\bw\d", text):
            yield f"the route through {w} is missing", re.sub(_NAME.format(w), "0", text)
        if re.search(r"\bw\d", text):
            yield "the already updated weights (of the row below) were used", _with_next(text)
            for w in re.findall(r"\bw\d", text):
                updated = re.sub(_NAME.format(w), f"next_{w}", text)
                yield f"the already updated {w} (of the row below) was used", updated


def _misplaced(name: str, text: str) -> Iterator[tuple[str, str]]:
    yield "the cell above was copied", f"prev_{name}"
    yield "the row above was used", re.sub(r"\b(?!sigmoid)([a-zA-Z]\w*)", r"prev_\1", text)
    for other, its in EQUATIONS.items():
        if other != name:
            yield f"the equation of {heading(other)} was used", its.replace(" ", "")
    for other in (*GIVEN, *WEIGHTS, *EQUATIONS):
        yield "the cell was filled with an update formula", f"prev_{name}-prev_eta*prev_{other}"
        yield "the cell was filled with an update formula", f"prev_w8-prev_eta*prev_{other}"
        yield "the cell was filled with an update formula", f"prev_w4-prev_eta*prev_{other}"


def _with_next(text: str) -> str:
    return re.sub(r"\b(w[5-8])\b", r"next_\1", text)
