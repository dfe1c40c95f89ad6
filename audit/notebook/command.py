"""A submission as flags of --task=mnist: its network as --layers, its recipe flag by flag."""

import contextlib
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audit.bounded import Exceeded, bounded
from audit.notebook import cells
from audit.notebook.interpreter import follow
from audit.notebook.log import chosen
from audit.notebook.mistakes import MISTAKES
from audit.notebook.network import CLASSES, ReadNetwork, read_network
from audit.notebook.outputs import TRAINING_IMAGES
from audit.notebook.prints import Prints
from audit.notebook.recipe import read_recipe
from audit.notebook.state import Run
from audit.notebook.texts import read_log_of
from audit.notebook.training import ReadRecipe
from audit.notebook.values import Refused
from cnn.architecture import count_parameters, require_classes
from cnn.config import CnnConfig
from cnn.experiment import resolve
from cnn.recipe import Recipe
from cnn.zoo import ZOO, Reported
from harness.errors import UserError, require

BASE = "plain_4k"
"""The network whose recipe is all defaults but for epochs and batch size: what is read comes on top."""
_OTHER_IMAGES = {"test_is_training_set", "test_images_augmented", "normalization_differs"}
_OTHER_IMAGES |= {"dropout_in_evaluation"}
"""Mistakes with which a log's accuracies are not those of MNIST's test images as they are evaluated here."""
_FILE = re.compile(r"(.+\.(?:ipynb|py))(?::(.*))?", re.IGNORECASE)


