"""A spreadsheet's formulas as trees that NumPy computes. Nothing in a formula is ever run.

Excel's order of operations: a percent sign first, then unary minus (so -2^2 is 4), ^ from left to right,
* and /, + and -, comparisons.
"""

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from openpyxl.utils import column_index_from_string, get_column_letter

Place = tuple[int, int]
"""A cell's row and column, counted from 1."""

MAX_NODES = 2000
_MAX_DEPTH = 60
_MAX_RANGE = 200


class UnknownFormula(ValueError):
    """A formula with something that is not computed here: its cell is judged by its number alone."""


class Node(NamedTuple):
    """An operation, or a function by its name, on trees."""

    operation: str
    parts: tuple["Tree", ...]


class Reference(NamedTuple):
    """A cell that a formula refers to, or the first one and the end of a range.

    Row and column are counted from the formula's cell unless fixed ($).
    """

    sheet: str  # "" for the formula's own
    row: int
    column: int
    fixed: tuple[bool, bool]
    end: tuple[int, int, bool, bool] | None = None

    def places(self, at: Place) -> list[Place]:
        """The cells, for a formula that stands at a place."""
        first = _absolute(self.row, self.column, self.fixed, at)
        if self.end is None:
            return [first]
        last = _absolute(self.end[0], self.end[1], self.end[2:], at)
        rows = range(min(first[0], last[0]), max(first[0], last[0]) + 1)
        columns = range(min(first[1], last[1]), max(first[1], last[1]) + 1)
        if len(rows) * len(columns) > _MAX_RANGE:
            raise UnknownFormula("a range of many cells")
        return [(row, column) for row in rows for column in columns]


class Name(NamedTuple):
    """A name that the workbook defines."""

    text: str


Tree = Node | Reference | Name | str | float
"""A formula; a text is a quantity by its name."""

Array = np.ndarray

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?(?![\w.])|\.\d+(?:[eE][+-]?\d+)?)
    |(?:(?P<sheet>'(?:[^']|'')+'|[^\W\d][\w.]*)!)?\$?(?P<column>[A-Za-z]{1,3})(?P<row>\$?\d{1,7})(?![\w.(])
    |(?P<function>[A-Za-z_][\w.]*)\(
    |(?P<name>[^\W\d][\w.]*)
    |(?P<mark><=|>=|<>|[-+*/^%(),;:<>=])
    )""",
    re.VERBOSE,
)
_RELATIVE = re.compile(
    r"""("[^"]*"|'[^']*'!?|(?<![\w.$])(\$?)([A-Za-z]{1,3})(\$?)(\d{1,7})(?![\w.(!]))""", re.VERBOSE
)


def relative(formula: str, at: Place) -> str:
    """A formula with its references counted from its own cell: the same for all cells it was filled into."""

    def counted(found: re.Match[str]) -> str:
        if found[5] is None:
            return found[0]
        column, row = _column(found[3]), int(found[5])
        across = f"C{column}" if found[2] else f"C[{column - at[1]}]"
        return (f"R{row}" if found[4] else f"R[{row - at[0]}]") + across

    return _RELATIVE.sub(counted, formula)


@functools.cache
def _column(letters: str) -> int:
    return column_index_from_string(letters.upper())


def parse(formula: str, at: Place) -> Tree:
    """The tree of a formula, such as "=A1*$B$2", that stands at a place; UnknownFormula of other formulas."""
    return _Parser(formula.strip().removeprefix("=").removeprefix("+"), at).whole()


class _Token(NamedTuple):
    kind: str
    text: str
    reference: Reference | None = None


def _tokens(text: str, at: Place) -> Iterator[_Token]:
    place = 0
    text = text.replace("_xlfn.", "").rstrip()
    while place < len(text):
        found = _TOKEN.match(text, place)
        if not found:
            raise UnknownFormula(text[place : place + 20])
        place = found.end()
        if found["column"]:
            before = found[0][: found.start("column") - found.start()]
            fixed = found["row"].startswith("$"), before.endswith("$")
            row, column = int(found["row"].lstrip("$")), _column(found["column"])
            sheet = (found["sheet"] or "").strip("'").replace("''", "'")
            start = (row if fixed[0] else row - at[0], column if fixed[1] else column - at[1])
            yield _Token("reference", "", Reference(sheet, *start, fixed))
        else:
            kind = str(found.lastgroup)
            yield _Token(kind, found[kind])


_MARKS = (("<", ">", "<=", ">=", "=", "<>"), ("+", "-"), ("*", "/"), ("^",))
"""Operators of two values, those that bind least first."""
_LEVELS = {mark: level for level, marks in enumerate(_MARKS) for mark in marks}


