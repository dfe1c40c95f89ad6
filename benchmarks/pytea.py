"""Single operations accepted or refused by the audit, beside what PyTorch does with them.

    python -m benchmarks.pytea FOLDER

FOLDER holds PyTea's unit tests (repository ropas/pytea, commit 14011548, packages/pytea/pytest/unit_tests).
Each is an operation on tensors of random numbers. Their files are parsed, not run: an operation's name, its
numbers and the shapes it gets are put into a module of our own, which gets images and gives them that shape.
"""

import ast
import collections
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from audit.notebook import cells
from audit.notebook.interpreter import follow
from audit.notebook.network import read_network
from harness.errors import UserError

LAYERS = {"Conv2d": nn.Conv2d, "Dropout2d": nn.Dropout2d, "Linear": nn.Linear}
FUNCTIONS = {
    "F.conv2d": functional.conv2d,
    "F.log_softmax": functional.log_softmax,
    "F.max_pool2d": functional.max_pool2d,
    "F.nll_loss": functional.nll_loss,
    "torch.flatten": torch.flatten,
    "argmax": torch.argmax,
}
MODULE = """
import torch
import torch.nn as nn
import torch.nn.functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        {made}

    def forward(self, x):
        {entered}
        {call}
        {left}

model = Net()
"""
Shape = tuple[int, ...]


class Operation(NamedTuple):
    """One call on a tensor.

    Attributes:
      name: of a layer or a function.
      shape: of the tensor that it gets.
      args: after it, and kwargs: numbers, texts, and shapes of further tensors as Shaped.
      of_layer: the arguments of a layer's class; None for a function.
    """

    name: str
    shape: Shape
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    of_layer: tuple[tuple[Any, ...], dict[str, Any]] | None = None


class Shaped(NamedTuple):
    """A further tensor."""

    shape: Shape


def main() -> None:
    """Print each operation on which audit and PyTorch differ, and the counts."""
    counts: collections.Counter[str] = collections.Counter()
    files = sorted(Path(sys.argv[1]).rglob("*.py"))
    for file in files:
        for operation in operations(file.read_text()):
            accepts = accepted(operation)
            read, said = audited(operation)
            outcome = {
                (True, "read"): "accepted by both",
                (False, "refused there"): "refused by both",
                (True, "refused there"): "accepted by PyTorch, refused by name",
            }.get((accepts, read), f"WRONG: {'accepted' if accepts else 'refused'} by PyTorch, {read}")
            counts[outcome] += 1
            if not outcome.endswith("by both"):
                print(f"{file.stem}: {outcome}: {said}")
    print(f"\n{len(files)} tests, {counts.total()} operations:")
    for outcome, count in counts.most_common():
        print(f"{count:>4} {outcome}")


def operations(text: str) -> Iterator[Operation]:
    """The calls of a test in their order; a sum with new random numbers is its assertion."""
    tensors: dict[str, Shape] = {}
    layers: dict[str, tuple[str, tuple[tuple[Any, ...], dict[str, Any]]]] = {}

    def value(node: ast.expr) -> Any:
        known = isinstance(node, ast.Name) and node.id in tensors
        return Shaped(tensors[ast.unparse(node)]) if known else ast.literal_eval(node)

    for statement in ast.parse(text).body:
        calls = [node for node in ast.walk(statement) if isinstance(node, ast.Call)]
        if isinstance(statement, ast.Expr) and any(ast.unparse(call.func) == "torch.rand" for call in calls):
            continue
        for call in calls:
            name = ast.unparse(call.func)
            args = tuple(value(each) for each in call.args)
            kwargs = {str(each.arg): value(each.value) for each in call.keywords}
            target = ast.unparse(statement.targets[0]) if isinstance(statement, ast.Assign) else ""
            if name == "torch.rand":
                tensors[target] = args
            elif name.removeprefix("nn.") in LAYERS:
                layers[target] = (name.removeprefix("nn."), (args, kwargs))
            elif name in layers:
                kind, made = layers[name]
                yield Operation(kind, args[0].shape, (), {}, made)
            elif name in FUNCTIONS:
                yield Operation(name, args[0].shape, args[1:], kwargs)
            else:
                owner, _, method = name.rpartition(".")
                assert method in FUNCTIONS, name
                yield Operation(method, tensors[owner], args, kwargs)


