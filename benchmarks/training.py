"""A few steps of training on the first devices of a process, for the other benchmarks to time."""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnn import cpu, data, devices, epoch, loop, train
from cnn.config import CnnConfig
from cnn.model import Network
from cnn.recipe import Recipe
from cnn.run import Run


class Training:
    """One seed of a network, by its own recipe or another one, in epochs of `steps` steps.

    Attributes:
      arguments: what a function of epoch.epoch_function takes before the first and the last step.
    """

    def __init__(
        self,
        name: str,
        *,
        steps: int,
        num_devices: int,
        batch_size: int | None = None,
        recipe: Recipe | None = None,
        forms: cpu.Forms = cpu.FORMS,
    ) -> None:
        config = CnnConfig(model=name, batch_size=batch_size)
        recipe = config.resolved_recipe if recipe is None else recipe
        train_split = data.load("mnist", None).train
        count = steps * recipe.batch_size - recipe.batch_size // 4  # the last batch is smaller, as in a run
        split = data.Split(train_split.images[:count], train_split.labels[:count])
        network = Network(config.entry.architecture, recipe.initialization, forms=forms)
        self.setup = train.Setup(network, recipe, images=count, mean=0.1307, deviation=0.3081)
        self.mesh = devices.make_mesh(jax.devices()[:num_devices], seeds=1)
        run = Run(config, Path(), split, evaluated={}, setup=self.setup, seeds=np.zeros(1, np.uint32))
        progress = loop.start(run)
        images = epoch.put_images(split, self.mesh)
        state, totals, seeds = self._put((progress.state, progress.totals, run.seeds))
        self.arguments = state, totals, images, seeds
        self.run_steps, _ = epoch.compile_steps(self.setup, self.mesh, images, state, totals, seeds)

    def images_a_second(self) -> float:
        """Of one epoch through compile_steps."""
        state, totals, images, seeds = self.arguments
        start = time.perf_counter()
        steps = self.setup.steps_per_epoch
        state, seen, _ = self.run_steps(state, totals, seeds, 0, steps, lambda totals: True)
        jax.block_until_ready(seen)
        self.arguments = state, totals, images, seeds
        return self.setup.images / (time.perf_counter() - start)

    def _put(self, tree: Any) -> Any:
        return devices.put(tree, self.mesh, devices.SEED)
