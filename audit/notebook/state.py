"""What a submission's code is followed with: what it has done so far, and what of that is certain."""

import ast
import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from audit.notebook.cells import Source
from audit.notebook.library import CONTAINERS
from audit.notebook.modules import is_module
from audit.notebook.natives import MOST_TURNS, is_same
from audit.notebook.values import (
    Class,
    Event,
    Instance,
    Loop,
    Module,
    Opaque,
    Package,
    Refused,
    Scope,
    Site,
    Tensor,
    Unfollowed,
    Unit,
)
from harness.errors import UserError

_FIELD = re.compile(r"receptive_?field|(?:^|_)rfs?(?:$|_|\d)|^r_?out$", re.I)
_MOST_STEPS = 300_000
_MOST_EVENTS = 100_000


class Signal(NamedTuple):
    """How a statement ends other than by going on to the next."""

    kind: str  # return, break, continue, raise
    value: Any = None


@dataclass
class Frame:
    """What is being followed."""

    scope: Scope
    unit: Unit
    strict: bool = False  # whether what is not known is refused where something hangs on it
    cls: Class | None = None  # in a method its class, and its first argument, for super()
    first: Any = None
    # what may be returned, on conditions that are not known
    returned: list[Any] = field(default_factory=list)

    def require_known(self, site: Site, problem: str) -> None:
        """Raise Refused where something hangs on what is not known."""
        if self.strict:
            raise Refused(site, problem)


class TooLong(UserError):
    """Code that does not come to its end within the steps that are followed."""


class Run:
    """A submission's code on its way."""

    # Set by interpreter.py, which knows all: what an expression is, what statements do, what an object's
    # method returns, by its name, and the file that an import means.
    evaluate: Callable[[ast.expr, Frame], Any]
    block: Callable[[list[ast.stmt], Frame], Signal | None]
    call_method: Callable[..., Any]
    package: Callable[[str, Unit, int], Package | None]

    def __init__(self, source: Source, *, has_cuda: bool = True) -> None:
        self.source, self.has_cuda = source, has_cuda
        self.asked_for_cuda = False  # whether the code asks for a GPU
        self.training = True
        self.used: set[int] = set()  # ids of the layers that got images
        self.unfollowed: Unfollowed | None = None  # a change of a module outside of its class
        self.events: list[
            Event
        ] = []  # the calls of libraries, and what is set in their values, in their order
        self.sets: list[Event] = []  # the latter alone
        self.modules: list[Instance] = []  # of the file's networks and their parts, as they are made
        self.classes: dict[str, Class] = {}  # those of networks and their parts, the last one of a name
        self.scope = Scope({"__name__": "__main__"})  # the file's names
        self.undefined: set[str] = set()  # names that were needed before anything defined them
        self.absent: set[str] = set()  # imported modules that are neither beside the file nor a known library
        self.loops: list[Loop] = []  # those that are being followed, the outermost first
        self._contexts: tuple[int, ...] = (0,)  # each a branch or a turn that may not be run
        self._made: dict[int, tuple[Any, tuple[int, ...]]] = {}  # where lists and objects were made, by id
        self.cell: int | None = None  # that is being followed
        self.lost: dict[int, Any] = {}  # lists and dicts that hold what is not known, by id
        self.depth = 0  # of calls within calls
        self.conditional = 0  # how many unknown conditions what is followed hangs on
        self._steps = self._entered = 0

    def begin_again(self) -> None:
        """Forget what has happened; names and files that were followed stay."""
        self.events, self.sets, self.modules, self.loops = [], [], [], []
        self.lost, self._made = {}, {}

    @contextlib.contextmanager
    def uncertain(self) -> Iterator[None]:
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

    def count(self, node: ast.AST, frame: Frame) -> None:
        """Count a step; raises TooLong after too many."""
        self._steps += 1
        if self._steps > _MOST_STEPS:
            site = Site(frame.unit, node)
            raise TooLong(
                f"{self.source.path.name} is not followed to its end: after {_MOST_STEPS:,} steps it is at "
                f"{site.place} ({site.text})"
            )

    def one_of(self, values: list[Any], site: Site) -> Any:
        """The value that all of these are, otherwise one that is not known."""
        if values and all(is_same(values[0], value) for value in values):
            return values[0]
        return Opaque("unknown", f"a value that depends on {site.text}", site)

    def record(self, what: Opaque, site: Site, key: Any = None, value: Any = None) -> None:
        """Remember an event."""
        number, is_conditional = len(self.events), self.conditional > 0
        if number < _MOST_EVENTS:
            event = Event(what, site, tuple(self.loops), is_conditional, key, value, self.cell, number)
            self.events.append(event)
            self.sets += [event] if key is not None else []

    def note_field(self, name: str, value: Any, site: Site) -> None:
        """Remember a number, or each of a list, that the code names a receptive field."""
        if _FIELD.search(name):
            for each in value if isinstance(value, list | tuple) else [value]:
                if isinstance(each, int | float) and each == int(each) and not isinstance(each, bool):
                    self.record(Opaque("field", name, site, args=(int(each),)), site)

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
            case list() | tuple() | str() | dict() | set():
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


@dataclass(frozen=True, eq=False)
class Given:
    """What a call is given, and where it stands."""

    run: Run
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    site: Site
    frame: Frame

    @property
    def first(self) -> Any:
        """The first argument; None without one."""
        return self.args[0] if self.args else None

    def but(self, *args: Any) -> "Given":
        """The same with other positional arguments."""
        return replace(self, args=args)

    def only(self, *args: Any) -> "Given":
        """The same with these arguments alone."""
        return replace(self, args=args, kwargs={})

    def result(self, of: Any = None) -> Opaque:
        """What the call returns where that is not known."""
        return Opaque("call", self.site.text, self.site, of, self.args, self.kwargs)
