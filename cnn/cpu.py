"""What is otherwise than plain Flax, because XLA's CPU backend is slow at that.

`FORMS` are the replacements for the operations of cnn.model's `PLAIN`; `Network.forms` chooses. Both give the
same values and gradients but for rounding (tests/cnn/test_cpu.py), and dropout the same distribution.
`python -m benchmarks.forms` measures a training step with all of them, and with each in its plain form.
Below them is what XLA and the C library are told. That a CPU runs an epoch as a Python loop over the compiled
step is in cnn/loop.py, beside the way of a GPU or a TPU. What is otherwise for a TPU is in cnn/libtpu.py.
"""

import ctypes
import functools
import platform
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, UInt32

from cnn import libtpu
from cnn.architecture import Conv


class Forms(NamedTuple):
    """The operations of a network that have two forms: a plain one, and one for XLA's CPU backend.

    Attributes:
      convolution: jax.lax.conv_general_dilated or a function that takes its place, in training.
      max_pool: of (x, window), windows that do not overlap.
      global_max: of x, over height and width.
      dropout: of (x, rate, a key an image).
      moments: of (x, mask), the sums of each channel's values and of their squares, in training.
      affine: of (x, mean, factor, bias), in training.
      first_sums: of (images, mask, params, layer, axis name), the sums that the batch norm after a first
        convolution needs over all devices; None where it takes them from the values themselves.
    """

    convolution: Callable[..., Array]
    max_pool: Callable[..., Array]
    global_max: Callable[..., Array]
    dropout: Callable[..., Array]
    moments: Callable[..., Array]
    affine: Callable[..., Array]
    first_sums: Callable[..., Array | None]


# Convolution. XLA's CPU backend has fast kernels for convolutions of more than 16 features or channels,
# fastest with whole vectors of channels, and slow ones for the others. The zeros that fill them up would only
# slow a kernel's gradient down. For a depthwise convolution it has no fast kernel: products with the shifted
# map, one for each place of the kernel, take a tenth of its time. A kernel of 1x1 is a matrix product.
# `python -m benchmarks.convolution` prints what each convolution of a network gains.

_NHWC = ("NHWC", "HWIO", "NHWC")
_ON_CPU = {  # the values of options that the sums on a CPU are right for; of all others, None
    "dimension_numbers": (_NHWC, jax.lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))),
    "lhs_dilation": (None, (1, 1)),
    "rhs_dilation": (None, (1, 1)),
    "batch_group_count": (1,),
}
_CHANNELS, _FEATURES = 8, 32  # multiples to fill up to

Padding = tuple[tuple[int, int], ...]


def convolution(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "rows columns inputs features"],
    window_strides: tuple[int, ...],
    padding: list[tuple[int, int]],
    **options: Any,
) -> Float[Array, "batch new_height new_width features"]:
    """jax.lax.conv_general_dilated, for nn.Conv(conv_general_dilated=...); cnn.libtpu's for a TPU.

    Args:
      window_strides: where one is not 1, it is jax.lax's everywhere. So it is where the groups of channels
        are not all of one channel and one feature.
      padding: zeros before and after, of height and width.
      options: of jax.lax.conv_general_dilated, as nn.Conv gives them without dilation; on a
        CPU its matrix precision is float32's.

    Raises:
      ValueError: an option that would be left out on a CPU.
    """

    def plain(x: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(x, kernel, window_strides, padding, **options)

    groups = options.get("feature_group_count", 1)
    depthwise = groups > 1 and groups == x.shape[-1] == kernel.shape[-1]
    if tuple(window_strides) != (1, 1) or (groups > 1 and not depthwise):
        return plain(x, kernel)
    for name, value in {"dimension_numbers": None, **options}.items():
        if name not in ("precision", "feature_group_count") and value not in _ON_CPU.get(name, (None,)):
            raise ValueError(
                f"{name}={value} is not computed on a CPU here: call jax.lax.conv_general_dilated"
            )
    sides = tuple((before, after) for before, after in padding)
    if depthwise:
        form = _depthwise
    elif kernel.shape[:2] == (1, 1) and sides == ((0, 0), (0, 0)):
        form = _pointwise
    else:
        form = _dense
    on_cpu = functools.partial(form, padding=sides)
    on_tpu = functools.partial(libtpu.convolution, padding=sides, plain=plain)
    return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, tpu=on_tpu, default=plain)


