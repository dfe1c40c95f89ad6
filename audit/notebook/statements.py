"""What the statements of a submission's code do to names, objects and modules; one function a kind."""

import ast
import re
import sys
from collections.abc import Callable
from typing import Any

from audit.notebook import calls, tensors
from audit.notebook.calls import assign
from audit.notebook.cells import parse
from audit.notebook.expressions import evaluate, make_function, operate
from audit.notebook.library import canonical
from audit.notebook.natives import LONGEST, MOST_TURNS, is_key, is_same, name_of
from audit.notebook.state import Frame, Given, Run, Signal
from audit.notebook.values import (
    Class,
    Function,
    Instance,
    Loop,
    Module,
    Opaque,
    Package,
    Partial,
    Refused,
    Scope,
    Site,
    Tensor,
    Unfollowed,
    Unit,
)


def follow(run: Run, code: str, unit: Unit, scope: Scope) -> None:
    """Follow a cell or a file; names that hang on what is refused are not known."""
    frame = Frame(scope, unit)
    for statement in parse(code).body:
        try:
            _statement(run, statement, frame)
        except (Refused, RecursionError) as error:  # said where the network hangs on it
            forget([statement], frame, Site(unit, statement))
            if isinstance(error, Unfollowed):
                run.unfollowed = error


def block(run: Run, statements: list[ast.stmt], frame: Frame) -> Signal | None:
    """Follow some statements; how they end where they do not go on to the next."""
    for statement in statements:
        signal = _statement(run, statement, frame)
        if signal is not None:
            return signal
    return None


def _statement(run: Run, node: ast.stmt, frame: Frame) -> Signal | None:
    run.count(node, frame)
    site = Site(frame.unit, node)
    match node:  # type aliases, async and the like change nothing known
        case ast.Expr():
            evaluate(run, node.value, frame)
        case ast.Assign():
            value = evaluate(run, node.value, frame)
            for target in node.targets:
                assign(run, target, value, frame)
        case ast.AnnAssign(value=ast.expr() as given):
            assign(run, node.target, evaluate(run, given, frame), frame)
        case ast.AugAssign():
            _augmented(run, node, frame)
        case ast.Return() | ast.Break() | ast.Continue():
            return _end(run, node, frame)
        case ast.Raise() if frame.strict:
            raise Refused(site, "the code stops here with an error")
        case ast.Raise():
            return Signal("raise")
        case ast.Global():
            frame.scope.shared |= dict.fromkeys(node.names, frame.scope.outermost)
        case ast.Nonlocal():
            for name in node.names:
                around = [scope for scope in list(frame.scope.chain())[1:] if name in scope.names]
                if around:
                    frame.scope.shared[name] = around[0]
        case ast.Delete():
            _delete(run, node, frame)
        case ast.If():
            holds = run.truth(evaluate(run, node.test, frame))
            if holds is not None:
                return block(run, node.body if holds else node.orelse, frame)
            site = Site(frame.unit, node.test)
            frame.require_known(site, "the condition is not known without running the code")
            return _branches(run, [node.body, node.orelse], frame, site)
        case ast.For():
            return _for(run, node, frame)
        case ast.While():
            return _while(run, node, frame)
        case ast.With():
            for item in node.items:
                value = evaluate(run, item.context_expr, frame)
                if item.optional_vars is not None:
                    assign(run, item.optional_vars, value, frame)
            return block(run, node.body, frame)
        case ast.Try():
            return _try(run, node, frame)
        case ast.FunctionDef():
            _function(run, node, frame)
        case ast.ClassDef():
            _class(run, node, frame)
        case ast.Import():
            _import(run, node, frame)
        case ast.ImportFrom():
            _import_from(run, node, frame)
    return None


def _augmented(run: Run, node: ast.AugAssign, frame: Frame) -> None:
    site = Site(frame.unit, node)
    before, right = evaluate(run, node.target, frame), evaluate(run, node.value, frame)
    after = operate(run, node.op, before, right, site, frame)
    if isinstance(before, list | dict | set):  # changes it for all who hold it
        items = run.items(right)
        if isinstance(before, list) and isinstance(node.op, ast.Add) and items is not None:
            after = [*before, *items]
        if not run.is_certain(before) or type(after) is not type(before) or len(after) > LONGEST:
            run.lose(before)
        elif isinstance(before, list):
            before[:] = after
        else:
            before.update(after)
        after = before
    if isinstance(before, Tensor):
        after = tensors.overwritten(before, after, site)
    assign(run, node.target, after, frame)


def _end(run: Run, node: ast.Return | ast.Break | ast.Continue, frame: Frame) -> Signal:
    """What ends a turn of a loop, or the loop, is remembered: not all of it may be done."""
    value = evaluate(run, node.value, frame) if isinstance(node, ast.Return) and node.value else None
    kind, site = type(node).__name__.lower(), Site(frame.unit, node)
    if run.loops and run.loops[-1].depth == run.depth:
        run.record(Opaque("end", kind, site), site)
    return Signal(kind, value)


