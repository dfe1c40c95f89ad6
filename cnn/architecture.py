"""A network as data: layers as frozen dataclasses, and everything that follows from them.

Output shapes, parameter counts and receptive fields are folded from the layers; cnn.model builds
the Flax module from the same tuple. No JAX here.
"""

import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from harness.errors import UserError, require

Shape = tuple[int, ...]
MOST = 100_000
"""The largest whole number that a layer may have."""


@dataclass(frozen=True)
class Crop:
    """Leaves out that many rows and columns at each side."""

    margin: int


@dataclass(frozen=True)
class Conv:
    """Convolution with a square kernel; stride 1 and no padding unless said.

    Attributes:
      shares: the convolution whose weights this one uses; None has its own. They are counted from 0 over the
        whole network, those in residuals and those that share weights included.
      groups: as PyTorch's: channels and features are cut into so many parts, and each part of the features
        sees its part of the channels alone. As many as there are channels make a depthwise convolution.
    """

    features: int
    kernel: int
    stride: int = 1
    padding: int = 0
    bias: bool = True
    shares: int | None = None
    groups: int = 1


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation with PyTorch's epsilon (1e-5) and momentum (0.1).

    Attributes:
      plain: without a scale and a shift for each channel (affine=False).
    """

    plain: bool = False


@dataclass(frozen=True)
class ReLU:
    """max(x, 0)."""


@dataclass(frozen=True)
class SiLU:
    """x times its sigmoid (Elfwing et al. 2018)."""


@dataclass(frozen=True)
class GELU:
    """x times the normal distribution function of x, exact as PyTorch's (Hendrycks and Gimpel 2016)."""


@dataclass(frozen=True)
class LeakyReLU:
    """x where it is positive, slope times x elsewhere (Maas et al. 2013)."""

    slope: float = 0.01


@dataclass(frozen=True)
class Dropout:
    """Zeroes activations with this probability while training."""

    rate: float


@dataclass(frozen=True)
class ChannelDropout:
    """Zeroes whole channels of an image with this probability while training.

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


@dataclass(frozen=True)
class Residual:
    """The sum of its input and of what its layers make of it, which has the same shape (He et al. 2015)."""

    layers: tuple["Layer", ...]


Layer = (
    Crop
    | Conv
    | BatchNorm
    | ReLU
    | SiLU
    | GELU
    | LeakyReLU
    | Dropout
    | ChannelDropout
    | MaxPool
    | AveragePool
    | ConcatPool
    | Dense
    | Residual
)

LIMITS: dict[str, tuple[Callable[[float], bool], str]] = {
    **dict.fromkeys(
        ("margin", "features", "kernel", "stride", "window", "groups"),
        (lambda number: 1 <= number <= MOST, f"a whole number from 1 to {MOST:,}"),
    ),
    **dict.fromkeys(
        ("padding", "shares"),
        (lambda number: 0 <= number <= MOST, f"a whole number from 0 to {MOST:,}"),
    ),
    "rate": (lambda number: 0 <= number < 1, "a probability from 0 to below 1"),
    "slope": (lambda number: 0 <= number <= 1, "a number from 0 to 1"),
}
"""Which values a layer's field may have: a test, and the same in words."""


class Form(NamedTuple):
    """The way a kind of layer is written; fields that it does not mention are None.

    Attributes:
      words: what it starts with.
      numbers: the fields that follow.
      options: words for what may follow then, each with its field: a switch, or a number that is left out
        where it is the field's default.
    """

    kind: type
    words: str
    numbers: tuple[str, ...] = ()
    options: Mapping[str, str] = types.MappingProxyType({})


FORMS = (
    Form(Crop, "crop", ("margin",)),
    Form(
        Conv,
        "conv",
        ("features", "kernel"),
        {"stride": "stride", "pad": "padding", "groups": "groups", "bias": "bias", "as conv": "shares"},
    ),
    Form(BatchNorm, "batch norm", (), {"plain": "plain"}),
    Form(ReLU, "ReLU"),
    Form(SiLU, "SiLU"),
    Form(GELU, "GELU"),
    Form(LeakyReLU, "leaky ReLU", ("slope",)),
    Form(Dropout, "dropout", ("rate",)),
    Form(ChannelDropout, "channel dropout", ("rate",)),
    Form(MaxPool, "max pool", ("window",)),
    Form(AveragePool, "average pool", ("window",)),
    Form(AveragePool, "global average pool"),
    Form(ConcatPool, "global average and max pool"),
    Form(Dense, "dense", ("features",), {"bias": "bias"}),
)
"""Every layer but Residual; `describe` writes these forms, cnn.text reads them."""

