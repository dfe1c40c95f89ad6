"""The forms for XLA's CPU backend against the plain ones: values, gradients, other platforms."""

import functools
import platform
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn.architecture import Architecture, BatchNorm, ConcatPool, Conv, Dense, MaxPool, ReLU
from cnn.cpu import FORMS, convolution
from cnn.model import PLAIN, Network, image_keys

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


@given(
    size=st.integers(3, 26),
    channels=st.integers(1, 17),
    features=st.integers(1, 33),
    kernel=st.sampled_from([1, 2, 3, 5]),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
)
@settings(max_examples=10)
def test_values_and_gradients_are_those_of_jax(size, channels, features, kernel, stride, padding):
    """A sum of n products of normal numbers is about sqrt(n), and so is, in eps, what it is rounded by."""
    *arrays, options = case(max(size, kernel), channels, features, kernel, stride, padding)
    found, expected = (value_and_gradients(function, options)(*arrays) for function in (ours, plain))
    batch, rows, columns, _ = expected[0].shape
    terms = kernel**2 * channels, kernel**2 * features, batch * rows * columns
    for one, other, n in zip(found, expected, terms, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=10 * EPS * n)


@given(
    size=st.integers(3, 13),
    channels=st.integers(2, 17),
    kernel=st.sampled_from([1, 2, 3, 5]),
    padding=st.integers(0, 2),
    groups=st.sampled_from(["depthwise", "two features each", "one group less"]),
    images=st.integers(1, 17),
)
@settings(max_examples=10)
def test_those_in_groups_are_too(size, channels, kernel, padding, groups, images):
    """Ours where each group has one channel and one feature, otherwise jax.lax's."""
    depth, features, count = channels, channels, channels
    if groups == "two features each":
        features = 2 * channels
    elif groups == "one group less":
        depth, features = 2 * channels, 2 * channels
    x, _, _, options = case(max(size, kernel), depth, features, kernel, 1, padding, images=images)
    random = np.random.default_rng(channels)
    shape = kernel, kernel, depth // count, features
    weights = jnp.asarray(random.standard_normal(shape), jnp.float32)
    functions = [
        functools.partial(each, dimension_numbers=NHWC, feature_group_count=count)
        for each in (convolution, jax.lax.conv_general_dilated)
    ]
    gradient = jax.eval_shape(lambda x, kernel: functions[1](x, kernel, *options), x, weights)
    gradient = jnp.asarray(random.standard_normal(gradient.shape), jnp.float32)
    found, expected = (value_and_gradients(each, options)(x, weights, gradient) for each in functions)
    terms = kernel**2 * depth // count, kernel**2 * features // count, gradient[..., 0].size
    for one, other, n in zip(found, expected, terms, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=10 * EPS * n)


@pytest.mark.parametrize(("size", "kernel", "groups"), [(24, 3, 1), (12, 3, 1), (12, 1, 1), (12, 3, 8)])
def test_bfloat16_adds_up_in_float32(size, kernel, groups):
    x, weights, gradient, options = case(size, 8, 8, kernel, 1, kernel // 2, jnp.bfloat16)
    weights = weights[:, :, : 8 // groups]
    function = functools.partial(convolution, dimension_numbers=NHWC, feature_group_count=groups)
    found = value_and_gradients(function, options)(x, weights, gradient)[2]
    exact = functools.partial(
        jax.lax.conv_general_dilated, dimension_numbers=NHWC, feature_group_count=groups
    )
    floats = (each.astype(jnp.float32) for each in (x, weights, gradient))
    expected = value_and_gradients(exact, options)(*floats)[2]
    assert found.dtype == jnp.bfloat16
    found = found.astype(np.float32)
    # Rounded once at the end; a sum in bfloat16 stops where a term is less than half of its last digit.
    np.testing.assert_allclose(found, expected, rtol=float(jnp.finfo(jnp.bfloat16).eps), atol=1e-3)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("lhs_dilation", (2, 2)),
        ("rhs_dilation", (1, 2)),
        ("batch_group_count", 3),
        ("preferred_element_type", jnp.float32),
        ("dimension_numbers", None),
        ("dimension_numbers", ("NCHW", "HWIO", "NCHW")),
        ("an_option_to_come", "x"),
    ],
)
def test_an_option_that_a_cpu_would_drop_is_refused(option, value):
    x, kernel, options = jnp.zeros((3, 5, 5, 2)), jnp.zeros((3, 3, 2, 4)), ((1, 1), [(0, 0)] * 2)
    with pytest.raises(ValueError, match=f"{option}=.* is not computed on a CPU here"):
        convolution(x, kernel, *options, **{"dimension_numbers": NHWC, option: value})


