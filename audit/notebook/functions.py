"""Python's own functions, and those of its libraries, that a submission's code may hang on."""

import ast
import builtins
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from audit.notebook.datasets import count
from audit.notebook.natives import LONGEST, MOST_TURNS, is_bounded, is_key, is_scalar
from audit.notebook.state import Given, Run
from audit.notebook.values import Class, Function, Instance, Module, Opaque, Partial, Tensor

UNKNOWN: Any = object()
_MOST_PRINTED = 100


def builtin(name: str, given: Given) -> Any:
    """What one of Python's own functions returns; UNKNOWN where it is not one that is known here."""
    run, first, args, kwargs = given.run, given.first, given.args, given.kwargs
    match name:
        case "print":
            run.record(given.result(Opaque("library", "print")), given.site)
            return None
        case "len":
            return _length(run, first)
        case "range" if all(isinstance(arg, int) for arg in args):
            return _of_numbers(range, args, kwargs)
        case "enumerate" if (items := run.items(first)) is not None:
            start = args[1] if len(args) > 1 else kwargs.get("start", 0)
            if isinstance(start, int):
                return [(start + index, item) for index, item in enumerate(items)]
        case "zip" if args:
            lists = [run.items(arg) for arg in args]
            known = [each for each in lists if each is not None]
            if len(known) == len(lists):
                return list(zip(*known, strict=False))
        case _ if name.startswith("tqdm.") and (items := run.items(first)) is not None:
            return items
        case "tqdm.trange" | "tqdm.notebook.trange" | "tqdm.auto.trange" if args:
            return builtin("range", given.only(*args))
        case "list" | "tuple" | "set" | "reversed" | "iter":
            items = run.items(first) if args else []
            if items is not None and len(items) <= MOST_TURNS:
                if name == "set":
                    return run.new(set(items)) if all(map(is_key, items)) else UNKNOWN
                if name == "tuple":
                    return tuple(items)
                return run.new(items[::-1] if name == "reversed" else items)
        case "dict" | "collections.OrderedDict":
            pairs = [] if not args else list(first.items()) if isinstance(first, dict) else run.items(first)
            if pairs is not None and "(unknown)" not in kwargs:
                usable = [pair for pair in pairs if isinstance(pair, tuple | list) and len(pair) == 2]
                if len(usable) == len(pairs) and all(is_key(key) for key, _ in usable):
                    return run.new({**{key: value for key, value in usable}, **kwargs})
        case "int" | "float" | "bool" | "str" | "abs" | "round" | "divmod" | "pow":
            return _of_numbers(getattr(builtins, name), args, kwargs)
        case "max" | "min" | "sum" | "sorted" | "any" | "all":
            values = run.items(first) if len(args) == 1 else list(args)
            if values is not None and not kwargs and len(values) <= LONGEST:
                return _of_numbers(getattr(builtins, name), (values,), {})
        case "isinstance" if len(args) == 2:
            return _is_instance(first, args[1])
        case "hasattr" if len(args) == 2 and isinstance(args[1], str):
            if isinstance(first, Instance):
                has = args[1] in first.attributes or first.cls.find(args[1]) is not None
                return has or (UNKNOWN if first.is_module else False)
            if isinstance(first, Module):
                return args[1] in first.arguments or args[1] in first.children or UNKNOWN
        case "callable":
            return True if isinstance(first, Function | Partial | Class) else UNKNOWN
        case "type" if len(args) == 1:
            if isinstance(first, Instance):
                return first.cls
            if isinstance(first, Module):
                return Opaque("library", f"torch.nn.{first.kind}")
        case "functools.partial" if args:
            return Partial(first, args[1:], kwargs)
        case "copy.deepcopy" | "copy.copy":
            return _copied(first, {})
        case "math.floor" | "math.ceil" | "math.sqrt" | "math.log" | "math.prod" | "math.log2":
            return _of_numbers(getattr(math, name.removeprefix("math.")), args, kwargs)
    return UNKNOWN


def printed(values: Sequence[Any]) -> str:
    """What print writes of some values, without those that are not known; of dicts name=value."""
    return " ".join(map(_written, values[:_MOST_PRINTED]))[:LONGEST]


def _written(value: Any) -> str:
    match value:
        case Opaque() if value.name == "a text":  # an f-string's parts
            return "".join(map(_written, value.args))
        case Opaque() | Instance() if value.attributes:
            return _written(value.attributes)
        case dict():
            return ", ".join(
                f"{key}={_written(each)}" for key, each in [*value.items()][:_MOST_PRINTED] if is_scalar(each)
            )
    return str(value) if is_scalar(value) else "?"


