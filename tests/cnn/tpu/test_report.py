"""What --task=tpu prints of a compiled program, without libtpu; make_program.py had it make the text."""

from collections import Counter
from pathlib import Path

from cnn.tpu.report import communication, compile_time

TEXT = (Path(__file__).parent / "program.hlo.txt").read_text()


def test_what_a_step_does_is_told_from_what_is_done_once():
    figures = communication(TEXT)
    assert figures.in_step == Counter({"all-reduce": 1})  # two means, which the compiler combined
    assert figures.outside == Counter({"all-reduce": 1})


def test_a_callback_is_two_host_transfers():
    without = "\n".join(line for line in TEXT.splitlines() if "is_host_transfer=true" not in line)
    assert communication(TEXT).host_transfers == 2  # what it sends, and the token that comes back
    assert communication(without).host_transfers == 0


def test_the_compile_time_is_the_sum_of_what_a_run_compiles():
    """A step by itself is compiled for the report alone."""
    seconds = {"initialisation": 1.0, "epoch": 30.0, "step": 25.0, "evaluation": 8.5}
    assert compile_time(seconds) == (
        "39.5 s of CPU time: initialisation 1.0, epoch 30.0, evaluation 8.5 (a step alone 25.0)"
    )