def _with_kernel_gradient(
    forward: Callable[..., Array], kernel_gradient: Callable[..., Array]
) -> Callable[..., Array]:
    """A function of (x, kernel, padding) with the values of one and the gradient of the kernel of another.

    Args:
      forward: of (x, kernel, padding); has the gradient of x.
      kernel_gradient: of (x, kernel, padding, the gradient of the result).
    """

    @functools.partial(jax.custom_vjp, nondiff_argnames="padding")
    def convolve(x: Array, kernel: Array, padding: Padding) -> Array:
        return forward(x, kernel, padding)

    def save(x: Array, kernel: Array, padding: Padding) -> tuple[Array, tuple[Array, Array]]:
        return forward(x, kernel, padding), (x, kernel)

    def backward(padding: Padding, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
        x, kernel = saved
        _, of_images = jax.vjp(lambda x: forward(x, kernel, padding), x)
        return *of_images(gradient), kernel_gradient(x, kernel, padding, gradient).astype(kernel.dtype)

    convolve.defvjp(save, backward)
    return convolve


def _plain(x: Array, kernel: Array, padding: Padding) -> Array:
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=_NHWC)


def _aligned(x: Array, kernel: Array, padding: Padding) -> Array:
    """With zeros for more channels, or for more features of a single channel: twice as fast."""
    channels, features = kernel.shape[2:]
    if channels == 1:
        return _plain(x, _with_zeros(kernel, 3, _FEATURES), padding)[..., :features]
    return _plain(_with_zeros(x, 3, _CHANNELS), _with_zeros(kernel, 2, _CHANNELS), padding)


def _plain_gradient(x: Array, kernel: Array, padding: Padding, gradient: Array) -> Array:
    _, transpose = jax.vjp(lambda kernel: _plain(x, kernel, padding), kernel)
    return transpose(gradient)[0]


_dense = _with_kernel_gradient(_aligned, _plain_gradient)


def _product(x: Array, kernel: Array, padding: Padding) -> Array:
    """A kernel of 1x1; there is no padding."""
    return x @ kernel[0, 0]


def _product_gradient(x: Array, kernel: Array, padding: Padding, gradient: Array) -> Array:
    """In groups of images: else XLA computes the factors anew, column by column."""

    def add(total: Array, group: list[Array]) -> tuple[Array, None]:
        x, gradient = (each.reshape(-1, each.shape[-1]) for each in group)
        return total + x.T @ gradient, None

    total, _ = jax.lax.scan(add, jnp.zeros(kernel.shape[2:], jnp.float32), _groups(x, gradient))
    return total[None, None]


_pointwise = _with_kernel_gradient(_product, _product_gradient)


def _shifted(x: Array, kernel: Array, padding: Padding) -> Array:
    """A depthwise convolution: the map at every shift, times the kernel's values there."""
    values = kernel.reshape(-1, kernel.shape[-1])
    shifts = _shifts(_padded(x, padding), kernel)
    return functools.reduce(jnp.add, (shift * value for shift, value in zip(shifts, values, strict=True)))


def _shifted_gradient(x: Array, kernel: Array, padding: Padding, gradient: Array) -> Array:
    def products(x: Array, gradient: Array) -> list[Array]:
        return [shift * gradient for shift in _shifts(x, kernel)]

    return _sums(products, _padded(x, padding), gradient).reshape(kernel.shape)


_depthwise = _with_kernel_gradient(_shifted, _shifted_gradient)


def _shifts(padded: Array, kernel: Array) -> list[Array]:
    """What each of the kernel's places meets."""
    rows, columns = kernel.shape[:2]
    height, width = padded.shape[1] - rows + 1, padded.shape[2] - columns + 1
    return [
        padded[:, row : row + height, column : column + width]
        for row in range(rows)
        for column in range(columns)
    ]


def _padded(x: Array, padding: Padding) -> Array:
    return jnp.pad(x, ((0, 0), *padding, (0, 0)))


def _with_zeros(x: Array, axis: int, multiple: int) -> Array:
    """x with its axis filled up to a multiple."""
    return jnp.pad(x, [(0, -size % multiple if axis == index else 0) for index, size in enumerate(x.shape)])


