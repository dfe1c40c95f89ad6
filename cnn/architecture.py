"""A network as data: layers as frozen dataclasses, and everything that follows from them.

Output shapes, parameter counts and receptive fields are folded from the layers; cnn.model builds
the Flax module from the same tuple. No JAX here.
"""

import math
import typing
from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Crop:
    """Leaves out that many rows and columns at each side."""

    margin: int


@dataclass(frozen=True)
class Conv:
    """Convolution with a square kernel; stride 1 and no padding unless said.

    Attributes:
      shares: the convolution, counted from 0, whose weights this one uses; None has its own.
    """

    features: int
    kernel: int
    stride: int = 1
    padding: int = 0
    bias: bool = True
    shares: int | None = None


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation with PyTorch's epsilon (1e-5) and momentum (0.1)."""


@dataclass(frozen=True)
class ReLU:
    """max(x, 0)."""


@dataclass(frozen=True)
class SiLU:
    """x times its sigmoid (Elfwing et al. 2018)."""


@dataclass(frozen=True)
class Dropout:
    """Each activation is zeroed with this probability while training."""

    rate: float


@dataclass(frozen=True)
class ChannelDropout:
    """Each channel of an image is zeroed as one with this probability while training.

    PyTorch's Dropout2d (Tompson et al. 2015).
    """

    rate: float


@dataclass(frozen=True)
class MaxPool:
    """Maximum over windows that do not overlap; what is left at the border is dropped."""

    window: int = 2


@dataclass(frozen=True)
class AveragePool:
    """Mean over windows that do not overlap; None takes the whole map (global average pooling)."""

    window: int | None = None


@dataclass(frozen=True)
class ConcatPool:
    """Mean and maximum of the whole map, side by side: twice the channels."""


@dataclass(frozen=True)
class Dense:
    """Fully connected layer over all that comes in."""

    features: int
    bias: bool = True


Layer = (
    Crop
    | Conv
    | BatchNorm
    | ReLU
    | SiLU
    | Dropout
    | ChannelDropout
    | MaxPool
    | AveragePool
    | ConcatPool
    | Dense
)


@dataclass(frozen=True)
class Architecture:
    """Layers from the image to the logits.

    Attributes:
      layers: in order; the last one leaves one number a class.
      input_shape: height, width (the same), channels.
    """

    layers: tuple[Layer, ...]
    input_shape: tuple[int, int, int] = (28, 28, 1)


@dataclass(frozen=True)
class LayerSummary:
    """A row of the table of layers.

    Attributes:
      layer: what it is, in a reader's words.
      output_shape: height, width, channels; or features after a Dense layer.
      parameters: trainable numbers of this layer.
      receptive_field: side of the square of input pixels that one output sees; where it is more than the
        image's, the rest is padding.
    """

    layer: str
    output_shape: Shape
    parameters: int
    receptive_field: int


def summarize(architecture: Architecture) -> tuple[LayerSummary, ...]:
    """The table of layers: output shape, parameters and receptive field of each.

    The receptive field grows by (kernel - 1) * jump, where jump is the product of the strides so
    far (Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016).

    Raises:
      ValueError: an image that is not square, a layer whose numbers make no sense, one that does not
        fit what comes into it, or one that shares weights of another shape.
    """
    rows: list[LayerSummary] = []
    weights: list[Shape | None] = []  # of each convolution; None where they are an earlier one's
    shape: Shape = architecture.input_shape
    if min(shape) < 1 or shape[0] != shape[1]:
        raise ValueError(f"input_shape is {shape}: give square images, height x width x channels")
    receptive_field, jump = 1, 1
    for index, layer in enumerate(architecture.layers):
        if not _makes_sense(layer):
            raise ValueError(
                f"layer {index} is {layer}: features, kernel, stride, window and margin go from 1, padding "
                "from 0, and a dropout rate from 0 to below 1"
            )
        window, stride = _window(layer, shape)
        receptive_field += (window - 1) * jump
        jump *= stride
        output_shape = _output_shape(layer, shape)
        if min(output_shape) < 1:
            raise ValueError(f"layer {index} ({describe(layer)}) does not fit its input {shape}")
        if isinstance(layer, Conv):
            own, of = (layer.kernel, shape[-1], layer.features, layer.bias), layer.shares
            if of is not None and own not in weights[of : of + 1]:
                raise ValueError(
                    f"layer {index} ({describe(layer)}) shares weights that are not those of an earlier "
                    "convolution of its kernel, features and inputs"
                )
            weights.append(own if of is None else None)
        rows.append(LayerSummary(describe(layer), output_shape, _parameters(layer, shape), receptive_field))
        shape = output_shape
    return tuple(rows)


