"""Which layer of ours a layer of torch.nn is, or the function of that name, and what it does to a shape."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audit.notebook.shapes import flattened, in_words, is_index
from audit.notebook.values import Module, Node, Opaque, Refused, Site, Tensor
from cnn.architecture import (
    GELU,
    AveragePool,
    BatchNorm,
    ChannelDropout,
    Conv,
    Dense,
    Dropout,
    Layer,
    LeakyReLU,
    MaxPool,
    ReLU,
    SiLU,
)


def output(
    kind: str, arguments: Mapping[str, Any], tensor: Tensor, site: Site, module: Module | None, name: str
) -> Tensor:
    """What a layer makes of a tensor.

    Raises:
      Refused: the layer does not fit the tensor, or our language has no such layer.
    """
    return _Application(kind, arguments, tensor, site, module, name).result()


@dataclass(frozen=True)
class _Application:
    """A layer that is applied to a tensor.

    Attributes:
      kind: its class in torch.nn; arguments: by name, defaults included.
      site: of the call; module: that is called, None for a function.
      name: in a reader's words.
    """

    kind: str
    arguments: Mapping[str, Any]
    tensor: Tensor
    site: Site
    module: Module | None
    name: str

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
            raise Refused(
                self.site, f"{self.name} gets {in_words(shape)}, and needs channels x height x width"
            )
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
                return flattened(
                    self.tensor, self.arguments["start_dim"], self.arguments["end_dim"], self.site
                )
        raise self.refuse(f"{self.name} is no layer of our language")

    def output(self, layer: Layer, shape: tuple[Any, ...], layout: tuple[int, ...]) -> Tensor:
        node = Node("layer", (self.tensor.node,), layer, self.module, self.site, self.name)
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
        groups = self.number("groups")
        if groups < 1 or channels % groups or features % groups:
            raise self.refuse(
                f"{channels} channels and {features} features do not divide into {groups} groups"
            )
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
        layer = Conv(features, kernel, stride, padding, bool(bias), groups=groups)
        return self.output(layer, (self.tensor.shape[0], features, new, new), (features, new, new))

    def dense(self) -> Tensor:
        shape, layout = self.tensor.shape, self.tensor.layout
        if len(shape) != 2 or shape[1] != math.prod(layout):
            raise Refused(self.site, f"Linear gets {in_words(shape)}, and needs one row an image")
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
            raise Refused(
                self.site, f"BatchNorm1d gets {in_words(shape)}, of which our batch norm takes maps"
            )
        if self.number("num_features") != shape[1]:
            raise self.refuse(f"it takes {self.number('num_features')} channels and gets {shape[1]}")
        self.plain(eps=1e-5, momentum=0.1, track_running_stats=True)
        affine = self.arguments["affine"]
        if not isinstance(affine, bool | int | None):
            raise self.refuse("affine is not known without running the code")
        return self.output(BatchNorm(plain=not affine), shape, layout)

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
            raise Refused(self.site, f"Dropout1d gets {in_words(shape)}, of which it drops whole rows")
        self.maps()
        return self.elementwise(ChannelDropout(float(rate)))

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