def with_submission(given: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of --task=mnist where --model is a submission, FILE.ipynb, FILE.py or FILE.py:CLASS.

    Its network becomes --layers, its recipe the flags that were not given; --recipe takes another one's
    instead. A run that goes on keeps its own. What its log reports of this training becomes --reported. Says
    what was read. Other flags come back as they are.

    Raises:
      UserError: a file, a network or a recipe that cannot be read or said in flags, or is over the budget.
    """
    model = given.get("model") or ""
    if _FILE.fullmatch(model) is None or model in ZOO:
        return dict(given)
    try:
        flags, said = bounded(_read_submission, dict(given))
    except Exceeded as error:
        raise UserError(f"--model={model} {error}") from error
    for line in said:
        print(line)
    return flags


def _read_submission(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The flags, and what is to be said of the file."""
    model, said = given["model"], []
    parts = _FILE.fullmatch(model)
    assert parts is not None
    require(
        "layers" not in given,
        f"--model={model} and --layers exclude each other: give one (a run that goes on keeps its network)",
    )
    source = cells.read(Path(os.path.expanduser(parts[1])))
    run = follow(source)
    network = _network(run, parts[2] or None)
    others = {name: value for name, value in given.items() if name != "model"} | {"layers": network.text}
    said.append(f"{source.path.name}: class {network.class_name} ({network.place})")
    if given.get("resume") or given.get("eval_only"):
        return others, said
    if given.get("dataset", "mnist") == "mnist":
        try:
            require_classes(network.architecture, CLASSES)
        except UserError as error:
            raise UserError(f"--model={model}: {error}") from error
    if "recipe" in given:
        _require_budget(model, network, others)
        return others, said
    recipe = read_recipe(run, network)
    if recipe.recipe is None:
        lacks = "; ".join(f"{fact.name} ({fact.place}: {fact.detail})" for fact in recipe.missing)
        raise UserError(f"--model={model}: flags cannot say its whole recipe: {lacks}: {_instead(recipe)}")
    for fact in recipe.departures:
        said.append(f"not quite as there: {fact.name} ({fact.place}): {fact.detail}")
    flags = settings(recipe)
    _require_budget(model, network, flags | others)
    log = reported(run, network, recipe, is_named=bool(parts[2]))
    if isinstance(log, str):
        said.append(f"no accuracy of its own is set beside ours: {log}")
    elif given.get("dataset", "mnist") == "mnist":
        numbers = ",".join(map(str, log))
        its_own = resolve(CnnConfig(layers=network.text, reported=numbers, enforce_budget=False, **flags))
        flags["reported"] = its_own.flags.reported  # with the digest of its own recipe, whatever is given
    return flags | others, said


def _network(run: Run, class_name: str | None) -> ReadNetwork:
    """The network of a submission; where it is not understood, the error says what to do."""
    try:
        return read_network(run, class_name)
    except UserError as error:
        if not isinstance(error.__cause__, Refused):
            raise
        raise UserError(f"{error}: write the network that is to be trained as --layers") from error


def _require_budget(model: str, network: ReadNetwork, flags: Mapping[str, Any]) -> None:
    """Raise UserError, with the flags that allow it, where a submission is over the budget."""
    parameters, epochs = count_parameters(network.architecture), flags.get("epochs", 0)
    most = {name: flags.get(name, getattr(CnnConfig, name)) for name in ("max_parameters", "max_epochs")}
    over = []
    if parameters >= most["max_parameters"]:
        over.append((f"{parameters:,} parameters", f"--max_parameters={parameters + 1}"))
    if epochs > most["max_epochs"]:
        over.append((f"{epochs} epochs", f"--max_epochs={epochs}"))
    if over and flags.get("enforce_budget", True):
        has, allowed = zip(*over, strict=True)
        raise UserError(
            f"--model={model} has {' and '.join(has)}, and the budget is fewer than "
            f"{most['max_parameters']:,} parameters and at most {most['max_epochs']} epochs: "
            f"give {' '.join(allowed)}, or --noenforce_budget"
        )


def reported(run: Run, network: ReadNetwork, recipe: ReadRecipe, *, is_named: bool) -> Reported | str:
    """What a log says of MNIST's test images, or why not; is_named: it may be of another network."""
    assert recipe.recipe is not None
    epochs, size = recipe.recipe.epochs, recipe.recipe.batch_size
    logs, _ = read_log_of(run.source, Prints(run), [network.class_name])
    log = chosen(logs)
    if log is None:
        return "there is no log of a training"
    if is_named and len(logs) > 1:
        return f"the log is of {len(logs)} trainings, and which one is this class's is not known"
    if log.split != "test":
        return f"the log is of {'training' if log.split == 'train' else log.split} images"
    for fact in (*network.facts, *recipe.facts):
        if fact.name in _OTHER_IMAGES:
            return f"{MISTAKES[fact.name].what} ({fact.place})"
    if log.unfinished or log.num_epochs != epochs:
        begun = " and the beginning of another" if log.unfinished else ""
        return f"epochs in the log: {log.num_epochs}{begun}, in the code: {epochs}"
    images = TRAINING_IMAGES - recipe.held_out
    if log.steps and log.steps not in (images // size, -(-images // size)):
        return f"the log has {log.steps:,} steps an epoch, which batches of {size} do not give"
    return Reported(float(log.best), log.best_epoch, float(log.last), len(recipe.departures))


def settings(recipe: ReadRecipe) -> dict[str, Any]:
    """The flags of a recipe that was read whole, by name."""
    assert recipe.recipe is not None
    read = {name: getattr(recipe.recipe, name) for name in recipe.recipe.changed}
    held_out = {"validation_size": recipe.held_out} if recipe.held_out else {}
    return {"recipe": BASE} | read | held_out


def flags(recipe: ReadRecipe) -> str:
    """The flags of a recipe, as a shell takes them; the base alone where something in it is missing."""
    return f"--recipe={BASE}" + (f" {_words(recipe.recipe, recipe.held_out)}" if recipe.recipe else "")


def _words(recipe: Recipe, held_out: int) -> str:
    return recipe.flags + f" --validation_size={held_out}" * (held_out > 0)


def command(network: ReadNetwork, recipe: ReadRecipe) -> str:
    """The command line that trains a submission here."""
    return f"python launch.py --task=mnist --layers={shlex.quote(network.text)} {flags(recipe)}"


def _instead(recipe: ReadRecipe) -> str:
    """What to do where something is missing: train by the flags that could be read, or by another recipe."""
    if {"epochs", "batch_size"} <= recipe.flags.keys():
        with contextlib.suppress(UserError):
            read = _words(Recipe(**recipe.flags), recipe.held_out)
            return f"give --recipe={BASE} {read} to train it without that, or another network as --recipe"
    return f"give --recipe with the network whose recipe trains it instead, such as --recipe={BASE}"
