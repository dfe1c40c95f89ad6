import math

import pytest

from backprop.config import BackpropConfig
from harness.errors import UserError
from launch import parse

WRONG = {  # besides those of tests/test_flags.py
    "--lrs=0.1,,0.2": "is not a number",
    "--lrs=0.1,-0.2": "--lrs has -0.2",
    "--lrs=1e-13": "--lrs has 1e-13",
    "--lrs=1 --epochs=50000": "--epochs=50000 with 1 learning rates",
    "--outputs=1 --targets=0.1,0.2": "--targets has 2 numbers: give 1",
    "--targets=0.01,0.99,0": "--targets has 3 numbers: give 2",
    "--weights=1,2,3,4,5,6,7,8,9": "--weights has 9 numbers: give 8",
    "--inputs=1,2,3 --weights=1,2,3,4,5,6,7,8": "--weights has 8 numbers: give 10",
    "--biases --weights=1,2,3,4,5,6,7,8,9,10,11,12": "--weights has 12 numbers: give 8",
    "--frontier_min=10 --frontier_max=1": "--frontier_min=10 is not below --frontier_max=1",
}


@pytest.mark.parametrize(("flags", "message"), WRONG.items())
def test_a_wrong_flag_is_one_line_that_names_it(flags, message):
    with pytest.raises(UserError) as caught:
        parse(["launch.py", "--task=backprop", *flags.split()])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_flags_become_a_configuration():
    task, config = parse(
        [
            *("launch.py", "--task=backprop", "--lrs=3,1e-2", "--epochs=7", "--targets=0.5,0.5"),
            *("--inputs=-1,2", "--precision=float32", "--weights=1,2,3,4,5,6,7,8", "--workdir=here"),
            *("--hidden=2", "--outputs=2", "--biases", "--activation=tanh"),
            *("--frontier_rates=10", "--frontier_min=1", "--frontier_max=2", "--frontier_epochs=3"),
        ]
    )
    assert task == "backprop"
    assert config == BackpropConfig(
        lrs=(3.0, 0.01),
        epochs=7,
        targets=(0.5, 0.5),
        inputs=(-1.0, 2.0),
        precision="float32",
        biases=True,
        activation="tanh",
        weights=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0),
        frontier_rates=10,
        frontier_min=1.0,
        frontier_max=2.0,
        frontier_epochs=3,
        workdir="here",
    )


def test_the_largest_values_allowed_are_allowed():
    BackpropConfig(lrs=(1e-12, 1e12), epochs=24_999)
    BackpropConfig(frontier_rates=2**22, frontier_epochs=100_000, weights=(1e6,) * 8)
    assert math.isclose(BackpropConfig().frontier_max, 1e4)
