"""An Architecture as a Flax module, with PyTorch's semantics where they matter."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from cnn.architecture import (
    Architecture,
    AveragePool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    MaxPool,
    ReLU,
)

Initializer = Callable[..., Array]

EPSILON = 1e-5
_MOMENTUM = 0.1


class Network(nn.Module):
    """The layers of an architecture, applied in order.

    Attributes:
      architecture: the layers.
      initialization: torch, uniform within 1/sqrt(fan_in) for kernels and biases (the default of
        PyTorch's Conv2d and Linear); or he, normal with variance 2/fan_in and zero biases.
    """

    architecture: Architecture
    initialization: str

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        """Logits of normalised images.

        Training normalises with the batch's statistics, updates the collection batch_stats and
        drops activations with the rng stream "dropout"; otherwise the running statistics are used.
        """
        x = images
        for layer in self.architecture.layers:
            match layer:
                case Conv(features, kernel, stride, padding, bias):
                    kernel_init, bias_init = self._initializers(fan_in=kernel * kernel * x.shape[-1])
                    x = nn.Conv(
                        features,
                        (kernel, kernel),
                        strides=stride,
                        padding=padding,
                        use_bias=bias,
                        kernel_init=kernel_init,
                        bias_init=bias_init,
                    )(x)
                case BatchNorm():
                    x = Normalization()(x, train=train)
                case ReLU():
                    x = nn.relu(x)
                case Dropout(rate):
                    x = dropout(x, rate, self.make_rng("dropout")) if train else x
                case MaxPool(window):
                    x = _windows(x, window).max(axis=(2, 4))
                case AveragePool(None):
                    x = x.mean(axis=(1, 2), keepdims=True)
                case AveragePool(int(window)):
                    x = _windows(x, window).mean(axis=(2, 4))
                case Dense(features, bias):
                    x = x.reshape(x.shape[0], -1)
                    kernel_init, bias_init = self._initializers(fan_in=x.shape[-1])
                    x = nn.Dense(features, use_bias=bias, kernel_init=kernel_init, bias_init=bias_init)(x)
        return x.reshape(x.shape[0], -1)

    def _initializers(self, *, fan_in: int) -> tuple[Initializer, Initializer]:
        """Of the kernel and of the bias."""
        if self.initialization == "he":
            return nn.initializers.he_normal(), nn.initializers.zeros
        bound = 1 / math.sqrt(fan_in)

        def uniform(key, shape, dtype=jnp.float32):  # type: ignore[no-untyped-def]
            return jax.random.uniform(key, shape, dtype, -bound, bound)

        return uniform, uniform


class Normalization(nn.Module):
    """Batch normalisation over all axes but the last, as PyTorch's BatchNorm2d.

    Unlike Flax's, the running variance takes the unbiased variance of the batch (Ioffe and Szegedy
    2015, algorithm 2), while the batch itself is normalised with the biased one.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "... channels"], *, train: bool) -> Float[Array, "... channels"]:
        """Normalised, scaled and shifted x; training also updates the running statistics."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        mean, var = running_mean.value, running_var.value
        if train:
            axes = tuple(range(x.ndim - 1))
            mean = x.mean(axes)
            var = jnp.maximum((x * x).mean(axes) - mean * mean, 0)  # one pass over x
            if not self.is_initializing():
                count = x.size // channels
                running_mean.value += _MOMENTUM * (mean - running_mean.value)
                running_var.value += _MOMENTUM * (var * count / (count - 1) - running_var.value)
        return (x - mean) * (scale * jax.lax.rsqrt(var + EPSILON)) + bias


def dropout(x: Float[Array, "*shape"], rate: float, key: Key[Array, ""]) -> Float[Array, "*shape"]:
    """Zero each element with probability `rate` (to 1/65536) and scale the others to keep the mean.

    Two elements share a 32-bit random word: drawing the words is a good part of a training step
    on a CPU, and a rate needs no more than 16 bits.
    """
    words = jax.random.bits(key, ((x.size + 1) // 2,), jnp.uint32)
    bits = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[: x.size].reshape(x.shape)
    keep = bits >= round(rate * 2**16)
    return jnp.where(keep, x / (1 - rate), 0)


def _windows(
    x: Float[Array, "batch height width channels"], window: int
) -> Float[Array, "batch rows window columns window channels"]:
    """x cut into windows that do not overlap; what is left at the border is dropped.

    Reducing over axes 2 and 4 pools. The gradient of a maximum over an axis is much faster on a
    CPU than that of reduce_window.
    """
    batch, height, width, channels = x.shape
    rows, columns = height // window, width // window
    x = x[:, : rows * window, : columns * window]
    return x.reshape(batch, rows, window, columns, window, channels)