SQUARES = ("kernel", "window")
"""The fields that are written as 3x3."""


class Header(NamedTuple):
    """The size of a data set's images and the number of its classes.

    Attributes:
      shape: height, width (the same) and channels of an image.
      classes: how many there are.
    """

    shape: tuple[int, int, int]
    classes: int


MNIST = Header((28, 28, 1), 10)


@dataclass(frozen=True)
class Architecture:
    """Layers from the image to the logits.

    Attributes:
      layers: in order; the last one leaves one number a class.
      input_shape: height, width (the same), channels.
    """

    layers: tuple[Layer, ...]
    input_shape: tuple[int, int, int] = MNIST.shape


@dataclass(frozen=True)
class LayerSummary:
    """A row of the table of layers.

    Attributes:
      layer: what it is, in a reader's words.
      output_shape: height, width, channels; or features after a Dense layer.
      parameters: trainable numbers of this layer, those inside included.
      receptive_field: side of the square of input pixels that one output sees; where it is more than the
        image's, the rest is padding.
      inside: the rows of a residual's layers.
    """

    layer: str
    output_shape: Shape
    parameters: int
    receptive_field: int
    inside: tuple["LayerSummary", ...] = ()


def summarize(architecture: Architecture) -> tuple[LayerSummary, ...]:
    """Return the table of layers: output shape, parameters and receptive field of each.

    The receptive field grows by (kernel - 1) * jump, where jump is the product of the strides so
    far (Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016). That of a
    residual is the larger one of both paths.

    Raises:
      UserError: an image that is not square, a layer whose numbers make no sense, one that does not
        fit what comes into it, one that shares weights of another shape, or a residual that changes the
        shape. It names the layer by its place, counted from 1; 3.2 is the second one inside the third.
    """
    shape = architecture.input_shape
    require(
        min(shape) >= 1 and shape[0] == shape[1],
        f"input_shape is {shape}: give square images, height x width x channels",
    )
    rows, _ = _summarize(architecture.layers, shape, _Field(1, 1), weights=[], inside="")
    return rows


class _Field(NamedTuple):
    """Side of the square of input pixels that an output sees, and how far apart those of neighbours are."""

    side: int
    jump: int


class _Effect(NamedTuple):
    """A layer's output shape, parameters and receptive field.

    Attributes:
      window: side of the square of its inputs that one output sees.
      stride: how far apart those of neighbours are.
    """

    output_shape: Shape
    parameters: int = 0
    window: int = 1
    stride: int = 1


_Weights = tuple[int, int, int, int, bool]  # a convolution's kernel, channels, features, groups, bias or not


def _summarize(
    layers: tuple[Layer, ...], shape: Shape, field: _Field, *, weights: list[_Weights | None], inside: str
) -> tuple[tuple[LayerSummary, ...], _Field]:
    """Return the rows of some layers, and the last one's field.

    Args:
      layers: the whole network's, or a residual's.
      shape: of their input.
      field: of their input.
      weights: of every convolution before, None where they are an earlier one's; it grows.
      inside: the place of the residual that the layers are in, such as "3.".
    """
    rows: list[LayerSummary] = []
    for number, layer in enumerate(layers, 1):
        place = f"{inside}{number}"
        if isinstance(layer, Residual):
            of_layers, within = _summarize(layer.layers, shape, field, weights=weights, inside=f"{place}.")
            require(bool(of_layers), f"layer {place} is a residual without layers: give it some")
            output_shape = of_layers[-1].output_shape
            require(
                output_shape == shape,
                f"layer {place} ({describe(layer)}) makes {format_shape(output_shape)} of its input "
                f"{format_shape(shape)}: a residual adds the two, so let its layers keep the shape",
            )
            field = _Field(max(field.side, within.side), within.jump)
            parameters = sum(row.parameters for row in of_layers)
            rows.append(LayerSummary(describe(layer), shape, parameters, field.side, of_layers))
            continue
        _require_sense(layer, place)
        effect = _effect(layer, shape)
        if effect is None or min(effect.output_shape) < 1:
            raise UserError(
                f"layer {place} ({describe(layer)}) does not fit its input {format_shape(shape)}: "
                f"{_what_fits(layer, shape)}"
            )
        if isinstance(layer, Conv):
            own = layer.kernel, shape[-1], layer.features, layer.groups, layer.bias
            _require_weights(layer, place, own, weights)
            weights.append(own if layer.shares is None else None)
        field = _Field(field.side + (effect.window - 1) * field.jump, field.jump * effect.stride)
        rows.append(LayerSummary(describe(layer), effect.output_shape, effect.parameters, field.side))
        shape = effect.output_shape
    return tuple(rows), field


