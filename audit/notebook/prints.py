"""What a submission's code prints: its formats as patterns of lines, and which number in them is what.

The code has been followed, so that a number in a print is known by what it was made of: predictions compared
with labels of the test loader's images are a test accuracy, whatever the line calls it.
"""

import ast
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from audit.notebook.network import trained_module
from audit.notebook.outputs import Said, bar_of, counted, fraction, splits_in, steps_of
from audit.notebook.state import Run
from audit.notebook.training import LOSSES, loader_of, made_of, training_of
from audit.notebook.values import Event, Opaque

_MOST_PRINTS = 8  # of one place in the code: as many as there are kinds of images, and more
_METHODS = {
    *("set_description", "set_description_str", "set_postfix", "set_postfix_str", "write"),
    *("info", "debug", "warning", "error", "critical", "log"),
}
_COMPARES = {"eq", "argmax", "max", "topk", "accuracy", "accuracy_score"}
_BEST = re.compile(r"(?<![a-z])(?:best|max(?!\()|highest|target|goal|threshold)", re.I)
_ACCURACY = re.compile(r"acc|correct|top-?1|score", re.I)
_OTHER = re.compile(r"loss|\blr\b|rate|time|epoch|idx|step|len\(|batch|total|num", re.I)
_NUMBER = (
    r"(?>(?:tensor\()?(?:[-+]?\d+(?::\d\d)+(?:\.\d+)?|[-+]?\d+(?:,\d{3})*(?:\.\d+|\.(?=[,)]))?(?:e[-+]?\d+)?|nan|inf)"
    r"(?:, device='\w+:\d'\)|\))?)"
)
_VALUE = rf"((?>{_NUMBER}|[^\s\d|,;:()\[\]{{}}=%]{{0,30}}))"
_PERCENT_S = re.compile(r"%(?:\(\w+\))?[-+ 0#]*[\d*]*(?:\.\d+)?([a-zA-Z%])")
_BRACES = re.compile(r"\{(\w*)[^{}:!]*(?:![rsa])?(?::[^{}]*)?\}|\{\{|\}\}")


class _Value(NamedTuple):
    """A number in a format: what it is in the code, and how the code writes it."""

    value: Any
    text: str


_Parts = list["str | _Value"]


class _Role(NamedTuple):
    """What a number says: an "accuracy", "error" or "loss", or else ""; split as in outputs.Said."""

    kind: str = ""
    split: str = "other"


class _Pattern(NamedTuple):
    """A line that the code prints, with a group for each number."""

    regex: re.Pattern[str]
    letters: int  # how many of its letters are fixed: of several patterns that fit the longest is right
    roles: list[tuple[_Role, ...]]  # of its numbers, once for each time that it is printed