class _Parser:
    """Recursive descent."""

    def __init__(self, text: str, at: Place):
        self.tokens = [*_tokens(text, at), _Token("end", "")]
        self.next = 0
        self.depth = 0
        if len(self.tokens) > MAX_NODES:
            raise UnknownFormula("a long formula")

    def whole(self) -> Tree:
        tree = self.expression()
        if self.tokens[self.next].kind != "end":
            raise UnknownFormula("two values without an operator")
        return tree

    def take(self, *marks: str) -> str | None:
        token = self.tokens[self.next]
        if token.kind == "mark" and token.text in marks:
            self.next += 1
            return token.text
        return None

    def expression(self) -> Tree:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise UnknownFormula("brackets within brackets")
        tree = self.operations(0)
        self.depth -= 1
        return tree

    def operations(self, level: int) -> Tree:
        """Values joined by operators of a level, from left to right."""
        if level == len(_MARKS):
            return self.signed()
        tree = self.operations(level + 1)
        while mark := self.take(*_MARKS[level]):
            tree = Node(mark, (tree, self.operations(level + 1)))
        return tree

    def signed(self) -> Tree:
        negative = False
        while mark := self.take("-", "+"):
            negative ^= mark == "-"
        tree = self.value()
        while self.take("%"):
            tree = Node("/", (tree, 100.0))
        return Node("negative", (tree,)) if negative else tree

    def value(self) -> Tree:
        token = self.tokens[self.next]
        self.next += 1
        if token.kind == "number":
            return float(token.text)
        if token.reference is not None:
            return self.range(token.reference)
        if token.kind == "name":
            word = token.text.upper()
            return float(word == "TRUE") if word in ("TRUE", "FALSE") else Name(token.text)
        if token.kind == "function":
            return self.call(token.text.upper())
        if token.text == "(":
            tree = self.expression()
            if self.take(")"):
                return tree
        raise UnknownFormula("brackets or operators that do not fit")

    def range(self, first: Reference) -> Tree:
        if self.take(":"):
            last = self.tokens[self.next].reference
            if last is None or last.sheet not in ("", first.sheet):
                raise UnknownFormula("a range without an end")
            self.next += 1
            return first._replace(end=(last.row, last.column, *last.fixed))
        return first

    def call(self, name: str) -> Tree:
        parts: list[Tree] = []
        if not self.take(")"):
            parts.append(self.expression())
            while self.take(",", ";"):
                parts.append(self.expression())
            if not self.take(")"):
                raise UnknownFormula("a function without its closing bracket")
        return _call(name, tuple(parts))


_ROUNDING = ("ROUND", "ROUNDUP", "ROUNDDOWN", "TRUNC", "FIXED", "MROUND")  # the digits tell the tolerance
_PASSED_ON = ("N", "VALUE", "IFERROR", "IFNA", "NUMBERVALUE")


def _call(name: str, parts: tuple[Tree, ...]) -> Tree:
    if name in (*_ROUNDING, *_PASSED_ON) and parts:
        return parts[0]
    if name == "PI" and not parts:
        return float(np.pi)
    if name == "POWER" and len(parts) == 2:
        return Node("^", parts)
    if name in FUNCTIONS and parts:
        return Node(name, parts)
    raise UnknownFormula(f"the function {name[:20]}")


def _squares_of_differences(*values: Array) -> Any:
    """The sum for two ranges of equal length, which come one after the other."""
    half = len(values) // 2
    return sum((x - y) ** 2 for x, y in zip(values[:half], values[half:], strict=True))


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "^": lambda x, y: np.power(np.asarray(x, float), y),
    "negative": np.negative,
    "<": np.less,
    ">": np.greater,
    "<=": np.less_equal,
    ">=": np.greater_equal,
    "=": np.equal,
    "<>": np.not_equal,
    "EXP": np.exp,
    "SQRT": np.sqrt,
    "ABS": np.abs,
    "TANH": np.tanh,
    "LN": np.log,
    "IF": lambda condition, yes, no=0.0: np.where(condition, yes, no),
    "AND": lambda *values: np.logical_and.reduce(np.broadcast_arrays(*values)),
    "OR": lambda *values: np.logical_or.reduce(np.broadcast_arrays(*values)),
    "NOT": np.logical_not,
    "SUM": lambda *values: sum(values),
    "SUMSQ": lambda *values: sum(np.square(value) for value in values),
    "AVERAGE": lambda *values: sum(values) / len(values),
    "PRODUCT": lambda *values: functools.reduce(np.multiply, values),
    "MIN": lambda *values: functools.reduce(np.minimum, values),
    "MAX": lambda *values: functools.reduce(np.maximum, values),
    "SUMPRODUCT": lambda *values: sum(values),
    "SUMXMY2": _squares_of_differences,
}
"""What is computed, by its name; a range gives one argument for each of its cells."""


