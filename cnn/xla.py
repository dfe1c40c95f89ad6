"""XLA's options for each backend, and the few operations that are written otherwise for its sake.

Each gives the values and gradients of the plain operation but for rounding (tests/cnn/test_xla.py).
`python -m benchmarks.operations` measures a training step with each of them in its plain form. That a CPU
runs an epoch as a Python loop over the compiled step is in cnn/loop.py, beside the way of a GPU or a TPU.
"""

import ctypes
import functools
import platform
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxlib
from jaxtyping import Array, Bool, Float, Key, UInt32

from cnn.architecture import Architecture, multiplications

_ONEDNN_SINCE = (0, 11, 1)  # the first jaxlib whose CPU backend hands convolutions to oneDNN when told to


def has_onednn() -> bool:
    """Return whether XLA's CPU backend can compute convolutions with oneDNN here."""
    version = tuple(int(number) for number in jaxlib.__version__.split(".")[:3])
    return version >= _ONEDNN_SINCE and platform.machine() in ("x86_64", "AMD64")


# Convolution.


def convolution(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "rows columns inputs features"],
    window_strides: tuple[int, ...],
    padding: list[tuple[int, int]],
    **options: Any,
) -> Float[Array, "batch new_height new_width features"]:
    """jax.lax.conv_general_dilated, for nn.Conv(conv_general_dilated=...), without dilation.

    Two cases have a form of their own. A depthwise convolution without oneDNN: XLA's own takes ten times as
    long on a CPU as products with the shifted map. A first layer on a TPU: see _first_on_tpu.
    """

    def plain(x: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(x, kernel, window_strides, padding, **options)

    if tuple(window_strides) != (1, 1):
        return plain(x, kernel)
    groups, sides = options.get("feature_group_count", 1), tuple(padding)
    if groups == x.shape[-1] == kernel.shape[-1] > 1 and not has_onednn():
        shifted = functools.partial(_shifted, padding=sides)
        return jax.lax.platform_dependent(x, kernel, cpu=shifted, default=plain)
    if groups == 1 and x.shape[-1] < _FEW_CHANNELS:
        on_tpu = functools.partial(_first_on_tpu, plain, sides)
        return jax.lax.platform_dependent(x, kernel, tpu=on_tpu, default=plain)
    return plain(x, kernel)


def _shifted(x: Array, kernel: Array, padding: tuple[tuple[int, int], ...]) -> Array:
    """Convolve depthwise: the map at each shift, times the kernel's values there, summed."""
    rows, columns, _, channels = kernel.shape
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    height, width = padded.shape[1] - rows + 1, padded.shape[2] - columns + 1
    shifts = [
        padded[:, row : row + height, column : column + width]
        for row in range(rows)
        for column in range(columns)
    ]
    values = kernel.reshape(-1, channels)
    return functools.reduce(jnp.add, (shift * value for shift, value in zip(shifts, values, strict=True)))


_FEW_CHANNELS = 8  # an image's: its patches are few, and a first layer's gradient for the image is not needed


def _first_on_tpu(plain: Any, padding: tuple[tuple[int, int], ...], x: Array, kernel: Array) -> Array:
    """plain(x, kernel), with the kernel's gradient as a product of the patches and the map's gradient.

    JAX has that gradient as a convolution with a window of the whole map, 24 x 24 for example. libtpu takes
    seven times longer to compile the first block of a network then (5x5 on one channel, batch norm, SiLU),
    and its estimate of the block's time is no better.
    """

    @jax.custom_vjp
    def convolve(x: Array, kernel: Array) -> Array:
        return plain(x, kernel)

    def forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
        return plain(x, kernel), (x, kernel)

    def backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
        x, kernel = saved
        _, of_images = jax.vjp(lambda x: plain(x, kernel), x)
        rows, columns, channels, features = kernel.shape
        patches = jax.lax.conv_general_dilated_patches(
            x, (rows, columns), (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        product = jnp.einsum(
            "bhwp,bhwf->pf", patches, gradient, preferred_element_type=jnp.promote_types(x.dtype, jnp.float32)
        )
        of_kernel = product.reshape(channels, rows, columns, features).transpose(1, 2, 0, 3)
        return *of_images(gradient), of_kernel.astype(kernel.dtype)

    convolve.defvjp(forward, backward)
    return convolve(x, kernel)


# Batch norm.


def batch_norm(
    x: Float[Array, "images *shape channels"],
    scale: Float[Array, " channels"],
    bias: Float[Array, " channels"],
    valid: Bool[Array, " images"] | None = None,
) -> tuple[Float[Array, "images *shape channels"], Float[Array, " channels"], Float[Array, " channels"]]:
    """Normalise each channel by its mean and biased variance over the images and places of the batch.

    The gradient is the closed form of Ioffe and Szegedy 2015 (section 3), which reads x twice. None flows
    through the returned mean and variance: they are for running statistics.

    Args:
      valid: the images that the statistics are taken over; None: all.

    Returns:
      The normalised values in x's dtype, the mean and the variance in float32 or wider.
    """
    count = (len(x) if valid is None else valid.sum()) * (x[0].size // x.shape[-1])
    return _batch_norm(x, scale, bias, valid, jnp.asarray(count, jnp.promote_types(x.dtype, jnp.float32)))


@jax.custom_vjp
def _batch_norm(x: Array, scale: Array, bias: Array, valid: Any, count: Array) -> tuple[Array, Array, Array]:
    return _batch_norm_forward(x, scale, bias, valid, count)[0]


def _batch_norm_forward(x: Array, scale: Array, bias: Array, valid: Any, count: Array) -> tuple[Any, Any]:
    wide = x.astype(count.dtype)
    mean = _sums(wide, valid) / count
    var = jnp.maximum(_sums(wide * wide, valid) / count - mean * mean, 0)
    inverse = jax.lax.rsqrt(var + EPSILON)
    y = ((wide - mean) * (inverse * scale) + bias).astype(x.dtype)
    return (y, mean, var), (x, mean, inverse, scale, valid, count)


def _batch_norm_backward(saved: tuple[Any, ...], gradients: tuple[Array, ...]) -> tuple[Any, ...]:
    x, mean, inverse, scale, valid, count = saved
    gradient, normalized = gradients[0].astype(count.dtype), (x.astype(count.dtype) - mean) * inverse
    of_bias, of_scale = _sums(gradient), _sums(gradient * normalized)
    through_statistics = _masked((of_bias + normalized * of_scale) / count, valid)
    of_x = (inverse * scale) * (gradient - through_statistics)
    return of_x.astype(x.dtype), of_scale, of_bias, None, None


_batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)
EPSILON = 1e-5  # PyTorch's


def _sums(x: Array, valid: Array | None = None) -> Float[Array, " channels"]:
    """Sum each channel over the images, then over the places.

    XLA's CPU backend adds whole maps by vectors. It would join the two sums into one, which is slower and
    rounds ten times as much.
    """
    over_images = jax.lax.optimization_barrier(_masked(x, valid).sum(0))
    return over_images.sum(tuple(range(over_images.ndim - 1)))


def _masked(x: Array, valid: Array | None) -> Array:
    """Return x with zeros for images that do not count: on a CPU a product is faster than a choice."""
    return x if valid is None else x * valid.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


# Pooling.


def max_pool(
    x: Float[Array, "batch height width channels"], window: int
) -> Float[Array, "batch rows columns channels"]:
    """Return the largest value of each window; of equal ones the first takes the gradient, as in PyTorch.

    Chosen by comparisons, each of which sends the gradient to one of its two sides. The gradient
    of jnp.max goes to the values that equal the maximum: where XLA computes them anew in another
    fusion, rounded otherwise, none does, and the gradient is lost. That of reduce_window is slow
    on a CPU; a TPU has it.
    """

    def compared(x: Array) -> Array:
        cut = windows(x, window)
        values = [cut[:, :, row, :, column] for row in range(window) for column in range(window)]
        return functools.reduce(lambda first, other: jnp.where(other > first, other, first), values)

    def reduced(x: Array) -> Array:
        return nn.max_pool(x, (window, window), (window, window))

    return jax.lax.platform_dependent(x, tpu=reduced, default=compared)


def global_max(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch channels"]:
    """Return the largest value of each channel's map, which takes the whole gradient.

    Found by its place, since a gradient must not hang on two values being equal (max_pool).
    """
    batch, height, width, channels = x.shape
    places = x.reshape(batch, height * width, channels)
    return (places * jax.nn.one_hot(places.argmax(1), places.shape[1], dtype=x.dtype, axis=1)).sum(1)


def windows(
    x: Float[Array, "batch height width channels"], window: int
) -> Float[Array, "batch rows window columns window channels"]:
    """Cut x into windows that do not overlap, along axes 2 and 4; what is left at the border is dropped."""
    batch, height, width, channels = x.shape
    rows, columns = height // window, width // window
    x = x[:, : rows * window, : columns * window]
    return x.reshape(batch, rows, window, columns, window, channels)


# Dropout.


def dropout(
    x: Float[Array, "images *shape"], rate: float, key: Key[Array, ""]
) -> Float[Array, "images *shape"]:
    """Zero each element with probability `rate` and divide the others by 1 - rate.

    An element's random word is a hash of its place in the batch: a few integer operations that XLA computes
    where the word is needed. Threefry's words (jax.random.bernoulli) take two fifths of reduced_19k's step.
    """
    first, second = jax.random.bits(key, (2,), jnp.uint32)
    place = jnp.arange(x.size, dtype=jnp.uint32).reshape(x.shape)
    keep = _mix(place * jnp.uint32(0x9E3779B9) + first, second) >= jnp.uint32(
        min(round(rate * 2**32), 2**32 - 1)
    )
    return jnp.where(keep, x / (1 - rate), 0)


def _mix(word: UInt32[Array, "..."], key: UInt32[Array, ""]) -> UInt32[Array, "..."]:
    """Hash by MurmurHash3's 32-bit finalizer (Appleby 2011) with a key between its two multiplications."""
    word = (word ^ (word >> 16)) * jnp.uint32(0x85EBCA6B) ^ key
    word = (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
    return word ^ (word >> 16)


# Options of XLA, and of the C library.

RUN_ONCE = {"xla_backend_optimization_level": 0}
"""For what is run once: what that takes is the time to compile it, most of it in LLVM's optimisations."""

_O1 = 19  # of openxla.org/xla/effort_levels, as JAX 0.10 wants it; 0.12 knows it by its name, too


def evaluation_options(platform: str) -> dict[str, Any]:
    """Return XLA's options for what runs once an epoch.

    A TPU's compiler takes half the time at its level 1, and the program twice the cycles (--task=tpu).
    """
    return {"optimization_level": _O1} if platform == "tpu" else {}


_VECTOR = 16  # features that YNNPACK's convolutions compute at once
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8  # mallopt(3)


def step_options(devices: int, architecture: Architecture) -> dict[str, Any]:
    """Return XLA's options for the programs of a training step on a CPU.

    Where there are several devices each has a core and no more (benchmarks.devices). At LLVM's level 1 the
    programs are as fast as at 3, XLA's default, and compile faster (benchmarks.start). Convolutions are
    oneDNN's where jaxlib has it: those that YNNPACK has no kernel for, or all (suits_onednn).
    """
    options: dict[str, Any] = {
        "xla_cpu_multi_thread_eigen": devices == 1,
        "xla_backend_optimization_level": 1,
    }
    if has_onednn():
        options["xla_cpu_experimental_onednn_custom_call"] = True
        if suits_onednn(architecture):
            options["xla_cpu_experimental_ynn_fusion_type"] = "LIBRARY_FUSION_TYPE_DOT"
    return options


def suits_onednn(architecture: Architecture) -> bool:
    """Return whether all convolutions are to be oneDNN's, none YNNPACK's.

    YNNPACK's are faster with whole vectors of 16 features (bn_dropout_14k, fc_16k, reduced_19k: up to 1.15
    times), slower otherwise (0.8 times in compact_20k), and it has none in groups worth having (0.3 times in
    tiny_2k). So: where most multiplications are with other numbers of features, or a convolution has groups.
    """
    counted = [(conv, count) for conv, count in multiplications(architecture) if conv.features > _VECTOR]
    uneven = sum(count for conv, count in counted if conv.features % _VECTOR)
    total = sum(count for _, count in multiplications(architecture))
    return 2 * uneven > total or any(conv.groups > 1 for conv, _ in counted)


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
