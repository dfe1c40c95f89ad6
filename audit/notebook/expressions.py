"""What the expressions of a submission's code are; one function a kind."""

import ast
import builtins
from collections.abc import Callable
from typing import Any

from audit.notebook import calls, natives, tensors
from audit.notebook.calls import assign
from audit.notebook.library import LAYERS, OBJECTS, canonical
from audit.notebook.modules import find_child
from audit.notebook.state import Frame, Given, Run
from audit.notebook.values import Class, Function, Instance, Module, Opaque, Scope, Site, Super, Tensor


def evaluate(run: Run, node: ast.expr, frame: Frame) -> Any:
    """What an expression is."""
    run.count(node, frame)
    site = Site(frame.unit, node)
    match node:
        case ast.Constant(value=int(number)) if number.bit_length() > natives.MOST_BITS:
            return Opaque("unknown", "a number", site)
        case ast.Constant():
            return node.value
        case ast.Name():
            return _name(run, node, frame)
        case ast.NamedExpr():
            value = evaluate(run, node.value, frame)
            assign(run, node.target, value, frame)
            return value
        case ast.Tuple() | ast.List() | ast.Set():
            kind, elements = type(node).__name__.lower(), _elements(run, node.elts, frame)
            if elements is None or (kind == "set" and not all(map(natives.is_key, elements))):
                return Opaque("unknown", f"a {kind}", site)
            return (
                tuple(elements) if kind == "tuple" else run.new(elements if kind == "list" else set(elements))
            )
        case ast.Dict():
            return _dict(run, node, frame)
        case ast.JoinedStr():
            return _joined(run, node, frame)
        case ast.Attribute():
            return calls.attribute(run, evaluate(run, node.value, frame), node.attr, site, frame)
        case ast.Subscript():
            return _subscript(run, node, frame)
        case ast.Slice():
            parts = [part and evaluate(run, part, frame) for part in (node.lower, node.upper, node.step)]
            known = all(part is None or isinstance(part, int) for part in parts)
            return slice(*parts) if known else Opaque("unknown", "a slice", site)
        case ast.BinOp():
            left, right = evaluate(run, node.left, frame), evaluate(run, node.right, frame)
            return operate(run, node.op, left, right, site, frame)
        case ast.UnaryOp():
            return _unary(run, node, frame)
        case ast.BoolOp():
            return _boolean(run, node, frame)
        case ast.Compare():
            return _compare(run, node, frame)
        case ast.IfExp():
            return _choice(run, node, frame)
        case ast.Lambda():
            return make_function(run, node, frame)
        case ast.ListComp() | ast.GeneratorExp():
            return _comprehension(run, node, frame, lambda inside: evaluate(run, node.elt, inside))
        case ast.DictComp():
            both = [node.key, node.value]
            items = _comprehension(
                run, node, frame, lambda inside: [evaluate(run, each, inside) for each in both]
            )
            known = isinstance(items, list) and all(natives.is_key(key) for key, _ in items)
            return dict(items) if known else Opaque("unknown", "a dict", site)
        case ast.Call():
            return _call(run, node, frame)
    return Opaque("unknown", site.text, site)


def _name(run: Run, node: ast.Name, frame: Frame) -> Any:
    shared = frame.scope.shared.get(node.id)
    for scope in [shared] if shared else frame.scope.chain():
        if node.id in scope.names:
            return scope.names[node.id]
    if hasattr(builtins, node.id):
        return Opaque("library", node.id)
    for star in reversed(frame.scope.outermost.names.get("(stars)", [])):
        name = canonical(f"{star}.{node.id}")
        if name in OBJECTS or name.removeprefix("torch.nn.") in LAYERS:
            return Opaque("library", name)
    run.undefined.add(node.id)
    return Opaque("unknown", f"{node.id}, which nothing defines", Site(frame.unit, node))


def _elements(run: Run, nodes: list[ast.expr], frame: Frame) -> list[Any] | None:
    items: list[Any] = []
    for node in nodes:
        if isinstance(node, ast.Starred):
            inside = run.items(evaluate(run, node.value, frame))
            if inside is None or len(items) + len(inside) > natives.LONGEST:
                return None
            items += inside
        else:
            items.append(evaluate(run, node, frame))
    return items


