"""The words of a network read both ways, and every wrong word named with its place."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import launch
from cnn import architecture, export, model, task, train
from cnn.architecture import (
    GELU,
    Architecture,
    AveragePool,
    BatchNorm,
    ChannelDropout,
    ConcatPool,
    Conv,
    Crop,
    Dense,
    Dropout,
    LeakyReLU,
    MaxPool,
    ReLU,
    Residual,
    SiLU,
    count_parameters,
    describe,
    format_table,
    summarize,
)
from cnn.config import CnnConfig
from cnn.experiment import resolve
from cnn.text import MOST_LAYERS, LayersError, format_layers, on_one_line, parse
from cnn.zoo import DEFAULT, ZOO
from demo.trained import load
from harness.errors import UserError
from harness.workdir import write_config

NUMBERS = st.integers(1, 100_000)
KINDS = (
    st.builds(Crop, NUMBERS),
    st.builds(
        Conv,
        NUMBERS,
        NUMBERS,
        stride=st.sampled_from([1, 2, 100_000]),
        padding=st.sampled_from([0, 1, 100_000]),
        bias=st.booleans(),
        shares=st.none() | st.integers(0, 100_000),
        groups=st.sampled_from([1, 2, 100_000]),
    ),
    st.builds(BatchNorm),
    st.builds(ReLU),
    st.builds(SiLU),
    st.builds(GELU),
    st.builds(LeakyReLU, st.floats(0, 1)),
    st.builds(Dropout, st.floats(0, 1, exclude_max=True)),
    st.builds(ChannelDropout, st.floats(0, 1, exclude_max=True)),
    st.builds(MaxPool, NUMBERS),
    st.builds(AveragePool, st.none() | NUMBERS),
    st.builds(ConcatPool),
    st.builds(Dense, NUMBERS, st.booleans()),
)
LAYERS = st.lists(
    st.recursive(
        st.one_of(KINDS),
        lambda inside: st.builds(Residual, st.lists(inside, min_size=1, max_size=3).map(tuple)),
        max_leaves=5,
    ),
    min_size=1,
    max_size=8,
).map(tuple)


@given(LAYERS)
def test_parsing_and_printing_are_inverses(layers):
    text = format_layers(layers)
    assert parse(text) == layers
    assert format_layers(parse(text)) == text


@given(LAYERS, st.data())
def test_case_spaces_line_ends_and_comments_change_nothing(layers, drawn):
    """Each word in another case, with other spaces between words and other separators between layers."""
    space = st.sampled_from([" ", "  ", "\t", "\r "])
    between = st.sampled_from([",", " ,", "\n", " # a comment, ReLU (\n\n", ",\n,"])
    text = ""
    for word in format_layers(layers).replace("(", "( ").replace(")", " )").replace(",", " , ").split():
        changed = drawn.draw(st.sampled_from([str.upper, str.lower, str.title]))(word)
        text += drawn.draw(between) if word == "," else drawn.draw(space) + changed
    assert parse(text) == layers
    assert parse(on_one_line(text)) == layers


def test_the_tables_words_are_the_languages():
    """What --describe prints of each layer is the text of that layer; a residual's rows are its text."""
    layers = parse("conv 4 3x3, 2 x (residual (conv 4 3x3 pad 1, leaky ReLU), GELU), dense 10 bias")
    first_column = [line.split("  ")[0] or line for line in format_table(Architecture(layers)).splitlines()]
    assert first_column[-1] == "total"
    lines = format_table(Architecture(layers)).splitlines()[1:-1]
    width = lines[0].index("26x26x4")
    assert parse("\n".join(line[:width] for line in lines)) == layers


def test_every_kind_of_layer_is_in_the_language():
    assert {type(parse(describe(layer))[0]) for layer in SOME_OF_EACH} == set(KNOWN)
    assert set(KNOWN) == set(architecture.Layer.__args__)