def _of_numbers(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What a function of numbers and texts returns."""
    values = [each for arg in args for each in (arg if isinstance(arg, list) else [arg])]
    if kwargs or not all(isinstance(value, bool | int | float | str) for value in values):
        return UNKNOWN
    if function is pow and not is_bounded(ast.Pow(), *args[:2]):
        return UNKNOWN
    try:
        return function(*args)
    except (ArithmeticError, TypeError, ValueError):
        return UNKNOWN


def _length(run: Run, value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.shape[0]
    if isinstance(value, Module | Instance) and (items := run.items(value)) is not None:
        return len(items)
    if isinstance(value, Opaque | Instance):
        length = count(run, value)
        return UNKNOWN if length is None else length
    if id(value) in run.lost:
        return UNKNOWN
    return len(value) if isinstance(value, list | tuple | dict | str | set | range) else UNKNOWN


def _is_instance(value: Any, of: Any) -> Any:
    if isinstance(of, tuple):
        answers = [_is_instance(value, each) for each in of]
        return True if True in answers else UNKNOWN if UNKNOWN in answers else False
    if isinstance(of, Class):
        return isinstance(value, Instance) and of in value.cls.lineage
    if not isinstance(of, Opaque) or of.kind != "library":
        return UNKNOWN
    if isinstance(value, Module | Instance):
        base = value.kind if isinstance(value, Module) else value.cls.torch_base
        if of.name == "torch.nn.Module":
            return base != ""
        return of.name == f"torch.nn.{base}" if of.name.startswith("torch.nn.") else False
    if isinstance(value, Opaque):
        return of.name == value.function if value.is_object and value.function else UNKNOWN
    known = {each.__name__: each for each in (int, float, str, list, tuple, dict, bool)}
    return of.name in known and isinstance(value, known[of.name])


def _copied(value: Any, done: dict[int, Any]) -> Any:
    """A module with all those in it as new ones; lists and dicts of them, too."""
    if id(value) in done:
        return done[id(value)]
    copy: Any = value
    match value:
        case Module():
            copy = done[id(value)] = Module(value.kind, dict(value.arguments), value.site)
            copy.children = {name: _copied(child, done) for name, child in value.children.items()}
        case Instance():
            copy = done[id(value)] = Instance(value.cls, value.site, refused=value.refused)
            copy.attributes = {name: _copied(child, done) for name, child in value.attributes.items()}
            copy.layer = _copied(value.layer, done)
        case list():
            copy = done[id(value)] = []
            copy += [_copied(item, done) for item in value]
        case dict():
            copy = done[id(value)] = {}
            copy |= {key: _copied(item, done) for key, item in value.items()}
    return copy


def parsed_arguments(owner: Opaque, method: str, given: Given) -> Any:
    """The defaults of the command line's arguments, which the code is taken to be run with."""
    if owner.function != "argparse.ArgumentParser":
        return None
    args, kwargs, site = given.args, given.kwargs, given.site
    defaults = owner.attributes.setdefault("(defaults)", {})
    match method:
        case "add_argument" if args and all(isinstance(arg, str) for arg in args):
            name = next((arg for arg in args if arg.startswith("--")), args[0]).lstrip("-").replace("-", "_")
            switched = {"store_true": False, "store_false": True}.get(str(kwargs.get("action")))
            default, kind = kwargs.get("default", switched), kwargs.get("type")
            if isinstance(default, str) and isinstance(kind, Opaque) and kind.name in ("int", "float"):
                default = _of_numbers(getattr(builtins, kind.name), (default,), {})
            defaults[kwargs.get("dest", name)] = default
        case "set_defaults":
            defaults |= kwargs
        case "add_argument_group" | "add_mutually_exclusive_group":
            return owner
        case "parse_args" | "parse_known_args":
            parsed = Opaque("call", site.text, site, attributes=_with_given(defaults, given.first))
            return parsed if method == "parse_args" else (parsed, [])
    return None


def _with_given(defaults: Mapping[str, Any], given: Any) -> dict[str, Any]:
    """Arguments with those of a list of words, such as ["--lr", "0.1"], in place of their defaults."""
    values, words = dict(defaults), given if isinstance(given, list | tuple) else []
    for word, after in itertools.pairwise([*words, ""]):
        if isinstance(word, str) and word.startswith("--") and isinstance(after, str):
            name, equals, value = word.lstrip("-").partition("=")
            name, value = name.replace("-", "_"), value if equals else after
            kind = type(values.get(name))
            if kind in (int, float, str):
                values[name] = _of_numbers(kind, (value,), {})
            elif kind is bool:
                values[name] = not values[name]
    return values
