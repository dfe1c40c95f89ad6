"""What an assignment does to names, the attributes of objects and modules, and items of lists and dicts."""

import ast
from typing import Any

from audit.notebook.natives import LONGEST, is_key, name_of
from audit.notebook.state import Frame, Run
from audit.notebook.values import (
    Class,
    Instance,
    Method,
    Module,
    Opaque,
    Package,
    Refused,
    Scope,
    Site,
    Tensor,
    Unfollowed,
)


def assign(run: Run, target: ast.expr, value: Any, frame: Frame) -> None:
    """What target = value does."""
    site = Site(frame.unit, target)
    match target:
        case ast.Name(id=name):
            scope = frame.scope.shared.get(name, frame.scope)
            scope.names[name] = value
            run.note_field(name, value, site)
        case ast.Attribute(value=owner, attr=name):
            set_attribute(run, run.evaluate(owner, frame), name, value, site)
        case ast.Subscript(value=owner, slice=key):
            _set_item(run, run.evaluate(owner, frame), run.evaluate(key, frame), value, site)
        case ast.Tuple(elts=targets) | ast.List(elts=targets):
            _unpack(run, targets, value, site, frame)
        case ast.Starred(value=inner):
            assign(run, inner, value, frame)


def _unpack(run: Run, targets: list[ast.expr], value: Any, site: Site, frame: Frame) -> None:
    items = run.items(value)
    starred = [index for index, each in enumerate(targets) if isinstance(each, ast.Starred)]
    if items is not None and len(starred) == 1 and len(items) >= len(targets) - 1:
        start, after = starred[0], len(targets) - starred[0] - 1
        stop = len(items) - after
        items = [*items[:start], items[start:stop], *items[stop:]]
    if items is None or len(items) != len(targets):
        name = name_of(value)
        items = [
            Opaque("item", f"item {index} of {name}", site, of=value, args=(index,))
            for index in range(len(targets))
        ]
    for target, item in zip(targets, items, strict=True):
        assign(run, target, item, frame)


def set_attribute(run: Run, owner: Any, name: str, value: Any, site: Site) -> None:
    """What owner.name = value does."""
    run.note_field(name, value, site)
    match owner:
        case Instance(attributes=names) | Class(names=names) | Package(scope=Scope(names=names)):
            if name in names and not run.is_certain(owner):
                value = run.one_of([names[name], value], site)
            names[name] = value
        case Module():
            raise Unfollowed(site, f"a layer's {name} is set after it was made")
        case Tensor():
            raise Refused(site, "what is set in the images is not followed")
        case Opaque():
            owner.attributes[name] = value
            run.record(owner, site, key=name, value=value)


def _set_item(run: Run, owner: Any, key: Any, value: Any, site: Site) -> None:
    if isinstance(owner, Opaque):
        run.record(owner, site, key=key, value=value)
    elif isinstance(owner, dict | list) and not run.is_certain(owner):
        run.lose(owner)
    elif (isinstance(owner, dict) and is_key(key) and len(owner) < LONGEST) or (
        isinstance(owner, list) and isinstance(key, int) and -len(owner) <= key < len(owner)
    ):
        owner[key] = value
    elif isinstance(owner, dict | list):
        run.lose(owner)
    elif isinstance(owner, Tensor | Module | Instance | Method):
        raise Unfollowed(site, "what is set there is not followed")
