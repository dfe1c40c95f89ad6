"""One's own images are read as they were written, refused or warned of in one line. No JAX here."""

import gzip
import pickle
import re
import struct
import zipfile
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn import arrays, data
from cnn.architecture import MNIST, Conv, Dense, Header, for_images, summarize
from cnn.config import CnnConfig
from cnn.experiment import resolve
from cnn.zoo import ZOO
from harness.errors import UserError


def images(count, *, side=32, channels=3, classes=7, seed=0):
    """Noise, and for each class a bright band at a height of its own."""
    labels = np.arange(count) % classes
    values = np.random.default_rng(seed).integers(0, 80, (count, side, side, channels)).astype(np.uint8)
    band = side // classes
    for image, label in zip(values, labels, strict=True):
        image[band * label : band * (label + 1), :, label % channels] = 220
    return values, labels


def data_set(**shape):
    (x_train, y_train), (x_test, y_test) = (
        images(count, seed=seed, **shape) for seed, count in enumerate((56, 21))
    )
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def saved(folder, content, name="mine.npz"):
    np.savez(folder / name, **content)
    return folder / name


@pytest.fixture
def mine(tmp_path):
    """A function of what is otherwise in 56 and 21 images of 32x32x3 in 7 classes: the file."""
    return lambda **otherwise: saved(
        tmp_path, {name: value for name, value in (data_set() | otherwise).items() if value is not None}
    )


def refusal(path):
    """The line that a data set is refused with, by its sizes and labels alone where these are wrong."""
    with pytest.raises(UserError) as caught:
        data.load(str(path))
    message = str(caught.value)
    assert message.isprintable()
    assert str(path) in message or "test images" in message
    return message


def idx(array):
    """An array as an IDX file."""
    kinds = {"|u1": 8, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}
    header = struct.pack(f">HBB{array.ndim}I", 0, kinds[array.dtype.str], array.ndim, *array.shape)
    return header + array.tobytes()


IMAGE_TYPES = {
    "uint8": lambda x: x,
    "int64": lambda x: x.astype(np.int64),
    "float32": lambda x: x.astype(np.float32) / 255,
    "float64, Fortran order": lambda x: np.asfortranarray(x / 255),
    "float16, big-endian": lambda x: (x / 255).astype(">f2"),
}


@given(
    side=st.integers(1, 9),
    channels=st.integers(0, 4),
    classes=st.integers(2, 5),
    image_type=st.sampled_from(sorted(IMAGE_TYPES)),
    label_type=st.sampled_from(["uint8", "int32", "<f4", ">i8"]),
    columns=st.booleans(),
    packed=st.booleans(),
    seed=st.integers(0, 9),
)
def test_an_npz_is_read_as_it_was_written(
    tmp_path_factory, side, channels, classes, image_type, label_type, columns, packed, seed
):
    random = np.random.default_rng(seed)
    shape = (side, side, channels) if channels else (side, side)
    x = [random.integers(0, 256, (count, *shape), np.uint8) for count in (2 * classes, classes)]
    x[1][0] = 255 - x[0][0]  # not all test images are training images, even of one pixel
    y = [np.arange(len(each)) % classes for each in x]
    stored = {"x_train": x[0], "x_test": x[1]}
    stored = {name: IMAGE_TYPES[image_type](each) for name, each in stored.items()}
    for name, each in zip(("y_train", "y_test"), y, strict=True):
        stored[name] = each.astype(label_type).reshape((-1, 1) if columns else -1)
    file = tmp_path_factory.getbasetemp() / "written.npz"
    (np.savez_compressed if packed else np.savez)(file, **stored)
    learned = {each.tobytes() for each in x[0]}
    if all(each.tobytes() in learned for each in x[1]):  # tiny images
        assert "test images are training images" in refusal(file)
        return
    dataset = data.load(str(file))
    for split, values, labels in zip((dataset.train, dataset.test), x, y, strict=True):
        np.testing.assert_array_equal(split.images, values.reshape(-1, side, side, channels or 1))
        np.testing.assert_array_equal(split.labels, labels)
    assert (
        data.header(str(file))
        == ((side, side, channels or 1), classes)
        == (
            dataset.train.images.shape[1:],
            dataset.classes,
        )
    )
    shared = sum(each.tobytes() in learned for each in x[1])
    assert [
        f"{shared} of the {classes} test images" in line for line in dataset.warnings if "too" in line
    ] == [True] * bool(shared)