KNOWN = (Crop, Conv, BatchNorm, ReLU, SiLU, GELU, LeakyReLU, Dropout, ChannelDropout, MaxPool, AveragePool)
KNOWN += (ConcatPool, Dense, Residual)
SOME_OF_EACH = (
    *(Crop(1), Conv(1, 1), BatchNorm(), ReLU(), SiLU(), GELU(), LeakyReLU(), Dropout(0.5), MaxPool()),
    *(ChannelDropout(0.5), AveragePool(), ConcatPool(), Dense(1), Residual((ReLU(),))),
)


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("conv 16 3x3 stride 2 pad 1 bias as conv 3", (Conv(16, 3, 2, 1, True, 3),)),
        ("conv 16 3 x 3 bias as conv 3 pad 1 stride 2", (Conv(16, 3, 2, 1, True, 3),)),
        ("CONV 16 3X3", (Conv(16, 3, bias=False),)),
        ("batch norm\nrelu\nSiLU\ngelu", (BatchNorm(), ReLU(), SiLU(), GELU())),
        ("leaky ReLU, leaky relu 0.2", (LeakyReLU(0.01), LeakyReLU(0.2))),
        ("dropout 0.05, channel dropout 3e-2", (Dropout(0.05), ChannelDropout(0.03))),
        ("max pool, max pool 2x2, max pool 3x3", (MaxPool(2), MaxPool(2), MaxPool(3))),
        ("average pool 2x2, global average pool", (AveragePool(2), AveragePool(None))),
        ("global average and max pool", (ConcatPool(),)),
        ("dense 10, dense 10 bias", (Dense(10, bias=False), Dense(10, bias=True))),
        ("crop 2", (Crop(2),)),
        ("conv 16 3x3 groups 4", (Conv(16, 3, bias=False, groups=4),)),
        ("2 x (conv 4 3x3, ReLU)", (Conv(4, 3, bias=False), ReLU()) * 2),
        ("2x(3 x(ReLU),SiLU)", (ReLU(), ReLU(), ReLU(), SiLU()) * 2),
        ("2 x (\n  ReLU   # one\n\n  SiLU,\n)", (ReLU(), SiLU()) * 2),
        ("residual ( ReLU, residual(SiLU) )", (Residual((ReLU(), Residual((SiLU(),)))),)),
        ("2 x (conv 4 1x1 as conv 0)", (Conv(4, 1, bias=False, shares=0),) * 2),
    ],
)
def test_what_a_text_says(text, layers):
    assert parse(text) == layers


@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_is_written_and_read(name):
    layers = ZOO[name].architecture.layers
    assert parse(format_layers(layers)) == layers
    repeated = resolve(CnnConfig(layers=format_layers(layers), enforce_budget=False))
    assert repeated.architecture == ZOO[name].architecture


