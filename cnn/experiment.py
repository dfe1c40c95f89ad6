"""Flags and a data set's header become one Experiment. No JAX here.

`resolve` is called once, before anything is trained; everything below takes what it returns.
"""

import dataclasses
import hashlib
import os
import re
from dataclasses import dataclass
from typing import Any

from cnn.architecture import (
    MNIST,
    Architecture,
    Header,
    count_parameters,
    for_images,
    format_shape,
    format_table,
    require_classes,
)
from cnn.config import CnnConfig
from cnn.recipe import Recipe, settings
from cnn.text import on_one_line, parse
from cnn.zoo import DEFAULT, ZOO, Reported
from harness.errors import UserError, did_you_mean, require

_LONGEST_FILE = 100_000  # bytes
_FRACTION = r"(\d(?:\.\d{1,20})?(?:e-\d\d)?)"
_REPORTED = re.compile(
    rf"{_FRACTION},(\d{{1,5}}),{_FRACTION}(?:,(\d{{1,3}}))?(?:@([0-9a-f]{{8}}))?", re.ASCII
)


@dataclass(frozen=True)
class Experiment:
    """A network, its recipe and the members to train, for the images of one data set.

    Attributes:
      flags: as config.json keeps them: a file with layers has become its text, and the rest says where and
        how to run.
      name: the network's, for reports; custom where it is none of the zoo's.
      note: where network and recipe come from.
      architecture: for the images' shape and classes.
      recipe: the network's own, or the one named, with the flags given; of several learning rates it has the
        first.
      learning_rates: one or several; each is trained with each seed.
      claim: what its author reports of this network trained by this recipe on MNIST; None of any other.
    """

    flags: CnnConfig
    name: str
    note: str
    architecture: Architecture
    recipe: Recipe
    learning_rates: tuple[float, ...]
    claim: Reported | None

    @property
    def seeds(self) -> range:
        """The seeds that each learning rate is trained with."""
        return range(self.flags.seed, self.flags.seed + self.flags.num_seeds)

    @property
    def members(self) -> int:
        """The number of networks to train."""
        return len(self.learning_rates) * len(self.seeds)


def resolve(flags: CnnConfig, header: Header = MNIST) -> Experiment:
    """Return the experiment that flags ask for.

    Raises:
      UserError: a network that is not known, cannot be read, or does not fit the images; a recipe that makes
        no sense or does not fit them; more parameters or epochs than the budget has.
    """
    source, flags = settle(flags)
    recipe = resolve_recipe(flags)
    base = flags.recipe or flags.model or DEFAULT
    if flags.layers is not None:
        network = Architecture(parse(flags.layers), header.shape)
        note = f"by --layers or a file, trained by the recipe of {base} and the flags given"
    else:
        entry = ZOO[str(flags.model)]
        network = for_images(entry.architecture, header)
        note = entry.note if flags.recipe is None else f"{entry.note}; trained by the recipe of {base}"
    try:
        require_classes(network, header.classes)
    except UserError as error:
        on = f" on the {format_shape(header.shape)} images of {flags.dataset}"
        raise UserError(f"{source}{on if flags.dataset != 'mnist' else ''}: {error}") from error
    recipe.require_side(header.shape[0])
    _require_budget(flags, source, count_parameters(network), recipe.epochs)
    rates = flags.learning_rate if isinstance(flags.learning_rate, tuple) else (recipe.learning_rate,)
    digest = _digest(flags, recipe)
    if flags.reported is not None and not _read_reported(flags.reported)[1]:
        flags = dataclasses.replace(flags, reported=f"{flags.reported}@{digest}")
    claim = _claim(flags, digest) if flags.dataset == "mnist" and len(rates) == 1 else None
    return Experiment(flags, flags.model or "custom", note, network, recipe, rates, claim)


def resolve_recipe(flags: CnnConfig) -> Recipe:
    """Return the recipe that settled flags name, with what was given.

    Raises:
      UserError: see Recipe.with_flags.
    """
    given = {name: getattr(flags, name) for name in settings() if getattr(flags, name) is not None}
    if isinstance(flags.learning_rate, tuple):
        given["learning_rate"] = flags.learning_rate[0]
    return ZOO[flags.recipe or flags.model or DEFAULT].recipe.with_flags(given)


def describe(experiment: Experiment) -> str:
    """Return the network's note, its table of layers, and its recipe."""
    recipe, rates = experiment.recipe, experiment.learning_rates
    words = recipe.flags
    if len(rates) > 1:
        rest = dataclasses.replace(recipe, learning_rate=Recipe.learning_rate)
        words = f"{rest.flags} --learning_rate={','.join(map(str, rates))}"
    table = format_table(experiment.architecture)
    return f"{experiment.name}: {experiment.note}\n\n{table}\n\nrecipe: {words}\n"


