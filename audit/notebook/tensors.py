"""What layers, functions and methods do to a batch of images: its shape, and which layer of ours it is."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from audit.notebook.library import FUNCTIONS, LAYERS, bind
from audit.notebook.state import Given
from audit.notebook.values import BATCH, Method, Module, Node, Opaque, Refused, Site, Tensor, origin
from cnn.architecture import (
    GELU,
    AveragePool,
    BatchNorm,
    ChannelDropout,
    Conv,
    Crop,
    Dense,
    Dropout,
    Layer,
    LeakyReLU,
    MaxPool,
    ReLU,
    SiLU,
)

_SAME = {
    "contiguous",
    "clone",
    "detach",
    "float",
    "to",
    "cuda",
    "cpu",
    "requires_grad_",
    "type",
    "double",
    "half",
}
_SHAPES = {"view", "reshape", "flatten", "squeeze", "unsqueeze", "mean"}
_OF_LIBRARY = ("torch.nn.functional.", "torch.")


def image() -> Tensor:
    """A batch of MNIST's images."""
    return batch((BATCH, 1, 28, 28))


def batch(shape: tuple[Any, ...]) -> Tensor:
    """A batch of some images."""
    return Tensor(shape, shape[1:], Node("input"))


def apply(module: Module, value: Any, site: Site, *, training: bool) -> Tensor:
    """What a layer of torch.nn makes of a value.

    Raises:
      Refused: the value is no tensor, the layer does not fit it, or our language has no such layer.
    """
    if not isinstance(value, Tensor):
        raise not_understood(value, site)
    arguments = {**LAYERS[module.kind], **module.arguments}
    if module.kind in ("Dropout", "Dropout1d", "Dropout2d", "AlphaDropout") and not training:
        return value
    result = _Step(module.kind, arguments, value, site, module).result()
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
            return shape[args[0]] if args and _is_index(args[0], shape) else shape if not args else None
        case "dim" | "ndimension":
            return len(tensor.shape)
        case "view" | "reshape":
            sizes = args[0] if len(args) == 1 and isinstance(args[0], tuple | list) else args
            return _reshaped(tensor, list(kwargs.get("shape", sizes)), site)
        case "flatten":
            start = kwargs.get("start_dim", args[0] if args else 0)
            end = kwargs.get("end_dim", args[1] if len(args) > 1 else -1)
            return _flattened(tensor, start, end, site)
        case "squeeze" | "unsqueeze":
            dim = kwargs.get("dim", args[0] if args else None)
            return _squeezed(tensor, name, dim, site)
        case "mean":
            dims = kwargs.get("dim", kwargs.get("axis", args[0] if len(args) == 1 else args))
            return _mean(tensor, dims, kwargs.get("keepdim", False), site)
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
    notes: tuple[str, ...] = ()
    if "training" in arguments:
        active = arguments["training"]
        if not isinstance(active, bool):
            raise Refused(site, "whether it drops is not known without running the code")
        if not active:
            return tensor
    if "stride" in arguments:
        arguments = {**LAYERS[kind], **bound}
    result = _Step(kind, arguments, tensor, site, None, name, notes).result()
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
    """A tensor that now holds another one's values, as functions in place have it.

    Returns:
      the same tensor; its node is "unknown" where the result is not known, or has another shape.
    """
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