# A wrong text; the word that is named, its line and column, and what is said of it.
WRONG = [
    ("", "the text's end", 1, 1, "comes before any layer"),
    ("# nothing\n\n", "the text's end", 3, 1, "comes before any layer"),
    ("cnv 16 3x3", "'cnv'", 1, 1, "is not a layer (did you mean conv?): the layers are crop, conv,"),
    ("ReLU, batchnorm", "'batchnorm'", 1, 7, "did you mean batch norm?"),
    ("ReLU\n  avg pool 2x2", "'avg'", 2, 3, "did you mean average pool?"),
    ("Linear 10", "'Linear'", 1, 1, "did you mean dense?"),
    ("Dropout2d 0.1", "'Dropout2d'", 1, 1, "did you mean channel dropout?"),
    ("16 3x3", "'16'", 1, 1, "is not a layer: the layers are"),
    ("(ReLU)", "'('", 1, 1, "is not a layer: the layers are"),
    ("conv", "the text's end", 1, 5, "conv needs its features, a whole number from 1 to 100,000: write conv"),
    ("conv 16\nReLU", "the line's end", 1, 8, "conv needs its kernel, written as 3x3"),
    ("conv sixteen 3x3", "'sixteen'", 1, 6, "conv needs its features"),
    ("conv 16 3", "'3'", 1, 9, "conv needs its kernel, written as 3x3"),
    ("conv 16 3x5", "'3x5'", 1, 9, "conv needs its kernel, written as 3x3"),
    ("conv 0 3x3", "'0'", 1, 6, "a whole number from 1 to 100,000"),
    ("conv 16 3x3 strid 2", "'strid'", 1, 13, "is not part of conv (did you mean stride?): what may follow"),
    ("conv 16 3x3 pad", "the text's end", 1, 16, "pad needs its number, a whole number from 0"),
    ("conv 16 3x3 pad -1", "'-1'", 1, 17, "pad needs its number, a whole number from 0"),
    ("conv 16 3x3 bias bias", "'bias'", 1, 18, "is there twice"),
    ("conv 16 3x3 as 3", "'3'", 1, 16, "is not how as conv goes on"),
    ("conv 16 3x3 ReLU", "'ReLU'", 1, 13, "begins another layer: put a comma or a line's end before it"),
    ("max pool batch norm", "'batch'", 1, 10, "begins another layer"),
    ("batch normal", "'normal'", 1, 7, "follows batch: write batch norm"),
    ("global max pool", "'max'", 1, 8, "write global average pool or global average and max pool"),
    ("average pool", "the text's end", 1, 13, "average pool needs its window, written as 3x3"),
    ("dropout", "the text's end", 1, 8, "a probability from 0 to below 1"),
    ("dropout 5%", "'5%'", 1, 9, "a probability from 0 to below 1"),
    ("dropout 1", "'1'", 1, 9, "a probability from 0 to below 1"),
    ("channel dropout nan", "'nan'", 1, 17, "a probability from 0 to below 1"),
    ("leaky ReLU 2", "'2'", 1, 12, "a number from 0 to 1: write leaky ReLU [SLOPE]"),
    ("dense 10 bais", "'bais'", 1, 10, "is not part of dense (did you mean bias?)"),
    ("dense 10.0", "'10.0'", 1, 7, "dense needs its features"),
    ("dense ٣", "'٣'", 1, 7, "dense needs its features"),
    (f"dense {'9' * 5000}", f"'{'9' * 40}...'", 1, 7, "from 1 to 100,000"),
    ("ReLU ; SiLU", "';'", 1, 6, "is not part of ReLU: what may follow is a comma or a line's end"),
    ("ReLU)", "')'", 1, 5, "closes nothing"),
    ("ReLU,\n2 x (SiLU", "'('", 2, 5, "is never closed"),
    ("2 x ReLU", "'ReLU'", 1, 5, "write its layers in brackets, 2 x ( ... )"),
    ("2 x ()", "')'", 1, 6, "without a layer"),
    ("residual", "the text's end", 1, 9, "write its layers in brackets, residual ( ... )"),
    ("residual (,)", "')'", 1, 12, "without a layer"),
    ("residual (ReLU) SiLU", "'SiLU'", 1, 17, "follows a closing bracket: put a comma"),
    ("0 x (ReLU)", "'0 x'", 1, 1, "give a whole number from 1 to 1,000"),
    (f"{'9' * 5000} x (ReLU)", f"'{'9' * 40}...'", 1, 1, "give a whole number from 1 to 1,000"),
    ("1000 x (1000 x (1000 x (ReLU)))", "'1000 x'", 1, 9, "a network has at most 1,000 layers"),
    ("20 x (residual (50 x (ReLU)))", "'20 x'", 1, 1, "a network has at most 1,000 layers"),
    ("1000 x (ReLU), SiLU", "'SiLU'", 1, 16, "a network has at most 1,000 layers"),
    ("1 x (" * 21 + "ReLU", "'('", 1, 105, "at most 20 are read"),
]


