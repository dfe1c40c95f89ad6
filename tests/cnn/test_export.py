"""What is exported is read back with the formats' own libraries, and computes what the network computes."""

import json
import subprocess
import sys
from pathlib import Path

import jax
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
from errors import UserError
from tests.cnn.prepare import prepare
from tests.cnn.test_events import events

ROOT = Path(__file__).parents[2]
EVERY_LAYER = Architecture(
    (
        Crop(1),
        Conv(6, 3, stride=2, padding=1),
        BatchNorm(),
        Crop(2),
        Dropout(0.5),
        ReLU(),
        AveragePool(2),
        SiLU(),
        Residual(
            (Conv(6, 3, padding=1), LeakyReLU(0.2), Residual((GELU(),)), Conv(6, 3, padding=1, shares=1))
        ),
        MaxPool(3),
        ConcatPool(),
        Conv(5, 2, padding=2, bias=False),
        Dense(7, bias=False),
        Residual((BatchNorm(), ReLU(), Dense(7))),
        Dense(10),
    )
)


@pytest.fixture(scope="module")
def test_images():
    return data.load("mnist", None).test


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folders of a short run and of what it exported, through the command line."""
    workdir, folder = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("exported") / "new"
    prepared, mnist = tmp_path_factory.mktemp("tfds"), data.load("mnist", None)
    prepare(prepared, train=mnist.train, test=mnist.test, counts=(3000, 10_000))
    flags = [
        "--dataset=tiny_mnist",
        f"--data_dir={prepared}",
        "--epochs=1",
        "--batch_size=32",
        "--tensorboard",
        f"--export={folder}",
    ]
    done = subprocess.run(
        [sys.executable, "launch.py", "--task=mnist", f"--workdir={workdir}", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return workdir, folder, done.stdout


def make_setup(architecture):
    return train.Setup(Network(architecture, "torch"), Recipe(epochs=1, batch_size=1), 1, 0.1307, 0.3081)


def random_variables(setup):
    state = train.init_state.eval_shape(setup, jax.random.key(0))
    generator = np.random.default_rng(3)

    def draw(path, leaf):
        low, high = (0.5, 2) if path[-1].key in ("scale", "var") else (-0.3, 0.3)
        return generator.uniform(low, high, leaf.shape).astype(np.float32)

    return jax.tree.map_with_path(draw, {"params": state.params, "batch_stats": state.batch_stats})


def run_onnx(content, images):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images.astype(np.float32)})[0]


@pytest.mark.parametrize("architecture", [*ZOO, EVERY_LAYER], ids=lambda each: str(each)[:14])
def test_onnx_computes_what_the_network_computes(architecture, test_images):
    setup = make_setup(architecture if architecture is EVERY_LAYER else ZOO[architecture].architecture)
    variables, images = random_variables(setup), test_images.images[:300]
    content = export.to_onnx(variables, name="random", setup=setup).SerializeToString()
    ours = np.asarray(jax.jit(lambda images: train.predict(variables, images, setup=setup))(images))
    theirs = run_onnx(content, images)
    assert np.ptp(ours, axis=0).min() > 1e-3
    assert np.abs(theirs - ours).max() <= max(1e-5, 1e-6 * np.abs(ours).max())
    np.testing.assert_allclose(run_onnx(content, images[:1]), theirs[:1], rtol=1e-5, atol=1e-5)


def our_logits(workdir, test_images):
    """The variables and the logits of the run's last checkpoint, without cnn.export."""
    _, config = launch.parse(["", "--task=mnist", "--eval_only", f"--workdir={workdir}"])
    run, progress = task.load(config)
    state, setup = results.state_of(progress, 0), run.setup
    evaluation = train.evaluate(state, train.Images(*jax.device_put(test_images)), setup=setup)
    return train.evaluated_variables(state, setup), np.asarray(evaluation.logits)


def test_a_trained_network_computes_the_same_everywhere(exported, test_images, tmp_path):
    workdir, folder, _ = exported
    variables, ours = our_logits(workdir, test_images)
    accuracy = json.loads((workdir / "summary.json").read_text())["final_test_accuracy"]
    assert accuracy > 0.2
    assert (ours.argmax(-1) == test_images.labels).mean() == pytest.approx(accuracy, abs=1e-9)

    theirs = np.concatenate(
        [run_onnx(str(folder / "model.onnx"), part) for part in np.split(test_images.images, 10)]
    )
    assert np.abs(theirs - ours).max() <= 1e-5

    program = (  # in a process that knows nothing of this project
        "import sys, jax, jax.export, numpy\n"
        "content = bytearray(open(sys.argv[1], 'rb').read())\n"
        "call = jax.jit(jax.export.deserialize(content).call)\n"
        "images = numpy.load('images.npy').astype(numpy.float32)\n"
        "numpy.save('logits.npy', numpy.concatenate([call(part) for part in numpy.split(images, 10)]))\n"
        "assert call(images[:3]).shape == (3, 10)\n"
        "assert not {'cnn', 'launch', 'flax'} & set(sys.modules)\n"
    )
    np.save(tmp_path / "images.npy", test_images.images)
    command = [sys.executable, "-c", program, str(folder / "model.stablehlo")]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    assert np.abs(np.load(tmp_path / "logits.npy") - ours).max() <= 1e-5

    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    right = flatten_dict(jax.tree.map(np.asarray, variables), sep="/")
    assert tensors.keys() == right.keys()
    assert {
        "params/Conv_0/kernel",
        "params/Dense_0/bias",
        "batch_stats/Normalization_3/var",
    } <= tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_allclose(tensor, right[name], rtol=1e-6, atol=0, err_msg=name)


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
    assert description["compared_on_images"] == 10_000
    for file, difference in description["largest_difference"].items():
        assert 0 <= difference <= 1e-5
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
    assert len(right) == 6
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


def test_a_finished_run_is_exported_again(exported, tmp_path, capsys):
    workdir, folder, _ = exported
    before = events(workdir)[0]
    assert launch.main(["", "--task=mnist", "--resume", f"--workdir={workdir}"]) == 0
    assert events(workdir)[0] == before
    again = tmp_path / "again"
    assert launch.main(["", "--task=mnist", "--eval_only", f"--workdir={workdir}", f"--export={again}"]) == 0
    assert capsys.readouterr().out.count("over the 10,000 test images") == 2
    assert (again / "model.onnx").read_bytes() == (folder / "model.onnx").read_bytes()
    assert (again / "export.json").read_bytes() == (folder / "export.json").read_bytes()


def test_a_file_that_computes_something_else_is_refused(tmp_path, monkeypatch, test_images):
    setup = make_setup(EVERY_LAYER)
    variables = random_variables(setup)
    right = export.to_onnx(variables, name="right", setup=setup)
    bias = next(tensor for tensor in right.graph.initializer if tensor.name == "Dense_2/bias")
    bias.CopyFrom(
        onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(1e-3), bias.name)
    )
    monkeypatch.setattr(export, "to_onnx", lambda *_, **__: right)
    with pytest.raises(UserError, match=r"model.onnx gives logits that differ from ours by 1.0e-03"):
        export.export(tmp_path, variables, test_images.images[:7], name="wrong", setup=setup)
    assert not (tmp_path / "export.json").exists()


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