def count_parameters(architecture: Architecture) -> int:
    """Return the number of trainable parameters."""
    return sum(row.parameters for row in summarize(architecture))


def multiplications(architecture: Architecture) -> list[tuple[Conv, int]]:
    """Return the convolutions in order, each with its multiplications in one image's forward pass."""
    return [*_multiplications(architecture.layers, summarize(architecture), architecture.input_shape[-1])]


def _multiplications(
    layers: tuple[Layer, ...], rows: tuple[LayerSummary, ...], channels: int
) -> Iterator[tuple[Conv, int]]:
    for layer, row in zip(layers, rows, strict=True):
        if isinstance(layer, Residual):
            yield from _multiplications(layer.layers, row.inside, channels)
        elif isinstance(layer, Conv):
            yield layer, math.prod(row.output_shape) * layer.kernel**2 * channels // layer.groups
        channels = row.output_shape[-1]


def for_images(architecture: Architecture, header: Header) -> Architecture:
    """Return the network for other images: its last convolution or dense layer has a feature a class."""
    layers = list(architecture.layers)
    for place in reversed(range(len(layers))):
        layer = layers[place]
        if isinstance(layer, Conv | Dense):
            layers[place] = replace(layer, features=header.classes)
            break
    return Architecture(tuple(layers), header.shape)


def require_classes(architecture: Architecture, classes: int) -> None:
    """Raise UserError unless the network's layers fit each other and leave one number a class."""
    shape = summarize(architecture)[-1].output_shape
    require(
        math.prod(shape) == classes,
        f"it ends in {format_shape(shape)} = {math.prod(shape):,} numbers, not in one a class: for {classes} "
        f"classes end with dense {classes} bias, or conv {classes} 1x1 and global average pool",
    )


def describe(layer: Layer) -> str:
    """Return a layer in words that cnn.text.parse reads."""
    if isinstance(layer, Residual):
        return f"residual ({', '.join(map(describe, layer.layers))})"
    for form in FORMS:
        if type(layer) is form.kind and all(getattr(layer, field) is not None for field in form.numbers):
            return " ".join([form.words, *_numbers(form, layer), *_options(form, layer)])
    raise unknown_layer(layer)


def _numbers(form: Form, layer: Layer) -> Iterator[str]:
    for field in form.numbers:
        number = repr(getattr(layer, field)).removesuffix(".0")
        yield f"{number}x{number}" if field in SQUARES else number


def _options(form: Form, layer: Layer) -> Iterator[str]:
    for word, field in form.options.items():
        value = getattr(layer, field)
        if isinstance(value, bool):
            yield from [word] * value
        elif value != getattr(form.kind, field):  # the class has the default
            yield f"{word} {value}"


def unknown_layer(layer: object) -> TypeError:
    """Return the error for an object that is no layer; it lists the layers."""
    known = ", ".join(kind.__name__ for kind in typing.get_args(Layer))
    return TypeError(f"{layer!r} is not a layer: the layers are {known}")


def format_shape(shape: Shape) -> str:
    """Return a shape as 28x28x1, or as 10."""
    return "x".join(map(str, shape))


