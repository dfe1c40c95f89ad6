import ast
import contextlib
import typing
from pathlib import Path

import jax.numpy as jnp
import pytest

from cnn.architecture import (
    FORMS,
    Architecture,
    AveragePool,
    Conv,
    Dense,
    Layer,
    MaxPool,
    Residual,
    count_parameters,
    describe,
    format_table,
    summarize,
)
from cnn.model import Network
from cnn.zoo import ZOO
from harness.errors import UserError
from tests.cnn.test_export import EVERY_LAYER
from tests.recorded.cases import NETWORKS

# The assignments' figures: SEEDS.md, part 2.
PARAMETERS = {
    "plain_4k": 3_816,
    "bn_4k": 3_944,
    "bn_dropout_4k": 3_944,
    "bn_dropout_14k": 14_112,
    "fc_16k": 16_562,
    "deep_15k": 15_738,
    "reduced_19k": 19_290,
    "strided_18k": 18_738,
    "compact_20k": 19_975,
    "small_10k": 9_880,
    "tiny_5k": 4_790,
    "tiny_2k": 2_442,
    "tiny_1k": 1_126,
    "sprint_20k": 19_978,
}
SIDES = {
    "plain_4k": [26, 24, 22, 11, 11, 9, 7, 7, 1],
    "fc_16k": [26, 24, 24, 12, 10, 8, 8, 4, 2, 1],
    "strided_18k": [26, 26, 13, 13, 13, 7, 5, 1],
}


def test_zoo_has_exactly_the_networks_of_the_assignments_and_ours():
    assert set(ZOO) == set(PARAMETERS)


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_zoo_counts_are_those_of_the_documents(name, parameters):
    assert count_parameters(ZOO[name].architecture) == parameters
    assert f"{parameters:,}" in format_table(ZOO[name].architecture).splitlines()[-1]


@pytest.mark.parametrize(("name", "sides"), SIDES.items())
def test_zoo_shapes_are_those_of_the_documents(name, sides):
    rows = zip(ZOO[name].architecture.layers, summarize(ZOO[name].architecture), strict=True)
    assert [
        row.output_shape[0] for layer, row in rows if isinstance(layer, Conv | MaxPool | AveragePool)
    ] == sides


def test_receptive_field_of_bn_dropout_14k():
    rows = zip(
        ZOO["bn_dropout_14k"].architecture.layers, summarize(ZOO["bn_dropout_14k"].architecture), strict=True
    )
    fields = [row.receptive_field for layer, row in rows if isinstance(layer, Conv | MaxPool | AveragePool)]
    assert fields == [3, 5, 7, 8, 8, 12, 16, 16, 28]


def test_the_table_says_which_receptive_fields_are_wider_than_the_image():
    rows = summarize(ZOO["compact_20k"].architecture)
    lines = format_table(ZOO["compact_20k"].architecture).splitlines()[1:-1]
    assert {row.receptive_field > 28 for row in rows} == {True, False}
    for row, line in zip(rows, lines, strict=True):
        wider = "  wider than the image" if row.receptive_field > 28 else ""
        assert line.endswith(f" {row.receptive_field}{wider}")
    exactly = Architecture((Conv(8, 28), Dense(10)))
    assert "wider" not in format_table(exactly)


def test_shared_weights_count_once():
    layers = (Conv(8, 3, padding=1), Conv(8, 3, padding=1), Conv(8, 3, padding=1, shares=1), Dense(10))
    counts = [row.parameters for row in summarize(Architecture(layers))]
    assert counts == [80, 584, 0, 28 * 28 * 8 * 10 + 10]
    assert "conv 8 3x3 pad 1 bias as conv 1" in format_table(Architecture(layers))


@pytest.mark.parametrize(
    "shared",
    [
        *(Conv(8, 3, shares=0), Conv(8, 3, shares=2), Conv(8, 5, shares=1), Conv(8, 3, groups=2, shares=1)),
        Conv(8, 3, bias=False, shares=1),
    ],
)
def test_weights_of_another_shape_or_a_later_layer_cannot_be_shared(shared):
    with pytest.raises(UserError, match=r"layer 3 .* needs the weights of an earlier convolution of"):
        summarize(Architecture((Conv(8, 3), Conv(8, 3), shared)))


def test_groups_see_their_part_of_the_channels():
    layers = (Conv(8, 3), Conv(8, 3, bias=False, groups=8), Conv(12, 3, groups=4), Dense(10))
    rows = summarize(Architecture(layers))
    assert [row.parameters for row in rows[1:3]] == [9 * 8, 9 * 2 * 12 + 12]
    assert describe(layers[1]) == "conv 8 3x3 groups 8"


@pytest.mark.parametrize("layer", [Conv(6, 3, groups=3), Conv(9, 3, groups=8)])
def test_groups_among_which_channels_or_features_do_not_divide_are_refused(layer):
    with pytest.raises(UserError, match=r"layer 2 .* does not fit its input 26x26x8: .* among \d groups"):
        summarize(Architecture((Conv(8, 3), layer)))


class Unknown:
    def __repr__(self):
        return "Unknown()"


@pytest.mark.parametrize(
    "use",
    [
        describe,
        lambda layer: summarize(Architecture((layer,))),
        lambda layer: Network(Architecture((layer,)), "he").init({}, jnp.zeros((1, 28, 28, 1)), train=False),
    ],
)
def test_an_unknown_layer_is_named_beside_those_that_are_known(use, unchecked):
    known = "Crop, Conv, .*ChannelDropout, .*Dense"
    with pytest.raises(TypeError, match=rf"Unknown\(\) is not a layer: the layers are {known}"):
        use(Unknown())


ROOT = Path(__file__).parents[2]
KINDS = set(typing.get_args(Layer))


def with_those_inside(layers):
    for layer in layers:
        yield layer
        yield from with_those_inside(getattr(layer, "layers", ()))


@pytest.mark.parametrize("file", ["cnn/model.py", "cnn/export.py", "tests/cnn/torch_twin.py"])
def test_every_kind_of_layer_has_a_case(file):
    tree = ast.parse((ROOT / file).read_text())
    cases = {
        ast.unparse(node.cls).split(".")[-1] for node in ast.walk(tree) if isinstance(node, ast.MatchClass)
    }
    assert {kind.__name__ for kind in KINDS} <= cases


def test_every_kind_of_layer_has_its_words_and_is_exported_and_compared_with_pytorch():
    assert {form.kind for form in FORMS} | {Residual} == KINDS
    assert {type(layer) for layer in with_those_inside(EVERY_LAYER.layers)} == KINDS
    compared = [
        layer for entry in NETWORKS.values() for layer in with_those_inside(entry.architecture.layers)
    ]
    assert {type(layer) for layer in compared} == KINDS


@pytest.mark.parametrize(
    "layer", {type(each): each for each in with_those_inside(EVERY_LAYER.layers)}.values(), ids=repr
)
@pytest.mark.parametrize("before", [(), (Dense(3),)])
def test_of_every_kind_of_layer_it_is_said_what_fits(layer, before):
    with contextlib.suppress(UserError):  # what does not fit; an unknown layer is a TypeError
        summarize(Architecture((*before, layer), (1, 1, 1)))
