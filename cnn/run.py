"""What a run works with: its folder, its images, all that is constant in it."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt32

from cnn import data, train
from cnn.config import COMPILATION_CACHE, CnnConfig
from cnn.model import Network
from harness.errors import require
from harness.workdir import make_config, open_folder, read_config, read_flags

_MAY_CHANGE_ON_RESUME = {
    *("workdir", "wait", "data_dir", "resume", "eval_only", "target_accuracy"),
    *("max_parameters", "max_epochs", "enforce_budget"),
    *("export", "tensorboard", "checkpoint_every_steps", "deterministic", "compilation_cache"),
    *("num_devices", "coordinator_address", "num_processes", "process_id"),
}


class Run(NamedTuple):
    """What a run works with.

    Attributes:
      training: the images it learns from.
      evaluated: the images it is evaluated on after every epoch, by name: test, and validation
        where some are held out.
      seeds: of all randomness, one for each network to train.
      dataset: what was read, as config.json keeps it.
    """

    config: CnnConfig
    folder: Path
    training: data.Split
    evaluated: dict[str, data.Split]
    setup: train.Setup
    seeds: UInt32[np.ndarray, " seeds"]
    dataset: dict[str, Any]


def prepare(config: CnnConfig, folder: Path) -> Run:
    """Read the data, derive what is constant; nothing is written to the folder."""
    if config.export is not None:
        open_folder("export", config.export)
    config.require_network()
    dataset = data.load(config.dataset, config.data_dir)
    training, validation = data.hold_out(dataset.train, config.validation_size)
    recipe, count = config.resolved_recipe, len(training.labels)
    require(
        recipe.batch_size <= count,
        f"--batch_size={recipe.batch_size} is more than the {count} training images: give {count} or fewer",
    )
    mean, deviation = data.grey_statistics(training.images)
    setup = train.Setup(
        network=Network(config.architecture, recipe.initialization, config.compute_dtype),
        recipe=recipe,
        images=count,
        mean=mean,
        deviation=deviation,
    )
    held_out = {"validation": validation} if config.validation_size else {}
    record = dataset.record
    if held_out:
        for line in data.classes_without_images("validation", validation, dataset.classes):
            record["warnings"].append(f"{line}; the last training images are held out: shuffle them")
    return Run(
        config=config,
        folder=folder,
        training=training,
        evaluated={**held_out, "test": dataset.test},
        setup=setup,
        seeds=np.arange(config.seed, config.seed + config.num_seeds, dtype=np.uint32),
        dataset=record,
    )


def config_of(folder: str) -> CnnConfig:
    """The flags of the run that a folder holds, to evaluate it here: on this process and what devices it has.

    Raises:
      UserError: no run of --task=mnist there, a damaged config.json, or one of another version.
    """
    here: dict[str, Any] = {"workdir": folder, "resume": False, "eval_only": True}
    here |= {"export": None, "tensorboard": False, "compilation_cache": COMPILATION_CACHE}
    here |= dict.fromkeys(("num_devices", "coordinator_address", "num_processes", "process_id"))
    return make_config(CnnConfig, read_flags(folder, "mnist") | here, folder)  # type: ignore[no-any-return]


def require_new_or_same(config: CnnConfig, folder: Path) -> None:
    """Refuse a folder with another run, or flags that would make the run in it another one.

    Raises:
      UserError: the first flag that differs, with both values.
    """
    if not (config.resume or config.eval_only):
        require(
            not (folder / "config.json").exists(),
            f"--workdir={config.workdir} holds a run already: add --resume to go on with it, "
            "or choose another folder",
        )
        return
    before = CnnConfig(**read_flags(str(folder), "mnist"))
    changeable = set(_MAY_CHANGE_ON_RESUME)
    if "dataset" in read_config(str(folder), "mnist"):
        changeable.add("dataset")  # what its files hold is require_same_images' to say
    recipe = config.resolved_recipe
    the_same_so_far = recipe.fade == 0 and recipe.schedule in ("constant", "step", "multistep", "plateau")
    if the_same_so_far and recipe.epochs >= before.resolved_recipe.epochs:
        changeable.add("epochs")
    was, now = (
        dataclasses.asdict(each) | dataclasses.asdict(each.resolved_recipe) for each in (before, config)
    )
    for name, value in now.items():
        require(
            value == was[name] or name in changeable,
            f"--{name}={value} is not what the run in {folder} has ({was[name]}): "
            "leave it out, or start a new run in another --workdir",
        )


def require_same_images(run: Run) -> None:
    """Refuse to go on, or to evaluate, with other images than the run in its folder began with.

    A file may have another name, or lie elsewhere. Runs of earlier versions did not say what they read.

    Raises:
      UserError: the files that differ.
    """
    if not (run.folder / "config.json").exists():
        return
    before = read_config(str(run.folder), "mnist").get("dataset", run.dataset)["files"].values()
    changed = [name for name, digest in run.dataset["files"].items() if digest not in before]
    require(
        not changed,
        f"{', '.join(changed)} is not what the run in {run.folder} has read, its SHA-256 differs: "
        "put the former file back, or start a new run in another --workdir",
    )
