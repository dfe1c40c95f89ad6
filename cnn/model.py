"""An Architecture as a Flax module, with PyTorch's semantics where they matter."""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int32, Key, UInt32

from cnn.architecture import (
    GELU,
    Architecture,
    AveragePool,
    BatchNorm,
    ChannelDropout,
    ConcatPool,
    Conv,
    Crop,
    Dense,
    Dropout,
    Layer,
    LeakyReLU,
    MaxPool,
    ReLU,
    Residual,
    SiLU,
    unknown_layer,
)
from cnn.convolution import convolution
from cnn.recipe import INITIALIZATIONS
from harness.errors import unknown

Initializer = Callable[..., Array]

EPSILON = 1e-5
_MOMENTUM = 0.1


class Network(nn.Module):
    """The layers of an architecture, applied in order.

    Attributes:
      architecture: the layers.
      initialization: torch, uniform within 1/sqrt(fan_in) for kernels and biases (the default of
        PyTorch's Conv2d and Linear); or he, normal with variance 2/fan_in and zero biases.
      dtype: of activations and products; parameters, statistics and logits are float32.
      axis_name: mesh axis that a batch is sharded over, inside shard_map: statistics are those of
        the whole batch, and what is dropped depends on an image's place in it; None: no axis.
    """

    architecture: Architecture
    initialization: str
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool,
        real: Int32[Array, ""] | None = None,
    ) -> Float[Array, "batch classes"]:
        """Logits of normalised images.

        Training normalises with the batch's statistics, updates the collection batch_stats and
        drops activations with the rng stream "dropout"; otherwise the running statistics are used.

        Args:
          real: how many images of the whole batch count, the first ones: the others only fill it up,
            and no statistics are taken over them. None: all.
        """
        mask = None if real is None else places(len(images), self.axis_name) < real
        convolutions: list[nn.Conv] = []

        def through(layers: tuple[Layer, ...], x: Array) -> Array:
            for index, layer in enumerate(layers):
                match layer:
                    case Crop(margin):
                        x = x[:, margin:-margin, margin:-margin]
                    case Conv(features, kernel, stride, padding, bias, shares):
                        kernel_init, bias_init = self._initializers(fan_in=kernel * kernel * x.shape[-1])
                        convolve = nn.Conv(
                            features,
                            (kernel, kernel),
                            strides=stride,
                            padding=padding,
                            use_bias=bias,
                            kernel_init=kernel_init,
                            bias_init=bias_init,
                            dtype=self.dtype,
                            conv_general_dilated=convolution if train else None,
                        )
                        convolutions.append(convolve if shares is None else convolutions[shares])
                        x = convolutions[-1](x)
                    case BatchNorm():
                        sums, first = None, layers[0]
                        is_second = layers is self.architecture.layers and index == 1
                        if train and self.axis_name is not None and is_second and isinstance(first, Conv):
                            params = convolve.variables["params"]
                            sums = _sums_by_moments(images, mask, params, first, self.axis_name)
                        x = Normalization(self.axis_name)(x, train=train, real=real, sums=sums)
                    case Dropout(rate):
                        if train:
                            x = dropout(x, rate, image_keys(self.make_rng("dropout"), len(x), self.axis_name))
                    case ChannelDropout(rate):
                        if train:
                            keys = image_keys(self.make_rng("dropout"), len(x), self.axis_name)
                            x = x * dropout(jnp.ones_like(x[:, :1, :1]), rate, keys)
                    case MaxPool(window):
                        x = max_pool(x, window)
                    case AveragePool(None):
                        x = x.mean(axis=(1, 2), keepdims=True)
                    case AveragePool(int(window)):
                        x = _windows(x, window).mean(axis=(2, 4))
                    case ConcatPool():
                        x = jnp.concatenate([x.mean(axis=(1, 2)), global_max(x)], -1)[:, None, None]
                    case Dense(features, bias):
                        x = x.reshape(x.shape[0], -1)
                        kernel_init, bias_init = self._initializers(fan_in=x.shape[-1])
                        x = nn.Dense(
                            features,
                            use_bias=bias,
                            kernel_init=kernel_init,
                            bias_init=bias_init,
                            dtype=self.dtype,
                        )(x)
                    case Residual(inside):
                        x = x + through(inside, x)
                    case _:
                        x = activation(layer, x)
            return x

        x = through(self.architecture.layers, images)
        return x.reshape(x.shape[0], -1).astype(jnp.float32)

    def _initializers(self, *, fan_in: int) -> tuple[Initializer, Initializer]:
        """Of the kernel and of the bias."""
        bound = 1 / math.sqrt(fan_in)

        def uniform(key, shape, dtype=jnp.float32):  # type: ignore[no-untyped-def]
            return jax.random.uniform(key, shape, dtype, -bound, bound)

        match self.initialization:
            case "he":
                return nn.initializers.he_normal(), nn.initializers.zeros
            case "torch":
                return uniform, uniform
            case _:
                raise unknown("initialization", self.initialization, INITIALIZATIONS)