def _delete(run: Run, node: ast.Delete, frame: Frame) -> None:
    for target in node.targets:
        if isinstance(target, ast.Name):
            frame.scope.names.pop(target.id, None)
        elif isinstance(target, ast.Attribute):
            owner = evaluate(run, target.value, frame)
            if isinstance(owner, Instance):
                owner.attributes.pop(target.attr, None)
        elif isinstance(target, ast.Subscript):
            owner, key = evaluate(run, target.value, frame), evaluate(run, target.slice, frame)
            is_there = isinstance(owner, dict) and is_key(key) and key in owner
            if isinstance(owner, list) and isinstance(key, int):
                is_there = -len(owner) <= key < len(owner)
            if is_there and run.is_certain(owner):
                del owner[key]
            elif isinstance(owner, list | dict):
                run.lose(owner)
            elif isinstance(owner, Module | Instance):
                raise Unfollowed(Site(frame.unit, node), "a part of a module is taken away")


def _branches(run: Run, bodies: list[list[ast.stmt]], frame: Frame, site: Site) -> Signal | None:
    """Follow each of some blocks of which one is run; names that differ afterwards are not known."""
    before = dict(frame.scope.names)
    signals, ends = [], []
    run.conditional += 1
    for body in bodies:
        frame.scope.names = dict(before)
        with run.uncertain():
            signals.append(block(run, body, frame))
        ends.append(frame.scope.names)
    run.conditional -= 1
    frame.returned += [signal.value for signal in signals if signal and signal.kind == "return"]
    if all(signal and signal.kind in ("return", "raise") for signal in signals):
        frame.scope.names = ends[0]
        return Signal("return", run.one_of(frame.returned, site))
    going_on = [end for end, signal in zip(ends, signals, strict=True) if signal is None] or ends
    names = dict(going_on[0])
    for end in going_on[1:]:
        for name in names.keys() | end.keys():
            # A name that only one branch defines has that value wherever it is used.
            both = [each[name] for each in (names, end) if name in each]
            names[name] = run.one_of(both, site)
    frame.scope.names = names
    return None


def _for(run: Run, node: ast.For, frame: Frame) -> Signal | None:
    over = evaluate(run, node.iter, frame)
    site = Site(frame.unit, node)
    items = run.items(over)
    if items is None:
        frame.require_known(site, "the loop goes over what is not known without running the code")
        item = Opaque("item", f"an item of {name_of(over)}", site, of=over)
        return _unknown_loop(run, node, over, lambda: assign(run, node.target, item, frame), frame)
    if len(items) > MOST_TURNS:
        frame.require_known(site, f"the loop has {len(items):,} turns, more than are followed")
        items = items[:2]
        signal = _turns(run, node, over, items, frame)
        forget(node.body, frame, site)
        return signal
    return _turns(run, node, over, items, frame)


def _turns(run: Run, node: ast.For, over: Any, items: list[Any], frame: Frame) -> Signal | None:
    run.loops.append(Loop(Site(frame.unit, node), over, True, run.depth))
    try:
        for item in items:
            assign(run, node.target, item, frame)
            signal = block(run, node.body, frame)
            if signal and signal.kind == "break":
                return None
            if signal and signal.kind != "continue":
                return signal
    finally:
        run.loops.pop()
    return block(run, node.orelse, frame)


def _while(run: Run, node: ast.While, frame: Frame) -> Signal | None:
    site = Site(frame.unit, node.test)
    for _ in range(MOST_TURNS):
        holds = run.truth(evaluate(run, node.test, frame))
        if holds is None:
            frame.require_known(site, "the condition is not known without running the code")
            return _unknown_loop(run, node, None, lambda: None, frame)
        if not holds:
            return block(run, node.orelse, frame)
        run.loops.append(Loop(site, None, True, run.depth))
        try:
            signal = block(run, node.body, frame)
        finally:
            run.loops.pop()
        if signal and signal.kind == "break":
            return None
        if signal and signal.kind != "continue":
            return signal
    frame.require_known(site, f"the loop has more than {MOST_TURNS:,} turns")
    forget(node.body, frame, site)
    return None


def _unknown_loop(
    run: Run, node: ast.For | ast.While, over: Any, begin: Callable[[], None], frame: Frame
) -> Signal | None:
    """One turn that stands for all; numbers that it changes are not known afterwards."""
    before = dict(frame.scope.names)
    run.loops.append(Loop(Site(frame.unit, node), over, False, run.depth))
    try:
        with run.uncertain():
            begin()
            signal = block(run, node.body, frame)
    finally:
        run.loops.pop()
    if signal and signal.kind == "return":
        frame.returned.append(signal.value)
    for name, value in frame.scope.names.items():
        if name not in before:
            is_known = isinstance(value, bool | int | float | str)  # of one turn alone
        else:
            is_known = not isinstance(value, Opaque) or value.is_object
        if is_known and not is_same(before.get(name), value):
            frame.scope.names[name] = Opaque("unknown", name, Site(frame.unit, node))
    return block(run, node.orelse, frame)


