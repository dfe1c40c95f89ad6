"""The flags of --task=backprop. No JAX here: a wrong flag is answered at once."""

import math
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Annotated

from backprop.shape import ACTIVATIONS, CLASSROOM, Shape
from harness.errors import require, require_choice, require_folder_name

_MAX_RATES = 100
_MAX_NEURONS = 8
_MAX_CELLS = 50_000 * len(CLASSROOM.columns)
_MAX_MAGNITUDE = 1e6
_MAX_EXERCISE = 10**12

_ASSIGNMENT = (0.15, 0.20, 0.25, 0.30, 0.40, 0.45, 0.50, 0.55)
_PROGRESSION = tuple(n / 100 for n in range(15, 100, 5))
"""17 weights, a prime: they come again without giving two neurons of up to 8 inputs the same ones."""
_HIDDEN_BIAS, _OUTPUT_BIAS = 0.35, 0.60
_PRECISIONS = ("float64", "float32")


@dataclass(frozen=True)
class BackpropConfig:
    """The flags of --task=backprop, checked.

    Raises:
      UserError: a value that is not allowed.
    """

    lrs: Annotated[tuple[float, ...], "learning rates, separated by commas"] = (0.1, 0.2, 0.5, 0.8, 1.0, 2.0)
    epochs: Annotated[int, "number of weight updates"] = 100
    inputs: Annotated[tuple[float, ...], f"i1,i2,...: 1 to {_MAX_NEURONS} inputs"] = (0.05, 0.10)
    hidden: Annotated[int, f"number of hidden neurons, 1 to {_MAX_NEURONS}"] = 2
    outputs: Annotated[int, f"number of output neurons, 1 to {_MAX_NEURONS}"] = 2
    targets: Annotated[tuple[float, ...], "t1,t2,...: one for each output"] = (0.01, 0.99)
    activation: Annotated[str, f"of hidden and output neurons: {', '.join(ACTIVATIONS)}"] = "sigmoid"
    biases: Annotated[
        bool,
        f"a bias for each neuron: at the start {_HIDDEN_BIAS} if hidden, {_OUTPUT_BIAS:.2f} if an output's",
    ] = False
    weights: Annotated[
        tuple[float, ...],
        "w1,w2,... at the start, without biases (default: the assignment's "
        f"{','.join(map(str, _ASSIGNMENT))} for 2 inputs, 2 hidden and 2 output neurons, "
        "otherwise 0.15,0.2,0.25,...,0.95 and again from 0.15)",
    ] = ()
    exercise: Annotated[
        int | None,
        "a number: write a worksheet to fill in, with inputs and weights drawn from it, and its solution",
    ] = None
    precision: Annotated[str, " or ".join(_PRECISIONS)] = "float64"
    frontier_rates: Annotated[int, "how many learning rates the frontier tries"] = 65_536
    frontier_min: Annotated[float, "the frontier's smallest learning rate"] = 1e-3
    frontier_max: Annotated[float, "the frontier's largest learning rate"] = 1e4
    frontier_epochs: Annotated[int, "number of weight updates for each rate of the frontier"] = 1000
    workdir: Annotated[str | None, "folder for the results (default: runs/TASK-DATE-TIME)"] = None
    wait: Annotated[bool, "wait while another run writes to --workdir"] = False

    def __post_init__(self) -> None:
        neurons = f"give 1 to {_MAX_NEURONS}"
        for flag, size in (("hidden", self.hidden), ("outputs", self.outputs)):
            require(1 <= size <= _MAX_NEURONS, f"--{flag}={size}: {neurons} neurons")
        count = len(self.inputs)
        require(1 <= count <= _MAX_NEURONS, f"--inputs has {count} numbers: {neurons}, separated by commas")
        require_choice("activation", self.activation, ACTIVATIONS)
        _require_numbers("inputs", self.inputs, count)
        _require_numbers("targets", self.targets, self.outputs)
        shape = self.shape
        count = (shape.inputs + shape.outputs) * shape.hidden
        if not self.weights:
            classroom = (shape.inputs, shape.hidden, shape.outputs) == (2, 2, 2)
            weights = _ASSIGNMENT if classroom else _PROGRESSION
            object.__setattr__(self, "weights", tuple(islice(cycle(weights), count)))
        _require_numbers("weights", self.weights, count)
        require(
            0 < len(self.lrs) <= _MAX_RATES,
            f"--lrs has {len(self.lrs)} learning rates: give 1 to {_MAX_RATES} "
            "(for more, see --frontier_rates)",
        )
        ends = ("frontier_min", self.frontier_min), ("frontier_max", self.frontier_max)
        for flag, rate in (*(("lrs", lr) for lr in self.lrs), *ends):
            require(
                math.isfinite(rate) and 1e-12 <= rate <= 1e12,
                f"--{flag} has {rate:g}: give learning rates above 0, from 1e-12 to 1e12",
            )
        for lr in self.lrs:
            require(self.lrs.count(lr) == 1, f"--lrs has {lr:g} twice: give each learning rate once")
        rows = _MAX_CELLS // len(shape.columns)
        require(
            self.epochs >= 1 and len(self.lrs) * (self.epochs + 1) <= rows,
            f"--epochs={self.epochs} with {len(self.lrs)} learning rates: give 1 to "
            f"{rows // len(self.lrs) - 1} epochs (the spreadsheet holds {rows} rows)",
        )
        require(
            self.exercise is None or 0 <= self.exercise <= _MAX_EXERCISE,
            f"--exercise={self.exercise}: give a number from 0 to {_MAX_EXERCISE}, such as a student's",
        )
        require_choice("precision", self.precision, _PRECISIONS)
        require(
            self.frontier_min * 1.01 <= self.frontier_max,
            f"--frontier_min={self.frontier_min:g} is not below --frontier_max={self.frontier_max:g} by 1 %: "
            "give a smaller rate first",
        )
        for flag, value, low, high, of in (
            ("frontier_rates", self.frontier_rates, 2, 2**22, "rates"),
            ("frontier_epochs", self.frontier_epochs, 1, 100_000, "epochs"),
        ):
            require(low <= value <= high, f"--{flag}={value}: give {low} to {high} {of}")
        require_folder_name("workdir", self.workdir)

    @property
    def shape(self) -> Shape:
        """The network that these flags describe."""
        return Shape(len(self.inputs), self.hidden, self.outputs, self.activation, self.biases)

    @property
    def start(self) -> dict[str, float]:
        """The weights and biases at the start, in the order of the spreadsheet's columns."""
        weights, names = iter(self.weights), self.shape.weight_names
        hidden_biases = {neuron.incoming.get("1") for neuron in self.shape.layers[0]}
        biases = {name: _HIDDEN_BIAS if name in hidden_biases else _OUTPUT_BIAS for name in names}
        return {name: next(weights) if name.startswith("w") else biases[name] for name in names}


def _require_numbers(flag: str, values: tuple[float, ...], count: int) -> None:
    require(len(values) == count, f"--{flag} has {len(values)} numbers: give {count}, separated by commas")
    for value in values:
        require(
            math.isfinite(value) and abs(value) <= _MAX_MAGNITUDE,
            f"--{flag} has {value:g}: give numbers from {-_MAX_MAGNITUDE:g} to {_MAX_MAGNITUDE:g}",
        )
