"""Random affine augmentation on the device: rotation, scale, shear and shift of every image."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from cnn.zoo import Affine


def random_affine(
    images: Float[Array, "batch height width channels"], keys: Key[Array, " batch"], strength: Affine
) -> Float[Array, "batch height width channels"]:
    """Each image under its own random affine map about its centre, sampled bilinearly.

    Outside the image is 0, the background of MNIST. At strength 0 the images come back as they
    are, and no value leaves the range of the image and 0.

    Args:
      images: grey values; 0 is background.
      keys: randomness, a key an image.
      strength: bounds of the uniform draws.
    """
    draws = jax.vmap(lambda key: jax.random.uniform(key, (5,), minval=-1.0, maxval=1.0))(keys)
    rotation = draws[:, 0] * jnp.deg2rad(strength.rotation)
    scale = 1 + draws[:, 1] * strength.scale
    shear = draws[:, 2] * strength.shear
    shift = draws[:, 3:5] * strength.shift
    cos, sin = jnp.cos(rotation) / scale, jnp.sin(rotation) / scale
    matrices = jnp.stack(
        [jnp.stack([cos, sin], -1), jnp.stack([shear * cos - sin, cos + shear * sin], -1)], -2
    )
    return jax.vmap(_sample)(images, matrices, shift)


def _sample(
    image: Float[Array, "height width channels"], matrix: Float[Array, "2 2"], shift: Float[Array, "2"]
) -> Float[Array, "height width channels"]:
    """The image whose pixel p is the input's value at matrix (p - centre) + centre + shift."""
    height, width, _ = image.shape
    centre = jnp.array([height - 1, width - 1]) / 2
    pixels = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), axis=-1)
    row, column = jnp.moveaxis((pixels - centre) @ matrix.T + centre + shift, -1, 0)
    return jax.vmap(
        lambda channel: jax.scipy.ndimage.map_coordinates(channel, [row, column], order=1), -1, -1
    )(image)