@pytest.mark.parametrize("kind", ["|u1", ">i2", ">i4", ">f4", ">f8"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_of_idx_files_is_read(tmp_path, kind, packed, channels):
    content = data_set(channels=channels)
    for name, file in arrays.NAMES.items():
        array = content[name]
        if name.startswith("x") and "f" in kind:
            array = array / 255
        if channels == 1 and array.ndim == 4:
            array = array[..., 0]
        written = idx(array.astype(kind))
        (tmp_path / f"{file}{'.gz' * packed}").write_bytes(gzip.compress(written) if packed else written)
    dataset = data.load(str(tmp_path))
    np.testing.assert_array_equal(dataset.train.images, content["x_train"])
    np.testing.assert_array_equal(dataset.test.labels, content["y_test"])
    assert data.header(str(tmp_path)) == ((32, 32, channels), 7)
    assert len(dataset.files) == 4


def test_mnists_own_files_are_a_folder_of_idx_files():
    own, bundled = data.load(str(data._BUNDLED)), data.load("mnist")
    for ours, theirs in zip((*own.train, *own.test), (*bundled.train, *bundled.test), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert data.header(str(data._BUNDLED)) == data.header("mnist") == MNIST


X, Y = images(56)
OTHER = images(21, seed=1)[0]
NAN = (X / 255).astype(np.float32)
NAN[17, 3, 2, 1] = np.nan
INFINITE = X / 255
INFINITE[0, 0, 0, 0] = -np.inf
REFUSED = {
    "labels too few": ({"y_train": Y[:-1]}, "y_train in .* has the shape 55: .* for each of the 56 images"),
    "test labels too few": ({"y_test": Y[:20]}, "y_test in .* for each of the 21 images"),
    "one-hot labels": ({"y_train": np.eye(7)[Y]}, r"y_train .* 56x7: .*y\.argmax\(1\)"),
    "labels of no shape": ({"y_train": np.int64(3)}, "y_train .* has the shape one number"),
    "sizes of both splits": ({"x_test": OTHER[:, :28, :28]}, "32x32x3, and x_test of 28x28x3: give both one"),
    "channels of both splits": ({"x_test": OTHER[..., 0]}, "32x32x3, and x_test of 32x32x1"),
    "not square": ({"x_train": X[:, :30]}, "images of 30x32x3: give square ones"),
    "channels first": ({"x_train": X.transpose(0, 3, 1, 2)}, r"3x32x32: .*x\.transpose\(0, 2, 3, 1\)"),
    "flat": ({"x_train": X.reshape(56, -1)}, "has the shape 56x3072: give images x height x width"),
    "one image": ({"x_train": X[0, 0, 0, 0]}, "has the shape one number"),
    "no pixels": ({"x_train": X[:, :0, :0]}, "images of 0x0x3"),
    "no channels": ({"x_train": X[..., :0]}, "images of 32x32x0"),
    "no training images": ({"x_train": X[:0], "y_train": Y[:0]}, "x_train .* is empty"),
    "no test images": ({"x_test": X[:0], "y_test": Y[:0]}, "x_test .* is empty"),
    "floats to 255": (
        {"x_train": X.astype(float)},
        "float64 values from 0 to 220: give .* floats from 0 to 1",
    ),
    "standardised": ({"x_test": (OTHER - 90.0) / 80}, r"x_test .* values from -1\.125 to"),
    "16 bits": ({"x_train": X.astype(np.uint16) * 257}, "uint16 values from 0 to 56540"),
    "negative": ({"x_train": X.astype(int) - 1}, "values from -1 to 219"),
    "NaN": ({"x_train": NAN}, "1 values that are NaN or infinite, the first in image 17"),
    "infinite": ({"x_train": INFINITE}, "the first in image 0"),
    "text as images": ({"x_train": X.astype(str)}, "x_train .* is of type <U"),
    "complex images": ({"x_train": X.astype(complex)}, "is of type complex"),
    "truths as images": ({"x_train": X > 9}, "is of type bool"),
    "text as labels": ({"y_train": Y.astype(str)}, "y_train .* is of type <U"),
    "labels between": ({"y_train": Y + 0.5}, "y_train .* has 0.5 at place 0: give a whole number"),
    "labels not there": ({"y_train": np.where(Y == 2, np.nan, Y)}, "has nan at place 2"),
    "endless labels": ({"y_train": np.where(Y == 2, np.inf, Y)}, "has inf at place 2"),
    "negative labels": ({"y_test": Y[:21] - 1}, "y_test .* has -1 at place 0"),
    "labels too large": ({"y_train": Y + 10**6}, "has 1000000 at place 0: give a whole number from 0 to 999"),
    "one class": ({"y_train": 0 * Y + 3, "y_test": 0 * Y[:21] + 3}, "class 3 alone"),
    "missing": (
        {"y_test": None, "y_train": None},
        "has no y_train, y_test: it has x_train, x_test, and needs",
    ),
    "other names": (
        dict.fromkeys(("x_train", "x_test", "y_train")) | {"X": X},
        "it has y_test, X, and needs",
    ),
    "the same images": ({"x_test": X[:21]}, "all 21 test images are training images"),
    "some of the training images": ({"x_test": X[40:], "y_test": Y[40:]}, "all 16 test images are training"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused_in_one_line(case, mine):
    otherwise, message = REFUSED[case]
    assert re.search(message, refusal(mine(**otherwise)))


class Trap:
    """Unpickled, it would say so."""

    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


def test_objects_are_never_unpickled(mine, tmp_path):
    trap = np.empty(56, object)
    trap[:] = [Trap() for _ in trap]
    for name in ("x_train", "y_train"):
        assert re.search(f"{name} .* holds Python objects", refusal(mine(**{name: trap})))
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Trap()))
    assert "no .npz file" in refusal(tmp_path / "pickle.npz")


def member(shape, kind="'|u1'"):
    """The .npy header of an array of a declared shape, with five bytes of it."""
    header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (member("(99999999999, 28, 28)"), "declares 99999999999x28x28 numbers, .* at most 4,294,967,296"),
        (member("(60000, 28, 28)"), "is damaged: 47,040,000 bytes are declared, 5 are there"),
        (member("(2, 1, 1)"), "2 bytes are declared, 5 are there"),
        (member("(-5, 1, 1)"), "declares -5x1x1 numbers"),
        (member("(5, 1, 1)", "'O'"), "holds Python objects"),
        (member("(5, 1, 1)", "'nothing'"), "is damaged, or no .npz"),
        (member("__import__('os')"), "is damaged, or no .npz"),
        (member("(" * 3000 + ")" * 3000), "is damaged, or no .npz"),
        (b"", "is damaged, or no .npz"),
    ],
)
def test_what_an_array_declares_is_not_believed(mine, content, message):
    file = mine()
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, value in (members | {"x_train.npy": content}).items():
            archive.writestr(name, value)
    assert re.search(message, refusal(file))


def test_a_file_that_is_none_is_named(tmp_path):
    for content in (b"", b"x", b"PK\x03\x04" + b"\0" * 50, np.zeros(9).tobytes(), b"x_train,y_train\n1,2\n"):
        (tmp_path / "mine.npz").write_bytes(content)
        assert "no .npz file" in refusal(tmp_path / "mine.npz")
    np.save(tmp_path / "one.npy", X)
    assert "no .npz file" in refusal(tmp_path / "one.npy")
    (tmp_path / "folder").mkdir()
    assert "give a folder with the four files that MNIST comes in" in refusal(tmp_path / "folder")
    assert "is no file or folder here: give mnist, an .npz" in refusal(tmp_path / "nothing.npz")
    assert "is neither a file nor a folder" in refusal("/dev/null")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_npz_is_read_right_or_refused(tmp_path, save):
    """Flipped bytes, cuts and bytes added, anywhere and in the headers: never another error."""
    file, random = tmp_path / "mine.npz", Random(0)
    save(file, **data_set(side=8))
    whole, right, refused, harmless = file.read_bytes(), data.load(str(file)), 0, 0
    starts = [match.start() for match in re.finditer(b"PK|NUMPY", whole)]
    for case in range(200):
        place = random.choice(starts) + random.randrange(120) if case % 2 else random.randrange(len(whole))
        damaged = bytearray(whole)
        match case % 5:
            case 0:
                del damaged[place:]
            case 1:
                damaged[place:place] = random.randbytes(random.choice((1, 100)))
            case _:
                damaged[place % len(whole)] ^= random.randrange(1, 256)
        file.write_bytes(damaged)
        try:
            dataset = data.load(str(file))
        except UserError as error:
            refused += str(file) in str(error)
        else:
            harmless += 1
            for ours, theirs in zip(
                (*right.train, *right.test), (*dataset.train, *dataset.test), strict=True
            ):
                np.testing.assert_array_equal(ours, theirs)
    assert refused + harmless == 200
    assert refused > 100


@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_idx_file_is_refused_or_a_value_differs(tmp_path, packed):
    """IDX has no checksum, so that only a header and the length can be wrong; gzip has one."""
    for name, file in arrays.NAMES.items():
        written = idx(data_set(side=8)[name].astype("|u1"))
        (tmp_path / f"{file}{'.gz' * packed}").write_bytes(gzip.compress(written) if packed else written)
    file, random, refused = tmp_path / f"train-images-idx3-ubyte{'.gz' * packed}", Random(0), 0
    whole = file.read_bytes()
    for case in range(100):
        damaged = bytearray(whole)
        place = random.randrange(20) if case % 2 else random.randrange(len(whole))
        if case % 3 == 0:
            del damaged[place:]
        elif case % 3 == 1:
            damaged += random.randbytes(1 + place % 50)
        else:
            damaged[place] ^= random.randrange(1, 256)
        file.write_bytes(damaged)
        try:
            assert data.load(str(tmp_path)).train.images.shape == (56, 8, 8, 3)
        except UserError as error:
            refused += str(file) in str(error)
    assert refused >= (75 if packed else 66)  # cuts and additions are two thirds
    file.unlink()
    assert "train-images-idx3-ubyte" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("otherwise", "warnings"),
    [
        ({}, []),
        (
            {"x_test": np.concatenate([OTHER[:18], X[:3]])},
            ["3 of the 21 test images are training images, too"],
        ),
        (
            {"y_train": np.where(Y == 2, 1, Y), "y_test": np.where(Y[:21] == 2, 1, Y[:21])},
            ["there are no training images of 2", "there are no test images of 2"],
        ),
        (
            {"y_train": Y + 1, "y_test": Y[:21] + 1},
            ["classes 0 to 7 .* training images of 0", "test images of 0"],
        ),
        (
            {"y_train": Y * 50, "y_test": Y[:21] * 50},
            ["training images of 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 284 more", "test images of 1, 2"],
        ),
        ({"x_train": (X > 99).astype(np.uint8)}, ["the training images hold 0 and 1 alone"]),
    ],
)
def test_what_a_person_should_know_is_said(mine, otherwise, warnings):
    dataset = data.load(str(mine(**otherwise)))
    assert len(dataset.warnings) == len(warnings)
    for line, pattern in zip(dataset.warnings, warnings, strict=True):
        assert re.search(pattern, line)


