"""What a user can set for --task=mnist. No JAX here: a wrong flag is answered at once."""

import dataclasses
import functools
import hashlib
import os
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from cnn.architecture import (
    Architecture,
    count_parameters,
    format_shape,
    format_table,
    require_classes,
    with_classes,
)
from cnn.recipe import Recipe, check_learning_rates, settings
from cnn.text import on_one_line, parse
from cnn.zoo import DEFAULT, ZOO, Entry, Reported
from harness.errors import UserError, did_you_mean, require, require_choice, require_folder_name

MAX_MEMBERS = 1_000
MAX_DEVICES = 10_000
MAX_PROFILED = 1_000  # steps: about 1 MB each
COMPILATION_CACHE = "~/.cache/backprop-and-cnn"
COMPUTE_DTYPES = ("float32", "bfloat16")
_MNIST = (28, 28, 1), 10  # the shape of its images, its classes
_LONGEST_FILE = 100_000  # bytes
_FRACTION = r"(\d(?:\.\d{1,20})?(?:e-\d\d)?)"
_REPORTED = re.compile(
    rf"{_FRACTION},(\d{{1,5}}),{_FRACTION}(?:,(\d{{1,3}}))?(?:@([0-9a-f]{{8}}))?", re.ASCII
)


@dataclass(frozen=True)
class _NetworkFlags:
    model: Annotated[
        str | None,
        f"network (default: {DEFAULT}): {', '.join(ZOO)}; or a file: what --layers takes, or a submission in "
        "PyTorch, FILE.ipynb, FILE.py or FILE.py:CLASS, trained by its own recipe",
    ] = None
    layers: Annotated[
        str | None,
        "network as text, 'conv 16 3x3, batch norm, ReLU, global average pool, dense 10 bias', trained by "
        f"{DEFAULT}'s recipe",
    ] = None
    recipe: Annotated[
        str | None, f"network whose recipe trains this one (default: its own, or {DEFAULT}'s)"
    ] = None


def _recipe_flags() -> Iterator[tuple[str, Any, None]]:
    """Yield each field of Recipe as one that need not be given; learning_rate may be several."""
    hints = typing.get_type_hints(Recipe)
    for name, setting in settings().items():
        kind = tuple[float, ...] | hints[name] if name == "learning_rate" else hints[name]
        yield name, Annotated[kind | None, setting.help], None


_RecipeFlags = dataclasses.make_dataclass(
    "_RecipeFlags", _recipe_flags(), bases=(_NetworkFlags,), frozen=True
)


