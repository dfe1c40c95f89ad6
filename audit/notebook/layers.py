"""Which layer of ours a layer or function of PyTorch is; what it, reshaping and means do to a shape."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audit.notebook.values import BATCH, Module, Node, Opaque, Refused, Site, Tensor
from cnn import architecture as ours


def output(
    kind: str, arguments: Mapping[str, Any], tensor: Tensor, site: Site, module: Module | None, name: str
) -> Tensor:
    """What a layer makes of a tensor; Refused where it does not fit it, or our language has no such layer."""
    return _Application(kind, arguments, tensor, site, module, name).result()


@dataclass(frozen=True)
class _Application:
    """A layer that is applied to a tensor."""

    kind: str  # its class in torch.nn
    arguments: Mapping[str, Any]  # by name, defaults included
    tensor: Tensor
    site: Site  # of the call
    module: Module | None  # that is called; None for a function
    name: str  # in a reader's words

    @property
    def made(self) -> Site:
        return self.module.site if self.module is not None else self.site

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
            sides = "differs between height and width, which our layers cannot"
            raise self.refuse(f"{name} {sides if known else 'is not known without running the code'}")
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
            got = _in_words(shape)
            raise Refused(self.site, f"{self.name} gets {got}, and needs channels x height x width")
        return shape[1], shape[2]

    def flag(self, name: str) -> bool:
        if not isinstance(self.arguments[name], bool | int | None):
            raise self.refuse(f"{name} is not known without running the code")
        return bool(self.arguments[name])

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
                return self.elementwise(ours.ReLU())
            case "SiLU":
                return self.elementwise(ours.SiLU())
            case "GELU":
                self.plain(approximate="none")
                return self.elementwise(ours.GELU())
            case "LeakyReLU":
                slope = self.arguments["negative_slope"]
                if not isinstance(slope, int | float):
                    raise self.refuse("negative_slope is not known without running the code")
                return self.elementwise(ours.LeakyReLU(float(slope)))
            case "LogSoftmax" | "Softmax":
                return self.softmax()
            case "Identity":
                return self.tensor
            case "Flatten":
                return flattened(
                    self.tensor, self.arguments["start_dim"], self.arguments["end_dim"], self.site
                )
        raise self.refuse(f"{self.name} is no layer of our language")

    def node(self, layer: ours.Layer) -> Node:
        return Node("layer", (self.tensor.node,), layer, self.module, self.site, self.name)

    def elementwise(self, layer: ours.Layer) -> Tensor:
        return Tensor(self.tensor.shape, self.tensor.layout, self.node(layer))

    def output(self, layer: ours.Layer, *layout: int) -> Tensor:
        return Tensor((self.tensor.shape[0], *layout), layout, self.node(layer))

    def convolution(self) -> Tensor:
        channels, side = self.maps()
        kernel, stride = self.number("kernel_size"), self.number("stride")
        features = self.number("out_channels")
        if self.number("in_channels") != channels:
            raise self.refuse(f"it takes {self.number('in_channels')} channels and gets {channels}")
        groups = self.number("groups")
        if groups < 1 or channels % groups or features % groups:
            problem = f"{channels} channels and {features} features do not divide into {groups} groups"
            raise self.refuse(problem)
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
        bias = self.flag("bias")
        new = (side + 2 * padding - kernel) // stride + 1 if min(kernel, stride) > 0 <= padding else 0
        if new < 1:
            raise self.refuse(f"a kernel of {kernel}x{kernel} does not fit the map of {side}x{side}")
        layer = ours.Conv(features, kernel, stride, padding, bias, groups=groups)
        return self.output(layer, features, new, new)

    def dense(self) -> Tensor:
        shape, layout = self.tensor.shape, self.tensor.layout
        if len(shape) != 2 or shape[1] != math.prod(layout):
            raise Refused(self.site, f"Linear gets {_in_words(shape)}, and needs one row an image")
        if self.number("in_features") != shape[1]:
            raise self.refuse(f"it takes {self.number('in_features')} features and gets {shape[1]}")
        bias, features = self.flag("bias"), self.number("out_features")
        return self.output(ours.Dense(features, bias), features)

    def batch_norm(self) -> Tensor:
        shape, layout = self.tensor.shape, self.tensor.layout
        flat = len(shape) == 2 and math.prod(layout[1:]) == 1
        if self.kind == "BatchNorm2d":
            self.maps()
        elif not flat:
            got = _in_words(shape)
            raise Refused(self.site, f"BatchNorm1d gets {got}, of which our batch norm takes maps")
        if self.number("num_features") != shape[1]:
            raise self.refuse(f"it takes {self.number('num_features')} channels and gets {shape[1]}")
        self.plain(eps=1e-5, momentum=0.1, track_running_stats=True)
        return self.elementwise(ours.BatchNorm(plain=not self.flag("affine")))

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
        return self.output(self.pooling(window, side), channels, new, new)

    def pooling(self, window: int, side: int) -> ours.Layer:
        if self.kind in ("MaxPool2d", "AdaptiveMaxPool2d"):
            return ours.MaxPool(window)
        return ours.AveragePool(None if window == side else window)

    def adaptive_pool(self) -> Tensor:
        channels, side = self.maps()
        size = self.arguments["output_size"]
        new = side if size is None or size == (None, None) else self.number("output_size")
        if new < 1 or side % new:
            windows = f"overlapping windows of the map of {side}x{side}"
            raise self.refuse(f"an output of {new}x{new} takes {windows}")
        if new == side and side > 1:
            return self.tensor
        return self.output(self.pooling(side // new, side), channels, new, new)

    def dropout(self) -> Tensor:
        rate = self.arguments["p"]
        if isinstance(rate, bool) or not isinstance(rate, int | float):
            raise self.refuse("p is not known without running the code")
        if not 0 <= rate < 1:
            raise self.refuse(f"p is {rate}: give a probability from 0 to below 1")
        shape = self.tensor.shape
        if self.kind == "Dropout" or len(shape) == 2:  # PyTorch drops single values of flat images
            return self.elementwise(ours.Dropout(float(rate)))
        if self.kind == "Dropout1d":
            raise Refused(self.site, f"Dropout1d gets {_in_words(shape)}, of which it drops whole rows")
        self.maps()
        return self.elementwise(ours.ChannelDropout(float(rate)))

    def softmax(self) -> Tensor:
        shape, dim = self.tensor.shape, self.arguments["dim"]
        notes = ("without dim",) if dim is None else ()
        if dim is None:
            dim = 1 if len(shape) in (2, 4) else 0
        if not is_index(dim, shape):
            raise self.refuse("dim is not known, or not one of the dimensions")
        if dim % len(shape) != 1:
            raise self.refuse(f"it is taken over dimension {dim}, which is not that of the classes")
        kind = "log_softmax" if self.kind == "LogSoftmax" else "softmax"
        node = Node(kind, (self.tensor.node,), None, self.module, self.site, self.name, notes)
        return Tensor(shape, self.tensor.layout, node)


def is_index(value: Any, shape: tuple[Any, ...]) -> bool:
    """Whether a value counts one of a shape's dimensions."""
    return isinstance(value, int) and not isinstance(value, bool) and -len(shape) <= value < len(shape)


