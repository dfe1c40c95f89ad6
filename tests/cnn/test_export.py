"""What is exported is read back with the formats' own libraries, and computes what the network computes."""

import dataclasses
import json
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict

import launch
from cnn import data, export, results, task, train
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
)
from cnn.model import Network
from cnn.recipe import Recipe
from cnn.zoo import ZOO
from harness.errors import UserError
from tests.cnn.test_events import events

EPS = float(np.finfo(np.float32).eps)
EVERY_LAYER = Architecture(
    (
        Crop(1),
        Conv(6, 3, stride=2, padding=1),
        BatchNorm(),
        Crop(2),
        Dropout(0.5),
        ChannelDropout(0.5),
        ReLU(),
        AveragePool(2),
        SiLU(),
        Conv(6, 3, padding=1, bias=False, groups=3),
        Residual(
            (Conv(6, 3, padding=1), LeakyReLU(0.2), Residual((GELU(),)), Conv(6, 3, padding=1, shares=2))
        ),
        MaxPool(3),
        ConcatPool(),
        Conv(5, 2, padding=2, bias=False),
        Dense(7, bias=False),
        Residual((BatchNorm(plain=True), ReLU(), Dense(7))),
        Dense(10),
    )
)


@pytest.fixture(scope="module")
def test_images():
    return data.load("mnist", None).test


@pytest.fixture
def exported(default_run):
    """The folders of a run and of what it exported, and what the terminal showed."""
    return default_run / "run", default_run / "exported", (default_run / "output").read_text()


@pytest.fixture
def tested_images(default_run):
    return data.load("tiny_mnist", str(default_run / "data")).test


def make_setup(architecture):
    return train.Config(Network(architecture, "torch"), Recipe(epochs=1, batch_size=1), 1, 0.1307, 0.3081)


def random_variables(setup):
    state = train.init_state.eval_shape(setup, jax.random.key(0))
    generator = np.random.default_rng(3)

    def draw(path, leaf):
        fan_in = leaf.size // leaf.shape[-1]
        bound = max(0.3, (6 / fan_in) ** 0.5 if leaf.ndim > 1 else 0)  # smaller, and depthwise maps fade out
        low, high = (0.5, 2) if path[-1].key in ("scale", "var") else (-bound, bound)
        return generator.uniform(low, high, leaf.shape).astype(np.float32)

    return jax.tree.map_with_path(draw, {"params": state.params, "batch_stats": state.batch_stats})


def assert_same_logits(found, expected):
    """A logit is rounded as the largest is: it may be the difference of terms as large."""
    assert np.abs(found - expected).max() <= export.allowed(float(np.abs(expected).max()))


def run_onnx(content, images):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images.astype(np.float32)})[0]


@pytest.mark.numeric
@pytest.mark.parametrize(
    "architecture",
    [  # EVERY_LAYER has each kind of layer, the named ones shared and depthwise convolutions
        EVERY_LAYER,
        *(
            name if name in ("compact_20k", "tiny_2k") else pytest.param(name, marks=pytest.mark.slow)
            for name in ZOO
        ),
    ],
    ids=lambda each: str(each)[:14],
)
def test_onnx_computes_what_the_network_computes(architecture, test_images):
    setup = make_setup(architecture if architecture is EVERY_LAYER else ZOO[architecture].architecture)
    variables, images = random_variables(setup), test_images.images[:300]
    content = export.to_onnx(variables, name="random", config=setup).SerializeToString()
    ours = np.asarray(jax.jit(lambda images: train.predict(variables, images, config=setup))(images))
    theirs, exact = run_onnx(content, images), export.exact_logits(variables, images, config=setup)
    assert np.ptp(exact, axis=0).min() > 1e-3
    assert_same_logits(ours, exact)
    assert_same_logits(theirs, exact)
    assert_same_logits(run_onnx(content, images[:1]), theirs[:1])


