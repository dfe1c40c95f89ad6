"""A network is trained on one's own images by the real command line, and all that a run leaves fits them."""

import csv
import io
import json
import re
import shutil

import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest

from cnn import data, export, plots, train
from cnn.loop import fit
from cnn.zoo import ZOO, Entry
from launch import main
from tests.cnn.test_own_images import data_set, saved
from tests.recorded import cases

LAYERS = "conv 8 5x5 stride 2, batch norm, ReLU, global average pool, dense 7 bias"


def refused(capsys, *flags):
    """The line of a command that is refused."""
    assert main(["launch.py", "--task=mnist", *flags]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    return shown.err


def test_a_network_that_does_not_fit_is_refused(tmp_path, capsys):
    file = f"--dataset={saved(tmp_path, data_set())}"
    assert "ends in 10 = 10 numbers, not in one a class: for 7 classes end with dense 7 bias" in refused(
        capsys, file, "--layers=global average pool, dense 10 bias"
    )
    assert "on the 32x32x3 images of" in refused(capsys, file, "--layers=crop 16, dense 7 bias")
    assert "layer 1 (crop 16) does not fit its input 32x32x3" in refused(
        capsys, file, "--layers=crop 16, dense 7"
    )
    assert "--model=compact_20k has 20,578 parameters" in refused(capsys, file)
    assert "--crop_size=33 is more than the images' 32" in refused(
        capsys, file, "--model=bn_4k", "--zoom=1", "--crop_size=33"
    )
    small = saved(tmp_path, data_set(side=8), "small.npz")
    assert "--model=bn_4k on the 8x8x3 images of" in refused(capsys, f"--dataset={small}", "--model=bn_4k")
    for name in ("nowhere.npz", "a;b", "a/b/c", "../nowhere", "٣"):
        assert "give mnist, an .npz" in refused(capsys, f"--dataset={name}", "--describe")
    assert "--data_dir=b holds data sets of tensorflow-datasets, and --dataset=./a is no name" in refused(
        capsys, "--dataset=./a", "--data_dir=b", "--describe"
    )


def test_a_description_has_the_data_sets_size(tmp_path, capsys):
    assert (
        main(
            [
                "launch.py",
                "--task=mnist",
                f"--dataset={saved(tmp_path, data_set())}",
                "--model=bn_4k",
                "--describe",
            ]
        )
        == 0
    )
    shown = capsys.readouterr().out
    assert re.search(r"conv 8 3x3 +30x30x8 +216 ", shown)  # 3 x 3 x 3 x 8
    assert re.search(r"conv 7 1x1 +9x9x7 +112 ", shown)


@pytest.mark.numeric
def test_colours_are_computed_as_pytorch_and_onnx_do(pytorch):
    """The logits of images whose channels are normalised each by its own mean and deviation."""
    config = cases.config_of(cases.COLOURS, mean=cases.COLOURS_MEAN, deviation=cases.COLOURS_DEVIATION)
    variables, values = cases.variables_of(cases.drawn(config)), cases.coloured_images()
    ours = np.asarray(train.predict(variables, jnp.asarray(values), config=config))
    theirs = pytorch("coloured_logits", "noise")["logits"]
    largest = float(np.abs(ours).max())
    assert np.abs(ours - theirs).max() < export.allowed(largest)
    content = export.to_onnx(variables, name="mine", config=config).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (onnx,) = session.run(None, {"images": values.astype(np.float32)})
    assert np.abs(ours - onnx).max() < export.allowed(largest)


@pytest.mark.parametrize(("channels", "classes", "side"), [(1, 2, 5), (2, 31, 28), (3, 7, 32)])
def test_figures_hold_images_of_any_kind(channels, classes, side):
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (classes, side, side, channels), np.uint8)
    logits, labels = random.normal(size=(classes, classes)), np.arange(classes)
    counts = random.integers(0, 9, (classes, classes))
    for figure in (
        plots.confusion(counts, name="mine"),
        plots.misclassified(pictures, labels, logits, name="mine"),
        plots.augmented(np.tile(pictures / 255, (2, 1, 1, 1, 1))),
    ):
        figure.savefig(io.BytesIO(), format="png")
    assert plots.picture(pictures).shape == (classes, side, side, 3)
    if channels == 3:
        np.testing.assert_array_equal(plots.picture(pictures), pictures)
    if channels == 1:
        np.testing.assert_array_equal(plots.picture(pictures)[..., 2:], 255 - pictures)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with mine.npz and with the run of one epoch on it, exported."""
    folder = tmp_path_factory.mktemp("own")
    content = data_set()
    content["x_test"][0] = content["x_train"][0]
    order = np.argsort(content["y_train"], kind="stable")
    content["x_train"], content["y_train"] = content["x_train"][order], content["y_train"][order]
    flags = [f"--dataset={saved(folder, content)}", f"--layers={LAYERS}", "--epochs=1", "--batch_size=16"]
    flags += [
        "--recipe=plain_4k",
        "--validation_size=7",
        "--contrast=0.2",
        "--num_devices=1",
        f"--workdir={folder / 'run'}",
    ]
    assert main(["launch.py", "--task=mnist", *flags, f"--export={folder / 'exported'}"]) == 0
    return folder


def test_a_run_on_ones_own_images(trained):
    run = trained / "run"
    with (run / "confusion.csv").open() as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["true", *(f"predicted_{label}" for label in range(7))]
    assert [sum(map(int, row[1:])) for row in rows[1:]] == [3] * 7
    with (run / "metrics.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert sum(int(rows[1 + label][1 + label]) for label in range(7)) == round(
        21 * float(row["test_accuracy"])
    )
    assert 0 <= float(row["validation_accuracy"]) <= 1
    record = json.loads((run / "config.json").read_text())["dataset"]
    sizes = {"training_images": 56, "test_images": 21, "image_shape": [32, 32, 3], "classes": 7}
    assert record == sizes | {"files": record["files"], "warnings": record["warnings"]}
    ((file, digest),), (warning, of_validation) = record["files"].items(), record["warnings"]
    assert file == str(trained / "mine.npz")
    assert len(digest) == 64
    assert warning.startswith("1 of the 21 test images are training images, too")
    assert "no validation images of 0, 1, 2, 3, 4, 5; the last training images" in of_validation
    report = (run / "report.html").read_text()
    assert digest in report
    assert "1 of the 21 test images" in report
    described = json.loads((trained / "exported" / "export.json").read_text())
    assert described["input"]["shape"] == ["batch", 32, 32, 3]
    assert described["output"]["shape"] == ["batch", 7]
    values = data.load(file).train.images[:49] / 255
    np.testing.assert_allclose(described["mean"], values.mean((0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(described["deviation"], values.std((0, 1, 2)), atol=1e-4)


def test_a_run_goes_on_with_its_own_images_alone(trained, tmp_path, capsys):
    """Evaluated again, compared with itself; the file may move, and may not change."""
    shutil.copytree(trained, tmp_path / "copy")
    run, moved = tmp_path / "copy" / "run", tmp_path / "moved.npz"
    shutil.move(tmp_path / "copy" / "mine.npz", moved)
    again = ["--eval_only", f"--workdir={run}", f"--dataset={moved}"]
    assert main(["launch.py", "--task=mnist", *again]) == 0
    assert "test accuracy" in capsys.readouterr().out
    assert main(["launch.py", "--task=compare", f"--workdir={run}", f"--against={run}"]) == 0
    assert "no significant difference" in capsys.readouterr().out
    content = dict(np.load(moved))
    content["x_train"][5, 5, 5, 1] ^= 1
    np.savez(moved, **content)
    for flag in ("--resume", "--eval_only"):
        assert main(["launch.py", "--task=mnist", flag, *again[1:]]) == 2
        said = capsys.readouterr().err
        assert f"{moved} is not what the run in {run} has read" in said
        assert said.count("\n") == 1


def test_the_page_says_that_it_reads_no_digits(trained):
    gradio = pytest.importorskip("gradio", reason="the extra demo is not installed")
    from demo import digit_tab, run_tab
    from demo.trained import load

    network = load(str(trained / "run"))._replace(name="its name", seeds=3)
    with gradio.Blocks() as page:
        digit_tab.digit_tab(network)
        run_tab.run_tab(network)
    said = json.dumps(page.get_config_file()["components"], default=str)
    assert "### its name: " in said
    assert "; the curves are means of 3 seeds" in said
    assert "This network reads images of 32x32x3 in 7 classes" in said
    assert "data:image/png;base64," in said


def test_the_same_from_python(trained):
    """A network for ten classes gets seven, and learns what the command line's does."""
    recipe = ZOO["plain_4k"].recipe.with_flags({"epochs": 1, "batch_size": 16, "contrast": 0.2})
    entry = Entry(LAYERS.replace("dense 7", "dense 10"), recipe, note="mine")
    result = fit(entry, data.load(str(trained / "mine.npz")), validation_size=7)
    (ours,) = result.history
    with (trained / "run" / "metrics.csv").open() as stream:
        (theirs,) = csv.DictReader(stream)
    for name in ("train_loss", "validation_loss", "test_loss", "test_accuracy"):
        assert ours[name] == float(theirs[name])
