"""A few steps of training on the first devices of a process, for the other benchmarks to time."""

import time

import jax

from cnn import data, loop, population
from cnn.config import CnnConfig
from cnn.experiment import resolve
from cnn.model import Network
from cnn.recipe import Recipe
from cnn.train import Config


class Training:
    """One seed of a network, by its own recipe or another one, in epochs of `steps` steps."""

    def __init__(
        self,
        name: str,
        *,
        steps: int,
        num_devices: int,
        batch_size: int | None = None,
        recipe: Recipe | None = None,
    ) -> None:
        experiment = resolve(CnnConfig(model=name, batch_size=batch_size))
        recipe = experiment.recipe if recipe is None else recipe
        count = steps * recipe.batch_size - recipe.batch_size // 4  # the last batch is smaller, as in a run
        split = data.Examples(*(array[:count] for array in data.load("mnist", None).train))
        network = Network(experiment.architecture, recipe.initialization)
        self.config = Config(network, recipe, images=count, mean=0.1307, std=0.3081)
        self.mesh = population.make_mesh(jax.devices()[:num_devices], members=1)
        self.images = loop.put(split, self.mesh)
        self.state = loop.put(population.start(self.config, [0]).state, self.mesh, population.SEED)
        self.run_steps = loop.compile_steps(self.config, self.mesh, self.images, self.state)

    def images_a_second(self) -> float:
        """Of one epoch through compile_steps."""
        start = time.perf_counter()
        *_, (self.state, metrics) = self.run_steps(self.state, 0, self.config.steps_per_epoch)
        jax.block_until_ready(metrics)
        return self.config.images / (time.perf_counter() - start)
