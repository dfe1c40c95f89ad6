"""An Architecture as a Flax module, with PyTorch's semantics where they matter."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
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
                        dtype=self.dtype,
                    )(x)
                case BatchNorm():
                    x = Normalization(self.axis_name)(x, train=train)
                case ReLU():
                    x = nn.relu(x)
                case Dropout(rate):
                    if train:
                        x = dropout(x, rate, image_keys(self.make_rng("dropout"), len(x), self.axis_name))
                case MaxPool(window):
                    x = _windows(x, window).max(axis=(2, 4))
                case AveragePool(None):
                    x = x.mean(axis=(1, 2), keepdims=True)
                case AveragePool(int(window)):
                    x = _windows(x, window).mean(axis=(2, 4))
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
        return x.reshape(x.shape[0], -1).astype(jnp.float32)

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

    Attributes:
      axis_name: mesh axis that the batch is sharded over; None: no axis.
    """

    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "... channels"], *, train: bool) -> Float[Array, "... channels"]:
        """Normalised, scaled and shifted x, in its dtype; training also updates the running statistics."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        mean, var = running_mean.value, running_var.value
        if train:
            axes, count = tuple(range(x.ndim - 1)), x.size // channels
            wide = x.astype(jnp.float32)
            sums = jnp.stack([wide.sum(axes), (wide * wide).sum(axes)])  # one pass over x
            if self.axis_name is not None:
                sums = jax.lax.psum(sums, self.axis_name)
                count *= jax.lax.axis_size(self.axis_name)
            mean, var = _mean_and_variance(sums, count)
            if not self.is_initializing():
                running_mean.value += _MOMENTUM * (mean - running_mean.value)
                running_var.value += _MOMENTUM * (var * count / (count - 1) - running_var.value)
            if self.axis_name is not None:  # after this cast both gradients are one reduction, not two
                mean, var = _mean_and_variance(jax.lax.pcast(sums, self.axis_name, to="varying"), count)
        return ((x - mean) * (scale * jax.lax.rsqrt(var + EPSILON)) + bias).astype(x.dtype)


def image_keys(key: Key[Array, ""], count: int, axis_name: str | None) -> Key[Array, " count"]:
    """A key for each of the images that are here, from its place in the whole batch.

    What is drawn for an image then does not depend on the number of devices.

    Args:
      count: images on this device.
      axis_name: mesh axis that the batch is sharded over; None: no axis.
    """
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * count
    return jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(count))


def dropout(
    x: Float[Array, "images *shape"], rate: float, keys: Key[Array, " images"]
) -> Float[Array, "images *shape"]:
    """Zero each element with probability `rate` (to 1/65536) and scale the others to keep the mean.

    Two elements share a 32-bit random word: drawing the words is a good part of a training step
    on a CPU, and a rate needs no more than 16 bits.
    """
    size = x[0].size
    words = jax.vmap(lambda key: jax.random.bits(key, ((size + 1) // 2,), jnp.uint32))(keys)
    bits = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(len(x), -1)[:, :size].reshape(x.shape)
    keep = bits >= round(rate * 2**16)
    return jnp.where(keep, x / (1 - rate), 0)


def _mean_and_variance(
    sums: Float[Array, "2 channels"], count: int
) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    """From the sums of the values and of their squares."""
    mean = sums[0] / count
    return mean, jnp.maximum(sums[1] / count - mean * mean, 0)


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
