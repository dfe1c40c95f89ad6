"""Python's own numbers, texts, lists and dicts, computed where that takes little time and memory."""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from audit.notebook.values import Class, Function, Instance, Module, Opaque, Package

MOST_TURNS = 1_000  # of a loop
LONGEST = 50_000  # of a list or a text
MOST_BITS = 2_048  # of a whole number
OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}
_ORDERS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
METHODS: dict[type, set[str]] = {
    list: {"append", "extend", "insert", "pop", "copy", "reverse", "clear", "index", "count", "sort"}
    | {"remove"},
    dict: {"get", "items", "keys", "values", "update", "pop", "setdefault", "copy"},
    str: {"format", "join", "split", "strip", "lower", "upper", "replace", "startswith", "endswith", "title"}
    | {"find", "rfind", "count", "index"},
    tuple: {"index", "count"},
    set: {"add"},
}
READING = {"get", "items", "keys", "values", "copy", "index", "count", "issubset", "isdisjoint"}
_SPEC = re.compile(r"[<>=^]?[-+ ]?0?\d{0,2},?(\.\d{1,2})?[a-zA-Z%]?")
_FIELDS = re.compile(r"(?:[^{}]|\{\{|\}\}|\{\d{0,3}(?::" + _SPEC.pattern + r")?\})*")
_PERCENTS = re.compile(r"(?:[^%]|%%|%[-+ 0]?\d{0,2}(?:\.\d{1,2})?[a-zA-Z])*")
_SCALARS = (bool, int, float, str, type(None))


def is_scalar(value: Any) -> bool:
    """Whether it is a number, a text or None."""
    return isinstance(value, _SCALARS)


def is_flat(value: Any) -> bool:
    """Whether it can be compared and hashed in little time."""
    return is_scalar(value) or (isinstance(value, tuple | list) and all(map(is_scalar, value)))


def is_key(value: Any) -> bool:
    """Whether it can be a key of a dict, in little time."""
    parts = value if isinstance(value, tuple) else (value,)
    return all(map(is_scalar, parts)) or isinstance(value, Opaque | Instance | Class | Module)


def is_same(first: Any, other: Any) -> bool:
    """Whether two values are the same object, or equal numbers, texts or flat lists."""
    return first is other or (
        type(first) is type(other) and is_flat(first) and is_flat(other) and first == other
    )


def name_of(value: Any) -> str:
    """A value in a reader's words."""
    match value:
        case Opaque():
            return value.name
        case Instance():
            return value.cls.name
        case Module():
            return value.kind
        case Function() | Class() | Package():
            return value.name
    return type(value).__name__ if not is_scalar(value) else str(value)[:40]


def is_bounded(op: ast.operator, left: Any, right: Any) -> bool:
    """Whether an operation on numbers, texts and lists takes little time and memory."""
    numbers = [isinstance(value, bool | int | float) for value in (left, right)]
    if all(numbers):
        bits = [value.bit_length() for value in (left, right) if isinstance(value, int)]
        if isinstance(op, ast.Pow | ast.LShift) and len(bits) == 2:
            return bits[0] * max(abs(right), 1) <= MOST_BITS if isinstance(op, ast.Pow) else right <= 64
        return sum(bits) <= MOST_BITS
    if isinstance(op, ast.Add):
        same = isinstance(left, list | tuple | str) and type(left) is type(right)
        return same and len(left) + len(right) <= LONGEST
    if isinstance(op, ast.Mult):
        many, times = (left, right) if numbers[1] else (right, left)
        are = isinstance(many, list | tuple | str) and isinstance(times, int)
        return are and len(many) * max(times, 0) <= LONGEST
    if isinstance(op, ast.Mod) and isinstance(left, str):
        values = right if isinstance(right, tuple) else (right,)
        return len(left) <= 500 and all(map(is_scalar, values)) and _PERCENTS.fullmatch(left) is not None
    return isinstance(op, ast.BitOr) and isinstance(left, dict) and isinstance(right, dict)


def compare(op: ast.cmpop, left: Any, right: Any) -> bool | None:
    """Whether a comparison holds; None where it is not known."""
    if isinstance(op, ast.Is | ast.IsNot | ast.Eq | ast.NotEq):
        equal: bool | None = None
        if is_flat(left) and is_flat(right):
            equal = left == right
        elif left is right:
            equal = True
        elif left is None or right is None:
            other = right if left is None else left
            equal = None if isinstance(other, Opaque) and not other.is_object else False
        elif isinstance(left, Opaque) and isinstance(right, Opaque) and "library" == left.kind == right.kind:
            equal = left.name == right.name
        elif isinstance(left, Class | Function) and isinstance(right, Class | Function):
            equal = False
        return equal if equal is None or isinstance(op, ast.Is | ast.Eq) else not equal
    if isinstance(op, ast.In | ast.NotIn):
        known = isinstance(right, list | tuple | dict | set | str) and is_flat(left)
        if not known or (isinstance(right, list | tuple) and not all(map(is_flat, right))):
            return None
        try:
            return (left in right) is isinstance(op, ast.In)
        except TypeError:
            return None
    if is_flat(left) and is_flat(right):
        try:
            return _ORDERS[type(op)](left, right)
        except TypeError:
            return None
    return None


def formatted(value: Any, spec: Any) -> Any:
    """A value as an f-string has it; None where that is not known."""
    if not is_scalar(value) or not isinstance(spec, str) or not _SPEC.fullmatch(spec):
        return None
    try:
        return format(value, spec) if value is not None else str(value)
    except (ValueError, TypeError):
        return None


def native_method(owner: Any, name: str, args: list[Any], kwargs: Mapping[str, Any]) -> Any:
    """A method of a list, a dict or a text, where it takes little time and memory."""
    longest = max((len(arg) for arg in args if isinstance(arg, list | tuple | dict | str)), default=0)
    if len(owner) + longest > LONGEST:
        raise ValueError
    if isinstance(owner, str):
        flat = [each for arg in args for each in (arg if isinstance(arg, list | tuple) else [arg])]
        if not all(map(is_scalar, flat)) or (name == "format" and not _FIELDS.fullmatch(owner)):
            raise ValueError
        if name in ("replace", "join") and sum(len(str(each)) for each in flat) * (len(owner) + 1) > LONGEST:
            raise ValueError
    elif name in ("index", "count", "sort", "remove"):
        if not all(map(is_scalar, [*owner, *args])):
            raise ValueError
    elif isinstance(owner, dict | set) and name in ("get", "pop", "setdefault", "add"):
        if not is_key(args[0]):
            raise ValueError
    elif name == "extend" and not isinstance(args[0], list | tuple):
        raise ValueError
    if kwargs and not (name == "sort" and set(kwargs) == {"reverse"} and type(kwargs["reverse"]) is bool):
        raise ValueError
    result = getattr(owner, name)(*args, **kwargs)
    return list(result) if name in ("items", "keys", "values") else result