class Prints:
    """What a submission's code, which has been followed, prints."""

    def __init__(self, run: Run) -> None:
        self._run = run
        training = training_of(run, trained_module(run))
        self._loader = training.loader
        self.cells = {event.cell for event in training.steps}  # those that train the network
        self._patterns = self._read()

    def said_in(self, lines: Iterable[str]) -> list[Said]:
        """What lines of an output say, those alone that fit what the code prints; epochs and bars of all."""
        times: dict[int, int] = defaultdict(int)
        said: list[Said] = []
        for line in lines:
            said += counted(line)
            bar = bar_of(line)
            if bar is not None and not bar[0]:
                continue
            for index, pattern in enumerate(self._patterns):
                if found := pattern.regex.search(line):
                    said += _accuracies(line, found, pattern.roles[times[index] % len(pattern.roles)])
                    times[index] += 1
                    break
            said += steps_of(line)
        return said

    def _read(self) -> list[_Pattern]:
        """The patterns of all that is printed, those with the most letters first."""
        seen: dict[int, int] = defaultdict(int)
        found: dict[str, _Pattern] = {}
        open_line: _Parts = []
        for event in self._run.events:
            seen[id(event.site.node)] += 1
            if seen[id(event.site.node)] > _MOST_PRINTS:
                continue
            try:
                parts = _printed(event)
            except RecursionError:  # a text of a thousand pieces
                continue
            if parts is None:
                continue
            *whole, open_line = _lines([*open_line, *parts])
            for line in whole:
                self._add(line, found)
            end = str(event.what.kwargs.get("end", "\n")) if event.what.function == "print" else "\n"
            open_line.append(end)
            if "\n" in end:
                self._add(open_line, found)
                open_line = []
        return sorted(found.values(), key=lambda pattern: -pattern.letters)

    def _add(self, parts: _Parts, found: dict[str, _Pattern]) -> None:
        values = [part for part in parts if isinstance(part, _Value)]
        fixed = "".join(part for part in parts if isinstance(part, str))
        if not values or len(parts) > 60 or len(fixed) > 500:
            return
        roles = tuple(
            self._role(part, "".join(each for each in parts[:index][-1:] if isinstance(each, str)))
            for index, part in enumerate(parts)
            if isinstance(part, _Value)
        )
        shapes = iter(_VALUE if not role.kind else f"({_NUMBER})" for role in roles)
        regex = "".join(next(shapes) if isinstance(part, _Value) else _fixed(part) for part in parts)
        letters = sum(map(str.isalpha, fixed))
        regex = rf"(?<![\w.]){regex}" if letters > 2 else rf"^\W*{regex}\W*$"
        pattern = found.setdefault(regex, _Pattern(re.compile(regex, re.I), letters, []))
        pattern.roles.append(roles)

    def _role(self, part: _Value, before: str) -> _Role:
        """What a number is: by what it was made of, otherwise by how code and line call it."""
        words = f"{before} {part.text}"
        made = list(made_of(part.value))
        if _BEST.search(words) or any(each.function in ("max", "min") for each in made):
            return _Role()
        losses = any(_name(each) in LOSSES or _name(each.of) in LOSSES for each in made)
        loaders = [each for each in made if _name(each) == "torch.utils.data.DataLoader"]
        splits = {split for each in loaders if (split := self._split(each))}
        compares = any(
            _name(each).rpartition(".")[2].lower() in _COMPARES
            or each.method in _COMPARES
            or (each.site is not None and isinstance(each.site.node, ast.Compare))
            for each in made
        )
        if len(splits) > 1:
            return _Role()
        split = next(iter(splits), None) or (splits_in(words) or ["other"])[-1]
        if losses:
            return _Role("loss", split)
        if compares or (_ACCURACY.search(words) and not _OTHER.search(part.text)):
            return _Role("error" if re.search(r"\berr", words, re.I) else "accuracy", split)
        return _Role()

    def _split(self, call: Opaque) -> str:
        """Which images a DataLoader loads; empty where that is not known."""
        loader = loader_of(call, self._run)
        if loader is None or loader.images.is_training is None:
            return ""
        if self._loader is not None and loader.site == self._loader.site:
            return "train"
        if not loader.images.is_training:
            return "test"
        return "validation" if loader.images.held_out != 0 else "train"


def _name(value: Any) -> str:
    """The dotted name of the library's function that was called."""
    return value.function if isinstance(value, Opaque) else ""


