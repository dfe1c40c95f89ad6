import gzip
import shutil
import time
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn import data
from errors import UserError
from tests.cnn.prepare import prepare

BUNDLED = Path(str(resources.files("cnn") / "mnist"))


@pytest.fixture(scope="module")
def mnist():
    return data.load("mnist", None)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, mnist):
    """A folder with the data set tiny_mnist, 300 and 70 images of MNIST, prepared by tfds."""
    folder = tmp_path_factory.mktemp("tfds")
    prepare(folder, train=mnist.train, test=mnist.test, counts=(300, 70))
    return folder


def test_bundled_mnist_is_mnist(mnist):
    assert mnist.train.images.shape == (60_000, 28, 28, 1)
    assert mnist.test.images.shape == (10_000, 28, 28, 1)
    assert mnist.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(mnist.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_statistics_are_those_of_the_assignments(mnist):
    assert data.grey_statistics(mnist.train.images) == (0.1307, 0.3081)


@given(st.lists(st.integers(0, 255), min_size=1, max_size=4))
def test_statistics_are_numpys(greys):
    images = np.array([np.full((28, 28, 1), grey, np.uint8) for grey in greys])
    mean, deviation = data.grey_statistics(images)
    assert mean == round(float((images / 255).mean()), 4)
    assert deviation == pytest.approx(float((images / 255).std()), abs=1e-4)


def test_held_out_images_are_the_last_and_no_longer_trained_on(mnist):
    left, held_out = data.hold_out(mnist.train, 5000)
    assert len(left.labels) == len(left.images) == 55_000
    np.testing.assert_array_equal(np.concatenate([left.labels, held_out.labels]), mnist.train.labels)
    np.testing.assert_array_equal(held_out.images, mnist.train.images[55_000:])
    with pytest.raises(UserError, match="leaves none of the 60000"):
        data.hold_out(mnist.train, 60_000)


@pytest.mark.parametrize("damage", ["missing", "cut", "not gzip", "one bit", "other content"])
@pytest.mark.parametrize("name", ["t10k-labels-idx1-ubyte.gz", "train-images-idx3-ubyte.gz"])
def test_damaged_bundle_is_named(damage, name, tmp_path, monkeypatch):
    shutil.copytree(BUNDLED, tmp_path / "mnist")
    file = tmp_path / "mnist" / name
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "not gzip":
        file.write_bytes(b"MNIST")
    elif damage == "one bit":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    else:
        file.write_bytes(gzip.compress(b"\0" * 100))
    monkeypatch.setattr(data.resources, "files", lambda package: tmp_path)
    with pytest.raises(UserError, match=name):
        data.load("mnist", None)


def test_prepared_data_set_is_read(prepared, mnist):
    dataset = data.load("tiny_mnist", str(prepared))
    assert (len(dataset.train.labels), len(dataset.test.labels)) == (300, 70)
    key = {image.tobytes(): label for image, label in zip(*mnist.train, strict=True)}
    assert all(key[image.tobytes()] == label for image, label in zip(*dataset.train, strict=True))
    assert sorted(dataset.test.labels) == sorted(mnist.test.labels[:70])


def test_damaged_prepared_data_set_is_named(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "tfds")
    for file in (tmp_path / "tfds").rglob("*train.array_record*"):
        file.write_bytes(b"\0" * 1000)
    with pytest.raises(UserError, match=r"tiny_mnist.*damaged"):
        data.load("tiny_mnist", str(tmp_path / "tfds"))


def test_a_data_set_in_a_format_that_needs_tensorflow_is_named(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "tfds")
    (info,) = (tmp_path / "tfds").rglob("dataset_info.json")
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match=r"stored as tfrecord: prepare it again .*array_record"):
        data.load("tiny_mnist", str(tmp_path / "tfds"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fashion_mnst", "not known to tensorflow-datasets"),
        ("cifar10", r"images of shape \(32, 32, 3\)"),
        ("emnist/byclass", "62 classes"),
        ("kmnist/nothing", "not known to tensorflow-datasets"),
    ],
)
def test_unsuitable_data_sets_are_refused(name, message, tmp_path):
    with pytest.raises(UserError, match=message):
        data.load(name, str(tmp_path))


def test_without_tensorflow_the_way_out_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: None)
    start = time.perf_counter()
    with pytest.raises(UserError, match="needs TensorFlow: pip install tensorflow; or prepare it elsewhere"):
        data.load("fashion_mnist", str(tmp_path))
    assert time.perf_counter() - start < 10


def test_without_a_network_the_way_out_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(data, "_DOWNLOAD_HOST", ("localhost", 9))
    with pytest.raises(UserError, match=r"needs a network \(.*refused.*give its folder as --data_dir"):
        data.load("fashion_mnist", str(tmp_path))
