"""Follows a submission's code without running it: what its statements do to names, objects and modules.

A value that comes from outside (a library's function, a file, the images) is Opaque and flows on as such. In
a module's constructor and in forward nothing may hang on it: there it is refused where a condition, a loop or
a layer would. Elsewhere both branches of such a condition are followed, and one turn of such a loop.
"""

import ast
import builtins
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from audit.notebook import calls, tensors
from audit.notebook.cells import Source, parse, read_code
from audit.notebook.frames import Frame, Signal, TooLong
from audit.notebook.functions import MOST_TURNS
from audit.notebook.library import CONTAINERS, LAYERS, OBJECTS, canonical
from audit.notebook.modules import (
    count_of_layer,
    find_child,
    is_module,
)
from audit.notebook.natives import (
    LONGEST,
    MOST_BITS,
    OPERATORS,
    UNARY,
    compare,
    formatted,
    is_bounded,
    is_key,
    is_same,
    name_of,
)
from audit.notebook.values import (
    Bound,
    Class,
    Event,
    Function,
    Instance,
    Loop,
    Method,
    Module,
    Opaque,
    Package,
    Refused,
    Scope,
    Site,
    Super,
    Tensor,
    Unfollowed,
    Unit,
)

_MOST_STEPS = 300_000
_MOST_EVENTS = 100_000
_MOST_FILES = 50
_MOST_FOLDERS = 4  # around the file's, in which an import is looked for


