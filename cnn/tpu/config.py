"""The flags of --task=tpu. No JAX here: a wrong flag is answered at once."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated

from cnn.config import COMPUTE_DTYPES, MAX_MEMBERS
from cnn.recipe import Recipe
from cnn.tpu.topologies import TOPOLOGIES
from cnn.zoo import ZOO
from harness.errors import require, require_choice

TRAINING_IMAGES, TEST_IMAGES = 60_000, 10_000  # of MNIST


@dataclass(frozen=True)
class TpuConfig:
    """The flags of --task=tpu, checked; None stands for the recipe's own value.

    Raises:
      UserError: a value that is not allowed.
    """

    topology: Annotated[str, f"TPU to compile for: {', '.join(TOPOLOGIES)}"] = "v2-8"
    model: Annotated[str, f"network: {', '.join(ZOO)}"] = "compact_20k"
    batch_size: Annotated[int | None, "images a step (default: the network's recipe)"] = None
    num_seeds: Annotated[int, "runs, of seed, seed + 1, and so on, with one summary"] = 1
    compute_dtype: Annotated[str, f"of activations: {' or '.join(COMPUTE_DTYPES)}"] = "float32"

    def __post_init__(self) -> None:
        require_choice("topology", self.topology, TOPOLOGIES)
        require_choice("model", self.model, ZOO)
        for name, value, most in (
            ("batch_size", self.recipe.batch_size, TRAINING_IMAGES),
            ("num_seeds", self.num_seeds, MAX_MEMBERS),
        ):
            require(1 <= value <= most, f"--{name}={value}: give a whole number from 1 to {most}")
        require_choice("compute_dtype", self.compute_dtype, COMPUTE_DTYPES)

    @property
    def recipe(self) -> Recipe:
        """The network's recipe, of which the user may have changed the batch size."""
        recipe = ZOO[self.model].recipe
        return recipe if self.batch_size is None else dataclasses.replace(recipe, batch_size=self.batch_size)
