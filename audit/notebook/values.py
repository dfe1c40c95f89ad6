"""What the interpreter computes with: Python's own numbers, texts and lists, and these."""

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from audit.notebook.cells import Place
from harness.errors import UserError

_LONGEST_TEXT = 80
_DEEPEST = 1_000
_MOST = 2_000  # values that are looked through for what one was made of


class Unit(NamedTuple):
    """A cell whose code is followed, or a file, which has no cell; imports are looked for in its folder."""

    file: str
    cell: int | None
    folder: Path


class Site(NamedTuple):
    """A piece of code."""

    unit: Unit
    node: ast.AST

    @property
    def place(self) -> Place:
        """Where it begins."""
        return Place(self.unit.file, self.unit.cell, getattr(self.node, "lineno", 1))

    @property
    def text(self) -> str:
        """As Python writes it, on one line, not too long."""
        known: str | None = getattr(self.node, "text_on_a_line", None)  # each turn of a loop asks again
        if known is not None:
            return known
        try:
            text = ast.unparse(self.node)
        except RecursionError:
            text = "..."
        if hasattr(self.node, "body") and not isinstance(self.node, ast.Lambda | ast.IfExp):
            text = text.partition("\n")[0]  # of a class or a loop its head
        text = " ".join(text.split())
        text = text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."
        self.node.text_on_a_line = text  # type: ignore[attr-defined]
        return text


class Refused(UserError):
    """Code that is not understood where it matters: where it is, how it reads, and what it is."""

    def __init__(self, site: Site, problem: str) -> None:
        where = f"{site.unit.file}, " * (site.unit.cell is not None) + str(site.place)
        super().__init__(f"{where}: {site.text}: {problem}")
        self.site, self.problem = site, problem


class Unfollowed(Refused):
    """A change of a module that is not followed: what it holds afterwards is not known."""


@dataclass(eq=False, slots=True)
class Opaque:
    """A value that is not computed: a library's name, what its functions return, what follows from that."""

    # "library" (name is its dotted name), "call", "attribute", "item", "operation" or "unknown"; of events
    # also "end" (what ends a turn of a loop) and "field" (what is called a receptive field)
    kind: str
    name: str  # in a reader's words
    site: Site | None = None  # where it came about; None for a library
    of: Any = None  # the function that was called, or what it is an attribute or an item of
    args: tuple[Any, ...] = ()  # of a call; the operands of an operation
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)  # those that the code has set

    @property
    def function(self) -> str:
        """Of a call the dotted name of the library's function; otherwise empty."""
        known = self.kind == "call" and isinstance(self.of, Opaque) and self.of.kind == "library"
        return self.of.name if known else ""

    @property
    def method(self) -> str:
        """Of a call the name of the attribute that was called; otherwise empty."""
        known = self.kind == "call" and isinstance(self.of, Opaque) and self.of.kind == "attribute"
        return self.of.name.rpartition(".")[2] if known else ""

    @property
    def given(self) -> tuple[Any, ...]:
        """Of a call all arguments, those by name the last."""
        return (*self.args, *self.kwargs.values())

    @property
    def is_object(self) -> bool:
        """Whether it is surely an object: one that a library's class made, or a layer's weights."""
        made = self.function.rpartition(".")[2][:1].isupper()
        return made or self.kind == "library" or (self.kind == "attribute" and isinstance(self.of, Module))


@dataclass(eq=False)
class Scope:
    """Names and their values: of a module, a class or a call."""

    names: dict[str, Any]
    parent: "Scope | None" = None
    is_class: bool = False
    shared: dict[str, "Scope"] = field(default_factory=dict)  # names declared global or nonlocal

    def chain(self) -> Iterator["Scope"]:
        """This one and those around it, as names are looked up: a class's are seen in the class alone."""
        scope: Scope | None = self
        while scope is not None:
            if scope is self or not scope.is_class:
                yield scope
            scope = scope.parent

    @property
    def outermost(self) -> "Scope":
        """The module's."""
        return list(self.chain())[-1]


@dataclass(eq=False)
class Function:
    """A function or a lambda of the code."""

    name: str
    node: ast.FunctionDef | ast.Lambda
    defaults: tuple[Any, ...]
    keyword_defaults: Mapping[str, Any]
    scope: Scope
    unit: Unit
    owner: "Class | None" = None  # the class that it is a method of
    kind: str = ""  # staticmethod, classmethod, property