class _Step:
    """A layer that is applied to a tensor."""

    def __init__(
        self,
        kind: str,
        arguments: Mapping[str, Any],
        tensor: Tensor,
        site: Site,
        module: Module | None,
        name: str = "",
        notes: tuple[str, ...] = (),
    ) -> None:
        self.kind, self.arguments, self.tensor, self.site = kind, arguments, tensor, site
        self.module, self.name, self.notes = module, name or kind, notes
        self.made = module.site if module is not None else site

    def refuse(self, problem: str) -> Refused:
        return Refused(self.made, problem)

    def number(self, name: str) -> int:
        value = self.arguments[name]
        if isinstance(value, tuple | list) and len(value) == 2 and value[0] == value[1]:
            value = value[0]
        if isinstance(value, tuple | list) and len(value) == 1:
            value = value[0]
        if isinstance(value, float) and value.is_integer():
            raise self.refuse(f"{name} is {value}: PyTorch takes whole numbers")
        if isinstance(value, bool) or not isinstance(value, int):
            known = isinstance(value, tuple | list) and all(isinstance(each, int) for each in value)
            raise self.refuse(
                f"{name} differs between height and width, which our layers cannot"
                if known
                else f"{name} is not known without running the code"
            )
        return value

    def plain(self, **expected: Any) -> None:
        """Refuse an argument that our layers do not have."""
        for name, value in expected.items():
            given = self.arguments[name]
            given = given[0] if isinstance(given, tuple | list) and len(set(map(str, given))) == 1 else given
            if isinstance(given, Opaque):
                raise self.refuse(f"{name} is not known without running the code")
            if given != value:
                raise self.refuse(f"{self.kind} has {name}={given}, which our layers do not have")

    def maps(self) -> tuple[int, int]:
        """Channels and side of the maps that come in."""
        shape = self.tensor.shape
        if len(shape) != 4 or shape[1:] != self.tensor.layout or shape[2] != shape[3]:
            raise Refused(self.site, f"{self.name} gets {_words(shape)}, and needs channels x height x width")
        return shape[1], shape[2]

    def result(self) -> Tensor:
        match self.kind:
            case "Conv2d":
                return self.convolution()
            case "Linear":
                return self.dense()
            case "BatchNorm1d" | "BatchNorm2d":
                return self.batch_norm()
            case "MaxPool2d" | "AvgPool2d":
                return self.pool()
            case "AdaptiveAvgPool2d" | "AdaptiveMaxPool2d":
                return self.adaptive_pool()
            case "Dropout" | "Dropout1d" | "Dropout2d":
                return self.dropout()
            case "ReLU":
                return self.elementwise(ReLU())
            case "SiLU":
                return self.elementwise(SiLU())
            case "GELU":
                self.plain(approximate="none")
                return self.elementwise(GELU())
            case "LeakyReLU":
                slope = self.arguments["negative_slope"]
                if not isinstance(slope, int | float):
                    raise self.refuse("negative_slope is not known without running the code")
                return self.elementwise(LeakyReLU(float(slope)))
            case "LogSoftmax" | "Softmax":
                return self.softmax()
            case "Identity":
                return self.tensor
            case "Flatten":
                return _flattened(
                    self.tensor, self.arguments["start_dim"], self.arguments["end_dim"], self.site
                )
        raise self.refuse(f"{self.name} is no layer of our language")

    def output(self, layer: Layer, shape: tuple[Any, ...], layout: tuple[int, ...]) -> Tensor:
        node = Node("layer", (self.tensor.node,), layer, self.module, self.site, self.name, self.notes)
        return Tensor(shape, layout, node)

    def elementwise(self, layer: Layer) -> Tensor:
        return self.output(layer, self.tensor.shape, self.tensor.layout)

    def convolution(self) -> Tensor:
        channels, side = self.maps()
        kernel, stride, features = (
            self.number("kernel_size"),
            self.number("stride"),
            self.number("out_channels"),
        )
        if self.number("in_channels") != channels:
            raise self.refuse(f"it takes {self.number('in_channels')} channels and gets {channels}")
        self.plain(groups=1)
        if kernel > 1:
            self.plain(dilation=1)
        padding = self.arguments["padding"]
        if padding == "same":
            if stride != 1 or kernel % 2 == 0:
                raise self.refuse("padding='same' pads one side more than the other here")
            padding = (kernel - 1) // 2
        elif padding == "valid":
            padding = 0
        else:
            padding = self.number("padding")
        if padding:
            self.plain(padding_mode="zeros")
        bias = self.arguments["bias"]
        if not isinstance(bias, bool | int | None):
            raise self.refuse("bias is not known without running the code")
        new = (side + 2 * padding - kernel) // stride + 1 if min(kernel, stride) > 0 <= padding else 0
        if new < 1:
            raise self.refuse(f"a kernel of {kernel}x{kernel} does not fit the map of {side}x{side}")
        layer = Conv(features, kernel, stride, padding, bool(bias))
        return self.output(layer, (self.tensor.shape[0], features, new, new), (features, new, new))

    def dense(self) -> Tensor:
        shape, layout = self.tensor.shape, self.tensor.layout
        if len(shape) != 2 or shape[1] != math.prod(layout):
            raise Refused(self.site, f"Linear gets {_words(shape)}, and needs one row an image")
        if self.number("in_features") != shape[1]:
            raise self.refuse(f"it takes {self.number('in_features')} features and gets {shape[1]}")
        bias, features = self.arguments["bias"], self.number("out_features")
        if not isinstance(bias, bool | int | None):
            raise self.refuse("bias is not known without running the code")
        return self.output(Dense(features, bool(bias)), (shape[0], features), (features,))

    def batch_norm(self) -> Tensor:
        shape, layout = self.tensor.shape, self.tensor.layout
        flat = len(shape) == 2 and math.prod(layout[1:]) == 1
        if self.kind == "BatchNorm2d":
            self.maps()
        elif not flat:
            raise Refused(self.site, f"BatchNorm1d gets {_words(shape)}, of which our batch norm takes maps")
        if self.number("num_features") != shape[1]:
            raise self.refuse(f"it takes {self.number('num_features')} channels and gets {shape[1]}")
        self.plain(eps=1e-5, momentum=0.1, affine=True, track_running_stats=True)
        return self.output(BatchNorm(), shape, layout)

    def pool(self) -> Tensor:
        channels, side = self.maps()
        window = self.number("kernel_size")
        stride = window if self.arguments["stride"] in (None, ()) else self.number("stride")
        self.plain(padding=0, ceil_mode=False) if side % window or stride != window else self.plain(padding=0)
        if self.kind == "MaxPool2d":
            self.plain(dilation=1, return_indices=False)
        else:
            self.plain(divisor_override=None)
        if window < 1 or stride < 1 or window > side:
            raise self.refuse(f"a window of {window}x{window} does not fit the map of {side}x{side}")
        new = (side - window) // stride + 1
        if new != side // window or (stride != window and new > 1):
            raise self.refuse(f"windows of {window}x{window} with stride {stride} overlap or leave gaps")
        layer = self.pooling(window, side)
        return self.output(layer, (self.tensor.shape[0], channels, new, new), (channels, new, new))

    def pooling(self, window: int, side: int) -> Layer:
        if self.kind in ("MaxPool2d", "AdaptiveMaxPool2d"):
            return MaxPool(window)
        return AveragePool(None if window == side else window)

    def adaptive_pool(self) -> Tensor:
        channels, side = self.maps()
        size = self.arguments["output_size"]
        new = side if size is None or size == (None, None) else self.number("output_size")
        if new < 1 or side % new:
            raise self.refuse(
                f"an output of {new}x{new} takes overlapping windows of the map of {side}x{side}"
            )
        if new == side and side > 1:
            return self.tensor
        return self.output(
            self.pooling(side // new, side), (self.tensor.shape[0], channels, new, new), (channels, new, new)
        )

    def dropout(self) -> Tensor:
        rate = self.arguments["p"]
        if isinstance(rate, bool) or not isinstance(rate, int | float):
            raise self.refuse("p is not known without running the code")
        if not 0 <= rate < 1:
            raise self.refuse(f"p is {rate}: give a probability from 0 to below 1")
        shape = self.tensor.shape
        if self.kind == "Dropout" or len(shape) == 2:  # PyTorch drops single values of flat images
            return self.elementwise(Dropout(float(rate)))
        if self.kind == "Dropout1d":
            raise Refused(self.site, f"Dropout1d gets {_words(shape)}, of which it drops whole rows")
        self.maps()
        return self.elementwise(ChannelDropout(float(rate)))

    def softmax(self) -> Tensor:
        shape, dim = self.tensor.shape, self.arguments["dim"]
        notes = ("without dim",) if dim is None else ()
        if dim is None:
            dim = 1 if len(shape) in (2, 4) else 0
        if not _is_index(dim, shape):
            raise self.refuse("dim is not known, or not one of the dimensions")
        if dim % len(shape) != 1:
            raise self.refuse(f"it is taken over dimension {dim}, which is not that of the classes")
        kind = "log_softmax" if self.kind == "LogSoftmax" else "softmax"
        node = Node(kind, (self.tensor.node,), None, self.module, self.site, self.name, notes)
        return Tensor(shape, self.tensor.layout, node)


def _is_index(value: Any, shape: tuple[Any, ...]) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -len(shape) <= value < len(shape)


def _words(shape: tuple[Any, ...]) -> str:
    return "x".join(str(side) for side in shape[1:]) or "no dimensions"


def _reshaped(tensor: Tensor, sizes: list[Any], site: Site) -> Tensor:
    numbers, batch_size = math.prod(tensor.shape[1:]), tensor.shape[0]
    if not sizes or not all(size is BATCH or type(size) is int for size in sizes):
        raise Refused(site, "the shape is not known without running the code")
    first, rest = sizes[0], sizes[1:]
    if any(size is BATCH for size in rest) or rest.count(-1) + (first == -1) > 1:
        raise Refused(site, "it does not keep the images of a batch apart")
    known = math.prod(size for size in rest if size != -1)
    is_whole = first is BATCH or first == batch_size
    if is_whole and -1 in rest and known > 0 and numbers % known == 0:
        rest = [numbers // known if size == -1 else size for size in rest]
        known = numbers
    if not (is_whole or first == -1) or known != numbers or any(size < 1 for size in rest):
        raise Refused(
            site,
            f"an image has {numbers:,} numbers here: the new shape does not keep the images of a batch apart",
        )
    return Tensor((batch_size, *rest), tensor.layout, tensor.node)


def _flattened(tensor: Tensor, start: Any, end: Any, site: Site) -> Tensor:
    shape = tensor.shape
    if not _is_index(start, shape) or not _is_index(end, shape):
        raise Refused(site, "what it flattens is not known without running the code")
    start, end = start % len(shape), end % len(shape)
    if start == 0 and end > 0:
        raise Refused(site, "it does not keep the images of a batch apart")
    flat = (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]) if end > start else shape
    return Tensor(flat, tensor.layout, tensor.node)


def _squeezed(tensor: Tensor, name: str, dim: Any, site: Site) -> Tensor:
    shape = tensor.shape
    if name == "squeeze":
        dims = [index for index, side in enumerate(shape) if type(side) is int and side == 1]
        if dim is not None:
            wanted = dim if isinstance(dim, tuple | list) else (dim,)
            if not all(_is_index(each, shape) for each in wanted):
                raise Refused(site, "what it squeezes is not known without running the code")
            dims = [index for index in dims if index in [each % len(shape) for each in wanted]]
        return Tensor(
            tuple(side for index, side in enumerate(shape) if index not in dims), tensor.layout, tensor.node
        )
    if not _is_index(dim, (*shape, 1)) or dim % (len(shape) + 1) == 0:
        raise Refused(site, "it does not keep the images of a batch apart")
    place = dim % (len(shape) + 1)
    return Tensor((*shape[:place], 1, *shape[place:]), tensor.layout, tensor.node)


def _mean(tensor: Tensor, dims: Any, keepdim: Any, site: Site) -> Any:
    """Of the whole map, at once or along one side after the other; Opaque for any other mean."""
    shape, layout = tensor.shape, tensor.layout
    wanted = dims if isinstance(dims, tuple | list) else (dims,)
    if not wanted or not all(_is_index(each, shape) for each in wanted) or not isinstance(keepdim, bool):
        return Opaque("call", site.text, site, args=(tensor,))
    over = sorted({each % len(shape) for each in wanted})
    left = tuple(
        1 if index in over else side for index, side in enumerate(shape) if index not in over or keepdim
    )
    if tensor.node.kind == "mean":
        whole = over == [2] if len(shape) == 3 else len(shape) == 4 and over in ([2], [3])
        source, channels = tensor.node.inputs[0], layout[0]
    else:
        is_map = len(layout) == 3 and layout == shape[1:]
        rows = len(layout) == 3 and shape[1:] == (layout[0], math.prod(layout[1:]))
        whole = (is_map and over == [2, 3]) or (rows and over == [2])
        source, channels = tensor.node, layout[0]
        if is_map and over in ([2], [3]):
            return Tensor(left, layout, Node("mean", (tensor.node,), site=site, name="mean"))
    if not whole or math.prod(left[1:]) != channels:
        return Opaque("call", site.text, site, args=(tensor,))
    node = Node("layer", (source,), AveragePool(None), site=site, name="mean")
    return Tensor(left, (channels, 1, 1), node)
