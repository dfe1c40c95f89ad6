"""Deskewed images by their moments; and a TPU's way to sample."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn import data
from cnn.sampling import _by_gathering, _by_products, deskew, sample

EPS = float(np.finfo(np.float32).eps)
ROUNDING = 8 * 64 * EPS
"""A coordinate of up to 64 is rounded a few times, and a value, of 0 to 1, moves by at most as much."""
DESKEW = jax.jit(deskew)


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(data.load("mnist", None).test.images[:16], jnp.float32) / 255


def slants(images):
    """Columns that a line through each image's columns moves by from row to row: NumPy's least squares."""
    height, width = images.shape[1:3]
    rows, columns = np.mgrid[:height, :width].reshape(2, -1)
    masses = (images - images.min((1, 2, 3), keepdims=True)).sum(3).reshape(len(images), -1)
    return np.array([np.polyfit(rows, columns, 1, w=np.sqrt(mass))[0] for mass in np.float64(masses)])


def sheared(images, slant):
    """Each row moved to the right by slant times its distance from the middle one."""
    height, width = images.shape[1:3]
    rows, columns = jnp.meshgrid(jnp.arange(float(height)), jnp.arange(float(width)), indexing="ij")
    places = jnp.broadcast_to(columns - slant * (rows - (height - 1) / 2), images.shape[:3])
    return sample(images, jnp.broadcast_to(rows, places.shape), places)


def test_a_deskewed_image_leans_neither_way(images):
    """Between two pixels ink is spread over both in proportion: a row's centre of mass moves as it should."""
    assert np.abs(slants(np.asarray(images))).max() > 0.2
    wide = jnp.pad(images, ((0, 0), (0, 0), (28, 28), (0, 0)))  # no ink leaves it
    assert np.abs(slants(np.asarray(DESKEW(wide)))).max() < 28 * ROUNDING


@given(st.floats(-0.4, 0.4))
@settings(max_examples=10)
def test_what_leans_otherwise_becomes_the_same(slant):
    """But for the second interpolation, which blurs. What is drawn is smooth, so that it blurs little."""
    down, right = np.mgrid[:28, :84] - np.array([13.5, 41.5]).reshape(2, 1, 1)
    ellipse = jnp.asarray(np.exp(-((down / 5) ** 2) - (right / 4) ** 2), jnp.float32)[None, ..., None]
    # Each of two interpolations errs by an eighth of the second derivative, 2 / 4^2 of the height, at most.
    np.testing.assert_allclose(DESKEW(sheared(ellipse, slant)), ellipse, rtol=0, atol=2 / 8 * 2 / 4**2)


def test_background_may_have_any_value(images):
    """It is what comes in from outside, too; the mass is counted from it."""
    found = DESKEW(3 * images - 0.5)
    np.testing.assert_allclose(found, 3 * DESKEW(images) - 0.5, rtol=0, atol=3 * ROUNDING)


@pytest.mark.parametrize("value", [0.0, -0.4242, 1.0])
def test_an_image_without_ink_stays(value):
    np.testing.assert_array_equal(DESKEW(jnp.full((2, 28, 28, 1), value)), np.float32(value))


@pytest.mark.parametrize("row", [0, 13])
def test_a_single_row_stays(row):
    image = jnp.zeros((1, 28, 28, 1)).at[:, row, 3:20].set(1)
    np.testing.assert_allclose(DESKEW(image), image, rtol=0, atol=ROUNDING)


def test_a_row_moves_by_no_more_than_its_distance_from_the_middle(images):
    """A line that falls by one row in four columns is not stood up."""
    line = jnp.zeros((1, 8, 40, 1))
    for column in range(32):
        line = line.at[0, column // 4, column + 4].set(1)
    assert slants(np.asarray(line)) > 3
    found = slants(np.asarray(DESKEW(line)))
    np.testing.assert_allclose(found, slants(np.asarray(line)) - 1, rtol=0, atol=40 * ROUNDING)


def test_all_channels_of_an_image_move_alike(images):
    colours = DESKEW(jnp.repeat(images, 3, -1))
    np.testing.assert_allclose(colours, jnp.repeat(DESKEW(images), 3, -1), rtol=0, atol=ROUNDING)
    np.testing.assert_array_equal(colours[..., 0], colours[..., 2])


def test_a_tpus_way_to_sample_gives_what_the_others_give(images):
    rows, columns = jax.random.uniform(jax.random.key(0), (2, 16, 28, 28), minval=-3.0, maxval=31.0)
    with jax.default_device(jax.devices("cpu")[0]):  # a GPU rounds its products otherwise
        by_products, by_gathering = (
            jax.vmap(way)(*map(np.asarray, (images, rows, columns))) for way in (_by_products, _by_gathering)
        )
    assert by_gathering.max() > 0.5
    np.testing.assert_allclose(by_products, by_gathering, atol=ROUNDING)