def _accuracies(line: str, found: re.Match[str], roles: Sequence[_Role]) -> Iterator[Said]:
    """The accuracies in a line: of each kind of images a count where there is one, otherwise the first."""
    losses: dict[str, float] = {}
    read: dict[str, tuple[Fraction, int | None]] = {}
    for index, role in enumerate(roles, 1):
        number = re.search(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?", found[index].replace(",", ""))
        if not number or not role.kind:
            continue
        if role.kind == "loss":
            losses[role.split] = float(number[0])
            continue
        rest = line[found.end(index) :]
        of = re.match(r"\s*(?:/|of|out of)\s*(\d{2,3},\d{3}|\d{2,6})(?:\.0)?(?![.,]?\d)", rest)
        accuracy, images = fraction(number[0], of and of[1], percent=bool(re.match(r"\s*%", rest)))
        if accuracy is not None and (role.split not in read or (images and not read[role.split][1])):
            read[role.split] = 1 - accuracy if role.kind == "error" else accuracy, images
    for split in sorted(read, key=lambda each: each != "train"):
        yield Said(split, *read[split], losses.get(split))


def _fixed(text: str) -> str:
    """A pattern of what a format says itself; its numbers may be others."""
    pieces = re.split(r"(\s+|\d+(?:\.\d+)?)", text)
    return "".join(
        r"\s*" if each.isspace() else r"\d+(?:\.\d+)?" if each[:1].isdigit() else re.escape(each)
        for each in pieces
    )


def _lines(parts: _Parts) -> Iterator[_Parts]:
    """What is printed, line by line."""
    line: _Parts = []
    for part in parts:
        if isinstance(part, _Value):
            line.append(part)
            continue
        first, *others = re.split(r"[\r\n]+", part)
        line.append(first)
        for each in others:
            yield line
            line = [each]
    yield line


def _printed(event: Event) -> _Parts | None:
    """What a call prints; None where it prints nothing."""
    call = event.what
    if not isinstance(call, Opaque) or not isinstance(event.site.node, ast.Call):
        return None
    name, args = call.function, event.site.node.args
    nodes = dict(zip(range(len(call.args)), args, strict=False))
    if name == "print":
        pieces = [_parts(arg, nodes.get(index)) for index, arg in enumerate(call.args)]
        return _joined(pieces, str(call.kwargs.get("sep", " ")))
    if name.startswith("tqdm.") and "desc" in call.kwargs:
        node = next((each.value for each in event.site.node.keywords if each.arg == "desc"), None)
        return _parts(call.kwargs["desc"], node)
    is_method = call.method in _METHODS or name.startswith("logging.") or name == "tqdm.tqdm.write"
    if not is_method or not (call.args or call.kwargs):
        return None
    if call.method == "set_postfix":
        shown = call.args[0] if call.args and isinstance(call.args[0], dict) else call.kwargs
        return _joined([[f"{key}=", _Value(value, key)] for key, value in shown.items()], ", ")
    if not call.args:
        return None
    first = _parts(call.args[0], nodes.get(0))
    if len(call.args) > 1 and isinstance(call.args[0], str):  # logger.info("%s", value)
        return _filled(call.args[0], _PERCENT_S, list(call.args[1:]), args[1:])
    return first


def _joined(pieces: Sequence[_Parts], separator: str) -> _Parts:
    return [part for number, piece in enumerate(pieces) for part in ([separator] * (number > 0) + piece)]


def _parts(value: Any, node: ast.AST | None) -> _Parts:
    """A text as what it says itself and the values in it; any other value is one of them."""
    made = value.site.node if isinstance(value, Opaque) and value.site is not None else node
    if isinstance(made, ast.JoinedStr):
        values = value.args if isinstance(value, Opaque) and len(value.args) == len(made.values) else None
        parts: _Parts = []
        for index, each in enumerate(made.values):
            if isinstance(each, ast.FormattedValue):
                inside = values[index] if values else None
                named = inside if isinstance(inside, str) and not re.search(r"\d", inside) else None
                parts.append(named if named is not None else _Value(inside, ast.unparse(each.value)))
            else:
                parts.append(str(getattr(each, "value", "")))
        return parts
    if isinstance(value, str):
        return [value]
    if isinstance(made, ast.BinOp) and isinstance(value, Opaque) and len(value.args) == 2:
        left, right = value.args
        if isinstance(made.op, ast.Mod) and isinstance(left, str):
            nodes = made.right.elts if isinstance(made.right, ast.Tuple) else [made.right]
            return _filled(left, _PERCENT_S, list(right) if isinstance(right, tuple) else [right], nodes)
        if isinstance(made.op, ast.Add):
            both = [*_parts(left, made.left), *_parts(right, made.right)]
            if any(isinstance(part, str) for part in both):
                return both
    if isinstance(made, ast.Call) and isinstance(value, Opaque):
        if isinstance(made.func, ast.Attribute) and value.args and isinstance(value.args[0], str):
            if made.func.attr == "format":
                given = [*value.args[1:], *value.kwargs.values()]
                nodes = [*made.args, *(each.value for each in made.keywords)]
                return _filled(value.args[0], _BRACES, given, nodes, [*value.kwargs])
            if made.func.attr == "join" and isinstance(value.args[1], list | tuple):
                return _joined([_parts(each, None) for each in value.args[1]], value.args[0])
        if value.function == "str" and len(value.args) == 1:
            return _parts(value.args[0], made.args[0] if made.args else None)
    return [_Value(value, ast.unparse(node) if node is not None else "")]


def _filled(
    text: str,
    fields: re.Pattern[str],
    values: Sequence[Any],
    nodes: Sequence[ast.AST],
    named: Sequence[str] = (),
) -> _Parts:
    """A format with its values; named are the last of them."""
    parts: _Parts = []
    start, numbers = 0, itertools.count()
    for found in fields.finditer(text):
        parts.append(text[start : found.start()])
        start = found.end()
        if found[0] in ("{{", "}}") or found[1] == "%":
            parts.append(found[0][-1])
            continue
        key = found[1] if fields is _BRACES else ""
        if key.isdigit():
            index = int(key)
        elif key in named:
            index = len(values) - len(named) + named.index(key)
        else:
            index = next(numbers)
        value = values[index] if index < len(values) else None
        word = ast.unparse(nodes[index]) if index < len(nodes) else key
        inside = _parts(value, None)
        parts += inside if any(isinstance(part, str) for part in inside) else [_Value(value, word)]
    return [*parts, text[start:]]
