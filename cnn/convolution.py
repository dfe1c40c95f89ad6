"""The convolution of a training step: jax.lax's, computed on a CPU in ways that XLA is faster at.

XLA's CPU backend has fast kernels for convolutions of more than 16 features or channels, fastest with whole
vectors of channels, and slow ones for the others and for a kernel's gradient over a large map.
`python -m benchmarks.convolution` prints what each convolution of a network gains.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_NHWC = ("NHWC", "HWIO", "NHWC")
_ON_CPU = {  # the values of options that the sums on a CPU are right for; of all others, None
    "dimension_numbers": (_NHWC, jax.lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))),
    "lhs_dilation": (None, (1, 1)),
    "rhs_dilation": (None, (1, 1)),
    "feature_group_count": (1,),
    "batch_group_count": (1,),
}
_LARGE_MAP = 20 * 20  # pixels; products are faster at 24 x 24 and slower at 12 x 12
_CHANNELS, _FEATURES = 8, 32  # multiples to fill up to

Padding = tuple[tuple[int, int], ...]


def convolution(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "rows columns channels features"],
    window_strides: tuple[int, ...],
    padding: list[tuple[int, int]],
    **options: Any,
) -> Float[Array, "batch new_height new_width features"]:
    """jax.lax.conv_general_dilated, for nn.Conv(conv_general_dilated=...).

    Args:
      window_strides: where one is not 1, it is jax.lax's everywhere.
      padding: zeros before and after, of height and width.
      options: of jax.lax.conv_general_dilated, as nn.Conv gives them without dilation or groups; on a
        CPU its matrix precision is float32's.

    Raises:
      ValueError: an option that would be left out on a CPU.
    """

    def plain(x: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(x, kernel, window_strides, padding, **options)

    if tuple(window_strides) != (1, 1):
        return plain(x, kernel)
    for name, value in {"dimension_numbers": None, **options}.items():
        if name != "precision" and value not in _ON_CPU.get(name, (None,)):
            raise ValueError(
                f"{name}={value} is not computed on a CPU here: call jax.lax.conv_general_dilated"
            )
    on_cpu = functools.partial(_on_cpu, padding=tuple(map(tuple, padding)))
    return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=plain)


@functools.partial(jax.custom_vjp, nondiff_argnames="padding")
def _on_cpu(x: Array, kernel: Array, padding: Padding) -> Array:
    return _aligned(x, kernel, padding)


def _forward(x: Array, kernel: Array, padding: Padding) -> tuple[Array, tuple[Array, Array]]:
    return _aligned(x, kernel, padding), (x, kernel)


def _backward(padding: Padding, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    _, of_images = jax.vjp(lambda x: _aligned(x, kernel, padding), x)
    if gradient.shape[1] * gradient.shape[2] >= _LARGE_MAP:
        return *of_images(gradient), _kernel_gradient(x, gradient, kernel.shape, padding)
    _, of_kernel = jax.vjp(lambda kernel: _plain(x, kernel, padding), kernel)
    return *of_images(gradient), *of_kernel(gradient)


_on_cpu.defvjp(_forward, _backward)


def _plain(x: Array, kernel: Array, padding: Padding) -> Array:
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=_NHWC)


def _aligned(x: Array, kernel: Array, padding: Padding) -> Array:
    """With zeros for more channels, or for more features of a single channel: twice as fast."""
    channels, features = kernel.shape[2:]
    if channels == 1:
        return _plain(x, _with_zeros(kernel, 3, _FEATURES), padding)[..., :features]
    return _plain(_with_zeros(x, 3, _CHANNELS), _with_zeros(kernel, 2, _CHANNELS), padding)


def _with_zeros(x: Array, axis: int, multiple: int) -> Array:
    """x with its axis filled up to a multiple."""
    return jnp.pad(x, [(0, -size % multiple if axis == index else 0) for index, size in enumerate(x.shape)])


def _kernel_gradient(
    x: Float[Array, "batch height width channels"],
    gradient: Float[Array, "batch new_height new_width features"],
    shape: tuple[int, ...],
    padding: Padding,
) -> Float[Array, "rows columns channels features"]:
    """The gradient of a kernel of this shape: over the images, the sum of products with their patches.

    As a convolution, whose result is no larger than the kernel, it takes twice the time where the map is
    large.
    """
    rows, columns, channels, features = shape
    height, width = gradient.shape[1:3]
    x = jnp.pad(x, ((0, 0), *padding, (0, 0))).transpose(0, 3, 1, 2)

    def add(total: Array, image: tuple[Array, Array]) -> tuple[Array, None]:
        x, gradient = image
        patches = jnp.stack(
            [
                x[:, row : row + height, column : column + width]
                for row in range(rows)
                for column in range(columns)
            ]
        )
        product = jnp.matmul(
            patches.reshape(-1, height * width),
            gradient.reshape(height * width, features),
            preferred_element_type=total.dtype,
        )
        return total + product, None

    zero = jnp.zeros((rows * columns * channels, features), jnp.promote_types(x.dtype, jnp.float32))
    total, _ = jax.lax.scan(add, zero, (x, gradient))
    return total.reshape(shape).astype(x.dtype)
