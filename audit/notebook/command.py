"""A submission as flags of --task=mnist: its network as --layers, its recipe flag by flag."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audit.notebook import cells
from audit.notebook.network import ReadNetwork, read_network
from audit.notebook.recipe import ReadRecipe, read_recipe
from cnn.zoo import ZOO
from harness.errors import UserError, require

BASE = "plain_4k"
"""The network whose recipe is all defaults but for epochs and batch size: what is read comes on top."""
_FILE = re.compile(r"(.+\.(?:ipynb|py))(?::(.*))?", re.IGNORECASE)


def with_submission(given: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of --task=mnist where --model is a submission, FILE.ipynb, FILE.py or FILE.py:CLASS.

    Its network becomes --layers, its recipe the flags that were not given; --recipe takes another one's
    instead. A run that goes on keeps its own. Says what was read. Other flags come back as they are.

    Raises:
      UserError: a file or a network that cannot be read, or a recipe that our flags cannot say.
    """
    model = given.get("model")
    parts = _FILE.fullmatch(model) if isinstance(model, str) else None
    if parts is None or model in ZOO:
        return dict(given)
    require(
        "layers" not in given,
        f"--model={model} and --layers exclude each other: give one (a run that goes on keeps its network)",
    )
    source = cells.read(Path(os.path.expanduser(parts[1])))
    network = read_network(source, parts[2] or None)
    others = {name: value for name, value in given.items() if name != "model"} | {"layers": network.text}
    print(f"{source.path.name}: class {network.class_name} ({network.place})")
    if "recipe" in given or given.get("resume") or given.get("eval_only"):
        return others
    recipe = read_recipe(source, network)
    if recipe.recipe is None:
        lacks = "; ".join(f"{fact.name} ({fact.place}: {fact.detail})" for fact in recipe.missing)
        raise UserError(
            f"--model={model}: flags cannot say its whole recipe: {lacks}: "
            f"give --recipe with the network whose recipe trains it instead, such as --recipe={BASE}"
        )
    for fact in recipe.departures:
        print(f"not quite as there: {fact.name} ({fact.place}): {fact.detail}")
    return settings(recipe) | others


def settings(recipe: ReadRecipe) -> dict[str, Any]:
    """The flags of a recipe that was read whole, by name.

    Raises:
      ValueError: something is missing in it.
    """
    if recipe.recipe is None:
        raise ValueError("a recipe with missing parts has no flags")
    read = {name: getattr(recipe.recipe, name) for name in recipe.recipe.changed}
    held_out = {"validation_size": recipe.held_out} if recipe.held_out else {}
    return {"recipe": BASE} | read | held_out


def command(network: ReadNetwork, recipe: ReadRecipe) -> str:
    """The command line that trains a submission here; without a recipe's flags where something is missing."""
    words = ["python launch.py --task=mnist", f"--layers={shlex.quote(network.text)}", f"--recipe={BASE}"]
    if recipe.recipe is not None:
        words.append(recipe.recipe.flags)
        words += [f"--validation_size={recipe.held_out}"] * (recipe.held_out > 0)
    return " ".join(words)