class Interpreter:
    """A submission's code, followed.

    Attributes:
      events: the calls of libraries in their order, and what is set in their values.
      scope: the file's names at its end.
      modules: the instances of the file's networks and their parts, in the order in which they are made.
      classes: the file's classes that are networks or parts of one, by name, the last one of a name.
      unfollowed: a change of a module outside of its class that is not followed; None without one.
      asked_for_cuda: whether the code asks for a GPU.
    """

    def __init__(self, source: Source, *, has_cuda: bool = True) -> None:
        self.source, self.has_cuda, self.asked_for_cuda = source, has_cuda, False
        self.training = True
        self.used: set[int] = set()  # ids of the layers that got images
        self.unfollowed: Unfollowed | None = None
        self.events: list[Event] = []
        self.modules: list[Instance] = []
        self.classes: dict[str, Class] = {}
        self.scope = Scope({"__name__": "__main__"})
        self._packages: dict[Path | str, Package] = {}
        self._written: dict[str, str] = {}
        self._undefined: set[str] = set()
        self._loops: list[Loop] = []
        self._contexts: tuple[int, ...] = (0,)  # each a branch or a turn that may not be run
        self._made: dict[int, tuple[Any, tuple[int, ...]]] = {}  # where lists and objects were made, by id
        self.lost: dict[int, Any] = {}  # lists and dicts that hold what is not known, by id
        self._steps = self.depth = self._conditional = self._entered = 0

    def run(self) -> "Interpreter":
        """Follow all cells in the file's order.

        A notebook whose cells need names that only later ones define was run otherwise: it is followed again
        with those names.

        Raises:
          TooLong: it takes too many steps.
        """
        self._cells()
        if self.source.is_notebook and any(name in self.scope.names for name in self._undefined):
            self.events, self.modules, self._loops = [], [], []
            self.lost, self._made = {}, {}
            self._cells()
        return self

    def _cells(self) -> None:
        for cell in self.source.cells:
            if cell.writes:
                self._written[Path(cell.writes).stem] = cell.code
            elif cell.code:
                number = cell.number if self.source.is_notebook else None
                unit = Unit(self.source.path.name, number, self.source.path.parent)
                self._follow(cell.code, unit, self.scope)

    def _follow(self, code: str, unit: Unit, scope: Scope) -> None:
        frame = Frame(scope, unit)
        for statement in parse(code).body:
            try:
                self._statement(statement, frame)
            except (Refused, RecursionError) as error:  # said where the network hangs on it
                self._forget([statement], frame, Site(unit, statement))
                if isinstance(error, Unfollowed):
                    self.unfollowed = error

    # What is certain

    @contextlib.contextmanager
    def _uncertain(self) -> Iterator[None]:
        """While something is followed that may not be run, or more than once."""
        before = self._contexts
        self._entered += 1
        self._contexts = (*before, self._entered)
        try:
            yield
        finally:
            self._contexts = before

    def new(self, value: Any) -> Any:
        """The same value; where it was made is remembered."""
        if len(self._contexts) > 1:
            self._made[id(value)] = value, self._contexts
        return value

    def is_certain(self, owner: Any) -> bool:
        """Whether a change of an object is made exactly once, seen from where the object was made."""
        _, made = self._made.get(id(owner), (None, (0,)))
        return self._contexts[-1] in made

    def lose(self, owner: Any) -> None:
        """What a list or a dict holds is not known any more."""
        self.lost[id(owner)] = owner

    def known(self, value: Any, site: Site) -> Any:
        """The same value, or an Opaque one in place of a list or a dict whose content is not known."""
        lost = isinstance(value, list | dict | set) and id(value) in self.lost
        return Opaque("unknown", f"a {type(value).__name__} that is not known", site) if lost else value

    # Statements

    def block(self, statements: list[ast.stmt], frame: Frame) -> Signal | None:
        """Follow some statements; how they end where they do not go on to the next."""
        for statement in statements:
            signal = self._statement(statement, frame)
            if signal is not None:
                return signal
        return None

    def _statement(self, node: ast.stmt, frame: Frame) -> Signal | None:
        self._count(node, frame)
        follow = getattr(self, f"_{type(node).__name__}", None)
        if follow is None:  # global statements, type aliases, async and the like change nothing known
            return None
        signal: Signal | None = follow(node, frame)
        return signal

    def _count(self, node: ast.AST, frame: Frame) -> None:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            site = Site(frame.unit, node)
            raise TooLong(
                f"{self.source.path.name} is not followed to its end: after {_MOST_STEPS:,} steps it is at "
                f"{site.place} ({site.text})"
            )

    def _Expr(self, node: ast.Expr, frame: Frame) -> None:
        self.value(node.value, frame)

    def _Assign(self, node: ast.Assign, frame: Frame) -> None:
        value = self.value(node.value, frame)
        for target in node.targets:
            self._assign(target, value, frame)

    def _AnnAssign(self, node: ast.AnnAssign, frame: Frame) -> None:
        if node.value is not None:
            self._assign(node.target, self.value(node.value, frame), frame)

    def _AugAssign(self, node: ast.AugAssign, frame: Frame) -> None:
        site = Site(frame.unit, node)
        before, right = self.value(_as_load(node.target), frame), self.value(node.value, frame)
        after = self._operate(node.op, before, right, site, frame)
        if isinstance(before, list | dict | set):  # changes it for all who hold it
            items = self.items(right)
            if isinstance(before, list) and isinstance(node.op, ast.Add) and items is not None:
                after = [*before, *items]
            if not self.is_certain(before) or type(after) is not type(before) or len(after) > LONGEST:
                self.lose(before)
            elif isinstance(before, list):
                before[:] = after
            else:
                before.update(after)
            after = before
        if isinstance(before, Tensor):
            after = tensors.overwritten(before, after, site)
        self._assign(node.target, after, frame)

    def _Return(self, node: ast.Return, frame: Frame) -> Signal:
        return Signal("return", self.value(node.value, frame) if node.value else None)

    def _Break(self, node: ast.Break, frame: Frame) -> Signal:
        return Signal("break")

    def _Continue(self, node: ast.Continue, frame: Frame) -> Signal:
        return Signal("continue")

    def _Raise(self, node: ast.Raise, frame: Frame) -> Signal:
        if frame.strict:
            raise Refused(Site(frame.unit, node), "the code stops here with an error")
        return Signal("raise")

    def _Global(self, node: ast.Global, frame: Frame) -> None:
        frame.scope.shared |= dict.fromkeys(node.names, frame.scope.outermost)

    def _Nonlocal(self, node: ast.Nonlocal, frame: Frame) -> None:
        for name in node.names:
            for scope in list(frame.scope.chain())[1:]:
                if name in scope.names:
                    frame.scope.shared[name] = scope
                    break

    def _Delete(self, node: ast.Delete, frame: Frame) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                frame.scope.names.pop(target.id, None)
            elif isinstance(target, ast.Attribute):
                owner = self.value(target.value, frame)
                if isinstance(owner, Instance):
                    owner.attributes.pop(target.attr, None)
            elif isinstance(target, ast.Subscript):
                owner, key = self.value(target.value, frame), self.value(target.slice, frame)
                is_there = isinstance(owner, dict) and is_key(key) and key in owner
                if isinstance(owner, list) and isinstance(key, int):
                    is_there = -len(owner) <= key < len(owner)
                if is_there and self.is_certain(owner):
                    del owner[key]
                elif isinstance(owner, list | dict):
                    self.lose(owner)
                elif isinstance(owner, Module | Instance):
                    raise Unfollowed(Site(frame.unit, node), "a part of a module is taken away")

    def _If(self, node: ast.If, frame: Frame) -> Signal | None:
        holds = self.truth(self.value(node.test, frame))
        if holds is not None:
            return self.block(node.body if holds else node.orelse, frame)
        site = Site(frame.unit, node.test)
        self._require_known(site, "the condition is not known without running the code", frame)
        return self._branches([node.body, node.orelse], frame, site)

    def _branches(self, bodies: list[list[ast.stmt]], frame: Frame, site: Site) -> Signal | None:
        """Follow each of some blocks of which one is run; names that differ afterwards are not known."""
        before = dict(frame.scope.names)
        signals, ends = [], []
        self._conditional += 1
        for body in bodies:
            frame.scope.names = dict(before)
            with self._uncertain():
                signals.append(self.block(body, frame))
            ends.append(frame.scope.names)
        self._conditional -= 1
        frame.returned += [signal.value for signal in signals if signal and signal.kind == "return"]
        if all(signal and signal.kind in ("return", "raise") for signal in signals):
            frame.scope.names = ends[0]
            return Signal("return", self.one_of(frame.returned, site))
        going_on = [end for end, signal in zip(ends, signals, strict=True) if signal is None] or ends
        names = dict(going_on[0])
        for end in going_on[1:]:
            for name in names.keys() | end.keys():
                # A name that only one branch defines has that value wherever it is used.
                both = [each[name] for each in (names, end) if name in each]
                names[name] = self.one_of(both, site)
        frame.scope.names = names
        return None

    def one_of(self, values: list[Any], site: Site) -> Any:
        """The value that all of these are, otherwise one that is not known."""
        if values and all(is_same(values[0], value) for value in values):
            return values[0]
        return Opaque("unknown", f"a value that depends on {site.text}", site)

    def _For(self, node: ast.For, frame: Frame) -> Signal | None:
        over = self.value(node.iter, frame)
        site = Site(frame.unit, node)
        items = self.items(over)
        if items is None:
            self._require_known(site, "the loop goes over what is not known without running the code", frame)
            item = Opaque("item", f"an item of {name_of(over)}", site, of=over)
            return self._unknown_loop(node, over, lambda: self._assign(node.target, item, frame), frame)
        if len(items) > MOST_TURNS:
            self._require_known(site, f"the loop has {len(items):,} turns, more than are followed", frame)
            items = items[:2]
            signal = self._turns(node, over, items, frame)
            self._forget(node.body, frame, site)
            return signal
        return self._turns(node, over, items, frame)

    def _turns(self, node: ast.For, over: Any, items: list[Any], frame: Frame) -> Signal | None:
        self._loops.append(Loop(Site(frame.unit, node), over, known=True))
        try:
            for item in items:
                self._assign(node.target, item, frame)
                signal = self.block(node.body, frame)
                if signal and signal.kind == "break":
                    return None
                if signal and signal.kind != "continue":
                    return signal
        finally:
            self._loops.pop()
        return self.block(node.orelse, frame)

    def _While(self, node: ast.While, frame: Frame) -> Signal | None:
        site = Site(frame.unit, node.test)
        for _ in range(MOST_TURNS):
            holds = self.truth(self.value(node.test, frame))
            if holds is None:
                self._require_known(site, "the condition is not known without running the code", frame)
                return self._unknown_loop(node, None, lambda: None, frame)
            if not holds:
                return self.block(node.orelse, frame)
            self._loops.append(Loop(site, None, known=True))
            try:
                signal = self.block(node.body, frame)
            finally:
                self._loops.pop()
            if signal and signal.kind == "break":
                return None
            if signal and signal.kind != "continue":
                return signal
        self._require_known(site, f"the loop has more than {MOST_TURNS:,} turns", frame)
        self._forget(node.body, frame, site)
        return None

    def _unknown_loop(
        self, node: ast.For | ast.While, over: Any, begin: Callable[[], None], frame: Frame
    ) -> Signal | None:
        """One turn that stands for all; numbers that it changes are not known afterwards."""
        before = dict(frame.scope.names)
        self._loops.append(Loop(Site(frame.unit, node), over, known=False))
        try:
            with self._uncertain():
                begin()
                signal = self.block(node.body, frame)
        finally:
            self._loops.pop()
        if signal and signal.kind == "return":
            frame.returned.append(signal.value)
        for name, value in frame.scope.names.items():
            if name not in before:
                is_known = isinstance(value, bool | int | float | str)  # of one turn alone
            else:
                is_known = not isinstance(value, Opaque) or value.is_object
            if is_known and not is_same(before.get(name), value):
                frame.scope.names[name] = Opaque("unknown", name, Site(frame.unit, node))
        return self.block(node.orelse, frame)

    def _With(self, node: ast.With, frame: Frame) -> Signal | None:
        for item in node.items:
            value = self.value(item.context_expr, frame)
            if item.optional_vars is not None:
                self._assign(item.optional_vars, value, frame)
        return self.block(node.body, frame)

    def _Try(self, node: ast.Try, frame: Frame) -> Signal | None:
        signal = self.block(node.body, frame)
        if signal and signal.kind == "raise" and node.handlers:
            signal = self.block(node.handlers[0].body, frame)
        elif signal is None:
            signal = self.block(node.orelse, frame)
        return self.block(node.finalbody, frame) or signal

    def _FunctionDef(self, node: ast.FunctionDef, frame: Frame) -> None:
        value: Any = self._function(node, frame)
        for decorator in reversed(node.decorator_list):
            by = self.value(decorator, frame)
            if isinstance(by, Opaque) and by.name in ("staticmethod", "classmethod", "property"):
                value.kind = by.name
            elif isinstance(by, Function | Bound):
                value = calls.call(self, by, (value,), {}, Site(frame.unit, decorator), frame)
        frame.scope.names[node.name] = value

    def _ClassDef(self, node: ast.ClassDef, frame: Frame) -> None:
        bases = tuple(self.value(base, frame) for base in node.bases)
        scope = Scope({}, parent=frame.scope, is_class=True)
        inside = Frame(scope, frame.unit)
        cls = Class(node.name, bases, scope.names, Site(frame.unit, node))
        inside.cls = cls
        self.block(node.body, inside)
        cls.names = scope.names
        for value in cls.names.values():
            if isinstance(value, Function):
                value.owner = cls
        annotated = [each.target for each in node.body if isinstance(each, ast.AnnAssign)]
        cls.fields = tuple(target.id for target in annotated if isinstance(target, ast.Name))
        decorators = [self.value(each, frame) for each in node.decorator_list]
        cls.is_dataclass = any("dataclass" in name_of(each) for each in decorators)
        if cls.torch_base:
            self.classes.pop(cls.name, None)
            self.classes[cls.name] = cls
        frame.scope.names[node.name] = cls

    def _Import(self, node: ast.Import, frame: Frame) -> None:
        for alias in node.names:
            package = self._package(alias.name, frame.unit, 0)
            first = alias.name.partition(".")[0]
            if alias.asname or "." not in alias.name:
                value: Any = package or Opaque("library", canonical(alias.name))
                frame.scope.names[alias.asname or alias.name] = value
            elif package is None:
                frame.scope.names[first] = Opaque("library", first)
            else:  # import models.model
                self._assign_dotted(alias.name.split("."), package, frame)

    def _assign_dotted(self, names: list[str], package: Package, frame: Frame) -> None:
        outer = frame.scope.names
        for name in names[:-1]:
            if not isinstance(outer.get(name), Package):
                outer[name] = Package(name, Scope({}))
            outer = outer[name].scope.names
        outer[names[-1]] = package

    def _ImportFrom(self, node: ast.ImportFrom, frame: Frame) -> None:
        package = self._package(node.module or "", frame.unit, node.level)
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
                inner = self._package(f"{node.module or ''}.{alias.name}".strip("."), frame.unit, node.level)
                library = canonical(f"{node.module}.{alias.name}")
                frame.scope.names[name] = inner or Opaque("library", library)

    def _package(self, name: str, unit: Unit, level: int) -> Package | None:
        """The .py file of the submission that an import means, followed; None if it is a library's."""
        if not name:
            return None
        if name in self._written:
            return self._followed(name, name, self._written[name], unit.folder)
        folders = [unit.folder, unit.folder.parent, self.source.path.parent]
        if level > 1:
            folders = [unit.folder.parents[min(level - 1, len(unit.folder.parents)) - 1]]
        parts = name.split(".")
        files = [folder.joinpath(*parts) for folder in folders]
        if len(parts) > 2 and parts[0] not in ("torch", "torchvision"):  # behind the name of a clone
            files += [
                folder.joinpath(*parts[1:]) for folder in list(self.source.path.parents)[:_MOST_FOLDERS]
            ]
        for file in files:
            file = file.with_name(f"{file.name}.py")
            if file in self._packages:
                return self._packages[file]
            code = read_code(file)
            if code is not None and len(self._packages) < _MOST_FILES:
                return self._followed(file, file.name, code, file.parent)
        return None

    def _followed(self, key: Path | str, name: str, code: str, folder: Path) -> Package:
        if key not in self._packages:
            file = name if name.endswith(".py") else f"{name}.py"
            package = self._packages[key] = Package(name, Scope({"__name__": Path(name).stem}))
            self._follow(code, Unit(file, None, folder), package.scope)
        return self._packages[key]

    def _forget(self, statements: list[Any], frame: Frame, site: Site) -> None:
        """Names that these statements set are not known."""
        for statement in statements:
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    frame.scope.names[node.id] = Opaque("unknown", node.id, site)

    def _require_known(self, site: Site, problem: str, frame: Frame) -> None:
        if frame.strict:
            raise Refused(site, problem)

    # Assignment

    def _assign(self, target: ast.expr, value: Any, frame: Frame) -> None:
        site = Site(frame.unit, target)
        match target:
            case ast.Name(id=name):
                scope = frame.scope.shared.get(name, frame.scope)
                scope.names[name] = value
            case ast.Attribute(value=owner, attr=name):
                self.set_attribute(self.value(owner, frame), name, value, site)
            case ast.Subscript(value=owner, slice=key):
                self._set_item(self.value(owner, frame), self.value(key, frame), value, site)
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                self._unpack(targets, value, site, frame)
            case ast.Starred(value=inner):
                self._assign(inner, value, frame)

    def _unpack(self, targets: list[ast.expr], value: Any, site: Site, frame: Frame) -> None:
        items = self.items(value)
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
            self._assign(target, item, frame)

    def set_attribute(self, owner: Any, name: str, value: Any, site: Site) -> None:
        """What owner.name = value does."""
        match owner:
            case Instance():
                self._set_name(owner, owner.attributes, name, value, site)
            case Class():
                self._set_name(owner, owner.names, name, value, site)
            case Package():
                self._set_name(owner, owner.scope.names, name, value, site)
            case Module() if owner.kind in CONTAINERS:
                self._set_name(owner, owner.children, name, value, site)
            case Module():
                if count_of_layer(owner) and not (name == "bias" and value is None):
                    raise Unfollowed(site, f"a layer's {name} is set after it was made")
                self._set_name(owner, owner.arguments, name, value, site)
            case Tensor():
                raise Refused(site, "what is set in the images is not followed")
            case Opaque():
                owner.attributes[name] = value
                self.record(owner, site, key=name, value=value)

    def _set_name(self, owner: Any, names: dict[str, Any], name: str, value: Any, site: Site) -> None:
        if name in names and not self.is_certain(owner):
            value = self.one_of([names[name], value], site)
        names[name] = value

    def _set_item(self, owner: Any, key: Any, value: Any, site: Site) -> None:
        if isinstance(owner, Opaque):
            self.record(owner, site, key=key, value=value)
        elif isinstance(owner, dict | list) and not self.is_certain(owner):
            self.lose(owner)
        elif (isinstance(owner, dict) and is_key(key) and len(owner) < LONGEST) or (
            isinstance(owner, list) and isinstance(key, int) and -len(owner) <= key < len(owner)
        ):
            owner[key] = value
        elif isinstance(owner, dict | list):
            self.lose(owner)
        elif isinstance(owner, Module) and owner.kind in CONTAINERS and isinstance(key, int | str):
            names = list(owner.children)
            inside = isinstance(key, int) and -len(names) <= key < len(names)
            name = names[int(key)] if inside else str(key)
            self._set_name(owner, owner.children, name, value, site)
        elif isinstance(owner, Tensor | Module | Instance | Method):
            raise Unfollowed(site, "what is set there is not followed")

    def record(self, what: Any, site: Site, key: Any = None, value: Any = None) -> None:
        """Remember an event."""
        if len(self.events) < _MOST_EVENTS:
            self.events.append(Event(what, site, tuple(self._loops), self._conditional > 0, key, value))

    # Expressions

    def value(self, node: ast.expr, frame: Frame) -> Any:
        """What an expression is."""
        self._count(node, frame)
        compute = getattr(self, f"_of_{type(node).__name__}", None)
        if compute is None:
            return Opaque("unknown", Site(frame.unit, node).text, Site(frame.unit, node))
        return compute(node, frame)

    def _of_Constant(self, node: ast.Constant, frame: Frame) -> Any:
        if isinstance(node.value, int) and node.value.bit_length() > MOST_BITS:
            return Opaque("unknown", "a number", Site(frame.unit, node))
        return node.value

    def _of_Name(self, node: ast.Name, frame: Frame) -> Any:
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
        self._undefined.add(node.id)
        return Opaque("unknown", f"{node.id}, which nothing defines", Site(frame.unit, node))

    def _of_NamedExpr(self, node: ast.NamedExpr, frame: Frame) -> Any:
        value = self.value(node.value, frame)
        self._assign(node.target, value, frame)
        return value

    def _of_Tuple(self, node: ast.Tuple, frame: Frame) -> Any:
        items = self._elements(node.elts, frame)
        return tuple(items) if items is not None else Opaque("unknown", "a tuple", Site(frame.unit, node))

    def _of_List(self, node: ast.List, frame: Frame) -> Any:
        items = self._elements(node.elts, frame)
        return self.new(items) if items is not None else Opaque("unknown", "a list", Site(frame.unit, node))

    def _of_Set(self, node: ast.Set, frame: Frame) -> Any:
        items = self._elements(node.elts, frame)
        if items is None or not all(map(is_key, items)):
            return Opaque("unknown", "a set", Site(frame.unit, node))
        return self.new(set(items))

    def _elements(self, nodes: list[ast.expr], frame: Frame) -> list[Any] | None:
        items: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                inside = self.items(self.value(node.value, frame))
                if inside is None or len(items) + len(inside) > LONGEST:
                    return None
                items += inside
            else:
                items.append(self.value(node, frame))
        return items

    def _of_Dict(self, node: ast.Dict, frame: Frame) -> Any:
        made: dict[Any, Any] = {}
        for key_node, value_node in zip(node.keys, node.values, strict=True):
            value = self.value(value_node, frame)
            if key_node is None:
                if not isinstance(value, dict) or id(value) in self.lost:
                    return Opaque("unknown", "a dict", Site(frame.unit, node))
                made |= value
                continue
            key = self.value(key_node, frame)
            if not is_key(key):
                return Opaque("unknown", "a dict", Site(frame.unit, node))
            made[key] = value
        return self.new(made)

    def _of_JoinedStr(self, node: ast.JoinedStr, frame: Frame) -> Any:
        parts = []
        for part in node.values:
            if isinstance(part, ast.Constant):
                parts.append(str(part.value))
                continue
            assert isinstance(part, ast.FormattedValue)
            value = self.value(part.value, frame)
            spec = self.value(part.format_spec, frame) if part.format_spec else ""
            text = formatted(value, spec)
            parts.append(text)
        if any(part is None for part in parts) or sum(map(len, parts)) > LONGEST:
            return Opaque("unknown", "a text", Site(frame.unit, node), args=tuple(parts))
        return "".join(parts)

    def _of_Attribute(self, node: ast.Attribute, frame: Frame) -> Any:
        return calls.attribute(self, self.value(node.value, frame), node.attr, Site(frame.unit, node), frame)

    def _of_Subscript(self, node: ast.Subscript, frame: Frame) -> Any:
        site = Site(frame.unit, node)
        owner, key = self.known(self.value(node.value, frame), site), self.value(node.slice, frame)
        if isinstance(owner, Module | Instance):
            found = find_child(owner, key)
            if found is not None:
                return found
        if isinstance(owner, Tensor):
            return tensors.item(owner, key, site)
        try:
            if isinstance(owner, dict) and is_key(key):
                return owner[key]
            if isinstance(owner, list | tuple | str | range) and isinstance(key, int | slice):
                return owner[key]
        except (LookupError, TypeError, ValueError):
            return Opaque("unknown", f"{site.text}, which is not there", site)
        return Opaque("item", f"{name_of(owner)}[...]", site, of=owner, args=(key,))

    def _of_Slice(self, node: ast.Slice, frame: Frame) -> Any:
        parts = [self.value(part, frame) if part else None for part in (node.lower, node.upper, node.step)]
        if all(part is None or isinstance(part, int) for part in parts):
            return slice(*parts)
        return Opaque("unknown", "a slice", Site(frame.unit, node))

    def _of_BinOp(self, node: ast.BinOp, frame: Frame) -> Any:
        left, right = self.value(node.left, frame), self.value(node.right, frame)
        return self._operate(node.op, left, right, Site(frame.unit, node), frame)

    def _operate(self, op: ast.operator, left: Any, right: Any, site: Site, frame: Frame) -> Any:
        if isinstance(left, Tensor) or isinstance(right, Tensor):
            return tensors.operate(type(op).__name__, left, right, site)
        if is_bounded(op, left, right):
            try:
                return OPERATORS[type(op)](left, right)
            except (ArithmeticError, TypeError, ValueError, LookupError, KeyError):
                pass
        result = Opaque("operation", site.text, site, args=(left, right))
        if isinstance(op, ast.Div):  # a mean, most likely
            self.record(result, site)
        return result

    def _of_UnaryOp(self, node: ast.UnaryOp, frame: Frame) -> Any:
        value, site = self.value(node.operand, frame), Site(frame.unit, node)
        if isinstance(node.op, ast.Not):
            holds = self.truth(value)
            return not holds if holds is not None else Opaque("operation", site.text, site, args=(value,))
        if isinstance(value, bool | int | float):
            try:
                return UNARY[type(node.op)](value)
            except TypeError:
                pass
        return Opaque("operation", site.text, site, args=(value,))

    def _of_BoolOp(self, node: ast.BoolOp, frame: Frame) -> Any:
        ends_at = isinstance(node.op, ast.Or)
        value: Any = None
        unknown = None
        for each in node.values:
            if unknown is None:
                value = self.value(each, frame)
            else:
                with self._uncertain():
                    value = self.value(each, frame)
            holds = self.truth(value)
            if holds is ends_at:
                return value
            if holds is None:
                unknown = value
        return value if unknown is None else Opaque("operation", "a condition", Site(frame.unit, node))

    def _of_Compare(self, node: ast.Compare, frame: Frame) -> Any:
        site = Site(frame.unit, node)
        left = self.known(self.value(node.left, frame), site)
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            right = self.known(self.value(right_node, frame), site)
            holds = compare(op, left, right)
            if holds is None:
                return Opaque("operation", site.text, site, args=(left, right))
            if not holds:
                return False
            left = right
        return True

    def _of_IfExp(self, node: ast.IfExp, frame: Frame) -> Any:
        holds = self.truth(self.value(node.test, frame))
        if holds is None:
            site = Site(frame.unit, node.test)
            self._require_known(site, "the condition is not known without running the code", frame)
            with self._uncertain():
                return self.one_of([self.value(node.body, frame), self.value(node.orelse, frame)], site)
        return self.value(node.body if holds else node.orelse, frame)

    def _of_Lambda(self, node: ast.Lambda, frame: Frame) -> Any:
        return self._function(node, frame)

    def _function(self, node: ast.FunctionDef | ast.Lambda, frame: Frame) -> Function:
        defaults = tuple(self.value(each, frame) for each in node.args.defaults)
        named = {
            arg.arg: self.value(default, frame)
            for arg, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            if default is not None
        }
        name = node.name if isinstance(node, ast.FunctionDef) else "lambda"
        return Function(name, node, defaults, named, frame.scope, frame.unit, frame.cls)

    def _of_ListComp(self, node: ast.ListComp, frame: Frame) -> Any:
        return self._comprehension(node, frame, lambda inside: self.value(node.elt, inside))

    def _of_GeneratorExp(self, node: ast.GeneratorExp, frame: Frame) -> Any:
        return self._comprehension(node, frame, lambda inside: self.value(node.elt, inside))

    def _of_SetComp(self, node: ast.SetComp, frame: Frame) -> Any:
        items = self._comprehension(node, frame, lambda inside: self.value(node.elt, inside))
        known = isinstance(items, list) and all(map(is_key, items))
        return set(items) if known else Opaque("unknown", "a set", Site(frame.unit, node))

    def _of_DictComp(self, node: ast.DictComp, frame: Frame) -> Any:
        items = self._comprehension(
            node, frame, lambda inside: (self.value(node.key, inside), self.value(node.value, inside))
        )
        known = isinstance(items, list) and all(is_key(key) for key, _ in items)
        return dict(items) if known else Opaque("unknown", "a dict", Site(frame.unit, node))

    def _comprehension(self, node: Any, frame: Frame, make: Callable[[Frame], Any]) -> Any:
        inside = Frame(
            Scope({}, parent=frame.scope), frame.unit, frame.strict, frame.cls, frame.first, frame.returned
        )
        made: list[Any] = []

        def loop(generators: list[ast.comprehension]) -> bool:
            """Whether all is known."""
            if not generators:
                made.append(make(inside))
                return len(made) <= LONGEST
            generator = generators[0]
            over = self.value(generator.iter, inside)
            items = self.items(over)
            is_known = items is not None and len(items) <= MOST_TURNS
            if items is None or not is_known:
                items = [Opaque("item", f"an item of {name_of(over)}", Site(frame.unit, node), of=over)]
            for item in items:
                self._assign(generator.target, item, inside)
                holds = [self.truth(self.value(test, inside)) for test in generator.ifs]
                if None in holds:
                    is_known = False
                if False not in holds:
                    is_known = loop(generators[1:]) and is_known
            return is_known

        if loop(node.generators):
            return self.new(made)
        return Opaque("unknown", "a list", Site(frame.unit, node), args=tuple(made[:1]))

    def _of_Starred(self, node: ast.Starred, frame: Frame) -> Any:
        return self.value(node.value, frame)

    def _of_Call(self, node: ast.Call, frame: Frame) -> Any:
        site = Site(frame.unit, node)
        function = self.value(node.func, frame)
        if isinstance(function, Opaque) and function.name == "super" and function.kind == "library":
            return self._super(node, frame)
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for arg in node.args:
            if isinstance(arg, ast.Starred):
                inside = self.items(self.value(arg.value, frame))
                if inside is None or len(args) + len(inside) > LONGEST:
                    self._require_known(site, f"*{ast.unparse(arg.value)} is not known", frame)
                    return Opaque("call", site.text, site, of=function)
                args += inside
            else:
                args.append(self.value(arg, frame))
        for keyword in node.keywords:
            value = self.value(keyword.value, frame)
            if keyword.arg is not None:
                kwargs[keyword.arg] = value
            elif (
                isinstance(value, dict)
                and id(value) not in self.lost
                and all(isinstance(key, str) for key in value)
            ):
                kwargs |= value
            else:
                self._require_known(site, f"**{ast.unparse(keyword.value)} is not known", frame)
                kwargs["(unknown)"] = value
        return calls.call(self, function, tuple(args), kwargs, site, frame)

    def _super(self, node: ast.Call, frame: Frame) -> Any:
        cls, first = frame.cls, frame.first
        if len(node.args) == 2:
            cls, first = (self.value(arg, frame) for arg in node.args)
        if isinstance(cls, Class):
            return Super(cls, first)
        return Opaque("unknown", "super()", Site(frame.unit, node))

    # What values are

    def truth(self, value: Any) -> bool | None:
        """Whether a value counts as true; None where it is not known."""
        match value:
            case Opaque():
                return True if value.is_object else None
            case Tensor():
                return None
            case list() | dict() | set() if id(value) in self.lost:
                return None
            case bool() | int() | float() | str() | None | list() | dict() | tuple() | set() | range():
                return bool(value)
        return True

    def items(self, value: Any) -> list[Any] | None:
        """What a loop goes over; None where it is not known."""
        match value:
            case list() | dict() | set() if id(value) in self.lost:
                return None
            case list() | tuple() | str() | dict():
                return list(value)
            case set():
                return list(value)
            case range():
                return list(value[: MOST_TURNS + 1])
            case Module() if value.kind == "ModuleDict":
                return list(value.children)
            case Module() if value.kind in CONTAINERS:
                return list(value.children.values())
            case Instance(layer=Module(kind=kind) as layer) if kind in CONTAINERS:
                return [*layer.children.values(), *filter(is_module, value.attributes.values())]
        return None


def _as_load(target: ast.expr) -> ast.expr:
    match target:
        case ast.Name():
            return ast.copy_location(ast.Name(target.id, ast.Load()), target)
        case ast.Attribute():
            return ast.copy_location(ast.Attribute(target.value, target.attr, ast.Load()), target)
        case ast.Subscript():
            return ast.copy_location(ast.Subscript(target.value, target.slice, ast.Load()), target)
    return target
