"""How a submission trains its network, as our recipe where it can be said whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audit.notebook.cells import Fact, Place
from cnn.recipe import Recipe

FACTS = {
    "schedule_never_stepped": "a schedule is made and its step is never called",
    "one_cycle_stepped_per_epoch": "OneCycleLR counts batches and is stepped after epochs",
    "shuffle_off": "the training images come in the same order in every epoch",
    "test_is_training_set": "what is evaluated are training images",
    "test_images_augmented": "the test images are distorted at random",
    "rotation_fill": "the rotation fills its corners with a value that is not the background",
    "normalization_differs": "training and test images are normalised differently",
    "loaders_redefined": "the training loader is made again, otherwise",
    "no_seed": "no seed is set",
    "seed": "a seed is set",
    "cross_entropy_on_log_softmax": "cross-entropy takes the logarithm of the softmax a second time",
    "nll_loss_without_log_softmax": "nll_loss gets no log_softmax",
    "test_loss_of_batches": "the sum of mean losses of batches is divided by the number of images",
    "depends_on_cuda": "the value depends on whether there is a GPU",
}
"""What each fact's name means."""


@dataclass(frozen=True)
class Setting:
    """A number or a name that the code gives.

    Attributes:
      value: as Python has it.
      place: where it takes effect, such as the call of DataLoader.
    """

    value: Any
    place: Place


@dataclass(frozen=True)
class Call:
    """A call of PyTorch or torchvision that was read.

    Attributes:
      name: without the modules' names, such as StepLR.
      arguments: by name, those given alone; a value that is not known is its text.
      place: of the call.
      inside: of Compose, RandomApply and their kin, what they hold.
    """

    name: str
    arguments: Mapping[str, Any]
    place: Place
    inside: tuple["Call", ...] = ()


@dataclass(frozen=True)
class ReadRecipe:
    """How a submission trains.

    Attributes:
      recipe: ours, where all of it can be said; None where something is missing.
      flags: the fields of cnn.recipe.Recipe that could be read.
      missing: what our recipe cannot say or the code does not tell, in a reader's words; names are fields of
        cnn.recipe.Recipe, or what the thing is called in PyTorch.
      departures: what the recipe says otherwise than the code, though not by much.
      epochs: passes over the training images that the code asks for; None where it is not known.
      batch_size: images a step: with a GPU and, where that differs, without one. Empty where not known.
      optimizer: the call that made it; None where there is none.
      schedule: the call that made it; None where there is none.
      stepped: "never", "epoch" or "batch"; empty without a schedule.
      loss: the name of the function, and where it is called.
      train_transforms: of the training images, in order; None where they are not known.
      test_transforms: of the images that are evaluated; None where they are not known.
      facts: what is worth a word, each named as in FACTS.
    """

    recipe: Recipe | None
    flags: Mapping[str, Any]
    missing: tuple[Fact, ...]
    departures: tuple[Fact, ...]
    epochs: Setting | None
    batch_size: tuple[Setting, ...]
    optimizer: Call | None
    schedule: Call | None
    stepped: str
    loss: Call | None
    train_transforms: tuple[Call, ...] | None
    test_transforms: tuple[Call, ...] | None
    facts: tuple[Fact, ...]
