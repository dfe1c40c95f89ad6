"""The forms for libtpu against the plain ones, on a CPU: values and gradients; and where each is chosen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn import cpu, libtpu
from tests.cnn.test_cpu import EPS, case, ours, plain, value_and_gradients

pytestmark = pytest.mark.numeric


def on_tpu(x, kernel, strides, padding):
    """What cpu.convolution computes on a TPU."""
    sides = tuple(padding)
    return libtpu.convolution(x, kernel, sides, lambda x, kernel: plain(x, kernel, strides, padding))


@given(
    size=st.integers(5, 26),
    channels=st.integers(1, 4),
    features=st.integers(1, 17),
    kernel=st.sampled_from([1, 2, 3, 5]),
    padding=st.integers(0, 2),
)
@settings(max_examples=8)
def test_values_and_gradients_are_those_of_jax(size, channels, features, kernel, padding):
    """A kernel's gradient is a sum of n products of normal numbers; all else is computed in the same way."""
    *arrays, options = case(size, channels, features, kernel, 1, padding)
    found, expected = (value_and_gradients(function, options)(*arrays) for function in (on_tpu, plain))
    for one, other in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(one, other)
    batch, rows, columns, _ = expected[0].shape
    np.testing.assert_allclose(found[2], expected[2], rtol=0, atol=10 * EPS * batch * rows * columns)


def test_bfloat16_adds_up_in_float32():
    *arrays, options = case(24, 3, 8, 3, 1, 1, jnp.bfloat16)
    found = value_and_gradients(on_tpu, options)(*arrays)[2]
    expected = value_and_gradients(plain, options)(*(each.astype(jnp.float32) for each in arrays))[2]
    assert found.dtype == jnp.bfloat16
    # Rounded once at the end; a sum in bfloat16 stops where a term is less than half of its last digit.
    found = found.astype(np.float32)
    np.testing.assert_allclose(found, expected, rtol=float(jnp.finfo(jnp.bfloat16).eps), atol=1e-3)


@pytest.mark.parametrize(("channels", "platform", "products"), [(1, "tpu", 1), (8, "tpu", 0), (1, "cuda", 0)])
def test_the_product_is_for_a_tpu_and_few_channels(channels, platform, products):
    *arrays, options = case(26, channels, 8, 3, 1, 0)

    def lowered(function):
        traced = value_and_gradients(function, options).trace(*arrays)
        return traced.lower(lowering_platforms=(platform,)).as_text()

    assert lowered(ours).count("stablehlo.dot_general") == products
    assert "stablehlo.while" not in lowered(ours)  # the sum over images is for a CPU
    if not products:
        assert lowered(ours).count("stablehlo.convolution") == lowered(plain).count("stablehlo.convolution")


def test_strides_are_jax_lax_s_on_a_tpu_too():
    *arrays, options = case(26, 1, 8, 3, 2, 0)
    traced = value_and_gradients(ours, options).trace(*arrays)
    assert "dot_general" not in traced.lower(lowering_platforms=("tpu",)).as_text()


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_a_tpu_alone_pools_by_reduce_window(platform):
    pooled = jax.jit(jax.grad(lambda x: cpu.max_pool(x, 2).sum())).trace(jnp.zeros((3, 8, 8, 2)))
    text = pooled.lower(lowering_platforms=(platform,)).as_text()
    assert ("select_and_scatter" in text) == (platform == "tpu")
