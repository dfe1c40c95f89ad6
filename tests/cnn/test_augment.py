import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import data
from cnn.augment import _by_gathering, _by_products, _spline, random_distortion
from cnn.recipe import Distortion
from cnn.zoo import ZOO

ROUNDING = 8 * 64 * float(np.finfo(np.float32).eps)
"""A coordinate of up to 64 is rounded a few times, and a value, of 0 to 1, moves by at most as much."""


def one_by_one(images, key, strength, progress=0.0):
    """Compiled an operation at a time, so that nothing is rounded otherwise for another shape."""
    return random_distortion(images, jax.random.split(key, len(images)), strength, progress)


augment = jax.jit(
    one_by_one, static_argnames="strength", compiler_options={"xla_backend_optimization_level": 0}
)


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(data.load("mnist", None).test.images[:16]) / 255


def test_bends_are_smooth_and_as_strong_as_said(images):
    """The image holds its rows' numbers, so that what is sampled says where it came from.

    The mean square of a cubic B-spline's weights, over all places, is 151 / 315 along each axis.
    """
    bent = Distortion(rotation=0.0, scale=0.0, shear=0.0, shift=0.0, elastic=1.5)
    ramp = jnp.broadcast_to(100.0 + jnp.arange(28.0)[:, None, None], (500, 28, 28, 1))
    moved = (augment(ramp, jax.random.key(3), bent) - ramp)[:, 7:21, 7:21, 0]
    assert abs(float(moved.mean())) < 0.05
    assert float(moved.std()) == pytest.approx(1.5 * 151 / 315, rel=0.05)
    steps = jnp.abs(jnp.diff(moved, axis=1))
    assert float(steps.max()) < 5 * 1.5 * 3 / 27  # the slope of a B-spline's weights adds up to 1 a point
    assert not jnp.array_equal(moved[0], moved[1])


def test_pixels_move_by_the_share_that_is_said():
    """A spline's weights are independent of what the control points are moved by, which is of variance 1."""
    variances = np.square(np.asarray(_spline(28), float)).sum(1)
    share = np.sqrt(np.outer(variances, variances).mean())
    said = re.search(r"pixels move by ([\d.]+) of it", Distortion.__doc__)
    assert float(said[1]) == pytest.approx(share, abs=0.005)


def test_a_distortion_fades_by_the_share_that_is_said(images):
    key, numbers = jax.random.key(5), np.array([20.0, 0.2, 0.3, 3.0, 1.5])
    fading = Distortion(*numbers, fade=0.5)
    left = augment(images, key, Distortion(*0.75 * numbers))
    np.testing.assert_allclose(augment(images, key, fading, 0.5), left, atol=ROUNDING)
    np.testing.assert_array_equal(
        one_by_one(images, key, fading), one_by_one(images, key, Distortion(*numbers))
    )


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
    np.testing.assert_allclose(by_products, by_gathering, atol=ROUNDING)


def test_all_channels_of_an_image_are_distorted_alike(images):
    everything = Distortion(20.0, 0.2, 0.3, 3.0, 1.5, brightness=0.5, erasing=0.5, zoom=0.5)
    grey, colours = (
        one_by_one(each, jax.random.key(7), everything) for each in (images, jnp.repeat(images, 3, -1))
    )
    np.testing.assert_array_equal(colours, jnp.repeat(grey, 3, -1))


def test_the_contrast_of_colours_is_about_the_luminances_mean():
    """torchvision's adjust_contrast: factor * image + (1 - factor) * mean of rgb_to_grayscale, clipped."""
    images = np.random.default_rng(0).uniform(0.3, 0.7, (8, 6, 6, 3)).astype(np.float32)  # nothing is clipped
    after = np.asarray(augment(jnp.asarray(images), jax.random.key(1), Distortion(contrast=0.5)))
    factors = after.std((1, 2, 3)) / images.std((1, 2, 3))
    assert np.ptp(factors) > 0.2
    factors = factors[:, None, None, None]
    mean = (images @ np.float32([0.2989, 0.587, 0.114])).mean((1, 2))[:, None, None, None]
    np.testing.assert_allclose(after, factors * images + (1 - factors) * mean, atol=1e-5)
