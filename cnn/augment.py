"""Random distortion of training images, on the device; each image has draws of its own."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from cnn.recipe import Distortion

_POINTS = 6
_ELASTIC, _BRIGHTNESS, _CONTRAST, _ERASING, _ZOOM = range(1, 6)
_LUMINANCE = (0.2989, 0.587, 0.114)
_ERASED_AREA, _ERASED_RATIO, _ATTEMPTS = (0.02, 0.33), (0.3, 3.3), 10  # torchvision's RandomErasing


def random_distortion(
    images: Float[Array, "batch height width channels"],
    keys: Key[Array, " batch"],
    strength: Distortion,
    progress: float | Float[Array, ""] = 0.0,
) -> Float[Array, "batch height width channels"]:
    """Return the images, each zoomed, moved, brightened, contrasted and erased by draws of its own.

    What is off costs nothing: that is decided while this is traced. At strength 0 the images come back as
    they are, and no value leaves the range of the image and 0; brightness and contrast clip to 0 .. 1.

    Args:
      images: values of each channel; 0 is background. All channels of an image are distorted alike.
      keys: randomness, a key an image.
      strength: how much of each.
      progress: share of the training that is over, which strength.fade makes it weaker by.
    """
    left = 1 - strength.fade * progress
    if strength.zoom:
        images = _zoom(images, _keys(keys, _ZOOM), left * strength.zoom, strength.crop_size)
    if strength.moves:
        images = _move(images, keys, strength, left)
    if strength.brightness:
        images = _blend(images, 0.0, _keys(keys, _BRIGHTNESS), left * strength.brightness)
    if strength.contrast:
        mean = _grey(images).mean((1, 2, 3), keepdims=True)
        images = _blend(images, mean, _keys(keys, _CONTRAST), left * strength.contrast)
    if strength.erasing:
        images = _erase(images, _keys(keys, _ERASING), left * strength.erasing)
    return images


def _keys(keys: Key[Array, " batch"], purpose: int) -> Key[Array, " batch"]:
    """Return the images' keys for one kind of distortion; the affine map draws from the keys themselves."""
    return jax.vmap(lambda key: jax.random.fold_in(key, purpose))(keys)


