import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn import data
from cnn.augment import _by_gathering, _by_products, _sources, _spline, random_distortion, sample
from cnn.recipe import Distortion
from cnn.zoo import ZOO

NONE = Distortion(rotation=0.0, scale=0.0, shear=0.0, shift=0.0)
IDENTITY, STILL = jnp.eye(2), jnp.zeros(2)


def _sample(image, matrix, shift):
    rows, columns = _sources(matrix, shift, image.shape[:2])
    return sample(image[None], rows[None], columns[None])[0]


def augment(images, key, strength):
    return random_distortion(images, jax.random.split(key, len(images)), strength)


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(data.load("mnist", None).test.images[:16]) / 255


def test_strength_zero_is_the_identity(images):
    """Where nothing is traced, and where all pixels are sampled at their own places."""
    np.testing.assert_array_equal(augment(images, jax.random.key(0), NONE), images)
    faded = random_distortion(images, jax.random.split(jax.random.key(0), 16), Distortion(9.0, fade=1.0), 1.0)
    np.testing.assert_allclose(faded, images, atol=1e-5)


@settings(max_examples=25)
@given(
    st.builds(
        Distortion, st.floats(0, 180), st.floats(0, 0.9), st.floats(0, 2), st.floats(0, 40), st.floats(0, 9)
    ),
    st.integers(0, 2**32 - 1),
)
def test_shape_and_range_are_kept(strength, seed):
    images = jax.random.uniform(jax.random.key(seed), (4, 28, 28, 1))
    augmented = augment(images, jax.random.key(seed), strength)
    assert augmented.shape == images.shape
    assert augmented.dtype == images.dtype
    assert jnp.isfinite(augmented).all()
    assert augmented.min() >= 0
    assert augmented.max() <= images.max() + 1e-6


def test_a_quarter_turn_is_numpys(images):
    quarter = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    turned = _sample(images[0], quarter, STILL)
    np.testing.assert_allclose(turned[..., 0], np.rot90(images[0, ..., 0], k=1), atol=1e-5)


def test_a_shift_moves_pixels_and_fills_with_background(images):
    moved = _sample(images[0], IDENTITY, jnp.array([2.0, -3.0]))
    np.testing.assert_allclose(moved[:-2, 3:], images[0, 2:, :-3], atol=1e-6)
    assert not moved[-2:].any()
    assert not moved[:, :3].any()


def test_half_a_pixel_is_the_mean_of_two(images):
    moved = _sample(images[0], IDENTITY, jnp.array([0.0, 0.5]))
    np.testing.assert_allclose(moved[:, :-1], (images[0, :, :-1] + images[0, :, 1:]) / 2, atol=1e-6)


def test_bends_are_smooth_and_as_strong_as_said(images):
    """The image holds its rows' numbers, so that what is sampled says where it came from.

    The mean square of a cubic B-spline's weights, over all places, is 151 / 315 along each axis.
    """
    bent = Distortion(rotation=0.0, scale=0.0, shear=0.0, shift=0.0, elastic=1.5)
    ramp = jnp.broadcast_to(100.0 + jnp.arange(200.0)[:, None, None], (500, 200, 200, 1))
    moved = (augment(ramp, jax.random.key(3), bent) - ramp)[:, 50:150, 50:150, 0]
    assert abs(float(moved.mean())) < 0.05
    assert float(moved.std()) == pytest.approx(1.5 * 151 / 315, rel=0.05)
    steps = jnp.abs(jnp.diff(moved, axis=1))
    assert float(steps.max()) < 0.25
    assert not jnp.array_equal(moved[0], moved[1])


def test_pixels_move_by_the_share_that_is_said():
    """A spline's weights are independent of what the control points are moved by, which is of variance 1."""
    variances = np.square(np.asarray(_spline(28), float)).sum(1)
    share = np.sqrt(np.outer(variances, variances).mean())
    said = re.search(r"pixels move by ([\d.]+) of it", Distortion.__doc__)
    assert float(said[1]) == pytest.approx(share, abs=0.005)


def test_a_distortion_fades_by_the_share_that_is_said(images):
    key, numbers = jax.random.key(5), np.array([20.0, 0.2, 0.3, 3.0, 1.5])
    fading, keys = Distortion(*numbers, fade=0.5), jax.random.split(key, len(images))
    halfway = random_distortion(images, keys, fading, jnp.float32(0.5))
    np.testing.assert_allclose(halfway, augment(images, key, Distortion(*0.75 * numbers)), atol=1e-4)
    np.testing.assert_array_equal(augment(images, key, fading), augment(images, key, Distortion(*numbers)))


def test_maps_differ_by_image_and_key_and_keep_to_their_bounds():
    same = jnp.zeros((200, 28, 28, 1)).at[:, 10:18, 10:18].set(1.0)
    strength = Distortion(rotation=0.0, scale=0.0, shear=0.0, shift=2.0)
    augmented = augment(same, jax.random.key(1), strength)
    assert not jnp.array_equal(augmented[0], augmented[1])
    assert not jnp.array_equal(augmented, augment(same, jax.random.key(2), strength))
    place = jnp.arange(28.0)[:, None, None]
    rows = (augmented * place).sum((1, 2, 3)) / augmented.sum((1, 2, 3))
    shift = rows - (same[0] * place).sum() / same[0].sum()
    assert jnp.abs(shift).max() < 2.01
    assert shift.min() < -1.8
    assert shift.max() > 1.8


def test_default_recipe_augments_without_destroying(images):
    strength = ZOO["compact_20k"].recipe
    augmented = augment(images, jax.random.key(0), strength)
    ink = augmented.sum((1, 2, 3)) / images.sum((1, 2, 3))
    assert ((ink > 0.7) & (ink < 1.35)).all()


def test_a_tpus_way_to_sample_gives_what_the_others_give(images):
    rows, columns = jax.random.uniform(jax.random.key(0), (2, 16, 28, 28), minval=-3.0, maxval=31.0)
    by_products, by_gathering = (
        jax.vmap(way)(images, rows, columns) for way in (_by_products, _by_gathering)
    )
    assert by_gathering.max() > 0.5
    np.testing.assert_allclose(by_products, by_gathering, atol=1e-5)