def resolved(
    tree: Tree, quantity: Callable[[Reference, Place], Tree], at: Place, name: Callable[[str], Tree]
) -> Tree:
    """The tree of a formula at a place, with what its references to cells, and defined names, stand for."""

    def cells(part: Tree) -> list[Tree]:
        match name(part.text) if isinstance(part, Name) else part:
            case Reference() as reference:
                return [quantity(reference, place) for place in reference.places(at)]
            case Node("SUMPRODUCT", parts):
                columns = [cells(column) for column in parts]
                if len({len(column) for column in columns}) != 1:
                    raise UnknownFormula("ranges of different lengths")
                rows = zip(*columns, strict=True)
                products = [functools.reduce(lambda x, y: Node("*", (x, y)), row) for row in rows]
                return [Node("SUM", tuple(products))]
            case Node(operation, parts):
                return [Node(operation, tuple(cell for each in parts for cell in cells(each)))]
            case other:
                return [other]

    meant = cells(tree)
    if len(meant) != 1:
        raise UnknownFormula("a range as a number")
    if sum(1 for _ in nodes(meant[0])) > MAX_NODES:
        raise UnknownFormula("a long formula")
    return meant[0]


def references(formula: str) -> list[Place]:
    """The single cells of its own sheet that a formula refers to; none of one that is not known here."""
    try:
        parts = nodes(parse(formula, (1, 1)))
    except UnknownFormula:
        return []
    single = (part for part in parts if isinstance(part, Reference) and not part.sheet and not part.end)
    return [place for reference in single for place in reference.places((1, 1))]


def nodes(tree: Tree) -> Iterator[Tree]:
    """The tree and all its parts, from the outside in."""
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        yield part
        if isinstance(part, Node):
            waiting.extend(reversed(part.parts))


def replaced(tree: Tree, old: Tree, new: Tree) -> Tree:
    """A tree with another part in place of each equal one."""
    if tree == old and isinstance(tree, float) == isinstance(old, float):
        return new
    if isinstance(tree, Node):
        return Node(tree.operation, tuple(replaced(part, old, new) for part in tree.parts))
    return tree


def symbols(tree: Tree | None) -> list[str]:
    """The quantities in a tree, each once, in the order of the formula; none where there is none."""
    if tree is None:
        return []
    return list(dict.fromkeys(part for part in nodes(tree) if isinstance(part, str)))


def value(tree: Tree, quantities: Mapping[str, Array]) -> Array:
    """A tree's value for each of many values of its quantities.

    Raises:
      UnknownFormula: a quantity without values, or a function with arguments that it does not take.
    """
    if isinstance(tree, str):
        try:
            return quantities[tree]
        except KeyError as error:
            raise UnknownFormula(tree) from error
    if isinstance(tree, Node):
        try:
            return FUNCTIONS[tree.operation](*(value(part, quantities) for part in tree.parts))
        except (TypeError, ValueError, IndexError) as error:
            raise UnknownFormula(tree.operation) from error
    if isinstance(tree, float):
        return np.asarray(tree)
    raise UnknownFormula(str(tree))


def written(tree: Tree, outside: int = 0) -> str:
    """A tree as text, in the names of its quantities; in brackets where what is outside binds more."""
    match tree:
        case float():
            return f"{tree:.15g}"
        case Node("negative", (part,)):
            return f"-{written(part, len(_MARKS))}"
        case Node(mark, (left, right)) if mark in _LEVELS:
            level = _LEVELS[mark]
            text = f"{written(left, level)}{mark}{written(right, level + (mark in '-/^'))}"
            return f"({text})" if level < outside else text
        case Node(function, parts):
            return f"{function}({', '.join(map(written, parts))})"
    return str(tree)


def _absolute(row: int, column: int, fixed: tuple[bool, ...], at: Place) -> Place:
    place = (row if fixed[0] else at[0] + row, column if fixed[1] else at[1] + column)
    if place[0] < 1 or place[1] < 1:
        raise UnknownFormula("a reference outside the sheet")
    return place


def address(row: int, column: int) -> str:
    """A place as a spreadsheet writes it: (5, 23) is W5."""
    return f"{get_column_letter(column)}{row}"