@pytest.mark.parametrize(("text", "word", "line", "column", "said"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_text_is_one_line_that_names_word_and_place(text, word, line, column, said):
    with pytest.raises(LayersError) as caught:
        parse(text)
    message = str(caught.value)
    assert message.startswith(f"{word} (line {line}, column {column}) ")
    assert said in message
    assert message.isprintable()
    assert len(message) < 400
    assert (caught.value.line, caught.value.column) == (line, column)
    rest = "\n".join(text.split("\n")[line - 1 :])[column - 1 :]
    assert rest.startswith(caught.value.word)
    assert caught.value.word or not rest


VOCABULARY = [
    *sorted({word for layer in SOME_OF_EACH for word in describe(layer).split()}),
    *("2 x", "(", ")", ",", "\n", "3x3", "stride", "pad", "as conv", "0", "-1", "1e9", "#", "x", "ReLU,", ""),
]


@settings(max_examples=500)
@given(st.lists(st.sampled_from(VOCABULARY), max_size=12).map(" ".join) | st.text(max_size=30))
@example("2 x (" * 500)
@example("(" * 500)
def test_any_text_is_layers_or_one_line(text):
    error = None
    try:
        layers = parse(text)
    except LayersError as raised:
        error = raised
    if error is None:
        assert parse(format_layers(layers)) == layers
        assert parse(on_one_line(text)) == layers
        assert on_one_line(text).isprintable()
    else:
        assert str(error).isprintable()
        assert 1 <= error.line <= text.count("\n") + 1


@given(st.lists(st.integers(1, 60), min_size=1, max_size=5))
def test_repetitions_multiply_up_to_a_limit(counts):
    text = "ReLU"
    for count in counts:
        text = f"{count} x ({text})"
    if np.prod(counts) <= MOST_LAYERS:
        assert parse(text) == (ReLU(),) * int(np.prod(counts))
    else:
        with pytest.raises(LayersError, match="a network has at most 1,000 layers"):
            parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "conv 8 29x29",
            "layer 1 (conv 8 29x29) does not fit its input 28x28x1: give a kernel of at most 28x28",
        ),
        (
            "crop 12, conv 8 7x7",
            "layer 2 (conv 8 7x7) does not fit its input 4x4x1: give a kernel of at most 4x4, or pad 2",
        ),
        ("crop 14", "layer 1 (crop 14) does not fit its input 28x28x1: crop at most 13"),
        ("global average pool, crop 1", "layer 2 (crop 1) does not fit its input 1x1x1: leave it out"),
        (
            "max pool 29x29",
            "layer 1 (max pool 29x29) does not fit its input 28x28x1: give a window of at most 28x28",
        ),
        ("dense 10, max pool", "layer 2 (max pool 2x2) does not fit its input 10: it needs height x width"),
        (
            "dense 10, channel dropout 0.1",
            "layer 2 (channel dropout 0.1) does not fit its input 10: it needs height",
        ),
        ("residual (conv 8 3x3 pad 1)", "makes 28x28x8 of its input 28x28x1: a residual adds the two"),
        (
            "conv 2 3x3, residual (ReLU, conv 2 3x3)",
            "layer 2 (residual (ReLU, conv 2 3x3)) makes 24x24x2 of its input",
        ),
        ("residual (ReLU, crop 14)", "layer 1.2 (crop 14) does not fit its input 28x28x1"),
        (
            "conv 8 3x3, conv 8 3x3 pad 1, conv 8 3x3 pad 1, conv 8 3x3 as conv 0",
            "layer 4 (conv 8 3x3 as conv 0) needs the weights of an earlier convolution of 3x3 from 8 to 8 "
            "features without bias: write as conv 1 or as conv 2",
        ),
        ("conv 8 3x3 as conv 0", "there is none, leave out as conv 0"),
    ],
)
def test_a_layer_that_does_not_fit_names_itself_its_input_and_what_would(text, message):
    with pytest.raises(UserError) as caught:
        summarize(Architecture(parse(text)))
    assert message in str(caught.value)


