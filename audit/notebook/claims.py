"""The assignment's limits against the code and against the log."""

from fractions import Fraction
from typing import NamedTuple

from audit.notebook.log import Training
from audit.notebook.network import ReadNetwork
from audit.notebook.training import ReadRecipe

HAND_IN = (
    "hand it in with the outputs of its training, or lay what the training printed beside it, in a .log file "
    "or its README"
)
"""How an accuracy becomes known."""


class Limits(NamedTuple):
    """What is asked for: fewer parameters than that, at most so many epochs, at least that accuracy."""

    max_parameters: int = 20_000
    max_epochs: int = 20
    target_accuracy: float = 0.994


class Claim(NamedTuple):
    """One limit, what code and log say, and whether it is kept; None where nothing tells."""

    name: str
    asked: str
    found: str
    holds: bool | None


def claims(
    parameters: int | None,
    network: ReadNetwork | None,
    recipe: ReadRecipe | None,
    training: Training | None,
    limits: Limits,
) -> tuple[Claim, Claim, Claim]:
    """The three limits, each with what code and log say; None of what cannot be read."""
    return (
        _parameters(parameters, network, limits.max_parameters),
        _epochs(recipe, training, limits.max_epochs),
        _accuracy(training, limits.target_accuracy),
    )


def percent(accuracy: Fraction | float) -> str:
    """An accuracy as text, with the digits of 10,000 images."""
    return f"{float(accuracy):.2%}".replace("%", " %")


def _parameters(parameters: int | None, network: ReadNetwork | None, most: int) -> Claim:
    if parameters is None:
        return Claim("parameters", f"fewer than {most:,}", "they cannot be counted", None)
    found = f"{parameters:,}"
    if network and network.used_parameters != network.parameters:
        found += f"; forward uses {network.used_parameters:,} of them, which is what torchsummary counts"
    return Claim("parameters", f"fewer than {most:,}", found, parameters < most)


def _epochs(recipe: ReadRecipe | None, training: Training | None, most: int) -> Claim:
    code = recipe.epochs.value if recipe and recipe.epochs else None
    run = training.num_epochs if training else None
    found = [f"{code} in the code"] if code is not None else []
    found += [f"{run} in the log"] if run is not None else []
    counts = [count for count in (code, run) if count is not None]
    holds = all(count <= most for count in counts) if counts else None
    return Claim("epochs", f"at most {most}", ", ".join(found) or "neither code nor log tells", holds)


def _accuracy(training: Training | None, target: float) -> Claim:
    asked = f"at least {percent(target)}"
    if training is None:
        return Claim("accuracy", asked, f"no log of a training was found: {HAND_IN}", None)
    count, best, last = training.num_epochs, training.best, training.last
    if training.split == "train":
        found = f"{percent(last)} after {count} epochs, of the 60,000 training images"
        return Claim("accuracy", asked, found, False)
    of = " of validation images" if training.split == "validation" else ""
    at_last = f"{percent(last)}{of} after the last of {count} epochs"
    goal = Fraction(str(target))
    if last >= goal:
        since = f"there or above from epoch {training.holds_from(target)} on"
        found = f"{at_last} (best {percent(best)}, epoch {training.best_epoch}); {since}"
    elif best >= goal:
        at_best = f"{percent(best)}{of} after epoch {training.best_epoch}, chosen on those same images"
        found = f"at its best epoch only: {at_best}; the last of {count} epochs has {percent(last)}"
    else:
        found = f"{at_last}, at best {percent(best)} (epoch {training.best_epoch})"
    found += f"; the test images once: {percent(training.final_test)}" if training.final_test else ""
    return Claim("accuracy", asked, found, last >= goal)