def our_logits(workdir, images):
    """The variables and the logits of the run's last checkpoint, without cnn.export."""
    run, result = task.load(task.experiment_of(str(workdir)))
    state, setup = results.state_of(result, 0), run.config
    evaluation = train.evaluate(state, jax.device_put(images), config=setup)
    return train.evaluated_variables(state, setup), np.asarray(evaluation.logits)


def test_a_trained_network_computes_the_same_everywhere(exported, tested_images, tmp_path):
    workdir, folder, _ = exported
    variables, ours = our_logits(workdir, tested_images)
    accuracy = json.loads((workdir / "summary.json").read_text())["final_test_accuracy"]
    assert accuracy > 0.8
    assert (ours.argmax(-1) == tested_images.labels).sum() == round(500 * accuracy)
    assert_same_logits(run_onnx(str(folder / "model.onnx"), tested_images.images), ours)

    program = (  # in a process that knows nothing of this project
        "import sys, jax, jax.export, numpy\n"
        "content = bytearray(open(sys.argv[1], 'rb').read())\n"
        "call = jax.jit(jax.export.deserialize(content).call)\n"
        "images = numpy.load('images.npy').astype(numpy.float32)\n"
        "numpy.save('logits.npy', call(images))\n"
        "assert call(images[:3]).shape == (3, 10)\n"
        "assert not {'cnn', 'launch', 'flax'} & set(sys.modules)\n"
    )
    np.save(tmp_path / "images.npy", tested_images.images)
    command = [sys.executable, "-c", program, str(folder / "model.stablehlo")]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert_same_logits(np.load(tmp_path / "logits.npy"), ours)

    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    right = flatten_dict(jax.tree.map(np.asarray, variables), sep="/")
    assert tensors.keys() == right.keys()
    assert {
        "params/Conv_0/kernel",
        "params/Dense_0/bias",
        "batch_stats/Normalization_3/var",
    } <= tensors.keys()
    for name, tensor in tensors.items():  # the average's correction, compiled and not, rounds once or twice
        np.testing.assert_allclose(tensor, right[name], rtol=4 * EPS, atol=0, err_msg=name)


def test_the_export_says_what_it_is(exported):
    _, folder, output = exported
    assert sorted(file.name for file in folder.iterdir()) == [
        "export.json",
        "model.onnx",
        "model.safetensors",
        "model.stablehlo",
    ]
    description = json.loads((folder / "export.json").read_text())
    assert description["input"]["shape"] == ["batch", 28, 28, 1]
    assert description["compared_on_images"] == 500
    for file, difference in description["largest_difference"].items():
        assert 0 <= difference <= export.allowed(description["largest_logit"])
        assert f"  {file:<17}  {difference:.1e}\n" in output
    model = onnx.load(folder / "model.onnx")
    (given,), (result,) = model.graph.input, model.graph.output
    sides = [dimension.dim_param or dimension.dim_value for dimension in given.type.tensor_type.shape.dim]
    assert (given.name, sides, result.name) == ("images", ["batch", 28, 28, 1], "logits")
    with safetensors.safe_open(folder / "model.safetensors", "numpy") as file:
        metadata = file.metadata()
    assert metadata["model"] == "compact_20k"
    assert float(metadata["mean"]) == description["mean"] == pytest.approx(0.13, abs=0.01)
    assert float(metadata["deviation"]) == description["deviation"] == pytest.approx(0.31, abs=0.01)


def test_the_event_files_say_what_the_metrics_say(exported):
    scalars, images = events(exported[0])
    with (exported[0] / "metrics.csv").open() as stream:
        names, *rows = (line.strip().split(",") for line in stream)
    right = {
        (name, int(row[0])): float(value)
        for row in rows
        for name, value in zip(names[1:], row[1:], strict=True)
    }
    assert len(right) == 2 * 6
    assert scalars == pytest.approx(right, rel=1e-6)
    assert set(images) == {"curves", "confusion", "misclassified", "augmented"}