def _try(run: Run, node: ast.Try, frame: Frame) -> Signal | None:
    signal = block(run, node.body, frame)
    if signal and signal.kind == "raise" and node.handlers:
        signal = block(run, node.handlers[0].body, frame)
    elif signal is None:
        signal = block(run, node.orelse, frame)
    return block(run, node.finalbody, frame) or signal


def _function(run: Run, node: ast.FunctionDef, frame: Frame) -> None:
    value: Any = make_function(run, node, frame)
    for decorator in reversed(node.decorator_list):
        by = evaluate(run, decorator, frame)
        if isinstance(by, Opaque) and by.name in ("staticmethod", "classmethod", "property"):
            value.kind = by.name
        elif isinstance(by, Function | Partial):
            value = calls.call(by, Given(run, (value,), {}, Site(frame.unit, decorator), frame))
    frame.scope.names[node.name] = value


def _class(run: Run, node: ast.ClassDef, frame: Frame) -> None:
    bases = tuple(evaluate(run, base, frame) for base in node.bases)
    scope = Scope({}, parent=frame.scope, is_class=True)
    inside = Frame(scope, frame.unit)
    cls = Class(node.name, bases, scope.names, Site(frame.unit, node))
    inside.cls = cls
    block(run, node.body, inside)
    cls.names = scope.names
    for value in cls.names.values():
        if isinstance(value, Function):
            value.owner = cls
    annotated = [each.target for each in node.body if isinstance(each, ast.AnnAssign)]
    cls.fields = tuple(target.id for target in annotated if isinstance(target, ast.Name))
    decorators = [evaluate(run, each, frame) for each in node.decorator_list]
    cls.is_dataclass = any("dataclass" in name_of(each) for each in decorators)
    if cls.torch_base:
        run.classes.pop(cls.name, None)
        run.classes[cls.name] = cls
    frame.scope.names[node.name] = cls


_LIBRARY = re.compile(
    r"torch(vision|summary|info|metrics|viz|_lr_finder)?|(pytorch_)?lightning|accelerate|ignite|timm|fastai|numpy|scipy|"
    r"pandas|sklearn|skimage|matplotlib|seaborn|plotly|PIL|cv2|albumentations|tensorflow|tensorboardX|keras|tqdm|rich|"
    r"wandb|optuna|IPython|google|yaml"
)


def _note_absent(run: Run, name: str, level: int) -> None:
    """Remember a module that is not there: the submission's own, most likely."""
    first = name.partition(".")[0]
    if level or (not _LIBRARY.fullmatch(first) and first not in sys.stdlib_module_names):
        run.absent.add(name)


def _import(run: Run, node: ast.Import, frame: Frame) -> None:
    """import a, b.c as d."""
    for alias in node.names:
        package = run.package(alias.name, frame.unit, 0)
        first = alias.name.partition(".")[0]
        if package is None:
            _note_absent(run, alias.name, 0)
        if alias.asname or "." not in alias.name:
            value: Any = package or Opaque("library", canonical(alias.name))
            frame.scope.names[alias.asname or alias.name] = value
        elif package is None:
            frame.scope.names[first] = Opaque("library", first)
        else:  # import models.model
            _assign_dotted(alias.name.split("."), package, frame)


def _assign_dotted(names: list[str], package: Package, frame: Frame) -> None:
    outer = frame.scope.names
    for name in names[:-1]:
        if not isinstance(outer.get(name), Package):
            outer[name] = Package(name, Scope({}))
        outer = outer[name].scope.names
    outer[names[-1]] = package


def _import_from(run: Run, node: ast.ImportFrom, frame: Frame) -> None:
    """from a import b as c, *."""
    package = run.package(node.module or "", frame.unit, node.level)
    if package is None and node.module:
        _note_absent(run, node.module, node.level)
    for alias in node.names:
        name = alias.asname or alias.name
        if package is not None and alias.name == "*":
            names = {key: value for key, value in package.scope.names.items() if not key.startswith("_")}
            frame.scope.names |= names
        elif package is not None and alias.name in package.scope.names:
            frame.scope.names[name] = package.scope.names[alias.name]
        elif alias.name == "*":
            frame.scope.names.setdefault("(stars)", []).append(node.module or "")
        else:
            inner = run.package(f"{node.module or ''}.{alias.name}".strip("."), frame.unit, node.level)
            library = canonical(f"{node.module}.{alias.name}")
            frame.scope.names[name] = inner or Opaque("library", library)


def forget(statements: list[Any], frame: Frame, site: Site) -> None:
    """Names that these statements set are not known."""
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                frame.scope.names[node.id] = Opaque("unknown", node.id, site)
