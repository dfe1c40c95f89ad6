"""The reader of HLO, on the text of a small program that libtpu compiled (make_program.py)."""

import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn.tpu import hlo
from cnn.tpu.analysis import read_program
from tests.cnn.tpu.make_program import CHOSEN

TEXT = (Path(__file__).parent / "program.hlo.txt").read_text()


def test_what_a_step_does_is_told_from_what_is_done_once():
    figures = read_program(hlo.parse(TEXT))

    assert figures.collectives == Counter({"all-reduce": 1})  # two means, which the compiler combined
    assert figures.collectives_outside == Counter({"all-reduce": 1})
    assert figures.gathered == CHOSEN
    assert figures.cycles > 0


def test_a_callback_is_two_host_transfers():
    without = "\n".join(line for line in TEXT.splitlines() if "is_host_transfer=true" not in line)

    assert read_program(hlo.parse(TEXT)).host_transfers == 2  # what it sends, and the token that comes back
    assert read_program(hlo.parse(without)).host_transfers == 0


def test_a_convolution_is_found_with_its_factors_and_its_tiles():
    (product,) = read_program(hlo.parse(TEXT)).products

    assert (product.layer, product.backward, product.operands) == ("Conv_0", False, ("bf16", "f32"))
    assert product.result.shape == (8, 26, 26, 16)
    assert product.result.physical == (26, 26, 8, 16)  # the 16 features lie along the 128 lanes
    assert product.result.padded_bytes == 8 * product.result.bytes


def test_the_loop_over_steps_is_missed():
    with pytest.raises(ValueError, match="no loop of this program multiplies matrices"):
        hlo.parse(TEXT.replace(" convolution(", " add(")).step_loop()


@pytest.mark.parametrize(
    ("result", "values", "tiles"),
    [
        ("f32[8,26,26,16]{3,0,2,1:T(8,128)}", 8 * 26 * 26 * 16 * 4, 26 * 26 * 8 * 128 * 4),
        ("bf16[16,10]{0,1:T(8,128)(2,1)S(1)}", 16 * 10 * 2, 16 * 128 * 2),
        ("f32[3,3,1,16]{3,2,1,0:T(2,128)}", 3 * 3 * 16 * 4, 3 * 3 * 2 * 128 * 4),
        ("s32[24]{0:T(256)}", 24 * 4, 256 * 4),
        ("pred[5]", 5, 5),
        ("(f32[4]{0:T(256)}, /*index=1*/u8[4]{0:T(256)})", 4 * 4 + 4, 256 * 4 + 256),
    ],
)
def test_bytes_of_values_and_of_tiles(result, values, tiles):
    found = hlo.arrays(result)

    assert sum(array.bytes for array in found) == values
    assert sum(array.padded_bytes for array in found) == tiles


@given(st.lists(st.integers(1, 300), min_size=1, max_size=4), st.integers(1, 8), st.integers(1, 256))
def test_tiles_hold_the_values_and_waste_less_than_a_tile_along_each_axis(shape, rows, lanes):
    array = hlo.TiledArray("f32", tuple(shape), tuple(shape), (rows, lanes))
    *leading, row_count, lane_count = [1, *shape]

    assert array.padded_bytes % (4 * rows * lanes) == 0
    assert array.bytes <= array.padded_bytes
    assert array.padded_bytes < 4 * math.prod(leading) * (row_count + rows) * (lane_count + lanes)
