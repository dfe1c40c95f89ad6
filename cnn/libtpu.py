"""What is otherwise than plain Flax, because libtpu, the compiler for TPUs, takes long for that.

It gives the same values and gradients but for rounding (tests/cnn/test_libtpu.py). The forms for a CPU are in
cnn/cpu.py. What they gain is what `python launch.py --task=tpu` prints.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_FEW_CHANNELS = 8  # an image's; a first layer's patches are few, and its gradient for the image is not needed


def convolution(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "rows columns inputs features"],
    padding: tuple[tuple[int, int], ...],
    plain: Callable[[Array, Array], Array],
) -> Float[Array, "batch new_height new_width features"]:
    """plain(x, kernel), with another form of the kernel's gradient where x has few channels.

    JAX has that gradient as a convolution with a window of the whole map, 24 x 24 for example. libtpu takes
    seven times longer for the first block of a network then (5x5 on one channel, batch norm, SiLU) than with
    the product of the patches and the map, and its estimate of the block's time is no better.

    Args:
      padding: of height and width, zeros before and after.
      plain: jax.lax.conv_general_dilated with strides of 1, this padding and channels last.
    """
    if x.shape[-1] >= _FEW_CHANNELS or kernel.shape[2] < x.shape[-1]:  # the latter has groups
        return plain(x, kernel)

    @jax.custom_vjp
    def convolve(x: Array, kernel: Array) -> Array:
        return plain(x, kernel)

    def forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
        return plain(x, kernel), (x, kernel)

    def backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
        x, kernel = saved
        _, of_images = jax.vjp(lambda x: plain(x, kernel), x)
        return *of_images(gradient), _kernel_gradient(x, gradient, kernel.shape, padding)

    convolve.defvjp(forward, backward)
    return convolve(x, kernel)


def _kernel_gradient(
    x: Float[Array, "batch height width channels"],
    gradient: Float[Array, "batch new_height new_width features"],
    shape: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
) -> Float[Array, "rows columns channels features"]:
    """The gradient of a kernel of this shape: the patches, which a convolution gathers, times the map's."""
    rows, columns, channels, features = shape
    patches = jax.lax.conv_general_dilated_patches(
        x, (rows, columns), (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    product = jnp.einsum(
        "bhwp,bhwf->pf", patches, gradient, preferred_element_type=jnp.promote_types(x.dtype, jnp.float32)
    )
    return product.reshape(channels, rows, columns, features).transpose(1, 2, 0, 3).astype(x.dtype)