def _in_words(shape: tuple[Any, ...]) -> str:
    """A shape without its batch."""
    return "x".join(str(side) for side in shape[1:]) or "no dimensions"


def reshaped(tensor: Tensor, sizes: list[Any], site: Site) -> Tensor:
    """As view and reshape have it, as long as images stay apart."""
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
        problem = "the new shape does not keep the images of a batch apart"
        raise Refused(site, f"an image has {numbers:,} numbers here: {problem}")
    return Tensor((batch_size, *rest), tensor.layout, tensor.node)


def flattened(tensor: Tensor, start: Any, end: Any, site: Site) -> Tensor:
    """As flatten has it."""
    shape = tensor.shape
    if not is_index(start, shape) or not is_index(end, shape):
        raise Refused(site, "what it flattens is not known without running the code")
    start, end = start % len(shape), end % len(shape)
    if start > end:
        raise Refused(site, "it flattens up to a dimension before its first one")
    if start == 0 and end > 0:
        raise Refused(site, "it does not keep the images of a batch apart")
    flat = (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])
    return Tensor(flat, tensor.layout, tensor.node)


def squeezed(tensor: Tensor, name: str, dim: Any, site: Site) -> Tensor:
    """As squeeze and unsqueeze have it."""
    shape = tensor.shape
    if name == "squeeze":
        dims = [index for index, side in enumerate(shape) if type(side) is int and side == 1]
        if dim is not None:
            wanted = dim if isinstance(dim, tuple | list) else (dim,)
            if not all(is_index(each, shape) for each in wanted):
                raise Refused(site, "what it squeezes is not known without running the code")
            dims = [index for index in dims if index in [each % len(shape) for each in wanted]]
        return Tensor(
            tuple(side for index, side in enumerate(shape) if index not in dims), tensor.layout, tensor.node
        )
    if not is_index(dim, (*shape, 1)) or dim % (len(shape) + 1) == 0:
        raise Refused(site, "it does not keep the images of a batch apart")
    place = dim % (len(shape) + 1)
    return Tensor((*shape[:place], 1, *shape[place:]), tensor.layout, tensor.node)


def mean(tensor: Tensor, dims: Any, keepdim: Any, site: Site) -> Any:
    """Of the whole map, at once or along one side after the other; Opaque for any other mean."""
    shape, layout = tensor.shape, tensor.layout
    wanted = dims if isinstance(dims, tuple | list) else (dims,)
    if not wanted or not all(is_index(each, shape) for each in wanted) or not isinstance(keepdim, bool):
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
    node = Node("layer", (source,), ours.AveragePool(None), site=site, name="mean")
    return Tensor(left, (channels, 1, 1), node)
