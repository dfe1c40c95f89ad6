"""The modules of torch.nn: how they are made, what they hold, how many parameters PyTorch counts in them."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from audit.notebook.library import LAYERS, bind
from audit.notebook.values import Instance, Module, Opaque, Refused, Site


def make_layer(kind: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], site: Site) -> Module:
    """A layer, by its class's name in torch.nn; Refused where it does not take these arguments."""
    signature = LAYERS[kind.removeprefix("Lazy")]
    if kind.startswith("Lazy"):  # what comes in tells its first argument, see tensors.apply
        signature = dict(list(signature.items())[1:])
    given = bind(signature, args, kwargs)
    if isinstance(given, str):
        raise Refused(site, f"{kind} is called wrongly: {given}")
    return Module(kind.removeprefix("Lazy"), given, site)


def make_sequence(kind: str, args: tuple[Any, ...], site: Site) -> Module:
    """A container: Sequential of modules or of a dict of them, ModuleList of a list, ModuleDict of a dict."""
    held: Any = args if kind == "Sequential" else args[0] if args else ()
    if kind == "Sequential" and len(args) == 1 and isinstance(args[0], dict):
        held = args[0]
    if isinstance(held, dict):
        return Module(kind, {}, site, {str(name): child for name, child in held.items()})
    if not isinstance(held, tuple | list):
        raise Refused(site, "what it holds is not known without running the code")
    return Module(kind, {}, site, {str(index): child for index, child in enumerate(held)})


def is_module(value: Any) -> bool:
    """Whether it is a module, of torch.nn or of a class of the code."""
    return isinstance(value, Module) or (isinstance(value, Instance) and value.is_module)


def children(module: Any) -> dict[str, Any]:
    """The modules that one holds, by name, as PyTorch registers them."""
    if isinstance(module, Module):
        return {name: child for name, child in module.children.items() if is_module(child)}
    held = dict(module.layer.children) if module.layer is not None else {}
    held |= module.attributes
    return {name: child for name, child in held.items() if is_module(child)}


def walk(module: Any) -> Iterator[Any]:
    """A module and all those in it, each once, in PyTorch's order."""
    seen: set[int] = set()
    left = [module]
    while left:
        each = left.pop()
        if id(each) not in seen:
            seen.add(id(each))
            left += reversed(children(each).values())
            yield each


def find_child(module: Any, key: Any) -> Any:
    """What module[key] is: a child by number or name, or some of a Sequential's; None where there is none."""
    held = children(module)
    values = list(held.values())
    if isinstance(key, int) and not isinstance(key, bool) and -len(values) <= key < len(values):
        return values[key]
    if isinstance(key, str):
        return held.get(key)
    if isinstance(key, slice) and isinstance(module, Module):
        try:
            return Module(module.kind, {}, module.site, dict(list(held.items())[key]))
        except (TypeError, ValueError):
            return None
    return None


def named_leaves(module: Any, name: str = "", seen: set[Any] | None = None) -> Iterator[tuple[str, Module]]:
    """The layers in a module with the names that PyTorch gives them, each once."""
    seen = set() if seen is None else seen
    if module in seen:
        return
    seen.add(module)
    held = children(module)
    if isinstance(module, Module) and module.kind in LAYERS:
        yield name, module
    elif isinstance(module, Instance) and module.layer is not None and module.layer.kind in LAYERS:
        yield name, module.layer
    for child_name, child in held.items():
        yield from named_leaves(child, f"{name}.{child_name}" if name else child_name, seen)


def count_parameters(module: Any) -> int:
    """How many numbers PyTorch counts in a module and in all those in it; Refused where that is not known."""
    total = 0
    for owner in walk(module):
        is_layer = isinstance(owner, Module)
        for value in (owner.children if is_layer else owner.attributes).values():
            _require_no_module(value, is_layer)
            total += 0 if is_layer else _numbers(value)
    return total + sum(count_of_layer(layer) for _, layer in named_leaves(module))


def _require_no_module(value: Any, is_part: bool) -> None:
    """Raise Refused if a value may be a module that is not known here."""
    if not isinstance(value, Opaque) or value.site is None:
        return
    name = value.function
    short = name.removeprefix("torch.nn.")
    of_torch = name.startswith("torch.nn.") and "." not in short and not short.endswith(("Loss", "Parameter"))
    if is_part or of_torch or name.startswith("torchvision.models."):
        raise Refused(value.site, "what this module holds is not known here")


def _numbers(value: Any) -> int:
    """Of an nn.Parameter; 0 for all else."""
    if not isinstance(value, Opaque) or value.function != "torch.nn.Parameter":
        return 0
    made = value.args[0] if value.args else None
    if isinstance(made, Opaque) and made.function.startswith("torch."):
        sizes = [each for arg in made.args for each in (arg if isinstance(arg, tuple | list) else (arg,))]
        if made.function in ("torch.zeros", "torch.ones", "torch.rand", "torch.randn", "torch.empty") and all(
            isinstance(size, int) for size in sizes
        ):
            return math.prod(sizes)
        if made.function == "torch.tensor" and isinstance(made.args[0], int | float):
            return 1
    assert value.site is not None
    raise Refused(value.site, "the size of this parameter is not known without running the code")


_WEIGHTED = ("Conv2d", "Linear", "BatchNorm1d", "BatchNorm2d", "GroupNorm", "LayerNorm", "PReLU")


def has_weights(layer: Module) -> bool:
    """Whether it has any that are trained."""
    return layer.kind in _WEIGHTED and layer.arguments.get("affine", True) is not False


def count_of_layer(layer: Module) -> int:
    """How many numbers PyTorch counts in a layer; Refused where they hang on what is not known."""
    given = {**LAYERS[layer.kind], **layer.arguments}

    def number(name: str) -> int:
        value = given[name]
        if not isinstance(value, int) or value < 0:
            raise Refused(layer.site, f"{name} is not known without running the code")
        return int(value)

    match layer.kind:
        case "Conv2d":
            sides = given["kernel_size"]
            sides = sides if isinstance(sides, tuple | list) else (sides, sides)
            if not all(isinstance(side, int) for side in sides) or number("groups") < 1:
                raise Refused(layer.site, "kernel_size is not known without running the code")
            weights = math.prod(sides) * number("in_channels") // number("groups")
            return (weights + bool(given["bias"])) * number("out_channels")
        case "Linear":
            return (number("in_features") + bool(given["bias"])) * number("out_features")
        case "BatchNorm1d" | "BatchNorm2d" | "InstanceNorm2d":
            return 2 * number("num_features") * bool(given["affine"])
        case "GroupNorm":
            return 2 * number("num_channels") * bool(given["affine"])
        case "LayerNorm":
            shape = given["normalized_shape"]
            shape = shape if isinstance(shape, tuple | list) else (shape,)
            if not all(isinstance(side, int) for side in shape):
                raise Refused(layer.site, "normalized_shape is not known without running the code")
            return (1 + bool(given["bias"])) * math.prod(shape) * bool(given["elementwise_affine"])
        case "PReLU":
            return number("num_parameters")
    return 0