def result(operation: Operation) -> Shape:
    """The shape that PyTorch gives; tensors without values are enough for that.

    Raises:
      Exception: PyTorch's, of many kinds, where it refuses the operation.
    """

    def tensor(value: Any) -> Any:
        if not isinstance(value, Shaped):
            return value
        whole = torch.zeros(value.shape)
        return whole.long() if value is _labels(operation) else whole

    name, shape, args, kwargs, of_layer = operation
    with torch.device("meta"):
        given = [torch.zeros(shape), *map(tensor, args)]
        if of_layer is None:
            return tuple(FUNCTIONS[name](*given, **kwargs).shape)
        return tuple(LAYERS[name](*of_layer[0], **of_layer[1])(*given).shape)


def _labels(operation: Operation) -> Any:
    """The tensor that must hold whole numbers, which PyTea's tests leave out."""
    return operation.args[0] if operation.name == "F.nll_loss" else None


def accepted(operation: Operation) -> bool:
    """Whether PyTorch takes the operation."""
    try:
        result(operation)
    except (RuntimeError, ValueError, IndexError):
        return False
    return True


def audited(operation: Operation) -> tuple[str, str]:
    """What the audit does with the operation in a module of ours, and its words."""
    text = module(operation)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "operation.py"
        file.write_text(text)
        try:
            read_network(follow(cells.read(file)))
        except UserError as error:
            lines = [number for number, line in enumerate(text.split("\n"), 1) if line.endswith("# here")]
            there = any(f"operation.py, line {line}:" in str(error) for line in lines)
            return "refused there" if there else "refused elsewhere", str(error)
    return "read", ""


def module(operation: Operation) -> str:
    """A network that makes the operation's shape of its images, and ten numbers of what it gives."""
    name, shape, args, kwargs, of_layer = operation
    numbers = math.prod(shape[1:])
    if len(shape) == 4 and shape[2:] == (28, 28):
        made = [f"self.enter = nn.Conv2d(1, {shape[1]}, 1)"]
        entered = "x = self.enter(x)"
    elif shape[1:] == (28, 28):
        made, entered = [], "x = x.squeeze(1)"
    else:
        made = [f"self.enter = nn.Linear(784, {numbers})"]
        entered = f"x = self.enter(x.view(-1, 784)).view({', '.join(map(str, (-1, *shape[1:])))})"
    words = []
    for number, value in enumerate(args):
        if isinstance(value, Shaped):
            whole = ".long()" if value is _labels(operation) else ""
            made.append(f"self.given{number} = torch.rand({value.shape}){whole}  # here")
        words.append(f"self.given{number}" if isinstance(value, Shaped) else repr(value))
    words += [f"{key}={value!r}" for key, value in kwargs.items()]
    if of_layer is not None:
        of_class = [*map(repr, of_layer[0]), *(f"{key}={value!r}" for key, value in of_layer[1].items())]
        made.append(f"self.operation = nn.{name}({', '.join(of_class)})  # here")
    function = "self.operation" if of_layer else "torch.argmax" if name == "argmax" else name
    left = "return x"
    if accepted(operation) and len(shape_after := result(operation)) > 1:
        made.append(f"self.leave = nn.Linear({math.prod(shape_after[1:])}, 10)")
        left = "return F.log_softmax(self.leave(x.flatten(1)), dim=1)"
    call = f"x = {function}({', '.join(['x', *words])})  # here"
    return MODULE.format(made="\n        ".join(made) or "pass", entered=entered, call=call, left=left)


if __name__ == "__main__":
    main()