def test_a_residual_counts_its_layers_once_and_sees_the_larger_of_both_paths():
    rows = summarize(
        Architecture(parse("conv 4 3x3, residual (conv 4 5x5 pad 2 bias, conv 4 3x3 pad 1), ReLU"))
    )
    assert [row.parameters for row in rows] == [36, 4 * 100 + 4 + 4 * 36, 0]
    assert [row.parameters for row in rows[1].inside] == [404, 144]
    assert [row.receptive_field for row in rows] == [3, 9, 9]


def test_convolutions_are_counted_over_the_whole_network():
    """In residuals and repetitions, too; the names of the weights count alike."""
    text = (
        "conv 4 3x3, residual (conv 4 3x3 pad 1, ReLU, conv 4 3x3 pad 1), 2 x (conv 4 3x3 pad 1 as conv 2), "
        "conv 4 3x3 pad 1, batch norm, dense 10"
    )
    network = model.Network(Architecture(parse(text)), "torch")
    variables = jax.eval_shape(
        lambda: network.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)), train=False)
    )
    assert set(variables["params"]) == {"Conv_0", "Conv_1", "Conv_2", "Conv_5", "Normalization_0", "Dense_0"}
    assert count_parameters(network.architecture) == sum(
        leaf.size for leaf in jax.tree.leaves(variables["params"])
    )


@dataclasses.dataclass(frozen=True)
class Forgotten:
    """A kind of layer that nothing knows."""


def test_a_kind_of_layer_that_was_forgotten_raises_wherever_it_was(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would refuse the type at once
    network = model.Network(Architecture((Forgotten(),)), "torch")
    setup = train.Config(network, ZOO["bn_4k"].recipe, 1, 0.1, 0.3)
    row = architecture.LayerSummary("forgotten", (28, 28, 1), 0, 1)
    places = (
        lambda: describe(Forgotten()),
        lambda: architecture._effect(Forgotten(), (28, 28, 1)),
        lambda: network.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)), train=False),
        lambda: export.to_onnx({}, name="forgotten", config=setup),
    )
    monkeypatch.setattr(architecture, "summarize", lambda _: (row,))
    for place in places:
        with pytest.raises(TypeError, match=r"Forgotten\(\) is not a layer: the layers are Crop, Conv"):
            place()


@pytest.mark.torch
def test_a_kind_of_layer_that_pytorchs_twin_lacks_raises(monkeypatch, unchecked):
    from tests.cnn import torch_twin

    row = architecture.LayerSummary("forgotten", (28, 28, 1), 0, 1)
    monkeypatch.setattr(torch_twin, "summarize", lambda _: (row,))
    with pytest.raises(TypeError, match=r"Forgotten\(\) is not a layer: the layers are Crop, Conv"):
        torch_twin.build(Architecture((Forgotten(),)))


# Runs whose network is a text.

MINE = """# two blocks, then the classes
conv 8 5x5 stride 2, batch norm, leaky ReLU
2 x (
  residual (conv 8 3x3 pad 1, batch norm, GELU, dropout 0.05)  # the same twice
)
max pool 2x2
global average and max pool, dense 10 bias
"""
ONE_LINE = (
    "conv 8 5x5 stride 2, batch norm, leaky ReLU, 2 x (residual (conv 8 3x3 pad 1, batch norm, GELU, "
    "dropout 0.05)), max pool 2x2, global average and max pool, dense 10 bias"
)


def parsed(*flags):
    return resolve(launch.parse(["launch.py", "--task=mnist", *flags])[1])


