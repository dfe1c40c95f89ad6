"""What a run works with: its folder, its images, all that is constant in it."""

import dataclasses
import os
from pathlib import Path
from typing import NamedTuple

import jax
from jaxtyping import Array, Key

from cnn import data, train
from cnn.config import CnnConfig
from cnn.model import Network
from errors import require, require_installed
from workdir import open_folder, open_workdir, read_flags

_MAY_CHANGE_ON_RESUME = {
    *("workdir", "data_dir", "resume", "eval_only", "enforce_budget", "target_accuracy"),
    *("export", "tensorboard"),
}
_EXPORT_PACKAGES = ("flatbuffers", "onnx", "onnxruntime", "safetensors")


class Run(NamedTuple):
    """What a run works with.

    Attributes:
      training: the images it learns from.
      evaluated: the images it is evaluated on after every epoch, by name: test, and validation
        where some are held out.
      key: all its randomness.
    """

    config: CnnConfig
    folder: Path
    training: data.Split
    evaluated: dict[str, data.Split]
    setup: train.Setup
    key: Key[Array, ""]


def prepare(config: CnnConfig) -> Run:
    """Check the folder, read the data, derive what is constant; nothing is written."""
    if config.tensorboard:
        require_installed("tensorboard", ["tensorboardX"], extra="tensorboard")
    if config.export is not None:
        require_installed("export", _EXPORT_PACKAGES, extra="export")
        open_folder("export", config.export)
    folder = open_workdir(config.workdir, "mnist")
    if config.resume or config.eval_only:
        _require_same_run(config, folder)
    else:
        require(
            not (folder / "config.json").exists(),
            f"--workdir={config.workdir} holds a run already: add --resume to go on with it, "
            "or choose another folder",
        )
    dataset = data.load(config.dataset, config.data_dir)
    training, validation = data.hold_out(dataset.train, config.validation_size)
    recipe, count = config.recipe, len(training.labels)
    require(
        recipe.batch_size <= count,
        f"--batch_size={recipe.batch_size} is more than the {count} training images: give {count} or fewer",
    )
    mean, deviation = data.grey_statistics(training.images)
    setup = train.Setup(
        network=Network(config.entry.architecture, recipe.initialization),
        recipe=recipe,
        steps_per_epoch=count // recipe.batch_size,
        mean=mean,
        deviation=deviation,
    )
    held_out = {"validation": validation} if config.validation_size else {}
    return Run(
        config=config,
        folder=folder,
        training=training,
        evaluated={**held_out, "test": dataset.test},
        setup=setup,
        key=jax.random.key(config.seed),
    )


def _require_same_run(config: CnnConfig, folder: Path) -> None:
    """Refuse to go on with a run under flags that would make it another run."""
    before = CnnConfig(**read_flags(str(folder), "mnist"))
    changeable = set(_MAY_CHANGE_ON_RESUME)
    if config.recipe.schedule == "constant" and config.recipe.epochs >= before.recipe.epochs:
        changeable.add("epochs")
    was, now = (dataclasses.asdict(each) | dataclasses.asdict(each.recipe) for each in (before, config))
    for name, value in now.items():
        require(
            value == was[name] or name in changeable,
            f"--{name}={value} is not what the run in {folder} has ({was[name]}): "
            "leave it out, or start a new run in another --workdir",
        )


def on_device(split: data.Split) -> train.Images:
    """A split as the train step takes it."""
    return train.Images(*jax.device_put(split))


def device_name() -> str:
    """The device as a person would say it."""
    device = jax.devices()[0]
    cores = f" with {os.cpu_count()} cores" if device.platform == "cpu" else ""
    return f"{device.platform}: {device.device_kind}{cores}"
