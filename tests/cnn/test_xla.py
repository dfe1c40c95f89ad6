"""The operations of cnn/xla.py against the plain ones: values, gradients, and where each is chosen."""

import functools
import json
import os
import platform
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn import xla
from cnn.architecture import Architecture, Conv
from cnn.xla import convolution
from cnn.zoo import ZOO

pytestmark = pytest.mark.numeric
EPS = float(np.finfo(np.float32).eps)
NHWC = ("NHWC", "HWIO", "NHWC")


def plain(x, kernel, strides, padding):
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=NHWC)


def ours(x, kernel, strides, padding):
    return convolution(x, kernel, strides, padding, dimension_numbers=NHWC)


def case(size, channels, features, kernel, stride, padding, dtype=jnp.float32, images=3):
    """Images, a kernel, a gradient of the result, and what else a convolution takes."""
    random = np.random.default_rng(size)

    def normal(*shape):
        return jnp.asarray(random.standard_normal(shape), dtype)

    x, weights = normal(images, size, size, channels), normal(kernel, kernel, channels, features)
    options = (stride, stride), [(padding, padding)] * 2
    result = jax.eval_shape(lambda x, kernel: plain(x, kernel, *options), x, weights)
    return x, weights, normal(*result.shape), options


def value_and_gradients(function, options):
    """A compiled function of images, kernel and the result's gradient: its value and both gradients."""

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def compute(x, kernel, gradient):
        value, transpose = jax.vjp(lambda x, kernel: function(x, kernel, *options), x, kernel)
        return value, *transpose(gradient)

    return compute


def grouped(function, groups):
    """A convolution in so many groups of channels."""

    def compute(x, kernel, strides, padding):
        return function(x, kernel, strides, padding, dimension_numbers=NHWC, feature_group_count=groups)

    return compute


def assert_rounded_alike(found, expected, terms):
    """A sum of n products of normal numbers is about sqrt(n), and so is, in eps, what it is rounded by."""
    for one, other, n in zip(found, expected, terms, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=10 * EPS * n)


@given(
    size=st.integers(3, 13),
    channels=st.integers(2, 17),
    kernel=st.sampled_from([1, 2, 3, 5]),
    padding=st.integers(0, 2),
    images=st.integers(1, 17),
)
@settings(max_examples=8)
def test_without_onednn_a_depthwise_convolution_is_jax_lax_s(size, channels, kernel, padding, images):
    size = max(size, kernel)
    x, _, _, options = case(size, channels, channels, kernel, 1, padding, images=images)
    random = np.random.default_rng(channels)
    weights = jnp.asarray(random.standard_normal((kernel, kernel, 1, channels)), jnp.float32)
    lax = grouped(jax.lax.conv_general_dilated, channels)
    shape = jax.eval_shape(lambda x, kernel: lax(x, kernel, *options), x, weights).shape
    gradient = jnp.asarray(random.standard_normal(shape), jnp.float32)

    def shifted(x, kernel, strides, padding):
        return xla._shifted(x, kernel, tuple(padding))

    found, expected = (value_and_gradients(each, options)(x, weights, gradient) for each in (shifted, lax))
    assert_rounded_alike(found, expected, (kernel**2, kernel**2, gradient[..., 0].size))


