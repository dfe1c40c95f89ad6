"""The flags of --task=mnist. No JAX here: a wrong flag is answered at once."""

import dataclasses
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from cnn.recipe import Recipe, check_learning_rates, settings
from cnn.zoo import DEFAULT, ZOO
from harness.errors import require, require_choice, require_folder_name

MAX_MEMBERS = 1_000
MAX_DEVICES = 10_000
MAX_PROFILED = 1_000  # steps: about 1 MB each
COMPILATION_CACHE = "~/.cache/backprop-and-cnn"
COMPUTE_DTYPES = ("float32", "bfloat16")
OF_PROCESSES = ("coordinator_address", "num_processes", "process_id")
_MOST = {
    "num_seeds": MAX_MEMBERS,
    "checkpoint_every_steps": 60_000,
    "profile_steps": MAX_PROFILED,
    "num_devices": MAX_DEVICES,
    "num_processes": MAX_DEVICES,
    "max_parameters": 10**12,
    "max_epochs": 60_000,
}
"""Flags that are whole numbers from 1 on, and the largest number of each."""


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
    """The flags of --task=mnist, each checked by itself; None stands for the recipe's own value.

    What they make together is cnn.experiment's to say.

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

    GROUPS: ClassVar[Mapping[str, str]] = types.MappingProxyType(
        {
            "model": "network",
            "epochs": "recipe",
            "rotation": "distortion of training images",
            "seed": "experiment",
            "workdir": "run",
            "num_devices": "devices",
            "tensorboard": "what else is written",
            "max_parameters": "budget",
        }
    )

    def __post_init__(self) -> None:
        if self.recipe is not None:
            require_choice("recipe", self.recipe, ZOO)
        require_choice("compute_dtype", self.compute_dtype, COMPUTE_DTYPES)
        for flag, limit in _MOST.items():
            _require_count(f"--{flag}", getattr(self, flag), limit)
        last = 2**32 - self.num_seeds
        require(0 <= self.seed <= last, f"--seed={self.seed}: give a whole number from 0 to {last}")
        if isinstance(self.learning_rate, tuple):
            most = MAX_MEMBERS // self.num_seeds
            require(
                len(self.learning_rate) <= most,
                f"--learning_rate has {len(self.learning_rate)} learning rates, each for "
                f"--num_seeds={self.num_seeds}: give at most {most}, so that {MAX_MEMBERS} networks are "
                "trained or fewer",
            )
            check_learning_rates(self.learning_rate)
        require(
            0 <= self.validation_size < 60_000,
            f"--validation_size={self.validation_size}: give 0 (none) to 59999 training images, such as 5000",
        )
        require(
            0 < self.target_accuracy <= 1,
            f"--target_accuracy={self.target_accuracy}: give a fraction above 0, at most 1, such as 0.994",
        )
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
        self._check_processes()

    def _check_processes(self) -> None:
        """All three flags of a run of several processes, or none."""
        together = {name: getattr(self, name) for name in OF_PROCESSES}
        missing = [name for name, value in together.items() if value is None]
        if len(missing) == len(together):
            return
        require(
            not missing,
            f"without --{' and --'.join(missing)}: a run of several processes needs --coordinator_address, "
            "--num_processes and --process_id",
        )
        require_processes(*together.values(), *(f"--{name}" for name in together))


def require_processes(address: str | None, count: int | None, index: int | None, *names: str) -> None:
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


def _require_count(name: str, count: int | None, limit: int) -> None:
    require(count is None or 1 <= count <= limit, f"{name}={count}: give a whole number from 1 to {limit}")
