import contextlib
import gzip
import shutil
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn import data
from harness.errors import UserError
from tests.cnn.prepare import prepare


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
    if len(set(greys)) == 1:
        with pytest.raises(UserError, match=rf"channel 0 .* is {greys[0]} of 255 and hardly changes"):
            data.grey_statistics(images)
        return
    mean, deviation = data.grey_statistics(images)
    assert mean == round(float((images / 255).mean()), 4)
    assert deviation == pytest.approx(float((images / 255).std()), abs=1e-4)


@given(st.integers(2, 4), st.integers(0, 9))
def test_each_channel_has_statistics_of_its_own(channels, seed):
    images = np.random.default_rng(seed).integers(0, 256, (5, 6, 6, channels), np.uint8)
    means, deviations = data.grey_statistics(images)
    np.testing.assert_allclose(means, (images / 255).mean((0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(deviations, (images / 255).std((0, 1, 2)), atol=1e-4)


def test_held_out_images_are_the_last_and_no_longer_trained_on(mnist):
    left, held_out = data.hold_out(mnist.train, 5000)
    assert len(left.labels) == len(left.images) == 55_000
    np.testing.assert_array_equal(np.concatenate([left.labels, held_out.labels]), mnist.train.labels)
    np.testing.assert_array_equal(held_out.images, mnist.train.images[55_000:])
    with pytest.raises(UserError, match="leaves none of the 60000"):
        data.hold_out(mnist.train, 60_000)


@pytest.fixture
def bundle(tmp_path):
    """A copy of the bundled files."""
    return Path(shutil.copytree(data._BUNDLED, tmp_path / "mnist"))


@pytest.mark.parametrize(
    "content", [None, b"", b"MNIST", gzip.compress(b""), gzip.compress(b"\0" * 100)], ids=range(5)
)
@pytest.mark.parametrize("name", ["t10k-labels-idx1-ubyte.gz", "train-images-idx3-ubyte.gz"])
def test_a_file_that_is_not_mnist_is_named(bundle, name, content):
    (bundle / name).unlink()
    if content is not None:
        (bundle / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} is .*install the project again"):
        data.load_bundled_mnist(bundle)


@pytest.mark.parametrize(
    ("name", "cases"),
    [
        ("train-labels-idx1-ubyte.gz", 300),
        ("t10k-labels-idx1-ubyte.gz", 300),
        ("t10k-images-idx3-ubyte.gz", 200),
        ("train-images-idx3-ubyte.gz", 40),
    ],
)
def test_a_file_damaged_anywhere_is_named(bundle, name, cases):
    """Flipped bytes, cuts, and bytes added; what does not change the images and labels may stay."""
    file, random = bundle / name, Random(0)
    whole, sums = file.read_bytes(), data._read_sums(bundle / "SHA256SUMS")
    right, named, harmless = data._read_bundled(file, sums), 0, 0
    for case in range(cases):
        position = random.randrange(20 if case % 5 == 0 else len(whole))
        damaged = bytearray(whole)
        if case % 3 == 0:
            damaged[position] ^= random.randrange(1, 256)
        elif case % 3 == 1:
            del damaged[position:]
        else:
            damaged[position:position] = random.randbytes(random.choice((1, 100)))
        file.write_bytes(damaged)
        try:
            assert data._read_bundled(file, sums) == right
        except UserError as error:
            named += str(file) in str(error)
        else:
            harmless += 1
    assert named + harmless == cases
    assert named > 0.85 * cases


def test_the_time_in_a_gzip_header_and_zeros_after_its_end_do_not_matter(bundle):
    file = bundle / "t10k-labels-idx1-ubyte.gz"
    damaged = bytearray(file.read_bytes())
    damaged[4:8] = b"time"
    file.write_bytes(damaged + b"\0" * 10)
    np.testing.assert_array_equal(
        data.load_bundled_mnist(bundle).test.labels, data.load_bundled_mnist(data._BUNDLED).test.labels
    )


def test_damaged_sums_are_named(bundle):
    file, name = bundle / "SHA256SUMS", "t10k-labels-idx1-ubyte"
    whole, random = file.read_bytes(), Random(0)
    line = range(whole.index(name.encode()) - 66, whole.index(name.encode()) + len(name))
    for position in line:
        damaged = bytearray(whole)
        damaged[position] ^= random.randrange(1, 256)
        file.write_bytes(damaged)
        if not chr(damaged[position]).isspace():
            with pytest.raises(UserError, match="SHA256SUMS"):
                data._read_bundled(bundle / f"{name}.gz", data._read_sums(file))
    for content in (b"", b"\xff", b"one two three\n", whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"SHA256SUMS.*install the project again"):
            data.load_bundled_mnist(bundle)
    file.unlink()
    with pytest.raises(UserError, match="SHA256SUMS is missing or damaged"):
        data.load_bundled_mnist(bundle)


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


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_damaged_metadata_of_a_prepared_data_set_is_named(prepared, tmp_path, name):
    shutil.copytree(prepared, tmp_path / "tfds")
    (file,) = (tmp_path / "tfds").rglob(name)
    whole, random = file.read_bytes(), Random(0)
    for case in range(40):
        position = random.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[position] ^= random.randrange(1, 256)
        file.write_bytes(whole[:position] if case % 4 == 0 else damaged)
        with contextlib.suppress(UserError):  # anything else would end the test
            assert len(data.load("tiny_mnist", str(tmp_path / "tfds")).test.labels) == 70
    file.write_bytes(b"{")
    with pytest.raises(UserError, match="tiny_mnist"):
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
        ("cats_vs_dogs", r"images of shape \(None, None, 3\)"),
        ("omniglot", "1623 classes"),
        ("kmnist/nothing", "not known to tensorflow-datasets"),
    ],
)
def test_unsuitable_data_sets_are_refused(name, message, tmp_path):
    with pytest.raises(UserError, match=message):
        data.load(name, str(tmp_path))


def test_without_tensorflow_the_way_out_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs TensorFlow: pip install tensorflow; or prepare it elsewhere"):
        data.load("fashion_mnist", str(tmp_path))


def test_without_a_network_the_way_out_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(data, "_DOWNLOAD_HOST", ("localhost", 9))
    with pytest.raises(UserError, match=r"needs a network \(.*refused.*give its folder as --data_dir"):
        data.load("fashion_mnist", str(tmp_path))