def activation(layer: Layer, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """What a layer makes of each value alone.

    Raises:
      TypeError: the layer is none that does so.
    """
    match layer:
        case ReLU():
            return nn.relu(x)
        case SiLU():
            return nn.silu(x)
        case GELU():
            return nn.gelu(x, approximate=False)
        case LeakyReLU(slope):
            return nn.leaky_relu(x, slope)
        case _:
            raise unknown_layer(layer)


class Normalization(nn.Module):
    """Batch normalisation over all axes but the last, as PyTorch's BatchNorm2d.

    Unlike Flax's, the running variance takes the unbiased variance of the batch (Ioffe and Szegedy
    2015, algorithm 2), while the batch itself is normalised with the biased one.

    Attributes:
      axis_name: mesh axis that the batch is sharded over; None: no axis.
    """

    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "... channels"],
        *,
        train: bool,
        real: Int32[Array, ""] | None = None,
        sums: Float[Array, "2 channels"] | None = None,
    ) -> Float[Array, "... channels"]:
        """Normalised, scaled and shifted x, in its dtype; training also updates the running statistics.

        Args:
          real: how many images of the whole batch the statistics are taken over, the first ones; None: all.
          sums: of these images' values and of their squares, where the caller knows them.
        """
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        mean, var = running_mean.value, running_var.value
        if train:
            images = len(x) * (1 if self.axis_name is None else jax.lax.axis_size(self.axis_name))
            count = (images if real is None else real) * (x[0].size // channels)
            if sums is None:  # both in one pass over x, and in one reduction over the devices
                wide = x.astype(jnp.float32)
                if real is not None:
                    mask = places(len(x), self.axis_name) < real
                    wide = jnp.where(mask.reshape(-1, *[1] * (x.ndim - 1)), wide, 0)
                wide = wide.reshape(-1, channels)
                sums = jnp.stack([wide.sum(0), (wide * wide).sum(0)])
                if self.axis_name is not None:
                    sums = jax.lax.psum(sums, self.axis_name)
            mean = sums[0] / count
            var = jnp.maximum(sums[1] / count - mean * mean, 0)
            if not self.is_initializing():
                running_mean.value += _MOMENTUM * (mean - running_mean.value)
                unbiased = var * count / jnp.maximum(count - 1, 1)
                running_var.value += _MOMENTUM * (unbiased - running_var.value)
        return ((x - mean) * (scale * jax.lax.rsqrt(var + EPSILON)) + bias).astype(x.dtype)


def places(count: int, axis_name: str | None) -> Int32[Array, " count"]:
    """The places in the whole batch of the images that are here.

    Args:
      count: images on this device.
      axis_name: mesh axis that the batch is sharded over; None: no axis.
    """
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * count
    return first + jnp.arange(count, dtype=jnp.int32)


def image_keys(key: Key[Array, ""], count: int, axis_name: str | None) -> Key[Array, " count"]:
    """A key for each of the images that are here, from its place in the whole batch.

    What is drawn for an image then does not depend on the number of devices.
    """
    return jax.vmap(jax.random.fold_in, (None, 0))(key, places(count, axis_name))


def dropout(
    x: Float[Array, "images *shape"], rate: float, keys: Key[Array, " images"]
) -> Float[Array, "images *shape"]:
    """Zero each element with probability `rate` and scale the others to keep the mean.

    An element's random word is a hash of its place and of its image's key: a few integer operations
    that XLA computes where the word is needed. Threefry's words took a fifth of a step on a CPU.
    """
    words = jax.vmap(lambda key: jax.random.bits(key, (2,), jnp.uint32))(keys)
    place = jnp.arange(x[0].size, dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)
    keep = _mix(place + words[:, :1], words[:, 1:]) >= jnp.uint32(min(round(rate * 2**32), 2**32 - 1))
    return jnp.where(keep.reshape(x.shape), x / (1 - rate), 0)


def _mix(word: UInt32[Array, "..."], key: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """MurmurHash3's 32-bit finalizer (Appleby 2011) with a key between its two multiplications."""
    word = (word ^ (word >> 16)) * jnp.uint32(0x85EBCA6B) ^ key
    word = (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
    return word ^ (word >> 16)


def _sums_by_moments(
    images: Float[Array, "batch height width channels"],
    mask: Bool[Array, " batch"] | None,
    params: Any,
    layer: Conv,
    axis_name: str,
) -> Float[Array, "2 channels"] | None:
    """Sums of a first convolution's values and of their squares over the whole batch, or its masked images.

    From the first and second moments of the patches it sees. Those do not depend on its weights,
    so that the gradient through these sums needs no reduction over the devices of its own. None
    where a patch has more values than the layer has features, and its moments cost too much, or channels.
    """
    kernel, stride, padding = layer.kernel, layer.stride, layer.padding
    if kernel**2 > layer.features or images.shape[-1] > 1:
        return None
    padded = jnp.pad(images[..., 0], ((0, 0), (padding, padding), (padding, padding)))
    rows, columns = ((size - kernel) // stride + 1 for size in padded.shape[1:])
    patches = jnp.stack(
        [
            padded[:, row : row + stride * rows : stride, column : column + stride * columns : stride]
            for row in range(kernel)
            for column in range(kernel)
        ],
        -1,
    )
    patches = jnp.concatenate([patches, jnp.ones_like(patches[..., :1])], -1)  # the last value meets the bias
    if mask is not None:
        patches = jnp.where(mask[:, None, None, None], patches, 0)
    patches = patches.reshape(-1, kernel * kernel + 1)
    moments = jax.lax.psum(jnp.matmul(patches.T, patches, precision="highest"), axis_name)
    weights = params["kernel"].reshape(kernel * kernel, -1)
    weights = jnp.concatenate([weights, params.get("bias", jnp.zeros(weights.shape[1]))[None]])
    products = jnp.matmul(moments, weights, precision="highest")
    return jnp.stack([products[-1], (weights * products).sum(0)])


def max_pool(
    x: Float[Array, "batch height width channels"], window: int
) -> Float[Array, "batch rows columns channels"]:
    """The largest value of each window; of equal ones the first takes the gradient, as in PyTorch.

    Chosen by comparisons, each of which sends the gradient to one of its two sides. The gradient
    of jnp.max goes to the values that equal the maximum: where XLA computes them anew in another
    fusion, rounded otherwise, none does, and the gradient is lost. That of reduce_window is slow
    on a CPU.
    """
    windows = _windows(x, window)
    values = [windows[:, :, row, :, column] for row in range(window) for column in range(window)]
    return functools.reduce(lambda first, other: jnp.where(other > first, other, first), values)


def global_max(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch channels"]:
    """The largest value of each channel's map, which takes the whole gradient.

    Found by its place, since a gradient must not hang on two values being equal (max_pool).
    """
    batch, height, width, channels = x.shape
    places = x.reshape(batch, height * width, channels)
    return (places * jax.nn.one_hot(places.argmax(1), places.shape[1], dtype=x.dtype, axis=1)).sum(1)


def _windows(
    x: Float[Array, "batch height width channels"], window: int
) -> Float[Array, "batch rows window columns window channels"]:
    """x cut into windows that do not overlap; what is left at the border is dropped.

    Axes 2 and 4 are those within a window.
    """
    batch, height, width, channels = x.shape
    rows, columns = height // window, width // window
    x = x[:, : rows * window, : columns * window]
    return x.reshape(batch, rows, window, columns, window, channels)
