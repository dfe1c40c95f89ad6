"""What functions, methods, attributes and operators do to a batch of images."""

from dataclasses import replace
from typing import Any

from audit.notebook import layers
from audit.notebook.layers import flattened, is_index, mean, reshaped, squeezed
from audit.notebook.library import FUNCTIONS, LAYERS, REQUIRED, bind
from audit.notebook.state import Given
from audit.notebook.values import BATCH, Method, Module, Node, Opaque, Refused, Site, Tensor, origin
from cnn.architecture import Crop

_SAME = {"contiguous", "clone", "detach", "float", "to", "cuda", "cpu", "requires_grad_", "type", "double"}
_SAME |= {"half"}
_SHAPES = {"view", "reshape", "flatten", "squeeze", "unsqueeze", "mean"}
_OF_LIBRARY = ("torch.nn.functional.", "torch.")


def image() -> Tensor:
    """A batch of MNIST's images."""
    return batch((BATCH, 1, 28, 28))


def batch(shape: tuple[Any, ...]) -> Tensor:
    """A batch of some images."""
    return Tensor(shape, shape[1:], Node("input"))


def apply(module: Module, value: Any, site: Site, *, training: bool) -> Tensor:
    """What a layer of torch.nn makes of a value; Refused where it is no tensor, or does not fit."""
    if not isinstance(value, Tensor):
        raise not_understood(value, site)
    first, default = next(iter(LAYERS[module.kind].items()), ("", None))
    if default is REQUIRED and first not in module.arguments:  # a lazy layer's
        module.arguments[first] = value.shape[min(1, len(value.shape) - 1)]
    arguments = {**LAYERS[module.kind], **module.arguments}
    if module.kind in ("Dropout", "Dropout1d", "Dropout2d", "AlphaDropout") and not training:
        return value
    result = layers.output(module.kind, arguments, value, site, module, module.kind)
    return overwritten(value, result, site) if arguments.get("inplace") not in (False, None, 0) else result


def function(name: str, given: Given) -> Any:
    """What a library's function makes of a tensor; Opaque where it is not known."""
    args, site = given.args, given.site
    unknown = Opaque("call", name, site, args=args, kwargs=given.kwargs)
    short = next((name.removeprefix(each) for each in _OF_LIBRARY if name.startswith(each)), name)
    kwargs = dict(given.kwargs)
    tensor = args[0] if args else kwargs.pop("input", None)
    args = args[1:] if args else ()
    if not isinstance(tensor, Tensor):
        return unknown
    if "out" in kwargs:
        raise Refused(site, "what it writes into another tensor is not followed")
    if short == "add" and args:
        return operate("Add", tensor, args[0], site)
    if short in _SHAPES - {"view"} or short in FUNCTIONS:
        return method(tensor, short, replace(given, args=args, kwargs=kwargs), of_tensor=False)
    return unknown


