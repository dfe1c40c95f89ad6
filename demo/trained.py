"""A network that --task=mnist trained, and what it makes of a drawing."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from cnn import sweep, task, train
from cnn.data import Examples
from cnn.results import Run, mean_rows, state_of

_BOX, _SIDE = 20, 28


class Trained(NamedTuple):
    """A run's last checkpoint.

    Attributes:
      name: of the network; of a sweep with the learning rate shown, of several seeds with the first one.
      seeds: how many there are.
      state: of the first seed.
      history: the rows of metrics.csv, of several seeds their mean; of a sweep at the learning rate shown.
      logits: of the test images.
    """

    run: Run
    name: str
    seeds: int
    state: train.TrainState
    history: list[dict[str, Any]]
    logits: Float[np.ndarray, "images classes"]


def load(workdir: str) -> Trained:
    """Restore the run in a folder and evaluate it on its test images.

    Raises:
      UserError: the folder holds no run of --task=mnist, or no checkpoint yet.
    """
    run, result = task.load(task.experiment_of(workdir))
    result = sweep.shown(result)
    state, test = state_of(result, 0), jax.device_put(run.splits["test"])
    logits = np.asarray(train.evaluate(state, test, config=run.config).logits)
    name, seeds = sweep.name_of(result, run.experiment.name), len(result.seeds)
    if seeds > 1:
        name = f"{name}, seed {result.seeds[0]}"
    return Trained(run, name, seeds, state, mean_rows(result.history), logits)


def probabilities(trained: Trained, image: UInt8[np.ndarray, "28 28"]) -> Float[np.ndarray, "10"]:
    """The network's probability of each class."""
    one = jax.device_put(Examples(image[None, :, :, None], np.zeros(1, np.int32)))
    return np.asarray(jax.nn.softmax(train.evaluate(trained.state, one, config=trained.run.config).logits[0]))


def as_mnist(drawing: UInt8[np.ndarray, "height width"]) -> UInt8[np.ndarray, "28 28"]:
    """A drawing as MNIST's images were made (LeCun, Cortes and Burges, the MNIST database).

    The ink's bounding box is scaled to fit 20x20, its proportions kept; then the centre of mass is
    moved to pixel 14, 14 of 28x28, as far as no ink is lost.

    Args:
      drawing: ink, 0 (none) to 255; without ink the image is empty.
    """
    image = np.zeros((_SIDE, _SIDE), np.uint8)
    box = Image.fromarray(drawing).getbbox()
    if box is None:
        return image
    left, top, right, bottom = box
    scale = _BOX / max(right - left, bottom - top)
    size = max(1, round(scale * (right - left))), max(1, round(scale * (bottom - top)))
    ink = np.asarray(Image.fromarray(drawing).resize(size, Image.Resampling.LANCZOS, box=box))
    weight = ink.astype(float)
    corner = []
    for axis, length in enumerate(ink.shape):
        centre = weight.sum(axis=1 - axis) @ np.arange(length) / weight.sum()
        corner.append(int(np.clip(round(_SIDE / 2 - centre), 0, _SIDE - length)))
    image[corner[0] : corner[0] + ink.shape[0], corner[1] : corner[1] + ink.shape[1]] = ink
    return image
