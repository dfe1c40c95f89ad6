"""What a user can set for --task=backprop. No JAX here: a wrong flag is answered at once."""

import math
from dataclasses import dataclass
from typing import Annotated

from errors import require, require_choice

_MAX_RATES = 100
_MAX_ROWS = 50_000
_MAX_MAGNITUDE = 1e6


@dataclass(frozen=True)
class BackpropConfig:
    """The flags of --task=backprop, checked.

    Raises:
      UserError: a value that is not allowed.
    """

    lrs: Annotated[tuple[float, ...], "learning rates, separated by commas"] = (0.1, 0.2, 0.5, 0.8, 1.0, 2.0)
    epochs: Annotated[int, "number of weight updates"] = 100
    inputs: Annotated[tuple[float, ...], "i1,i2"] = (0.05, 0.10)
    targets: Annotated[tuple[float, ...], "t1,t2"] = (0.01, 0.99)
    weights: Annotated[tuple[float, ...], "w1,...,w8 at the start"] = (
        *(0.15, 0.20, 0.25, 0.30),
        *(0.40, 0.45, 0.50, 0.55),
    )
    precision: Annotated[str, "float64 or float32"] = "float64"
    frontier_rates: Annotated[int, "how many learning rates the frontier tries"] = 65_536
    frontier_min: Annotated[float, "the frontier's smallest learning rate"] = 1e-3
    frontier_max: Annotated[float, "the frontier's largest learning rate"] = 1e4
    frontier_epochs: Annotated[int, "number of weight updates for each rate of the frontier"] = 1000
    workdir: Annotated[str | None, "folder for the results (default: runs/TASK-DATE-TIME)"] = None

    def __post_init__(self) -> None:
        _require_numbers("inputs", self.inputs, count=2)
        _require_numbers("targets", self.targets, count=2)
        _require_numbers("weights", self.weights, count=8)
        require(
            0 < len(self.lrs) <= _MAX_RATES,
            f"--lrs has {len(self.lrs)} learning rates: give 1 to {_MAX_RATES} "
            "(for more, see --frontier_rates)",
        )
        for lr in self.lrs:
            _require_rate("lrs", lr)
        for lr in self.lrs:
            require(self.lrs.count(lr) == 1, f"--lrs has {lr:g} twice: give each learning rate once")
        require(
            self.epochs >= 1 and len(self.lrs) * (self.epochs + 1) <= _MAX_ROWS,
            f"--epochs={self.epochs} with {len(self.lrs)} learning rates: give 1 to "
            f"{_MAX_ROWS // len(self.lrs) - 1} epochs (the spreadsheet holds {_MAX_ROWS} rows)",
        )
        require_choice("precision", self.precision, ("float64", "float32"))
        _require_rate("frontier_min", self.frontier_min)
        _require_rate("frontier_max", self.frontier_max)
        require(
            self.frontier_min < self.frontier_max,
            f"--frontier_min={self.frontier_min:g} is not below --frontier_max={self.frontier_max:g}: "
            "give a smaller rate first",
        )
        require(
            2 <= self.frontier_rates <= 2**22,
            f"--frontier_rates={self.frontier_rates}: give 2 to {2**22} rates",
        )
        require(
            1 <= self.frontier_epochs <= 100_000,
            f"--frontier_epochs={self.frontier_epochs}: give 1 to 100000 epochs",
        )


def _require_numbers(flag: str, values: tuple[float, ...], *, count: int) -> None:
    require(
        len(values) == count,
        f"--{flag} has {len(values)} numbers: give {count}, separated by commas",
    )
    for value in values:
        require(
            math.isfinite(value) and abs(value) <= _MAX_MAGNITUDE,
            f"--{flag} has {value:g}: give numbers from {-_MAX_MAGNITUDE:g} to {_MAX_MAGNITUDE:g}",
        )


def _require_rate(flag: str, value: float) -> None:
    require(
        math.isfinite(value) and 1e-12 <= value <= 1e12,
        f"--{flag} has {value:g}: give learning rates above 0, from 1e-12 to 1e12",
    )


@dataclass(frozen=True)
class AuditConfig:
    """The flags of --task=audit, checked.

    Raises:
      UserError: no workbook named.
    """

    workbook: Annotated[str | None, "the .xlsx or .csv file to check, or a folder of them"] = None
    workdir: Annotated[str | None, "folder for the results (default: runs/TASK-DATE-TIME)"] = None

    def __post_init__(self) -> None:
        require(
            self.workbook is not None and self.workbook.strip() != "",
            "--workbook is missing: give an .xlsx or .csv file, or a folder of them",
        )
