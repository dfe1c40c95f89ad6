"""Images sampled between their pixels; and deskewed, which is that."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_LEAST = 1e-6  # what is divided by at least: of a blank image, 0 is


def deskew(
    images: Float[Array, "batch height width channels"],
) -> Float[Array, "batch height width channels"]:
    """Each image sheared along its rows, about its centre of mass, so that it leans neither way.

    A pixel's mass is what it has above the image's smallest value, the background, in all channels together.
    The covariance of row and column over the mass becomes 0, as the least squares line through the columns
    becomes vertical. By more than one pixel a row nothing is moved. What comes in from outside is background.
    LeCun et al. (1998) deskewed MNIST like this.
    """
    background = images.min((1, 2, 3), keepdims=True)
    ink = images - background
    mass = ink.sum(3)
    height, width = mass.shape[1:]
    centre = (height - 1) / 2, (width - 1) / 2
    rows, columns = (jnp.arange(size) - half for size, half in zip(mass.shape[1:], centre, strict=True))
    of_rows = mass.sum(2)
    middle = (of_rows * rows).sum(1) / jnp.maximum(of_rows.sum(1), _LEAST)
    down = rows - middle[:, None]
    variance = (of_rows * down**2).sum(1)
    covariance = ((mass * columns).sum(2) * down).sum(1)
    slant = jnp.clip(covariance / jnp.maximum(variance, _LEAST), -1, 1)
    sources = columns + centre[1] + (slant[:, None] * down)[..., None]
    return sample(ink, jnp.broadcast_to(rows[:, None] + centre[0], sources.shape), sources) + background


def sample(
    images: Float[Array, "batch height width channels"],
    rows: Float[Array, "batch height width"],
    columns: Float[Array, "batch height width"],
) -> Float[Array, "batch height width channels"]:
    """Each image's values at its rows and columns, bilinear between pixels, 0 outside.

    A TPU fetches single pixels one after the other, and multiplies matrices at once; a CPU is the
    other way round.
    """
    return jax.lax.platform_dependent(
        images, rows, columns, tpu=jax.vmap(_by_products), default=jax.vmap(_by_gathering)
    )


def _by_gathering(
    image: Float[Array, "height width channels"],
    rows: Float[Array, "height width"],
    columns: Float[Array, "height width"],
) -> Float[Array, "height width channels"]:
    return jax.vmap(
        lambda channel: jax.scipy.ndimage.map_coordinates(channel, [rows, columns], order=1), -1, -1
    )(image)


def _by_products(
    image: Float[Array, "height width channels"],
    rows: Float[Array, "height width"],
    columns: Float[Array, "height width"],
) -> Float[Array, "height width channels"]:
    """Each value as its weights of the rows, times the image, times its weights of the columns."""

    def weights(places: Array, length: int) -> Array:
        return jnp.maximum(1 - jnp.abs(places[..., None] - jnp.arange(length)), 0)

    of_rows, of_columns = weights(rows, image.shape[0]), weights(columns, image.shape[1])
    partial = jnp.einsum("hwr,rxc->hwxc", of_rows, image, precision="high")
    return (partial * of_columns[..., None]).sum(2)
