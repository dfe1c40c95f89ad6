"""docs/tried.csv: every row is a command that starts, of the network that its figures are of."""

import csv
import shlex
from pathlib import Path

import pytest

import launch
from cnn.architecture import count_parameters
from cnn.experiment import describe, resolve

with (Path(__file__).parents[1] / "docs" / "tried.csv").open(newline="") as stream:
    ROWS = list(csv.DictReader(stream))


def test_each_name_and_seed_is_one_row():
    assert len({(row["name"], row["seed"]) for row in ROWS}) == len(ROWS) > 50


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['name']}-{row['seed']}")
def test_a_row_is_a_command_that_starts(row):
    python, program, *flags = shlex.split(row["command"].replace("deskew, ", ""))  # code e71902c alone had it
    assert (python, program) == ("python", "launch.py")
    experiment = resolve(launch.parse([program, *flags])[1])
    assert f"{int(row['parameters']):,}" in describe(experiment)
    assert count_parameters(experiment.architecture) == int(row["parameters"])
    assert (experiment.recipe.epochs, experiment.flags.seed) == (int(row["epochs"]), int(row["seed"]))
    assert experiment.flags.validation_size == 10_000
