"""An Architecture as a Flax module, with PyTorch's semantics where they matter."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from cnn import architecture as kinds
from cnn import xla
from cnn.recipe import INITIALIZATIONS
from harness.errors import unknown

MOMENTUM = 0.1  # of batch norm's running statistics, PyTorch's


class Network(nn.Module):
    """The layers of an architecture, applied in order.

    Attributes:
      architecture: the layers.
      initialization: torch, uniform within 1/sqrt(fan_in) for kernels and biases (the default of
        PyTorch's Conv2d and Linear); or he, normal with variance 2/fan_in and zero biases.
      dtype: of activations and products; parameters, statistics and logits are float32.
    """

    architecture: kinds.Architecture
    initialization: str
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool,
        drop: bool = True,
        valid: Bool[Array, " batch"] | None = None,
    ) -> Float[Array, "batch classes"]:
        """Return the logits of normalised images.

        Training normalises with the batch's statistics, updates the collection batch_stats and
        drops activations with the rng stream "dropout"; otherwise the running statistics are used.

        Args:
          drop: False trains without dropping activations.
          valid: the images that count; the others only fill the batch up, and no statistics are taken over
            them. None: all.
        """
        convolutions: list[nn.Conv] = []

        def through(layers: tuple[kinds.Layer, ...], x: Array) -> Array:
            for layer in layers:
                match layer:
                    case kinds.Crop(margin):
                        x = x[:, margin:-margin, margin:-margin]
                    case kinds.Conv(features, kernel, stride, padding, bias, shares, groups):
                        convolution = nn.Conv(
                            features,
                            (kernel, kernel),
                            strides=stride,
                            padding=padding,
                            use_bias=bias,
                            feature_group_count=groups,
                            dtype=self.dtype,
                            conv_general_dilated=xla.convolution if train else None,
                            **self._initializers(fan_in=kernel * kernel * x.shape[-1] // groups),
                        )
                        # One that shares is made and not called: Flax numbers it, and so names the others.
                        convolutions.append(convolution if shares is None else convolutions[shares])
                        x = convolutions[-1](x)
                    case kinds.BatchNorm(plain):
                        x = Normalization(plain)(x, train=train, valid=valid)
                    case kinds.Dropout(rate) if train and drop:
                        x = xla.dropout(x, rate, self.make_rng("dropout"))
                    case kinds.ChannelDropout(rate) if train and drop:
                        x = x * xla.dropout(jnp.ones_like(x[:, :1, :1]), rate, self.make_rng("dropout"))
                    case kinds.Dropout() | kinds.ChannelDropout():
                        pass
                    case kinds.MaxPool(window):
                        x = xla.max_pool(x, window)
                    case kinds.AveragePool(None):
                        x = x.mean(axis=(1, 2), keepdims=True)
                    case kinds.AveragePool(int(window)):
                        x = xla.windows(x, window).mean(axis=(2, 4))
                    case kinds.ConcatPool():
                        x = jnp.concatenate([x.mean(axis=(1, 2)), xla.global_max(x)], -1)[:, None, None]
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
        """Return the initializers of a kernel and of a bias, as keywords of nn.Conv and nn.Dense."""
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


def activation(layer: kinds.Layer, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Apply a layer that acts on each value alone.

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
      plain: whether nothing is scaled and shifted.
    """

    plain: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *places channels"],
        *,
        train: bool,
        valid: Bool[Array, " batch"] | None = None,
    ) -> Float[Array, "batch *places channels"]:
        """Return normalised, scaled and shifted x; training also updates the running statistics.

        Args:
          valid: the images that the statistics are taken over; None: all.
        """
        channels = x.shape[-1]
        scale, bias = jnp.ones(channels), jnp.zeros(channels)
        if not self.plain:
            scale = self.param("scale", nn.initializers.ones, (channels,))
            bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        if not train:
            factor = scale * jax.lax.rsqrt(running_var.value + xla.EPSILON)
            return ((x - running_mean.value) * factor + bias).astype(x.dtype)
        y, mean, var = xla.batch_norm(x, scale, bias, valid)
        if not self.is_initializing():
            count = (len(x) if valid is None else valid.sum()) * (x[0].size // channels)
            unbiased = var * count / jnp.maximum(count - 1, 1)
            running_mean.value += MOMENTUM * (mean - running_mean.value)
            running_var.value += MOMENTUM * (unbiased - running_var.value)
        return y