def _grey(images: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width _"]:
    """Return the luminance of RGB images, as torchvision's rgb_to_grayscale does; others as they are."""
    if images.shape[-1] != 3:
        return images
    return (images * jnp.array(_LUMINANCE)).sum(-1, keepdims=True)


def _move(
    images: Float[Array, "batch height width channels"],
    keys: Key[Array, " batch"],
    strength: Distortion,
    left: float | Float[Array, ""],
) -> Float[Array, "batch height width channels"]:
    """Return the images under random affine maps about their centres and elastic bends, sampled bilinearly.

    The elastic distortion is a cubic B-spline through 6 x 6 control points, each moved at random
    (Rueckert et al. 1999); it is what helps most on MNIST (Simard et al. 2003). Outside the image is
    0, the background of MNIST.
    """
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
        normal = jax.vmap(
            lambda key: jax.random.normal(jax.random.fold_in(key, _ELASTIC), (2, _POINTS, _POINTS))
        )
        moved = left * strength.elastic * normal(keys)
        down, right = (_spline(size) for size in images.shape[1:3])
        elastic = jnp.einsum("ra,nxab,cb->xnrc", down, moved, right)
        rows, columns = rows + elastic[0], columns + elastic[1]
    return sample(images, rows, columns)


def _zoom(
    images: Float[Array, "batch height width channels"],
    keys: Key[Array, " batch"],
    probability: float | Float[Array, ""],
    crop_size: int,
) -> Float[Array, "batch height width channels"]:
    """Crop some images to their centre and resize it bilinearly: torchvision's CenterCrop and Resize."""
    top, left = (round((length - crop_size) / 2) for length in images.shape[1:3])
    centre = images[:, top : top + crop_size, left : left + crop_size]
    zoomed = jax.image.resize(centre, images.shape, "linear")
    chosen = jax.vmap(lambda key: jax.random.bernoulli(key, probability))(keys)
    return jnp.where(chosen[:, None, None, None], zoomed, images)


def _blend(
    images: Float[Array, "batch height width channels"],
    other: float | Float[Array, "batch 1 1 1"],
    keys: Key[Array, " batch"],
    strength: float | Float[Array, ""],
) -> Float[Array, "batch height width channels"]:
    """Scale the images' differences from `other` by random factors, as torchvision's ColorJitter does."""
    low, high = jnp.maximum(0, 1 - strength), 1 + strength
    factors = jax.vmap(lambda key: jax.random.uniform(key, (1, 1, 1), minval=low, maxval=high))(keys)
    return jnp.clip(factors * images + (1 - factors) * other, 0, 1)


def _erase(
    images: Float[Array, "batch height width channels"],
    keys: Key[Array, " batch"],
    probability: float | Float[Array, ""],
) -> Float[Array, "batch height width channels"]:
    """Erase a random rectangle of some images: torchvision's RandomErasing.

    It draws rectangles until one is smaller than the image along both axes, ten at most.
    """
    height, width = images.shape[1:3]

    def erased(key: Key[Array, ""]) -> Bool[Array, "height width 1"]:
        chosen, area_key, ratio_key, place_key = jax.random.split(key, 4)
        low, high = _ERASED_AREA
        area = height * width * jax.random.uniform(area_key, (_ATTEMPTS,), minval=low, maxval=high)
        low, high = (math.log(ratio) for ratio in _ERASED_RATIO)
        ratio = jnp.exp(jax.random.uniform(ratio_key, (_ATTEMPTS,), minval=low, maxval=high))
        rows, columns = jnp.round(jnp.sqrt(area * ratio)), jnp.round(jnp.sqrt(area / ratio))
        fits = (rows < height) & (columns < width)
        first = jnp.argmax(fits)
        size = jnp.stack([rows, columns])[:, first]
        places = jnp.array([height, width]) - size + 1
        start = jnp.floor(jax.random.uniform(place_key, (2,)) * places)
        down, right = jnp.arange(height)[:, None], jnp.arange(width)
        inside = (down >= start[0]) & (down < start[0] + size[0])
        inside &= (right >= start[1]) & (right < start[1] + size[1])
        return (inside & fits[first] & jax.random.bernoulli(chosen, probability))[..., None]

    return jnp.where(jax.vmap(erased)(keys), 0, images)


def sample(
    images: Float[Array, "batch height width channels"],
    rows: Float[Array, "batch height width"],
    columns: Float[Array, "batch height width"],
) -> Float[Array, "batch height width channels"]:
    """Sample the images at these rows and columns, bilinearly between pixels, 0 outside.

    A TPU fetches single pixels one after the other, and multiplies matrices at once; a CPU is the
    other way round.
    """
    return jax.lax.platform_dependent(
        images, rows, columns, tpu=jax.vmap(_by_products), default=jax.vmap(_by_gathering)
    )


def _spline(size: int) -> Float[Array, "size points"]:
    """Return the cubic B-spline's weights of the control points at each of `size` pixels."""
    places = jnp.linspace(1, _POINTS - 2, size)
    distance = jnp.abs(places[:, None] - jnp.arange(_POINTS))
    near, far = (4 - 6 * distance**2 + 3 * distance**3) / 6, jnp.maximum(2 - distance, 0) ** 3 / 6
    return jnp.where(distance < 1, near, far)


def _sources(
    matrix: Float[Array, "2 2"], shift: Float[Array, "2"], size: tuple[int, int]
) -> tuple[Float[Array, "height width"], Float[Array, "height width"]]:
    """Return row and column of matrix (p - centre) + centre + shift for each pixel p."""
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
    """Sample by two products with interpolation weights: over the rows, then over the columns."""

    def weights(places: Array, length: int) -> Array:
        return jnp.maximum(1 - jnp.abs(places[..., None] - jnp.arange(length)), 0)

    of_rows, of_columns = weights(rows, image.shape[0]), weights(columns, image.shape[1])
    partial = jnp.einsum("hwr,rxc->hwxc", of_rows, image, precision="high")
    return (partial * of_columns[..., None]).sum(2)
