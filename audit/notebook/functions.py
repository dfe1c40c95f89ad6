"""Python's own functions, and those of its libraries, that a submission's code may hang on."""

import ast
import builtins
import math
from collections.abc import Callable, Mapping
from typing import Any

from audit.notebook.library import OBJECTS, bind
from audit.notebook.natives import LONGEST, MOST_TURNS, is_bounded, is_key
from audit.notebook.state import Given, Run
from audit.notebook.values import (
    Bound,
    Class,
    Function,
    Instance,
    Module,
    Opaque,
    Partial,
    Tensor,
)

UNKNOWN: Any = object()


def builtin(name: str, given: Given) -> Any:
    """What one of Python's own functions returns; UNKNOWN where it is not one that is known here."""
    run, first, args, kwargs = given.run, given.first, given.args, given.kwargs
    match name:
        case "print":
            run.record(given.result(Opaque("library", "print")), given.site)
            return None
        case "len":
            return _length(run, first)
        case "range" if args and all(isinstance(arg, int) for arg in args):
            try:
                return range(*args)
            except (TypeError, ValueError):
                return UNKNOWN
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
            return True if isinstance(first, Function | Bound | Class) else UNKNOWN
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
    if isinstance(value, Opaque):
        if value.function == "torch.utils.data.DataLoader":
            given = bind(OBJECTS[value.function], value.args, value.kwargs)
            if isinstance(given, dict):
                images, size = _length(run, given["dataset"]), given.get("batch_size", 1)
                if isinstance(images, int) and isinstance(size, int) and size > 0:
                    return images // size if given.get("drop_last") is True else -(-images // size)
        if value.function == "torchvision.datasets.MNIST":
            given = bind(OBJECTS[value.function], value.args, value.kwargs)
            if isinstance(given, dict) and isinstance(given.get("train", True), bool):
                return 60_000 if given.get("train", True) else 10_000
        return UNKNOWN
    if isinstance(value, Tensor):
        return value.shape[0]
    if isinstance(value, Module | Instance) and (items := run.items(value)) is not None:
        return len(items)
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
    known = {
        "int": int,
        "float": float,
        "str": str,
        "list": list,
        "tuple": tuple,
        "dict": dict,
        "bool": bool,
    }
    return isinstance(value, known[of.name]) if of.name in known else False


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


def parsed_arguments(owner: Opaque, method: str, given: Given) -> Opaque | None:
    """The defaults of the command line's arguments, which the code is taken to be run with."""
    if owner.function != "argparse.ArgumentParser":
        return None
    args, kwargs, site = given.args, given.kwargs, given.site
    if method == "add_argument" and args and all(isinstance(arg, str) for arg in args):
        name = next((arg for arg in args if arg.startswith("--")), args[0]).lstrip("-").replace("-", "_")
        default = False if kwargs.get("action") == "store_true" else kwargs.get("default")
        owner.attributes.setdefault("(defaults)", {})[kwargs.get("dest", name)] = default
        return Opaque("unknown", "an argument", site)
    if method in ("parse_args", "parse_known_args"):
        return Opaque("call", site.text, site, attributes=dict(owner.attributes.get("(defaults)", {})))
    return None