def _dict(run: Run, node: ast.Dict, frame: Frame) -> Any:
    made: dict[Any, Any] = {}
    for key_node, value_node in zip(node.keys, node.values, strict=True):
        value = evaluate(run, value_node, frame)
        if key_node is None:
            if not isinstance(value, dict) or id(value) in run.lost:
                return Opaque("unknown", "a dict", Site(frame.unit, node))
            made |= value
            continue
        key = evaluate(run, key_node, frame)
        if not natives.is_key(key):
            return Opaque("unknown", "a dict", Site(frame.unit, node))
        made[key] = value
    return run.new(made)


def _joined(run: Run, node: ast.JoinedStr, frame: Frame) -> Any:
    parts, values = [], []
    for part in node.values:
        if isinstance(part, ast.Constant):
            parts.append(str(part.value))
            values.append(part.value)
            continue
        assert isinstance(part, ast.FormattedValue)
        value = evaluate(run, part.value, frame)
        spec = evaluate(run, part.format_spec, frame) if part.format_spec else ""
        parts.append(natives.formatted(value, spec))
        values.append(value)
    if any(part is None for part in parts) or sum(map(len, parts)) > natives.LONGEST:
        return Opaque("unknown", "a text", Site(frame.unit, node), args=tuple(values))
    return "".join(parts)


def _subscript(run: Run, node: ast.Subscript, frame: Frame) -> Any:
    site = Site(frame.unit, node)
    owner, key = run.known(evaluate(run, node.value, frame), site), evaluate(run, node.slice, frame)
    if isinstance(owner, Module | Instance):
        found = find_child(owner, key)
        if found is not None:
            return found
    if isinstance(owner, Tensor):
        return tensors.item(owner, key, site)
    if isinstance(owner, Opaque) and isinstance(key, str) and key in owner.attributes:
        return owner.attributes[key]
    try:
        if isinstance(owner, dict) and natives.is_key(key):
            return owner[key]
        if isinstance(owner, list | tuple | str | range) and isinstance(key, int | slice):
            return owner[key]
    except (LookupError, TypeError, ValueError):
        return Opaque("unknown", f"{site.text}, which is not there", site)
    return Opaque("item", f"{natives.name_of(owner)}[...]", site, of=owner, args=(key,))


def operate(run: Run, op: ast.operator, left: Any, right: Any, site: Site, frame: Frame) -> Any:
    """What an operator makes of two values."""
    if isinstance(left, Tensor) or isinstance(right, Tensor):
        return tensors.operate(type(op).__name__, left, right, site)
    if natives.is_bounded(op, left, right):
        try:
            return natives.OPERATORS[type(op)](left, right)
        except (ArithmeticError, TypeError, ValueError, LookupError, KeyError):
            pass
    result = Opaque("operation", site.text, site, args=(left, right))
    if isinstance(op, ast.Div):  # a mean, most likely
        run.record(result, site)
    return result


def _unary(run: Run, node: ast.UnaryOp, frame: Frame) -> Any:
    value, site = evaluate(run, node.operand, frame), Site(frame.unit, node)
    if isinstance(node.op, ast.Not):
        holds = run.truth(value)
        return not holds if holds is not None else Opaque("operation", site.text, site, args=(value,))
    if isinstance(value, bool | int | float):
        try:
            return natives.UNARY[type(node.op)](value)
        except TypeError:
            pass
    return Opaque("operation", site.text, site, args=(value,))


def _boolean(run: Run, node: ast.BoolOp, frame: Frame) -> Any:
    ends_at = isinstance(node.op, ast.Or)
    value: Any = None
    unknown = None
    for each in node.values:
        if unknown is None:
            value = evaluate(run, each, frame)
        else:
            with run.uncertain():
                value = evaluate(run, each, frame)
        holds = run.truth(value)
        if holds is ends_at:
            return value
        if holds is None:
            unknown = value
    return value if unknown is None else Opaque("operation", "a condition", Site(frame.unit, node))