def test_the_data_directory_and_an_existing_folder_say_what_a_name_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert data._own_path("kmnist", None) is None
    Path("kmnist").mkdir()
    assert data._own_path("kmnist", None) == Path("kmnist")
    assert data._own_path("kmnist", "prepared") is None


@given(
    side=st.integers(1, 40),
    channels=st.integers(1, 4),
    classes=st.integers(2, 12),
    name=st.sampled_from(sorted(ZOO)),
)
def test_a_network_of_the_zoo_fits_other_images_or_says_why_not(side, channels, classes, name):
    header = Header((side, side, channels), classes)
    network = for_images(ZOO[name].architecture, header)
    said = ""
    try:
        experiment = resolve(CnnConfig(model=name, dataset="mine", enforce_budget=False), header)
        assert experiment.architecture == network
    except UserError as error:
        said = str(error)
    message = f"--model={name} on the {side}x{side}x{channels} images of mine: (layer|it ends in) "
    if said:
        assert re.match(message, said)
    else:
        assert np.prod(summarize(network)[-1].output_shape) == classes
    if (side, channels, classes) == (28, 1, 10):
        assert network == ZOO[name].architecture


def test_the_last_layer_alone_gets_the_classes():
    for entry in ZOO.values():
        assert for_images(entry.architecture, MNIST) == entry.architecture
        layers, new = entry.architecture.layers, for_images(entry.architecture, Header(MNIST.shape, 7)).layers
        (changed,) = (index for index in range(len(layers)) if layers[index] != new[index])
        assert isinstance(new[changed], Conv | Dense)
        assert not any(isinstance(layer, Conv | Dense) for layer in layers[changed + 1 :])
        assert new[changed].features == 7
