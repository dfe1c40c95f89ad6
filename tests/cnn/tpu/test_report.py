"""What --task=tpu prints of a compiled program, without libtpu."""

from cnn.tpu import hlo
from cnn.tpu.analysis import read_program
from cnn.tpu.report import _compile_time, _products
from tests.cnn.tpu.test_analysis import TEXT


def test_equal_products_are_one_line_with_their_number():
    (convolution,) = read_program(hlo.parse(TEXT)).products
    other = convolution._replace(layer="Conv_1")
    heading, first, second = _products((convolution, other, *[convolution] * 39))
    assert heading.startswith("matrix product")
    assert first == _products((convolution,))[1] + ": 40 times"
    assert second == _products((other,))[1]
    assert second.startswith("Conv_1 forward")
    assert "times" not in second


def test_the_compile_time_is_the_sum_of_what_a_run_compiles():
    """A step by itself is compiled for the report alone."""
    seconds = {"initialisation": 1.0, "epoch": 30.0, "step": 25.0, "evaluation": 8.5}
    assert _compile_time(seconds) == (
        "39.5 s of CPU time: initialisation 1.0, epoch 30.0, evaluation 8.5 (a step alone 25.0)"
    )
