"""An Architecture as a Flax module, with PyTorch's semantics where they matter."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int32, Key

from cnn import architecture as kinds
from cnn import cpu
from cnn.recipe import INITIALIZATIONS
from harness.errors import unknown

EPSILON = 1e-5
MOMENTUM = 0.1


class Network(nn.Module):
    """The layers of an architecture, applied in order.

    Attributes:
      architecture: the layers.
      initialization: torch, uniform within 1/sqrt(fan_in) for kernels and biases (the default of
        PyTorch's Conv2d and Linear); or he, normal with variance 2/fan_in and zero biases.
      dtype: of activations and products; parameters, statistics and logits are float32.
      axis_name: mesh axis that a batch is sharded over, inside shard_map: statistics are those of
        the whole batch, and what is dropped depends on an image's place in it; None: no axis.
      forms: of the operations that have two, cpu.FORMS or PLAIN; they give the same.
    """

    architecture: kinds.Architecture
    initialization: str
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    forms: cpu.Forms = cpu.FORMS

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool,
        drop: bool = True,
        real: Int32[Array, ""] | None = None,
    ) -> Float[Array, "batch classes"]:
        """Logits of normalised images.

        Training normalises with the batch's statistics, updates the collection batch_stats and
        drops activations with the rng stream "dropout"; otherwise the running statistics are used.

        Args:
          drop: whether training drops activations.
          real: how many images of the whole batch count, the first ones: the others only fill it up,
            and no statistics are taken over them. None: all.
        """
        convolutions: list[nn.Conv] = []

        def through(layers: tuple[kinds.Layer, ...], x: Array) -> Array:
            for index, layer in enumerate(layers):
                match layer:
                    case kinds.Crop(margin):
                        x = x[:, margin:-margin, margin:-margin]
                    case kinds.Conv(features, kernel, stride, padding, bias, shares, groups):
                        convolve = nn.Conv(
                            features,
                            (kernel, kernel),
                            strides=stride,
                            padding=padding,
                            use_bias=bias,
                            feature_group_count=groups,
                            dtype=self.dtype,
                            conv_general_dilated=self.forms.convolution if train else None,
                            **self._initializers(fan_in=kernel * kernel * x.shape[-1] // groups),
                        )
                        convolutions.append(convolve if shares is None else convolutions[shares])
                        x = convolutions[-1](x)
                    case kinds.BatchNorm(plain):
                        is_second = layers is self.architecture.layers and index == 1
                        sums = self._first_sums(images, convolutions, real) if train and is_second else None
                        normalize = Normalization(self.forms, self.axis_name, plain)
                        x = normalize(x, train=train, real=real, sums=sums)
                    case kinds.Dropout(rate) if train and drop:
                        x = self.forms.dropout(x, rate, self._dropout_keys(x))
                    case kinds.ChannelDropout(rate) if train and drop:
                        keys = self._dropout_keys(x)
                        x = x * self.forms.dropout(jnp.ones_like(x[:, :1, :1]), rate, keys)
                    case kinds.Dropout() | kinds.ChannelDropout():
                        pass
                    case kinds.MaxPool(window):
                        x = self.forms.max_pool(x, window)
                    case kinds.AveragePool(None):
                        x = x.mean(axis=(1, 2), keepdims=True)
                    case kinds.AveragePool(int(window)):
                        x = cpu.windows(x, window).mean(axis=(2, 4))
                    case kinds.ConcatPool():
                        x = jnp.concatenate([x.mean(axis=(1, 2)), self.forms.global_max(x)], -1)[
                            :, None, None
                        ]
                    case kinds.Dense(features, bias):
                        x = x.reshape(x.shape[0], -1)
                        initializers = self._initializers(fan_in=x.shape[-1])
                        x = nn.Dense(features, use_bias=bias, dtype=self.dtype, **initializers)(x)
                    case kinds.Residual(inside):
                        x = x + through(inside, x)
                    case _:
                        x = activation(layer, x)
            return x

        x = through(self.architecture.layers, images)
        return x.reshape(x.shape[0], -1).astype(jnp.float32)

    def _initializers(self, *, fan_in: int) -> dict[str, Any]:
        """Of the kernel and of the bias."""
        bound = 1 / math.sqrt(fan_in)

        def uniform(key, shape, dtype=jnp.float32):  # type: ignore[no-untyped-def]
            return jax.random.uniform(key, shape, dtype, -bound, bound)

        match self.initialization:
            case "he":
                return {"kernel_init": nn.initializers.he_normal(), "bias_init": nn.initializers.zeros}
            case "torch":
                return {"kernel_init": uniform, "bias_init": uniform}
            case _:
                raise unknown("initialization", self.initialization, INITIALIZATIONS)

    def _dropout_keys(self, x: Array) -> Key[Array, " batch"]:
        return image_keys(self.make_rng("dropout"), len(x), self.axis_name)

    def _first_sums(self, images: Array, made: list[nn.Conv], real: Any) -> Float[Array, "2 channels"] | None:
        """Of a batch norm after a first convolution, the only one made, where the batch is sharded."""
        first = self.architecture.layers[0]
        if self.axis_name is None or not isinstance(first, kinds.Conv):
            return None
        mask = None if real is None else places(len(images), self.axis_name) < real
        return self.forms.first_sums(images, mask, made[0].variables["params"], first, self.axis_name)


def activation(layer: kinds.Layer, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """What a layer makes of each value alone.

    Raises:
      TypeError: the layer is none that does so.
    """
    match layer:
        case kinds.ReLU():
            return nn.relu(x)
        case kinds.SiLU():
            return nn.silu(x)
        case kinds.GELU():
            return nn.gelu(x, approximate=False)
        case kinds.LeakyReLU(slope):
            return nn.leaky_relu(x, slope)
        case _:
            raise kinds.unknown_layer(layer)


class Normalization(nn.Module):
    """Batch normalisation over all axes but the last, as PyTorch's BatchNorm2d.

    Unlike Flax's, the running variance takes the unbiased variance of the batch (Ioffe and Szegedy
    2015, algorithm 2), while the batch itself is normalised with the biased one.

    Attributes:
      forms: of the operations that have several.
      axis_name: mesh axis that the batch is sharded over; None: no axis.
      plain: whether nothing is scaled and shifted.
    """

    forms: cpu.Forms
    axis_name: str | None = None
    plain: bool = False

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
        scale, bias = jnp.ones(channels), jnp.zeros(channels)
        if not self.plain:
            scale = self.param("scale", nn.initializers.ones, (channels,))
            bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        mean, var = running_mean.value, running_var.value
        if train:
            images = len(x) * (1 if self.axis_name is None else jax.lax.axis_size(self.axis_name))
            count = (images if real is None else real) * (x[0].size // channels)
            if sums is None:  # both in one pass over x, and in one reduction over the devices
                mask = None if real is None else places(len(x), self.axis_name) < real
                sums = self.forms.moments(x, mask)
                if self.axis_name is not None:
                    sums = jax.lax.psum(sums, self.axis_name)
            mean = sums[0] / count
            var = jnp.maximum(sums[1] / count - mean * mean, 0)
            if not self.is_initializing():
                running_mean.value += MOMENTUM * (mean - running_mean.value)
                unbiased = var * count / jnp.maximum(count - 1, 1)
                running_var.value += MOMENTUM * (unbiased - running_var.value)
        factor = scale * jax.lax.rsqrt(var + EPSILON)
        value = self.forms.affine(x, mean, factor, bias) if train else (x - mean) * factor + bias
        return value.astype(x.dtype)


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


def _global_max(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch channels"]:
    return nn.max_pool(x, x.shape[1:3]).reshape(len(x), -1)


def _dropout(
    x: Float[Array, "images *shape"], rate: float, keys: Key[Array, " images"]
) -> Float[Array, "images *shape"]:
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1 - rate), 0)


PLAIN = cpu.Forms(
    jax.lax.conv_general_dilated,
    cpu.flax_max_pool,
    _global_max,
    _dropout,
    cpu.plain_moments,
    cpu.plain_affine,
    lambda *_: None,
)
"""As Flax and JAX have them."""