def format_table(architecture: Architecture) -> str:
    """Return the table of layers as text, with a residual's layers indented and the total below."""
    rows, side = [("layer", "output shape", "parameters", "receptive field")], architecture.input_shape[0]
    rows += _cells(summarize(architecture), indent="")
    rows.append(("total", "", f"{count_parameters(architecture):,}", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{layer:<{widths[0]}}  {shape:>{widths[1]}}  {count:>{widths[2]}}  {field:>{widths[3]}}".rstrip()
        + "  wider than the image" * (field.isdecimal() and int(field) > side)
        for layer, shape, count, field in rows
    )


def _cells(rows: tuple[LayerSummary, ...], indent: str) -> Iterator[tuple[str, str, str, str]]:
    for row in rows:
        layer, parameters = row.layer, row.parameters
        if row.inside:  # its sum is a row of its own, below them
            yield f"{indent}residual (", "", "", ""
            yield from _cells(row.inside, f"{indent}  ")
            layer, parameters = ")", 0
        yield f"{indent}{layer}", format_shape(row.output_shape), f"{parameters:,}", str(row.receptive_field)


def _require_sense(layer: Layer, place: str) -> None:
    for field, value in vars(layer).items():
        if value is None or isinstance(value, bool):
            continue
        allowed, words = LIMITS[field]
        require(allowed(value), f"layer {place} ({describe(layer)}) has {field} {value}: give {words}")


def _require_weights(layer: Conv, place: str, own: _Weights, weights: list[_Weights | None]) -> None:
    """Raise UserError if a convolution shares weights that are not such as it needs."""
    if layer.shares is None or own in weights[layer.shares : layer.shares + 1]:
        return
    kernel, inputs, features, groups, bias = own
    right = [f"as conv {number}" for number, each in enumerate(weights) if each == own]
    parts = f" in {groups} groups" * (groups > 1)
    raise UserError(
        f"layer {place} ({describe(layer)}) needs the weights of an earlier convolution of {kernel}x{kernel} "
        f"from {inputs} to {features} features{parts} {'with' if bias else 'without'} bias: "
        f"{'write ' + ' or '.join(right) if right else f'there is none, leave out as conv {layer.shares}'}"
    )


def _effect(layer: Layer, shape: Shape) -> _Effect | None:
    """Return a layer's effect on an input of this shape; None where it needs another shape.

    A side of the output below 1 says that the input is too small.
    """
    side, channels = shape[0], shape[-1]
    match layer:
        case BatchNorm(plain):
            return _Effect(shape, parameters=0 if plain else 2 * channels)
        case ReLU() | SiLU() | GELU() | LeakyReLU() | Dropout():
            return _Effect(shape)
        case Dense(features, bias):
            window = side if len(shape) == 3 else 1
            return _Effect((features,), (math.prod(shape) + bias) * features, window)
        case ChannelDropout() | Crop() | Conv() | MaxPool() | AveragePool() | ConcatPool() if len(shape) != 3:
            return None
        case ChannelDropout():
            return _Effect(shape)
        case Crop(margin):
            return _Effect((side - 2 * margin,) * 2 + (channels,))
        case Conv(features, kernel, stride, padding, bias, shares, groups):
            if channels % groups or features % groups:
                return None
            new = (side + 2 * padding - kernel) // stride + 1
            parameters = (kernel**2 * channels // groups + bias) * features if shares is None else 0
            return _Effect((new, new, features), parameters, kernel, stride)
        case MaxPool(window) | AveragePool(int(window)):
            return _Effect((side // window,) * 2 + (channels,), 0, window, window)
        case AveragePool(None):
            return _Effect((1, 1, channels), 0, side, side)
        case ConcatPool():
            return _Effect((1, 1, 2 * channels), 0, side, side)
        case _:
            raise unknown_layer(layer)


def _what_fits(layer: Layer, shape: Shape) -> str:
    """Return advice about a layer that does not fit an input of this shape."""
    if len(shape) != 3:
        return (
            "it needs height x width x channels, and a dense layer leaves features alone: put it before that"
        )
    side = shape[0]
    match layer:
        case Conv(features, groups=groups) if shape[-1] % groups or features % groups:
            return f"channels and features have to divide among {groups} groups: give groups 1, or others"
        case Conv(kernel=kernel, padding=padding):
            most = side + 2 * padding
            return f"give a kernel of at most {most}x{most}, or pad {-(-(kernel - side) // 2)}"
        case Crop():
            most = (side - 1) // 2
            return f"crop at most {most}" if most else "leave it out"
        case MaxPool() | AveragePool():
            return f"give a window of at most {side}x{side}"
        case _:
            raise unknown_layer(layer)