# Pooling.


def max_pool(
    x: Float[Array, "batch height width channels"], window: int
) -> Float[Array, "batch rows columns channels"]:
    """The largest value of each window; of equal ones the first takes the gradient, as in PyTorch.

    Chosen by comparisons, each of which sends the gradient to one of its two sides. The gradient
    of jnp.max goes to the values that equal the maximum: where XLA computes them anew in another
    fusion, rounded otherwise, none does, and the gradient is lost. That of reduce_window is slow
    on a CPU; a TPU has it.
    """

    def compared(x: Array) -> Array:
        cut = windows(x, window)
        values = [cut[:, :, row, :, column] for row in range(window) for column in range(window)]
        return functools.reduce(lambda first, other: jnp.where(other > first, other, first), values)

    return jax.lax.platform_dependent(x, tpu=lambda x: flax_max_pool(x, window), default=compared)


def flax_max_pool(
    x: Float[Array, "batch height width channels"], window: int
) -> Float[Array, "batch rows columns channels"]:
    """The same by reduce_window."""
    return nn.max_pool(x, (window, window), (window, window))


def global_max(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch channels"]:
    """The largest value of each channel's map, which takes the whole gradient.

    Found by its place, since a gradient must not hang on two values being equal (max_pool).
    """
    batch, height, width, channels = x.shape
    places = x.reshape(batch, height * width, channels)
    return (places * jax.nn.one_hot(places.argmax(1), places.shape[1], dtype=x.dtype, axis=1)).sum(1)


def windows(
    x: Float[Array, "batch height width channels"], window: int
) -> Float[Array, "batch rows window columns window channels"]:
    """x cut into windows that do not overlap; what is left at the border is dropped.

    Axes 2 and 4 are those within a window.
    """
    batch, height, width, channels = x.shape
    rows, columns = height // window, width // window
    x = x[:, : rows * window, : columns * window]
    return x.reshape(batch, rows, window, columns, window, channels)


# Dropout.


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


# Batch norm. Its sums, and those of its gradient, are taken a few images at a time (_sums). With one core a
# device, a reduction over the devices is mostly one core waiting for another.


def moments(
    x: Float[Array, "images *shape channels"], mask: Bool[Array, " images"] | None
) -> Float[Array, "2 channels"]:
    """The sums of each channel's values and of their squares, in float32; of the masked images alone."""
    return jax.lax.platform_dependent(x, mask, cpu=_moments, default=plain_moments)


def plain_moments(
    x: Float[Array, "images *shape channels"], mask: Bool[Array, " images"] | None
) -> Float[Array, "2 channels"]:
    """The same in one reduction."""
    wide = _masked(x.astype(jnp.float32), mask).reshape(-1, x.shape[-1])
    return jnp.stack([wide.sum(0), (wide * wide).sum(0)])


@jax.custom_vjp
def _moments(x: Array, mask: Array | None) -> Array:
    def terms(x: Array, mask: Array | None = None) -> list[Array]:
        x = _masked(x, mask)
        return [x, x * x]

    return _sums(terms, x) if mask is None else _sums(terms, x, mask)


def _moments_forward(x: Array, mask: Array | None) -> tuple[Array, tuple[Array, Array | None]]:
    return _moments(x, mask), (x, mask)


def _moments_backward(saved: tuple[Array, Array | None], gradient: Array) -> tuple[Array, None]:
    x, mask = saved
    return _masked(gradient[0] + 2 * x * gradient[1], mask).astype(x.dtype), None


_moments.defvjp(_moments_forward, _moments_backward)


def _masked(x: Array, mask: Array | None) -> Array:
    """x, with zeros for the other images."""
    return x if mask is None else jnp.where(mask.reshape(-1, *[1] * (x.ndim - 1)), x, 0)


def affine(
    x: Float[Array, "images *shape channels"],
    mean: Float[Array, " channels"],
    factor: Float[Array, " channels"],
    bias: Float[Array, " channels"],
) -> Float[Array, "images *shape channels"]:
    """(x - mean) * factor + bias."""
    return jax.lax.platform_dependent(x, mean, factor, bias, cpu=_affine, default=plain_affine)


def plain_affine(
    x: Float[Array, "images *shape channels"],
    mean: Float[Array, " channels"],
    factor: Float[Array, " channels"],
    bias: Float[Array, " channels"],
) -> Float[Array, "images *shape channels"]:
    """The same with JAX's gradient."""
    return (x - mean) * factor + bias


@jax.custom_vjp
def _affine(x: Array, mean: Array, factor: Array, bias: Array) -> Array:
    return plain_affine(x, mean, factor, bias)


def _affine_forward(x: Array, mean: Array, factor: Array, bias: Array) -> tuple[Array, tuple[Array, ...]]:
    return plain_affine(x, mean, factor, bias), (x, mean, factor)


def _affine_backward(saved: tuple[Array, ...], gradient: Array) -> tuple[Array, ...]:
    x, mean, factor = saved
    of_factor, of_bias = _sums(lambda x, gradient: [(x - mean) * gradient, gradient], x, gradient)
    return (gradient * factor).astype(x.dtype), -factor * of_bias, of_factor, of_bias


_affine.defvjp(_affine_forward, _affine_backward)


def first_sums(
    images: Float[Array, "batch height width channels"],
    mask: Bool[Array, " batch"] | None,
    params: Any,
    layer: Conv,
    axis_name: str,
) -> Float[Array, "2 features"] | None:
    """Sums of a first convolution's values and of their squares over the whole batch, or its masked images.

    From the first and second moments of the patches it sees. Those do not depend on its weights,
    so that the gradient through these sums needs no reduction over the devices of its own. None
    for images of several channels, and where a patch has more values than the layer has features: there
    its moments cost too much.
    """
    kernel, stride, padding = layer.kernel, layer.stride, layer.padding
    if images.shape[-1] > 1 or kernel**2 > layer.features:
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


# Sums over images, rows and columns. XLA's CPU backend has a loop over single values for them, with all that
# leads to these in it. Where they are added a few images at a time, it works on vectors.

_IMAGES = 8


def _sums(terms: Callable[..., list[Array]], *values: Array) -> Float[Array, "terms channels"]:
    """Each channel's sums, in float32, of the terms of values whose first axis is the images.

    Args:
      terms: of some images' values, each images x ... x channels; 0 where the values are 0.
    """
    groups = _groups(*values)

    def add(totals: list[Array], group: list[Array]) -> tuple[list[Array], None]:
        found = zip(totals, terms(*group), strict=True)
        return [functools.reduce(jnp.add, term, total) for total, term in found], None

    shapes = jax.eval_shape(terms, *(each[0] for each in groups))
    totals, _ = jax.lax.scan(add, [jnp.zeros(each.shape[1:], each.dtype) for each in shapes], groups)
    return jnp.stack([total.reshape(-1, total.shape[-1]).sum(0) for total in totals])


def _groups(*values: Array) -> list[Array]:
    """Each in float32 as groups x images x the rest, a few images a group; zeros fill up the last."""
    return [
        _with_zeros(each.astype(jnp.float32), 0, _IMAGES).reshape(-1, _IMAGES, *each.shape[1:])
        for each in values
    ]


FORMS = Forms(convolution, max_pool, global_max, dropout, moments, affine, first_sums)


# XLA and the C library.

RUN_ONCE = {"xla_backend_optimization_level": 0}
"""For what is run once: what that takes is the time to compile it, most of it in LLVM's optimisations."""

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8  # mallopt(3)


def step_options(devices: int) -> dict[str, Any]:
    """XLA's options for the programs of a training step.

    Where there are several devices each has a core and no more (benchmarks.devices). At LLVM's level 1 the
    programs are as fast as at 3, XLA's default, and are there sooner (benchmarks.start).
    """
    return {"xla_cpu_multi_thread_eigen": devices == 1, "xla_backend_optimization_level": 1}


def keep_freed_memory(*, one_device: bool = False) -> None:
    """Have glibc keep the memory that a step frees for the next step.

    By default it goes back to Linux and comes again page by page, which costs a CPU much of
    its time (benchmarks.memory). Does nothing where the C library is another.

    Args:
      one_device: keep what is larger than 64 MiB, too. All threads then share one arena, which makes a step
        on several devices slower.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)
        libc.mallopt(_M_TOP_PAD, 2**26)  # more than a heap of an arena has: none is given back as a whole
        if one_device:
            libc.mallopt(_M_ARENA_MAX, 1)