def method(tensor: Tensor, name: str, given: Given, *, of_tensor: bool = True) -> Any:
    """What a method of a tensor returns; Opaque where it is not known."""
    args, kwargs, site = given.args, given.kwargs, given.site
    if of_tensor and name in _SAME:
        return tensor
    match name:
        case "size":
            shape = tensor.shape
            return shape[args[0]] if args and is_index(args[0], shape) else shape if not args else None
        case "dim" | "ndimension":
            return len(tensor.shape)
        case "view" | "reshape":
            sizes = args[0] if len(args) == 1 and isinstance(args[0], tuple | list) else args
            return reshaped(tensor, list(kwargs.get("shape", sizes)), site)
        case "flatten":
            start = kwargs.get("start_dim", args[0] if args else 0)
            end = kwargs.get("end_dim", args[1] if len(args) > 1 else -1)
            return flattened(tensor, start, end, site)
        case "squeeze" | "unsqueeze":
            dim = kwargs.get("dim", args[0] if args else None)
            return squeezed(tensor, name, dim, site)
        case "mean":
            dims = kwargs.get("dim", kwargs.get("axis", args[0] if len(args) == 1 else args))
            return mean(tensor, dims, kwargs.get("keepdim", False), site)
        case "add" | "add_" if args:
            total = operate("Add", tensor, args[0], site) if len(args) == 1 and not kwargs else None
            return overwritten(tensor, total, site) if name == "add_" else total
    if name.endswith("_") and not name.endswith("__") and name not in FUNCTIONS:
        return overwritten(tensor, None, site)
    if name in ("clamp", "clip") and tensor.node.kind == "log_softmax":
        return Tensor(tensor.shape, tensor.layout, Node("clamp", (tensor.node,), site=site, name=name))
    if name not in FUNCTIONS:
        return Opaque("call", name, site, args=(tensor, *args), kwargs=kwargs)
    kind, signature = FUNCTIONS[name]
    bound = bind(signature, args, kwargs)
    if isinstance(bound, str):
        raise Refused(site, f"{name} is called wrongly: {bound}")
    arguments = {**signature, **bound}
    if "training" in arguments:
        active = arguments["training"]
        if not isinstance(active, bool):
            raise Refused(site, "whether it drops is not known without running the code")
        if not active:
            return tensor
    if "stride" in arguments:
        arguments = {**LAYERS[kind], **bound}
    result = layers.output(kind, arguments, tensor, site, None, name)
    in_place = name.endswith("_") or arguments.get("inplace") not in (False, None, 0)
    return overwritten(tensor, result, site) if in_place else result


def attribute(tensor: Tensor, name: str, site: Site) -> Any:
    """What tensor.name is; Opaque where it is not known."""
    if name == "shape":
        return tensor.shape
    if name == "ndim":
        return len(tensor.shape)
    if name == "data":
        return tensor
    if name in ("device", "dtype", "is_cuda", "requires_grad", "T", "grad"):
        return Opaque("attribute", name, site, args=(tensor,))
    return Method(tensor, name)


def item(tensor: Tensor, key: Any, site: Site) -> Any:
    """What tensor[key] is: the map without its margin, or what stands in a 1x1 map; otherwise Opaque."""
    unknown = Opaque("item", site.text, site, args=(tensor, key))
    shape, whole = tensor.shape, slice(None)
    if not isinstance(key, tuple) or len(key) != 4 or len(shape) != 4 or key[:2] != (whole, whole):
        return unknown
    if shape[2:] == (1, 1) and key[2:] in ((0, 0), (-1, -1)):
        return Tensor(shape[:2], tensor.layout, tensor.node)
    first = key[2]
    if key[2] != key[3] or not isinstance(first, slice) or first.step not in (None, 1):
        return unknown
    start, stop, _ = first.indices(shape[2])
    if start != shape[2] - stop or start < 1 or stop <= start:
        return unknown
    side = stop - start
    node = Node("layer", (tensor.node,), Crop(start), site=site, name="slice")
    return Tensor((shape[0], shape[1], side, side), (shape[1], side, side), node)


def operate(operation: str, left: Any, right: Any, site: Site) -> Any:
    """A sum of two tensors; Opaque for all else."""
    both = isinstance(left, Tensor) and isinstance(right, Tensor)
    if both and operation == "Add" and left.shape == right.shape and left.layout == right.layout:
        return Tensor(left.shape, left.layout, Node("add", (left.node, right.node), site=site, name="+"))
    return Opaque("operation", site.text, site, args=(left, right))


def overwritten(tensor: Tensor, result: Any, site: Site) -> Any:
    """The same tensor with the values of another one, as functions in place have it; unknown without."""
    if isinstance(result, Tensor) and (result.shape, result.layout) == (tensor.shape, tensor.layout):
        tensor.node = result.node
    else:
        tensor.node = Node("unknown", (tensor.node,), site=site, name=site.text)
    return tensor


def not_understood(value: Any, site: Site) -> Refused:
    """What to raise where a tensor is needed and something else came: its origin is to blame."""
    source = origin(value)
    if source is not None and source.site is not None:
        return Refused(source.site, "what this makes of the images is not known here")
    return Refused(site, "it gets no images")