@dataclass(eq=False)
class Class:
    """A class of the code."""

    name: str
    bases: tuple[Any, ...]
    names: dict[str, Any]
    site: Site
    fields: tuple[str, ...] = ()  # those with annotations, in order
    is_dataclass: bool = False

    @property
    def lineage(self) -> list[Any]:
        """It and its bases, in the order in which attributes are looked up; libraries' as Opaque."""
        found: list[Any] = []
        for each in (self, *(of for base in self.bases for of in getattr(base, "lineage", [base]))):
            if each in found:  # a base of two comes behind both
                found.remove(each)
            found.append(each)
        return found

    @property
    def torch_base(self) -> str:
        """The name in torch.nn that it comes from, such as Module or Sequential; otherwise empty."""
        for base in self.lineage:
            if isinstance(base, Opaque) and base.name.startswith("torch.nn."):
                return base.name.removeprefix("torch.nn.")
            if isinstance(base, Opaque) and base.name.endswith(".LightningModule"):
                return "Module"
        return ""

    def find(self, name: str, after: "Class | None" = None) -> Any:
        """The attribute of it or of its bases, of those behind `after`; None where there is none."""
        lineage = self.lineage
        if after is not None and after in lineage:
            lineage = lineage[lineage.index(after) + 1 :]
        for each in lineage:
            if isinstance(each, Class) and name in each.names:
                return each.names[name]
        return None


@dataclass(eq=False)
class Instance:
    """An object of a class of the code."""

    cls: Class
    site: Site
    attributes: dict[str, Any] = field(default_factory=dict)
    layer: "Module | None" = None  # of a class that comes from a layer or container of torch.nn, that one
    refused: Refused | None = None  # why its constructor could not be followed

    @property
    def is_module(self) -> bool:
        """Whether it is a network or a part of one."""
        return self.cls.torch_base != ""


@dataclass(eq=False)
class Module:
    """A layer of torch.nn, with the arguments that were given, or a container with its children, by name."""

    kind: str
    arguments: dict[str, Any]
    site: Site
    children: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Method:
    """A method that the interpreter has itself: of a module, a tensor, a list, a text."""

    owner: Any
    name: str


@dataclass(frozen=True, eq=False)
class Super:
    """What super() returns."""

    cls: Class
    instance: Any


@dataclass(frozen=True, eq=False)
class Partial:
    """A function with its first arguments: what functools.partial returns, or a method."""

    function: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Package:
    """A .py file of the submission, imported."""

    name: str
    scope: Scope


BATCH: Any = object()
"""The number of images in a batch, which a network may not depend on."""


@dataclass(eq=False)
class Node:
    """What happens to an image on its way."""

    # "input", "layer", "add", "log_softmax", "softmax", "clamp", "unknown", or "mean" over a side of the map
    kind: str
    inputs: tuple["Node", ...] = ()  # what it works on
    layer: Any = None  # in our language, for kind "layer"
    module: Any = None  # the module that makes it; None for a function
    site: Any = None  # of the call
    name: str = ""  # of the function
    notes: tuple[str, ...] = ()  # what is special, such as log_softmax without dim


@dataclass(eq=False)
class Tensor:
    """A batch of images on its way through a network. Functions that work in place change its node."""

    shape: tuple[Any, ...]  # as PyTorch has it, the batch size first
    # channels, height, width, or the number of features after a dense layer; without the batch
    layout: tuple[int, ...]
    node: Node


@dataclass(eq=False)
class Loop:
    """A loop on its way; each time that it begins it is another."""

    site: Site
    over: Any  # what it goes over; None for `while`
    known: bool  # whether its turns are known, so that each is followed; otherwise one stands for all
    depth: int = 0  # of the calls that it stands in


@dataclass(frozen=True, eq=False)
class Event:
    """A call of a library, or a value set in what it returned."""

    what: Opaque  # the call; or what has the attribute or item that is set
    site: Site
    loops: tuple[Loop, ...]  # those that it is in, the outermost first
    conditional: bool  # whether it hangs on a condition that is not known
    key: Any = None  # the attribute or item, and what it is set to; None for a call
    value: Any = None
    cell: int | None = None  # the cell that was being followed; None in a .py file
    number: int = 0  # how many events were before it

    @property
    def loop_over_batches(self) -> Loop | None:
        """The innermost loop whose turns are not known; None without one."""
        return next((loop for loop in reversed(self.loops) if not loop.known), None)


def within(value: Any, through: Callable[[Opaque], bool] = lambda _: True) -> Iterator[Any]:
    """A value and all that it was made of, the nearest first, each once; through some Opaque ones alone."""
    left, seen = [value], set[int]()
    for each in left:  # grows on the way
        if len(seen) >= _MOST:
            return
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        match each:
            case Opaque() if through(each):
                left += [each.of, *each.given]
            case list() | tuple():
                left += each
            case dict():
                left += each.values()


def origin(value: Any) -> Opaque | None:
    """The first value that was not known, of which this one was made; None if this one is known."""
    found = None
    for _ in range(_DEEPEST):
        if not isinstance(value, Opaque):
            break
        found = value if value.site is not None else found
        before = [each for each in (value.of, *value.given) if isinstance(each, Opaque) and each.site]
        value = before[0] if before else None
    return found
