import math

import pytest

from backprop.config import BackpropConfig
from errors import UserError
from launch import parse

WRONG = {
    # lrs
    "--lrs=": "number",
    "--lrs=fast": "'fast' is not a number",
    "--lrs=0.1,,0.2": "is not a number",
    "--lrs=0.1;0.2": "is not a number",
    "--lrs=0": "--lrs has 0",
    "--lrs=-0.1": "--lrs has -0.1",
    "--lrs=0.1,-0.2": "--lrs has -0.2",
    "--lrs=nan": "--lrs has nan",
    "--lrs=inf": "--lrs has inf",
    "--lrs=1e13": "--lrs has 1e+13",
    "--lrs=1e-13": "--lrs has 1e-13",
    "--lrs=0.1,0.2,0.1": "--lrs has 0.1 twice",
    "--lrs=0.1,0.10": "--lrs has 0.1 twice",
    "--lrs=" + ",".join(str(n) for n in range(1, 102)): "101 learning rates: give 1 to 100",
    # epochs
    "--epochs=": "is not a whole number",
    "--epochs=ten": "is not a whole number",
    "--epochs=1.5": "is not a whole number",
    "--epochs=1e2": "is not a whole number",
    "--epochs=0": "--epochs=0",
    "--epochs=-1": "--epochs=-1",
    "--epochs=8333": "--epochs=8333 with 6 learning rates",
    "--lrs=1 --epochs=50000": "--epochs=50000 with 1 learning rates",
    # inputs, targets, weights
    "--inputs=1,2,3,4,5,6,7,8,9": "--inputs has 9 numbers: give 1 to 8",
    "--inputs=": "number",
    "--inputs=a,b": "'a' is not a number",
    "--inputs=nan,0": "--inputs has nan",
    "--inputs=0,inf": "--inputs has inf",
    "--inputs=1e7,0": "--inputs has 1e+07",
    "--targets=0.01": "--targets has 1 numbers: give 2",
    "--targets=0.01,0.99,0": "--targets has 3 numbers: give 2",
    "--targets=-inf,0": "--targets has -inf",
    "--targets=0,-1e7": "--targets has -1e+07",
    "--targets=0,x": "'x' is not a number",
    "--weights=1,2,3,4,5,6,7": "--weights has 7 numbers: give 8",
    "--weights=1,2,3,4,5,6,7,8,9": "--weights has 9 numbers: give 8",
    "--weights=1,2,3,4,5,6,7,nan": "--weights has nan",
    "--weights=1,2,3,4,5,6,7,1e300": "--weights has 1e+300",
    "--weights=1,2,3,4,5,6,7,w8": "'w8' is not a number",
    # the network
    "--hidden=0": "--hidden=0: give 1 to 8 neurons",
    "--hidden=9": "--hidden=9: give 1 to 8 neurons",
    "--hidden=-1": "--hidden=-1: give 1 to 8",
    "--hidden=two": "'two' is not a whole number",
    "--hidden=2.5": "is not a whole number",
    "--hidden=": "is not a whole number",
    "--outputs=0": "--outputs=0: give 1 to 8 neurons",
    "--outputs=9": "--outputs=9: give 1 to 8 neurons",
    "--outputs=1e1": "is not a whole number",
    "--outputs=3": "--targets has 2 numbers: give 3",
    "--outputs=1 --targets=0.1,0.2": "--targets has 2 numbers: give 1",
    "--hidden=3 --weights=1,2,3,4,5,6,7,8": "--weights has 8 numbers: give 12",
    "--inputs=1,2,3 --weights=1,2,3,4,5,6,7,8": "--weights has 8 numbers: give 10",
    "--biases --weights=1,2,3,4,5,6,7,8,9,10,11,12": "--weights has 12 numbers: give 8",
    "--biases=perhaps": "'perhaps' is not true or false",
    "--activation=": "choose one of sigmoid, tanh, relu",
    "--activation=rleu": "did you mean relu?",
    "--activation=step": "choose one of sigmoid, tanh, relu",
    "--hidden=8 --biases --epochs=3000": "give 1 to 2326 epochs (the spreadsheet holds 13963 rows)",
    # precision
    "--precision=": "choose one of float64, float32",
    "--precision=float16": "choose one of float64, float32",
    "--precision=double": "choose one of float64, float32",
    "--precision=Float64": "did you mean float64?",
    "--precision=64": "choose one of float64, float32",
    # the frontier
    "--frontier_rates=1": "--frontier_rates=1: give 2 to",
    "--frontier_rates=0": "--frontier_rates=0",
    "--frontier_rates=-5": "--frontier_rates=-5",
    "--frontier_rates=4194305": "--frontier_rates=4194305",
    "--frontier_rates=1e5": "is not a whole number",
    "--frontier_min=0": "--frontier_min has 0",
    "--frontier_min=-1": "--frontier_min has -1",
    "--frontier_min=nan": "--frontier_min has nan",
    "--frontier_min=x": "is not a number",
    "--frontier_max=inf": "--frontier_max has inf",
    "--frontier_max=0": "--frontier_max has 0",
    "--frontier_max=": "is not a number",
    "--frontier_min=10 --frontier_max=1": "--frontier_min=10 is not below --frontier_max=1",
    "--frontier_min=1 --frontier_max=1": "--frontier_min=1 is not below --frontier_max=1",
    "--frontier_max=0.001": "--frontier_min=0.001 is not below --frontier_max=0.001",
    "--frontier_epochs=0": "--frontier_epochs=0",
    "--frontier_epochs=-1": "--frontier_epochs=-1",
    "--frontier_epochs=100001": "--frontier_epochs=100001",
    "--frontier_epochs=many": "is not a whole number",
    # flags
    "--lr=0.1": "lr",
    "--model=fc_16k": "--model is not a flag of --task=backprop",
    "0.1": "belongs to no flag",
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
