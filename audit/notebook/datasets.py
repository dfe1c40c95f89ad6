"""How many images data sets and loaders have, and how random_split divides them."""

import math
from collections.abc import Sequence
from typing import Any

from audit.notebook.library import OBJECTS, REQUIRED, bind
from audit.notebook.state import Run
from audit.notebook.values import Instance, Opaque

IMAGES = {True: 60_000, False: 10_000}
"""How many of MNIST's images are for training, and how many are not."""
_DEEPEST = 20  # data sets within data sets


def arguments(call: Opaque) -> dict[str, Any]:
    """A call's arguments by name, those given alone; none where they do not fit what is called."""
    given = bind(OBJECTS.get(call.function, {}), call.args, call.kwargs)
    return given if isinstance(given, dict) else {}


def default(call: Opaque, name: str) -> Any:
    """A call's argument, or PyTorch's default; None where it has neither."""
    value = arguments(call).get(name, OBJECTS.get(call.function, {}).get(name))
    return None if value is REQUIRED else value


def count(run: Run, value: Any, depth: int = 0) -> int | None:
    """How many items a data set has, or batches a loader; None where that is not known."""
    if isinstance(value, Instance) and depth < _DEEPEST:
        length = run.call_method(value, "__len__")
        return length if type(length) is int else None
    if not isinstance(value, Opaque) or depth >= _DEEPEST:
        return None
    given = arguments(value)
    match value.function.rpartition(".")[2]:
        case "MNIST" if isinstance(given.get("train", True), bool):
            return IMAGES[given.get("train", True)]
        case "DataLoader" if given:
            images, size = count(run, given["dataset"], depth + 1), given.get("batch_size", 1)
            if images is not None and type(size) is int and size > 0:
                return images // size if given.get("drop_last") is True else -(-images // size)
        case "Subset" if given:
            return how_many(given["indices"])
        case "ConcatDataset" if given and (parts := run.items(given["datasets"])) is not None:
            counts = [count(run, part, depth + 1) for part in parts]
            return None if None in counts else sum(filter(None, counts))
    if (split := split_of(value)) is not None:
        whole, lengths, index = split
        return shares(count(run, whole, depth + 1), lengths)[index]
    return None


def split_of(value: Any) -> tuple[Any, Sequence[Any], int] | None:
    """Of a part that random_split makes the whole, the lengths and which part it is; None for all else."""
    made = value.of if isinstance(value, Opaque) and value.kind == "item" else None
    if not isinstance(made, Opaque) or made.function != "torch.utils.data.random_split":
        return None
    given, index = arguments(made), value.args[0] if value.args else None
    lengths = given.get("lengths")
    if not isinstance(lengths, list | tuple) or type(index) is not int:
        return None
    return (given["dataset"], lengths, index) if -len(lengths) <= index < len(lengths) else None


def shares(whole: int | None, lengths: Sequence[Any]) -> list[int | None]:
    """The lengths of the parts, where fractions are rounded as random_split does it; None where not known."""
    if all(type(each) is int for each in lengths):
        return list(lengths)
    if whole is None or not all(isinstance(each, int | float) for each in lengths):
        return [None] * len(lengths)
    floors = [math.floor(whole * each) for each in lengths]
    if not math.isclose(sum(lengths), 1) or sum(floors) > whole:
        return [None] * len(lengths)
    left = whole - sum(floors)
    return [each + (index < left % len(floors)) + left // len(floors) for index, each in enumerate(floors)]


def how_many(indices: Any) -> int | None:
    """How many different images some indices are of; None where that is not known."""
    if isinstance(indices, list | tuple | range) and all(type(each) is int for each in indices):
        return len(set(indices))
    if not isinstance(indices, Opaque):
        return None
    if indices.kind == "item" and isinstance(indices.args[0], slice):
        whole = how_many(indices.of)
        return None if whole is None else len(range(whole)[indices.args[0]])
    if indices.method == "tolist":
        return how_many(indices.of.of)
    drawn = ("torch.randperm", "numpy.random.permutation", "torch.arange", "numpy.arange")
    known = indices.function in drawn and len(indices.args) == 1 and type(indices.args[0]) is int
    return indices.args[0] if known else None