def test_flags_of_an_export_are_kept_for_resuming_and_asked_for_anew_when_evaluating(exported):
    workdir, folder, _ = exported
    command = ["", "--task=mnist", f"--workdir={workdir}"]
    _, resumed = launch.parse([*command, "--resume"])
    assert (resumed.export, resumed.tensorboard) == (str(folder), True)
    _, evaluated = launch.parse([*command, "--eval_only"])
    assert (evaluated.export, evaluated.tensorboard) == (None, False)
    _, evaluated = launch.parse([*command, "--eval_only", "--export=elsewhere"])
    assert evaluated.export == "elsewhere"


@pytest.mark.slow
def test_a_finished_run_is_exported_again(exported, tmp_path, capsys):
    shutil.copytree(exported[0], tmp_path / "run")
    before = events(tmp_path / "run")[0]
    for how in ("resume", "eval_only"):
        flags = [f"--{how}", f"--workdir={tmp_path / 'run'}", f"--export={tmp_path / how}"]
        assert launch.main(["", "--task=mnist", *flags]) == 0
        for file in ("model.onnx", "export.json"):
            assert (tmp_path / how / file).read_bytes() == (exported[1] / file).read_bytes()
    assert events(tmp_path / "run")[0] == before
    assert capsys.readouterr().out.count("over the 500 test images") == 2


def test_a_file_that_computes_something_else_is_refused(tmp_path, monkeypatch, test_images):
    setup = make_setup(EVERY_LAYER)
    variables = random_variables(setup)
    right = export.to_onnx(variables, name="right", config=setup)
    bias = next(tensor for tensor in right.graph.initializer if tensor.name == "Dense_2/bias")
    bias.CopyFrom(
        onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(1e-3), bias.name)
    )
    monkeypatch.setattr(export, "to_onnx", lambda *_, **__: right)
    with pytest.raises(
        UserError, match=r"model.onnx gives logits that differ from the exact ones by 1.0e-03"
    ):
        export.export(tmp_path, variables, test_images.images[:7], name="wrong", config=setup)
    assert not (tmp_path / "export.json").exists()
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_runs_out_of_disk_leaves_what_was_there(small_disk, test_images):
    setup, folder = make_setup(EVERY_LAYER), small_disk("44k")
    (folder / "export.json").write_text("an earlier one")
    with pytest.raises(OSError, match="No space left on device"):
        export.export(folder, random_variables(setup), test_images.images[:7], name="cut", config=setup)
    assert [file.name for file in folder.iterdir()] == ["export.json"]
    assert (folder / "export.json").read_text() == "an earlier one"


def test_what_was_trained_in_bfloat16_is_exported_in_float32(tmp_path, test_images):
    trained = make_setup(ZOO["bn_4k"].architecture)
    trained = dataclasses.replace(trained, network=trained.network.clone(dtype=jnp.bfloat16))
    variables, images = random_variables(trained), test_images.images[:7]
    description = export.export(tmp_path, variables, images, name="halved", config=trained)
    differences = description["largest_difference"]
    assert differences["model.safetensors"] > 0  # our own program, which float64 alone can differ from
    assert max(differences.values()) <= export.allowed(description["largest_logit"])


@pytest.mark.parametrize(
    ("flag", "missing", "message"),
    [
        ("--export=out", "onnx", '--export needs onnx: pip install -e ".[export]"'),
        (
            "--tensorboard",
            "tensorboardX",
            '--tensorboard needs tensorboardX: pip install -e ".[tensorboard]"',
        ),
    ],
)
def test_a_missing_package_is_named_before_training(flag, missing, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, missing, None)  # cannot be imported
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else name)
    assert launch.main(["", "--task=mnist", flag]) == 2
    assert capsys.readouterr().err == f"launch.py: {message}\n"
    assert list(tmp_path.iterdir()) == []