@pytest.mark.parametrize("options", [{"kernel_dilation": 2}, {"input_dilation": (1, 2)}])
def test_flax_gives_these_options(options):
    x = jnp.zeros((3, 5, 5, 2))
    layer = nn.Conv(4, (3, 3), padding=0, conv_general_dilated=convolution, **options)
    with pytest.raises(ValueError, match="is not computed on a CPU here"):
        layer.init(jax.random.key(0), x)


def test_with_strides_every_option_is_jax_lax_s():
    x, kernel, _, (strides, padding) = case(9, 2, 4, 3, 2, 0)
    dilated = {"dimension_numbers": NHWC, "rhs_dilation": (2, 2)}
    found = convolution(x, kernel, strides, padding, **dilated)
    np.testing.assert_array_equal(found, jax.lax.conv_general_dilated(x, kernel, strides, padding, **dilated))


@given(shape=st.lists(st.integers(1, 17), min_size=2, max_size=4), masked=st.booleans())
@settings(max_examples=10)
def test_batch_norms_sums_are_those_of_one_reduction(shape, masked):
    """Of maps and of vectors. Each of a sum's n terms is rounded by some eps, and so is each value."""
    random = np.random.default_rng(shape[0])
    normal = [
        jnp.asarray(random.standard_normal(size), jnp.float32) for size in (shape, shape, *[shape[-1:]] * 3)
    ]
    x, gradient, mean, factor, bias = normal
    mask = jnp.arange(shape[0]) <= shape[0] // 2 if masked else None

    def computed(forms):
        sums, of_sums = jax.vjp(lambda x: forms.moments(x, mask), x)
        values, of_values = jax.vjp(forms.affine, x, mean, factor, bias)
        return sums, of_sums(jnp.stack([mean, factor])), values, of_values(gradient)

    ours, plain = jax.jit(computed, static_argnums=0)(FORMS), jax.jit(computed, static_argnums=0)(PLAIN)
    tolerances = {"rtol": 10 * EPS, "atol": 10 * EPS * x.size}
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, **tolerances), ours, plain)


@pytest.mark.slow
def test_a_network_by_either_form_is_the_same(monkeypatch):
    """Logits, statistics and gradients in float64, of layers that have each form; without dropout's draws."""
    monkeypatch.setattr(jnp, "float32", jnp.float64)
    layers = (Conv(10, 3), BatchNorm(), ReLU(), MaxPool(2), Conv(4, 3, padding=1), ConcatPool(), Dense(10))
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))

    def computed(forms):
        network = Network(Architecture(layers), "torch", jnp.float64, axis_name="data", forms=forms)
        inputs = jnp.asarray(np.random.default_rng(0).standard_normal((5, 28, 28, 1)))
        variables = network.clone(axis_name=None).init(jax.random.key(0), inputs[:1], train=False)
        variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables)
        real = jnp.int32(4)  # the fifth fills the batch up

        def loss(params, inputs):
            variables_ = variables | {"params": params}
            logits, updates = network.apply(
                variables_, inputs, train=True, real=real, mutable=["batch_stats"]
            )
            return (logits[:4] ** 2).sum(), (logits, updates)

        def step(params, inputs):
            return jax.grad(loss, has_aux=True)(params, inputs)

        everywhere = jax.sharding.PartitionSpec()
        program = jax.shard_map(
            step, mesh=mesh, in_specs=(everywhere, everywhere), out_specs=everywhere, check_vma=False
        )
        unoptimized = {"xla_backend_optimization_level": 0}  # by LLVM, which takes most of the time
        return jax.jit(program, compiler_options=unoptimized)(variables["params"], inputs)

    with jax.enable_x64(True):
        ours, plain = computed(FORMS), computed(PLAIN)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9), ours, plain)


@pytest.mark.parametrize("forms", [FORMS, PLAIN], ids=["FORMS", "PLAIN"])
def test_either_dropout_keeps_the_mean_and_draws_for_each_image(forms):
    keys = image_keys(jax.random.key(0), 301, None)
    kept = forms.dropout(jnp.ones((301, 299)), 0.3, keys)
    np.testing.assert_allclose(jnp.unique(kept), [0, 1 / 0.7], rtol=4 * EPS)
    assert abs((kept == 0).mean() - 0.3) < 5 * (0.3 * 0.7 / kept.size) ** 0.5
    np.testing.assert_array_equal(forms.dropout(jnp.ones((7, 299)), 0.3, keys[20:27]), kept[20:27])
    assert not np.array_equal(kept[0], kept[1])


ALLOCATE = """
import ctypes, resource, threading
from cnn import cpu
cpu.keep_freed_memory(one_device={one_device})
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