@pytest.mark.parametrize(
    ("onednn", "groups", "shifted"), [(False, 4, True), (True, 4, False), (False, 2, False)]
)
def test_it_is_chosen_where_there_is_no_onednn_and_each_group_has_one_channel(
    onednn, groups, shifted, monkeypatch
):
    monkeypatch.setattr(xla, "has_onednn", lambda: onednn)
    x, kernel = jnp.zeros((2, 6, 6, 4)), jnp.zeros((3, 3, 4 // groups, 4))
    call = functools.partial(grouped(convolution, groups), strides=(1, 1), padding=[(1, 1)] * 2)
    lowered = jax.jit(call).trace(x, kernel).lower(lowering_platforms=("cpu",)).as_text()
    assert ("stablehlo.convolution" not in lowered) == shifted


# On a TPU.


def on_tpu(x, kernel, strides, padding):
    """What convolution computes there of an image."""
    sides = tuple(padding)
    return xla._first_on_tpu(lambda x, kernel: plain(x, kernel, strides, padding), sides, x, kernel)


@given(
    size=st.integers(5, 26),
    channels=st.integers(1, 4),
    features=st.integers(1, 17),
    kernel=st.sampled_from([1, 2, 3, 5]),
    padding=st.integers(0, 2),
)
@settings(max_examples=8)
def test_a_first_layer_on_a_tpu_is_jax_lax_s(size, channels, features, kernel, padding):
    """The kernel's gradient is a sum of n products of normal numbers; all else is computed alike."""
    *arrays, options = case(size, channels, features, kernel, 1, padding)
    found, expected = (value_and_gradients(function, options)(*arrays) for function in (on_tpu, plain))
    for one, other in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(one, other)
    batch, rows, columns, _ = expected[0].shape
    np.testing.assert_allclose(found[2], expected[2], rtol=0, atol=10 * EPS * batch * rows * columns)


def test_its_gradient_in_bfloat16_adds_up_in_float32():
    *arrays, options = case(24, 3, 8, 3, 1, 1, jnp.bfloat16)
    found = value_and_gradients(on_tpu, options)(*arrays)[2]
    expected = value_and_gradients(plain, options)(*(each.astype(jnp.float32) for each in arrays))[2]
    assert found.dtype == jnp.bfloat16
    # Rounded once at the end; a sum in bfloat16 stops where a term is less than half of its last digit.
    found = found.astype(np.float32)
    np.testing.assert_allclose(found, expected, rtol=float(jnp.finfo(jnp.bfloat16).eps), atol=1e-3)


@pytest.mark.parametrize(
    ("channels", "stride", "platform", "products"),
    [(1, 1, "tpu", 1), (8, 1, "tpu", 0), (1, 1, "cuda", 0), (1, 1, "cpu", 0), (1, 2, "tpu", 0)],
)
def test_the_product_is_for_a_tpu_few_channels_and_no_strides(channels, stride, platform, products):
    *arrays, options = case(26, channels, 8, 3, stride, 0)
    traced = value_and_gradients(ours, options).trace(*arrays)
    assert traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.dot_general") == products


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_a_tpu_alone_pools_by_reduce_window(platform):
    pooled = jax.jit(jax.grad(lambda x: xla.max_pool(x, 2).sum())).trace(jnp.zeros((3, 8, 8, 2)))
    text = pooled.lower(lowering_platforms=(platform,)).as_text()
    assert ("select_and_scatter" in text) == (platform == "tpu")


# Batch norm.


@given(
    shape=st.lists(st.integers(1, 9), min_size=2, max_size=4).filter(lambda shape: np.prod(shape[:-1]) > 2),
    masked=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=20)
def test_batch_norms_gradient_is_that_of_its_definition(shape, masked, seed):
    """In float64, of maps and of vectors; the images that do not count get a gradient, too."""
    random = np.random.default_rng(seed)
    x, gradient, scale, bias = (random.normal(size=size) for size in (shape, shape, *[shape[-1:]] * 2))
    valid = np.arange(shape[0]) <= shape[0] // 2 if masked else None

    def defined(x, scale, bias):
        counted = x if valid is None else x[valid]
        axes = tuple(range(x.ndim - 1))
        mean, var = counted.mean(axes), counted.var(axes)
        return (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias, mean, var

    def computed(function):
        @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
        def compute(gradient, *arrays):
            value, transpose = jax.vjp(function, *arrays)
            zeros = map(jnp.zeros_like, value[1:])  # nothing flows through the statistics
            return *value, *transpose((gradient, *zeros))

        return compute(gradient, x, scale, bias)

    with jax.enable_x64(True):
        valid_here = None if valid is None else jnp.asarray(valid)
        found = computed(lambda *each: xla.batch_norm(*each, valid_here))
        expected = computed(defined)
    for one, other in zip(found, expected, strict=True):
        # A variance that is small beside the squares it is the difference of loses digits.
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-7)


# Dropout.


def test_dropout_keeps_the_mean_and_draws_by_the_place_in_the_batch():
    key = jax.random.key(0)
    kept = xla.dropout(jnp.ones((301, 299)), 0.3, key)
    np.testing.assert_allclose(jnp.unique(kept), [0, 1 / 0.7], rtol=4 * EPS)
    assert abs((kept == 0).mean() - 0.3) < 5 * (0.3 * 0.7 / kept.size) ** 0.5
    np.testing.assert_array_equal(xla.dropout(jnp.ones((7, 299)), 0.3, key), kept[:7])
    assert not np.array_equal(kept[0], kept[1])
    assert not np.array_equal(xla.dropout(jnp.ones((301, 299)), 0.3, jax.random.key(1)), kept)


# XLA's options.


def test_options_are_those_that_were_measured_to_be_fastest():
    """benchmarks.operations; docs/results.md has both for each network."""
    both = {
        "plain_4k",
        "bn_4k",
        "bn_dropout_4k",
        "bn_dropout_14k",
        "fc_16k",
        "deep_15k",
        "reduced_19k",
        "strided_18k",
    }
    assert {name for name, entry in ZOO.items() if not xla.suits_onednn(entry.architecture)} == both


@pytest.mark.parametrize(
    ("version", "machine"), [("0.10.1", "x86_64"), ("0.11.0", "x86_64"), ("0.12.0.1", "aarch64")]
)
def test_a_jaxlib_without_onednn_is_not_told_of_it(version, machine, monkeypatch):
    monkeypatch.setattr(xla.jaxlib, "__version__", version)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    options = xla.step_options(2, Architecture((Conv(24, 3),)))
    assert options == {"xla_cpu_multi_thread_eigen": False, "xla_backend_optimization_level": 1}


@pytest.mark.parametrize("network", ["bn_4k", "compact_20k"])  # by both libraries, and by oneDNN alone
def test_this_jaxlib_accepts_the_options_and_computes_the_same(network):
    options = xla.step_options(1, ZOO[network].architecture)
    *arrays, geometry = case(12, 24, 24, 3, 1, 1)

    def compute(x, kernel, gradient):
        value, transpose = jax.vjp(lambda x, kernel: plain(x, kernel, *geometry), x, kernel)
        return value, *transpose(gradient)

    found, expected = jax.jit(compute, compiler_options=options)(*arrays), jax.jit(compute)(*arrays)
    assert_rounded_alike(found, expected, (9 * 24, 9 * 24, 3 * 12 * 12))


STARTS = """
import hashlib, json, sys
import jax
jax.config.update("jax_num_cpu_devices", 2)
from benchmarks.training import Training
digests = []
for name in sys.argv[1:]:
    training = Training(name, steps=3, num_devices=2)
    training.images_a_second()
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(training.state.params):
        digest.update(jax.device_get(leaf).tobytes())
    digests.append(digest.hexdigest())
print(json.dumps(digests))
"""


@pytest.mark.slow
@pytest.mark.devices
def test_two_devices_give_the_same_bits_at_every_start():
    """oneDNN keeps kernels by keys that are said to collide between devices (openxla/xla issue 38198)."""

    def start():
        command = [sys.executable, "-c", STARTS, "bn_4k", "compact_20k"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
        return tuple(json.loads(done.stdout.splitlines()[-1]))

    assert len({start() for _ in range(int(os.environ.get("STARTS", "10")))}) == 1


# Memory.

ALLOCATE = """
import ctypes, resource, threading
from cnn import xla
xla.keep_freed_memory(one_device={one_device})
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def step():
    memory = libc.malloc({size})
    ctypes.memset(memory, 1, {size})
    libc.free(memory)
def steps():
    libc.malloc({kept})
    step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())
thread = threading.Thread(target=steps)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize(
    ("one_device", "kept", "mebibytes"), [(False, 0, 48), (False, 40, 48), (True, 0, 48), (True, 0, 96)]
)
def test_what_a_thread_frees_does_not_go_back_to_linux(one_device, kept, mebibytes):
    """Nor does it where it lies in a heap of 64 MiB of its own. What is larger does, of several devices."""
    size = mebibytes * 2**20
    code = ALLOCATE.format(one_device=one_device, kept=kept * 2**20, size=size)
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(printed) < size / 10
