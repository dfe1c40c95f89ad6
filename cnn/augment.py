"""Random distortion on the device: rotation, scale, shear, shift and smooth bends of every image."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from cnn.zoo import Distortion

_POINTS = 6


def random_distortion(
    images: Float[Array, "batch height width channels"],
    keys: Key[Array, " batch"],
    strength: Distortion,
    progress: float | Float[Array, ""] = 0.0,
) -> Float[Array, "batch height width channels"]:
    """Each image under its own random affine map about its centre and bent, sampled bilinearly.

    The bends are a cubic B-spline through 6 x 6 control points, each moved at random (Rueckert et al.
    1999); elastic distortions are what helps most on MNIST (Simard et al. 2003). Outside the image is
    0, the background of MNIST. At strength 0 the images come back as they are, and no value leaves
    the range of the image and 0.

    Args:
      images: grey values; 0 is background.
      keys: randomness, a key an image.
      strength: how much of each.
      progress: share of the training that is over, which strength.fade makes it weaker by.
    """
    left = 1 - strength.fade * progress
    draws = left * jax.vmap(lambda key: jax.random.uniform(key, (5,), minval=-1.0, maxval=1.0))(keys)
    rotation = draws[:, 0] * jnp.deg2rad(strength.rotation)
    scale = 1 + draws[:, 1] * strength.scale
    shear = draws[:, 2] * strength.shear
    shift = draws[:, 3:5] * strength.shift
    cos, sin = jnp.cos(rotation) / scale, jnp.sin(rotation) / scale
    matrices = jnp.stack(
        [jnp.stack([cos, sin], -1), jnp.stack([shear * cos - sin, cos + shear * sin], -1)], -2
    )
    rows, columns = jax.vmap(_sources, (0, 0, None))(matrices, shift, (images.shape[1], images.shape[2]))
    if strength.elastic:
        normal = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1), (2, _POINTS, _POINTS)))
        moved = left * strength.elastic * normal(keys)
        down, right = (_spline(size) for size in images.shape[1:3])
        bends = jnp.einsum("ra,nxab,cb->xnrc", down, moved, right)
        rows, columns = rows + bends[0], columns + bends[1]
    return sample(images, rows, columns)


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


def _spline(size: int) -> Float[Array, "size points"]:
    """For each of `size` pixels the weights of the control points, a cubic B-spline's."""
    places = jnp.linspace(1, _POINTS - 2, size)
    distance = jnp.abs(places[:, None] - jnp.arange(_POINTS))
    near, far = (4 - 6 * distance**2 + 3 * distance**3) / 6, jnp.maximum(2 - distance, 0) ** 3 / 6
    return jnp.where(distance < 1, near, far)


def _sources(
    matrix: Float[Array, "2 2"], shift: Float[Array, "2"], size: tuple[int, int]
) -> tuple[Float[Array, "height width"], Float[Array, "height width"]]:
    """For each pixel p the row and the column of matrix (p - centre) + centre + shift."""
    centre = [(length - 1) / 2 for length in size]
    down, right = jnp.meshgrid(*(jnp.arange(length) for length in size), indexing="ij")
    down, right = down - centre[0], right - centre[1]
    row, column = (matrix[axis, 0] * down + matrix[axis, 1] * right for axis in range(2))
    return row + centre[0] + shift[0], column + centre[1] + shift[1]


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
    partial = jnp.einsum("hwr,rxc->hwxc", of_rows, image, precision="highest")
    return (partial * of_columns[..., None]).sum(2)