def _compare(run: Run, node: ast.Compare, frame: Frame) -> Any:
    site = Site(frame.unit, node)
    left = run.known(evaluate(run, node.left, frame), site)
    for op, right_node in zip(node.ops, node.comparators, strict=True):
        right = run.known(evaluate(run, right_node, frame), site)
        holds = natives.compare(op, left, right)
        if holds is None:
            return Opaque("operation", site.text, site, args=(left, right))
        if not holds:
            return False
        left = right
    return True


def _choice(run: Run, node: ast.IfExp, frame: Frame) -> Any:
    holds = run.truth(evaluate(run, node.test, frame))
    if holds is None:
        site = Site(frame.unit, node.test)
        frame.require_known(site, "the condition is not known without running the code")
        with run.uncertain():
            return run.one_of([evaluate(run, node.body, frame), evaluate(run, node.orelse, frame)], site)
    return evaluate(run, node.body if holds else node.orelse, frame)


def make_function(run: Run, node: ast.FunctionDef | ast.Lambda, frame: Frame) -> Function:
    """The function of a def or a lambda, with its defaults."""
    defaults = tuple(evaluate(run, each, frame) for each in node.args.defaults)
    named = {
        arg.arg: evaluate(run, default, frame)
        for arg, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        if default is not None
    }
    name = node.name if isinstance(node, ast.FunctionDef) else "lambda"
    return Function(name, node, defaults, named, frame.scope, frame.unit, frame.cls)


def _comprehension(run: Run, node: Any, frame: Frame, make: Callable[[Frame], Any]) -> Any:
    inside = Frame(
        Scope({}, parent=frame.scope), frame.unit, frame.strict, frame.cls, frame.first, frame.returned
    )
    made: list[Any] = []

    def loop(generators: list[ast.comprehension]) -> bool:
        """Whether all is known."""
        if not generators:
            made.append(make(inside))
            return len(made) <= natives.LONGEST
        generator = generators[0]
        over = evaluate(run, generator.iter, inside)
        items = run.items(over)
        is_known = items is not None and len(items) <= natives.MOST_TURNS
        if items is None or not is_known:
            items = [Opaque("item", f"an item of {natives.name_of(over)}", Site(frame.unit, node), of=over)]
        for item in items:
            assign(run, generator.target, item, inside)
            holds = [run.truth(evaluate(run, test, inside)) for test in generator.ifs]
            if None in holds:
                is_known = False
            if False not in holds:
                is_known = loop(generators[1:]) and is_known
        return is_known

    if loop(node.generators):
        return run.new(made)
    return Opaque("unknown", "a list", Site(frame.unit, node), args=tuple(made[:1]))


def _call(run: Run, node: ast.Call, frame: Frame) -> Any:
    site = Site(frame.unit, node)
    function = evaluate(run, node.func, frame)
    if isinstance(function, Opaque) and function.name == "super" and function.kind == "library":
        return _super(run, node, frame)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for arg in node.args:
        if isinstance(arg, ast.Starred):
            inside = run.items(evaluate(run, arg.value, frame))
            if inside is None or len(args) + len(inside) > natives.LONGEST:
                frame.require_known(site, f"*{ast.unparse(arg.value)} is not known")
                return Opaque("call", site.text, site, of=function)
            args += inside
        else:
            args.append(evaluate(run, arg, frame))
    for keyword in node.keywords:
        value = evaluate(run, keyword.value, frame)
        if keyword.arg is not None:
            kwargs[keyword.arg] = value
        elif (
            isinstance(value, dict)
            and id(value) not in run.lost
            and all(isinstance(key, str) for key in value)
        ):
            kwargs |= value
        else:
            frame.require_known(site, f"**{ast.unparse(keyword.value)} is not known")
            kwargs["(unknown)"] = value
    return calls.call(function, Given(run, tuple(args), kwargs, site, frame))


def _super(run: Run, node: ast.Call, frame: Frame) -> Any:
    cls, first = frame.cls, frame.first
    if len(node.args) == 2:
        cls, first = (evaluate(run, arg, frame) for arg in node.args)
    if isinstance(cls, Class):
        return Super(cls, first)
    return Opaque("unknown", "super()", Site(frame.unit, node))