@dataclass(frozen=True)
class CnnConfig(_RecipeFlags):  # type: ignore[misc, valid-type]
    """The flags of --task=mnist, checked; None stands for the recipe's own value.

    Either model is a network of the zoo, or it is None and layers has the network's text on one line, which a
    file that was given as model has been read into. One learning rate is a float, several are a tuple.

    Raises:
      UserError: a value that is not allowed.
    """

    seed: Annotated[int, "of initialisation, shuffling, dropout and augmentation"] = 0
    num_seeds: Annotated[int, "runs, of seed, seed + 1, and so on, with one summary"] = 1
    compute_dtype: Annotated[str, f"of activations: {' or '.join(COMPUTE_DTYPES)}"] = "float32"
    validation_size: Annotated[int, "training images held out and evaluated after every epoch"] = 0
    target_accuracy: Annotated[float, "test accuracy to reach, as a fraction"] = 0.994
    reported: Annotated[
        str | None,
        "what its author's log says of MNIST's test images, to be set beside ours: best accuracy, its epoch, "
        "last accuracy, 0.9942,12,0.9918; --model=FILE.ipynb adds it, with the number of points in which the "
        "recipe is not quite the author's, and @ a digest of what was trained",
    ] = None
    dataset: Annotated[
        str,
        "mnist (bundled), one's own FILE.npz with x_train, y_train, x_test and y_test, a folder of MNIST's "
        "four IDX files, or a tensorflow-datasets name",
    ] = "mnist"
    data_dir: Annotated[str | None, "folder of prepared tensorflow-datasets"] = None
    workdir: Annotated[str | None, "folder for the results (default: runs/TASK-DATE-TIME)"] = None
    wait: Annotated[bool, "wait while another run writes to --workdir"] = False
    describe: Annotated[bool, "print the network's layers and stop"] = False
    resume: Annotated[bool, "go on with the run in --workdir from its last checkpoint"] = False
    eval_only: Annotated[bool, "evaluate the run in --workdir again and stop"] = False
    export: Annotated[str | None, "folder for safetensors, ONNX and StableHLO; also with --eval_only"] = None
    checkpoint_every_steps: Annotated[int | None, "save within an epoch, too (default: after each)"] = None
    num_devices: Annotated[int | None, "devices to train on (default: all; of a CPU, one a usable core)"] = (
        None
    )
    compilation_cache: Annotated[
        str, "folder for compiled programs, so that the next start is fast; or none"
    ] = COMPILATION_CACHE
    deterministic: Annotated[bool, "the same bits from every run on a GPU, which takes longer"] = False
    coordinator_address: Annotated[str | None, "HOST:PORT of process 0, with several processes"] = None
    num_processes: Annotated[int | None, "processes of this run, usually one a machine"] = None
    process_id: Annotated[int | None, "which of them this one is, from 0"] = None
    tensorboard: Annotated[bool, "write TensorBoard event files into WORKDIR/tensorboard"] = False
    profile_steps: Annotated[
        int | None, "write a trace of so many steps, the first of this start, into WORKDIR/profile"
    ] = None
    max_parameters: Annotated[int, "budget: fewer parameters than this"] = 20_000
    max_epochs: Annotated[int, "budget: at most so many epochs"] = 20
    enforce_budget: Annotated[bool, "refuse what is over the budget"] = True

    def __post_init__(self) -> None:
        if self.recipe is not None:
            require_choice("recipe", self.recipe, ZOO)
        network = self._settle_network()
        require(
            1 <= self.num_seeds <= MAX_MEMBERS,
            f"--num_seeds={self.num_seeds}: give a whole number from 1 to {MAX_MEMBERS}",
        )
        if isinstance(self.learning_rate, tuple):
            self._settle_learning_rates(self.learning_rate)
        recipe = self.resolved_recipe
        last = 2**32 - self.num_seeds
        require(0 <= self.seed <= last, f"--seed={self.seed}: give a whole number from 0 to {last}")
        require_choice("compute_dtype", self.compute_dtype, COMPUTE_DTYPES)
        for flag, count, limit in (
            ("checkpoint_every_steps", self.checkpoint_every_steps, 60_000),
            ("profile_steps", self.profile_steps, MAX_PROFILED),
            ("num_devices", self.num_devices, MAX_DEVICES),
            ("num_processes", self.num_processes, MAX_DEVICES),
            ("max_parameters", self.max_parameters, 10**12),
            ("max_epochs", self.max_epochs, 60_000),
        ):
            _require_count(f"--{flag}", count, limit)
        self._check_processes()
        require(
            0 <= self.validation_size < 60_000,
            f"--validation_size={self.validation_size}: give 0 (none) to 59999 training images, such as 5000",
        )
        require(
            0 < self.target_accuracy <= 1,
            f"--target_accuracy={self.target_accuracy}: give a fraction above 0, at most 1, such as 0.994",
        )
        if self.reported is not None and not _read_reported(self.reported)[1]:
            object.__setattr__(self, "reported", f"{self.reported}@{self._digest}")
        require(
            self.dataset.strip() != "",
            "--dataset is empty: give mnist, an .npz file, a folder, or a tensorflow-datasets name",
        )
        require(
            self.dataset != "mnist" or self.data_dir is None,
            f"--data_dir={self.data_dir} does not go with --dataset=mnist, which is bundled: leave one out",
        )
        for flag in ("data_dir", "workdir", "export", "compilation_cache"):
            require_folder_name(flag, getattr(self, flag))
        require(
            self.resume + self.eval_only + self.describe <= 1,
            "--describe, --resume and --eval_only exclude each other: give one",
        )
        require(
            not self.describe or (self.export is None and not self.tensorboard),
            "--describe trains nothing to export: leave out --export and --tensorboard",
        )
        require(
            self.profile_steps is None or not (self.describe or self.eval_only),
            "--profile_steps traces a training: leave it out, or --describe and --eval_only",
        )
        if self.dataset == "mnist":  # all others have to be read first
            self.require_network(network)
        require(
            recipe.epochs <= self.max_epochs or not self.enforce_budget,
            f"--epochs={recipe.epochs} is over the budget of {self.max_epochs}: "
            "give fewer, give --max_epochs, or add --noenforce_budget",
        )

    def _settle_learning_rates(self, rates: tuple[float, ...]) -> None:
        """Keep one as a float, as it was before there could be several."""
        most = MAX_MEMBERS // self.num_seeds
        require(
            len(rates) <= most,
            f"--learning_rate has {len(rates)} learning rates, each for --num_seeds={self.num_seeds}: "
            f"give at most {most}, so that {MAX_MEMBERS} networks are trained or fewer",
        )
        check_learning_rates(rates)
        if len(rates) == 1:
            object.__setattr__(self, "learning_rate", rates[0])

    def _settle_network(self) -> str:
        """Keep the zoo's network or a text; return the flag that it comes from, for errors."""
        flag = "--layers" if self.model is None else f"--model={self.model}"
        if self.model is None and self.layers is None:
            object.__setattr__(self, "model", DEFAULT)
        if self.model is not None and self.model not in ZOO:
            layers = _read(self.model)
            require(
                self.layers is None
                or self.layers == on_one_line(layers),  # equal where a run goes on by the same flags
                f"{flag} is not the text of --layers, which a run that goes on has kept: leave one out",
            )
            object.__setattr__(self, "layers", layers)
            object.__setattr__(self, "model", None)
        require(
            self.model is None or self.layers is None,
            f"{flag} and --layers exclude each other: give one (a run that goes on keeps its network)",
        )
        if self.layers is None:
            return f"--model={self.model}"
        try:
            parse(self.layers)  # as it was written: an error names the line
        except UserError as error:
            raise UserError(f"{flag}: {error}") from error
        object.__setattr__(self, "layers", on_one_line(self.layers))
        return flag

    @functools.cached_property
    def image_size(self) -> tuple[tuple[int, int, int], int]:
        """The shape of the data set's images, and the number of its classes.

        Raises:
          UserError: the data set is not there, or damaged, or makes no sense.
        """
        if self.dataset == "mnist":
            return _MNIST
        from cnn import data  # with NumPy, which takes a while to import

        return data.size(self.dataset, self.data_dir)

    @functools.cached_property
    def architecture(self) -> Architecture:
        """The network for these images; a network of the zoo gets as many outputs as there are classes."""
        shape, classes = self.image_size
        network = dataclasses.replace(self.entry.architecture, input_shape=shape)
        return network if self.layers is not None else with_classes(network, classes)

    def require_network(self, flag: str | None = None) -> None:
        """Raise UserError unless network and recipe fit the images and their classes, and the budget.

        Args:
          flag: the one that the network comes from.
        """
        shape, classes = self.image_size
        flag = flag or ("--layers" if self.model is None else f"--model={self.model}")
        try:
            require_classes(self.architecture, classes)
        except UserError as error:
            on = "" if self.dataset == "mnist" else f" on the {format_shape(shape)} images of {self.dataset}"
            raise UserError(f"{flag}{on}: {error}") from error
        self.resolved_recipe.require_side(shape[0])
        parameters = count_parameters(self.architecture)
        require(
            parameters < self.max_parameters or not self.enforce_budget,
            f"{flag} has {parameters:,} parameters, the budget is fewer than "
            f"{self.max_parameters:,}: choose another, give --max_parameters, or add --noenforce_budget",
        )

    def _check_processes(self) -> None:
        """All three flags of a run of several processes, or none."""
        together = {
            "coordinator_address": self.coordinator_address,
            "num_processes": self.num_processes,
            "process_id": self.process_id,
        }
        missing = [name for name, value in together.items() if value is None]
        if len(missing) == len(together):
            return
        require(
            not missing,
            f"without --{' and --'.join(missing)}: a run of several processes needs --coordinator_address, "
            "--num_processes and --process_id",
        )
        require_processes(self.coordinator_address, self.num_processes, self.process_id)

    @property
    def name(self) -> str:
        """The network's name for reports."""
        return self.model or "custom"

    @property
    def entry(self) -> Entry:
        """The network and its recipe: one of the zoo's, or the layers; --recipe names another recipe."""
        recipe = ZOO[self.recipe or self.model or DEFAULT].recipe
        if self.layers is not None:
            base = self.recipe or DEFAULT
            note = f"by --layers or a file, trained by the recipe of {base} and the flags given"
            return Entry(self.layers, recipe, note)
        entry = ZOO[str(self.model)]
        if self.recipe is None:
            return entry
        note = f"{entry.note}; trained by the recipe of {self.recipe}"
        return dataclasses.replace(entry, recipe=recipe, note=note)

    @property
    def claim(self) -> Reported | None:
        """What its author reports of this network, trained by this recipe on MNIST; None of any other."""
        if self.dataset != "mnist" or len(self.learning_rates) > 1:
            return None
        if self.reported is not None:
            reported, digest = _read_reported(self.reported)
            return reported if digest == self._digest else None
        same = self.model is not None and self._digest == CnnConfig(model=self.model)._digest
        return self.entry.reported if same else None

    @property
    def _digest(self) -> str:
        """Of the network and of all that decides how it is trained but the images and the seed."""
        what = self.layers or self.model, self.resolved_recipe.flags, self.validation_size, self.compute_dtype
        return hashlib.sha256(repr(what).encode()).hexdigest()[:8]

    @property
    def description(self) -> str:
        """The network's note, its table of layers, and its recipe."""
        table = format_table(self.architecture)
        recipe = self.resolved_recipe
        flags = recipe.flags
        if len(self.learning_rates) > 1:
            rest = dataclasses.replace(recipe, learning_rate=Recipe.learning_rate)
            flags = f"{rest.flags} --learning_rate={','.join(map(str, self.learning_rates))}"
        return f"{self.name}: {self.entry.note}\n\n{table}\n\nrecipe: {flags}\n"

    @property
    def resolved_recipe(self) -> Recipe:
        """The recipe with what the user changed; of several learning rates it has the first."""
        given = {name: getattr(self, name) for name in settings() if getattr(self, name) is not None}
        if isinstance(self.learning_rate, tuple):
            given["learning_rate"] = self.learning_rate[0]
        return self.entry.recipe.with_flags(given)

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """All learning rates to train at: the recipe's, unless several were given."""
        if isinstance(self.learning_rate, tuple):
            return self.learning_rate
        return (self.resolved_recipe.learning_rate,)

    @property
    def members(self) -> int:
        """How many networks are trained: one for each learning rate and seed."""
        return len(self.learning_rates) * self.num_seeds