def settle(flags: CnnConfig) -> tuple[str, CnnConfig]:
    """Return the flag that the network comes from, for errors, and flags that name it in one way.

    Either model is a network of the zoo, or it is None and layers has a text on one line. One learning rate
    is a float, several are a tuple.
    """
    settled: dict[str, Any] = {"model": DEFAULT if flags.model is None else flags.model}
    source, layers = f"--model={settled['model']}", flags.layers
    if flags.model is None:
        source = source if layers is None else "--layers"
    elif flags.model not in ZOO:
        layers = _read(flags.model)
        require(
            flags.layers in (None, on_one_line(layers)),  # equal where a run goes on by the same flags
            f"{source} is not the text of --layers, which a run that goes on has kept: leave one out",
        )
    else:
        require(
            layers is None,
            f"{source} and --layers exclude each other: give one (a run that goes on keeps its network)",
        )
    if layers is not None:
        try:
            parse(layers)  # as it was written: an error names the line
        except UserError as error:
            raise UserError(f"{source}: {error}") from error
        settled |= {"model": None, "layers": on_one_line(layers)}
    if isinstance(flags.learning_rate, tuple) and len(flags.learning_rate) == 1:
        settled["learning_rate"] = flags.learning_rate[0]
    return source, dataclasses.replace(flags, **settled)


def _read(name: str) -> str:
    """Return the text in a file that was given as --model.

    Raises:
      UserError: it is neither a file nor a network's name, or cannot be read.
    """
    path = os.path.expanduser(name)
    require(
        name.strip() != "" and (os.path.exists(path) or name.endswith(".txt")),
        f"--model={name} is not known{did_you_mean(name, ZOO)}: choose one of {', '.join(ZOO)}, "
        "or give a file with layers, such as mine.txt",
    )
    remedy = "give a file with a network's layers as text"
    require(
        os.path.isfile(path) or not os.path.exists(path), f"--model={name} is a folder or a device: {remedy}"
    )
    try:
        with open(path, "rb") as file:
            content = file.read(_LONGEST_FILE + 1)
        require(
            len(content) <= _LONGEST_FILE, f"--model={name} is longer than {_LONGEST_FILE:,} bytes: {remedy}"
        )
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"--model={name} cannot be read ({error.strerror}): {remedy}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"--model={name} is no text (UTF-8): {remedy}") from error


def _require_budget(flags: CnnConfig, source: str, parameters: int, epochs: int) -> None:
    require(
        parameters < flags.max_parameters or not flags.enforce_budget,
        f"{source} has {parameters:,} parameters, the budget is fewer than {flags.max_parameters:,}: "
        "choose another, give --max_parameters, or add --noenforce_budget",
    )
    require(
        epochs <= flags.max_epochs or not flags.enforce_budget,
        f"--epochs={epochs} is over the budget of {flags.max_epochs}: "
        "give fewer, give --max_epochs, or add --noenforce_budget",
    )


def _claim(flags: CnnConfig, digest: str) -> Reported | None:
    """Return what was reported of a training with this digest: by --reported, or by the zoo."""
    if flags.reported is not None:
        reported, of = _read_reported(flags.reported)
        return reported if of == digest else None
    if flags.model is None:
        return None
    as_published = CnnConfig(model=flags.model)
    same = digest == _digest(as_published, resolve_recipe(as_published))
    return ZOO[flags.model].reported if same else None


def _digest(flags: CnnConfig, recipe: Recipe) -> str:
    """Return a digest of the network and of all that decides how it is trained but images and seed."""
    what = flags.layers or flags.model, recipe.flags, flags.validation_size, flags.compute_dtype
    return hashlib.sha256(repr(what).encode()).hexdigest()[:8]


def _read_reported(text: str) -> tuple[Reported, str]:
    """Return an author's accuracies, and the digest of what was trained, which may be empty.

    Raises:
      UserError: it is not that, or makes no sense.
    """
    found = _REPORTED.fullmatch(text)
    if found is not None:
        reported = Reported(float(found[1]), int(found[2]), float(found[3]), int(found[4] or 0))
        if reported.last <= reported.best <= 1 and 1 <= reported.best_epoch <= 60_000:
            return reported, found[5] or ""
    raise UserError(
        f"--reported={text}: give the best test accuracy as a fraction, its epoch, and the last epoch's "
        "accuracy, which is not above the best, such as 0.9942,12,0.9918"
    )