def test_a_file_and_a_text_are_one_network_with_the_defaults_recipe(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text(MINE)
    one_line = format_layers(parse(MINE))
    for experiment in (parsed(f"--model={file}", "--epochs=3"), parsed(f"--layers={one_line}", "--epochs=3")):
        assert experiment.architecture == Architecture(parse(MINE))
        assert (experiment.flags.model, experiment.name) == (None, "custom")
        assert experiment.recipe == dataclasses.replace(ZOO[DEFAULT].recipe, epochs=3)
        assert DEFAULT in experiment.note


def test_a_file_need_not_end_in_txt_and_may_come_from_windows(tmp_path):
    file = tmp_path / "mine"
    file.write_bytes(b"\xef\xbb\xbf" + MINE.replace("\n", "\r\n").encode())
    assert parsed(f"--model={file}").architecture == Architecture(parse(MINE))


def test_an_unreadable_file_is_one_line(tmp_path):
    file = tmp_path / "mine.txt"
    for content, message in (
        (b"\xff", "is no text"),
        (b"ReLU," * 30_000, "is longer than 100,000 bytes"),
        (b"ReLU\nSilu,\n cnv", r"mine.txt: 'cnv' \(line 3, column 2\) is not a layer"),
    ):
        file.write_bytes(content)
        with pytest.raises(UserError, match=message):
            parsed(f"--model={file}")


def test_a_run_keeps_its_text_whatever_becomes_of_the_file(tmp_path):
    file, workdir = tmp_path / "mine.txt", tmp_path / "run"
    workdir.mkdir()
    file.write_text(MINE)
    again = [f"--workdir={workdir}", "--resume"]
    write_config(workdir, "mnist", parsed(f"--model={file}").flags, device="CPU")
    assert json.loads((workdir / "config.json").read_text())["flags"]["layers"] == ONE_LINE
    for flags in (again, [f"--model={file}", *again], [f"--layers={ONE_LINE}", *again]):
        experiment = parsed(*flags)
        assert experiment.flags.layers == ONE_LINE
        task.require_new_or_same(experiment, workdir)
    file.write_text("dense 10 bias")
    with pytest.raises(UserError, match="is not the text of --layers, which a run that goes on has kept"):
        parsed(f"--model={file}", *again)
    with pytest.raises(
        UserError, match=r"--model=bn_4k and --layers exclude each other: give one \(a run that"
    ):
        parsed("--model=bn_4k", *again)
    with pytest.raises(UserError, match=r"--layers=dense 10 bias is not what the run in .* has"):
        task.require_new_or_same(parsed("--layers=dense 10 bias", *again), workdir)
    file.unlink()
    assert parsed(*again).flags.layers == ONE_LINE
    assert parsed(f"--flagfile={workdir / 'flags.txt'}").flags.layers == ONE_LINE


@pytest.mark.slow
def test_a_written_network_is_trained_resumed_evaluated_exported_compared_and_shown(small, tmp_path, capsys):
    """Through the command line of every task that works on a run; without the parts that compile longest."""
    capsys.readouterr()
    file, workdir = tmp_path / "mine.txt", tmp_path / "run"
    file.write_text(MINE)
    mine = [*small, f"--model={file}", "--optimizer=sgd", "--elastic=0", "--epochs=2"]

    def launched(*flags, task="mnist"):
        assert launch.main(["launch.py", f"--task={task}", f"--workdir={workdir}", *flags]) == 0
        return capsys.readouterr().out

    shown = launched(*mine)
    note = f"by --layers or a file, trained by the recipe of {DEFAULT} and the flags given"
    assert shown.startswith(f"custom: {note}\n")
    assert format_table(Architecture(parse(MINE))) in shown
    file.unlink()
    summary = json.loads((workdir / "summary.json").read_text())
    assert (summary["model"], summary["parameters"]) == (
        "custom",
        count_parameters(Architecture(parse(MINE))),
    )
    assert "restored the checkpoint after 2 epochs" in launched("--resume")
    exported = launched("--eval_only", f"--export={tmp_path / 'exported'}")
    assert f"test accuracy {summary['final_test_accuracy']:.2%}" in exported
    description = json.loads((tmp_path / "exported" / "export.json").read_text())
    assert description["model"] == "custom"
    assert max(description["largest_difference"].values()) <= 1e-5
    compared = launched(f"--against={workdir}", task="compare")
    assert "custom (workdir)" in compared
    assert "no significant difference" in compared
    trained = load(str(workdir))
    assert trained.logits.shape == (250, 10)
    correct = trained.logits.argmax(-1) == trained.run.splits["test"].labels
    assert correct.mean() == pytest.approx(summary["final_test_accuracy"])