def require_processes(
    address: str | None,
    count: int | None,
    index: int | None,
    names: tuple[str, str, str] = ("--coordinator_address", "--num_processes", "--process_id"),
) -> None:
    """Raise UserError, with the names of what was set, unless it is a process of a run of several."""
    host_and_port = re.fullmatch(r"([\w.-]+|\[[\da-fA-F:.]+\]):(\d{1,5})", str(address), re.ASCII)
    require(
        host_and_port is not None and 0 < int(host_and_port[2]) < 2**16,
        f"{names[0]}={address}: give process 0's HOST:PORT, such as 10.0.0.2:1234",
    )
    _require_count(names[1], count, MAX_DEVICES)
    require(
        index is not None and 0 <= index < (count or 0),
        f"{names[2]}={index}: give 0 to {(count or 0) - 1}, one for each of the {count} processes",
    )


def _read_reported(text: str) -> tuple[Reported, str]:
    """An author's accuracies, and the digest of what was trained, which may be empty.

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


def _require_count(name: str, count: int | None, limit: int) -> None:
    require(count is None or 1 <= count <= limit, f"{name}={count}: give a whole number from 1 to {limit}")


def _read(name: str) -> str:
    """The text in a file that was given as --model.

    Raises:
      UserError: it is neither a file nor a network's name, or cannot be read.
    """
    path = os.path.expanduser(name)
    is_path = name.strip() != "" and (os.path.exists(path) or name.endswith(".txt"))
    require(
        is_path,
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