def count_parameters(architecture: Architecture) -> int:
    """Number of trainable parameters."""
    return sum(row.parameters for row in summarize(architecture))


def describe(layer: Layer) -> str:
    """A layer in a reader's words."""
    match layer:
        case Crop(margin):
            return f"crop {margin}"
        case Conv(features, kernel, stride, padding, bias, shares):
            extras = [f"stride {stride}"] * (stride > 1) + [f"pad {padding}"] * (padding > 0)
            extras += ["bias"] * bias + [f"as conv {shares}"] * (shares is not None)
            return " ".join([f"conv {features} {kernel}x{kernel}", *extras])
        case BatchNorm():
            return "batch norm"
        case ReLU():
            return "ReLU"
        case SiLU():
            return "SiLU"
        case Dropout(rate):
            return f"dropout {rate:g}"
        case ChannelDropout(rate):
            return f"channel dropout {rate:g}"
        case MaxPool(window):
            return f"max pool {window}x{window}"
        case AveragePool(None):
            return "global average pool"
        case AveragePool(window):
            return f"average pool {window}x{window}"
        case ConcatPool():
            return "global average and max pool"
        case Dense(features, bias):
            return f"dense {features}" + " bias" * bias
        case _:
            raise unknown_layer(layer)


def unknown_layer(layer: object) -> TypeError:
    """What to raise where a layer is none of those known here."""
    known = ", ".join(kind.__name__ for kind in typing.get_args(Layer))
    return TypeError(f"{layer!r} is not a layer: the layers are {known}")


def format_table(architecture: Architecture) -> str:
    """The table of layers as text, with the total below it."""
    rows, side = [("layer", "output shape", "parameters", "receptive field")], architecture.input_shape[0]
    for row in summarize(architecture):
        shape = "x".join(map(str, row.output_shape))
        rows.append((row.layer, shape, f"{row.parameters:,}", str(row.receptive_field)))
    rows.append(("total", "", f"{count_parameters(architecture):,}", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{layer:<{widths[0]}}  {shape:>{widths[1]}}  {count:>{widths[2]}}  {field:>{widths[3]}}".rstrip()
        + "  wider than the image" * (field.isdecimal() and int(field) > side)
        for layer, shape, count, field in rows
    )


def _makes_sense(layer: Layer) -> bool:
    match layer:
        case Conv(features, kernel, stride, padding, shares=shares):
            return min(features, kernel, stride) >= 1 and padding >= 0 and (shares or 0) >= 0
        case Dense(features):
            return features >= 1
        case MaxPool(size) | AveragePool(int(size)) | Crop(size):
            return size >= 1
        case Dropout(rate) | ChannelDropout(rate):
            return 0 <= rate < 1
        case _:
            return True


def _window(layer: Layer, shape: Shape) -> tuple[int, int]:
    """Side of the input window of one output, and the stride between windows."""
    match layer:
        case Conv(kernel=kernel, stride=stride):
            return kernel, stride
        case MaxPool(window):
            return window, window
        case AveragePool(window):
            side = window or shape[0]
            return side, side
        case ConcatPool():
            return shape[0], shape[0]
        case Dense() if len(shape) == 3:
            return shape[0], 1
        case _:
            return 1, 1


def _output_shape(layer: Layer, shape: Shape) -> Shape:
    if isinstance(layer, BatchNorm | ReLU | SiLU | Dropout):
        return shape
    if isinstance(layer, Dense):
        return (layer.features,)
    if len(shape) != 3:
        raise ValueError(f"{describe(layer)} needs height x width x channels, got {shape}")
    if isinstance(layer, ChannelDropout):
        return shape
    *sides, features = shape
    window, stride = _window(layer, shape)
    border = 0
    match layer:
        case Crop(margin):
            border = -margin
        case Conv(features, padding=border):
            pass
        case ConcatPool():
            features *= 2
    return (*((side + 2 * border - window) // stride + 1 for side in sides), features)


def _parameters(layer: Layer, shape: Shape) -> int:
    match layer:
        case Conv(shares=int()):
            return 0
        case Conv(features, kernel, bias=bias):
            return kernel * kernel * shape[-1] * features + features * bias
        case BatchNorm():
            return 2 * shape[-1]
        case Dense(features, bias):
            return math.prod(shape) * features + features * bias
        case _:
            return 0
