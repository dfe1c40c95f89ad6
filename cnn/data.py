"""The bundled MNIST, one's own images in an .npz or in IDX files, and tensorflow-datasets."""

import gzip
import hashlib
import importlib.util
import math
import os
import re
import socket
import types
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from cnn import arrays
from cnn.architecture import MNIST, Header
from cnn.arrays import Stored
from harness.errors import UserError, require

MOST_CLASSES = 1_000
_BUNDLED = Path(__file__).parent / "mnist"
_DOWNLOAD_HOST = ("storage.googleapis.com", 443)
_MOST_LISTED = 10

ImageShape = tuple[int, int, int]  # height, width (the same), channels


class Examples(NamedTuple):
    """Images with their labels.

    Attributes:
      images: values of each channel, 0 (background) to 255.
      labels: classes, counted from 0.
    """

    images: UInt8[np.ndarray, "images height width channels"]
    labels: Int32[np.ndarray, " images"]


class Dataset(NamedTuple):
    """The images a network learns from and those it is tested on.

    Attributes:
      classes: how many there are.
      files: what was read, with its SHA-256; of the bundled MNIST as SHA256SUMS has it.
      warnings: what a person should know of these images, a line each.
    """

    train: Examples
    test: Examples
    classes: int
    files: Mapping[str, str] = types.MappingProxyType({})
    warnings: tuple[str, ...] = ()

    @property
    def record(self) -> dict[str, Any]:
        """The part of it that config.json keeps."""
        return {
            "training_images": len(self.train.labels),
            "test_images": len(self.test.labels),
            "image_shape": list(self.train.images.shape[1:]),
            "classes": self.classes,
            "files": dict(self.files),
            "warnings": list(self.warnings),
        }


def load(name: str, data_dir: str | None = None) -> Dataset:
    """Return the bundled MNIST, one's own images, or a data set that tensorflow-datasets prepared.

    One's own are square images of any size and number of channels, whole numbers from 0 to 255 or floats
    from 0 to 1, which are rounded to 256 values; labels are whole numbers from 0.

    Args:
      name: mnist; an .npz file with x_train, y_train, x_test and y_test; a folder with MNIST's four IDX
        files, packed by gzip or not; or a tensorflow-datasets name such as fashion_mnist or emnist/digits.
      data_dir: folder of prepared data sets; None is tensorflow-datasets' own.

    Raises:
      UserError: damaged files, an unknown name, a data set that is not prepared and cannot be
        here, images or labels that make no sense, or test images that are all training images.
    """
    if name == "mnist":
        return load_bundled_mnist(_BUNDLED)
    path = _own_path(name, data_dir)
    return _load_tfds(name, data_dir) if path is None else _load_own(path)


def header(name: str, data_dir: str | None = None) -> Header:
    """Return what a data set asks of a network.

    No image is read, and nothing is prepared.

    Raises:
      UserError: as load does, as far as that shows in sizes and labels.
    """
    if name == "mnist":
        return MNIST
    path = _own_path(name, data_dir)
    if path is None:
        return _tfds_header(name, _tfds_builder(name, data_dir))
    own = _own_labels(path)
    return Header(own.shape, own.classes)


def hold_out(train: Examples, size: int) -> tuple[Examples, Examples]:
    """Split off the last `size` training images for validation: (what is left, held out)."""
    held = len(train.labels) - size
    require(
        held > 0,
        f"--validation_size={size} leaves none of the {len(train.labels)} training images: give fewer",
    )
    first, last = slice(held), slice(held, None)
    return Examples(*(array[first] for array in train)), Examples(*(array[last] for array in train))


def grey_statistics(
    images: UInt8[np.ndarray, "images height width channels"],
) -> tuple[float | tuple[float, ...], float | tuple[float, ...]]:
    """Return the mean and standard deviation of each channel as fractions of 255, to four digits.

    Of one channel they are numbers, of several tuples. On MNIST's training images these are the 0.1307
    and 0.3081 that the assignments use.

    Raises:
      UserError: a channel has the same value everywhere, so that nothing can be divided by its deviation.
    """
    squares = np.arange(256, dtype=np.uint16) ** 2
    means, deviations = [], []
    for channel in range(images.shape[-1]):
        values = images[..., channel]
        mean = int(values.sum(dtype=np.int64)) / values.size
        variance = int(squares[values].sum(dtype=np.int64)) / values.size - mean**2
        means.append(round(mean / 255, 4))
        deviations.append(round(math.sqrt(max(variance, 0)) / 255, 4))
        require(
            deviations[-1] > 0,
            f"channel {channel} of all training images is {mean:g} of 255 and hardly changes: "
            "leave it out, or give other images",
        )
    if len(means) == 1:
        return means[0], deviations[0]
    return tuple(means), tuple(deviations)


def load_bundled_mnist(folder: Path) -> Dataset:
    """Return MNIST from the four gzipped IDX files that SHA256SUMS beside them names.

    Raises:
      UserError: a file that is missing, or whose content is not what SHA256SUMS says.
    """
    sums = _read_sums(folder / "SHA256SUMS")

    def split(prefix: str) -> Examples:
        images, labels = (
            np.frombuffer(_read_bundled(folder / f"{prefix}-{name}.gz", sums), np.uint8, offset=offset)
            for name, offset in (("images-idx3-ubyte", 16), ("labels-idx1-ubyte", 8))
        )
        return Examples(images.reshape(-1, *MNIST.shape), labels.astype(np.int32))

    return Dataset(train=split("train"), test=split("t10k"), classes=MNIST.classes, files=sums)


def _read_sums(file: Path) -> dict[str, str]:
    """Return the hexadecimal SHA-256 of each unpacked file."""
    try:
        return {name: digest for digest, name in map(str.split, file.read_text("ascii").splitlines())}
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is missing or damaged ({error}): install the project again") from error


def _read_bundled(file: Path, sums: Mapping[str, str]) -> bytes:
    """Return the content of a .gz file; what packs it may differ, what is packed may not."""
    try:
        content = gzip.decompress(file.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file} is missing or damaged ({error}): install the project again") from error
    require(
        hashlib.sha256(content).hexdigest() == sums.get(file.stem),
        f"{file} is not the MNIST of SHA256SUMS beside it: install the project again",
    )
    return content


def _own_path(name: str, data_dir: str | None) -> Path | None:
    """The file or the folder that a data set's name is; None where it is tensorflow-datasets' name."""
    path = Path(name).expanduser()
    is_name = re.fullmatch(r"[A-Za-z0-9_]+(/[A-Za-z0-9_]+)?", name) is not None
    if is_name and (data_dir is not None or not os.path.lexists(path)):
        return None
    require(
        data_dir is None,
        f"--data_dir={data_dir} holds data sets of tensorflow-datasets, and --dataset={name} is no name of "
        "one: leave one out",
    )
    require(
        os.path.lexists(path),
        f"--dataset={name} is no file or folder here: give mnist, an .npz file, a folder of IDX files, "
        "or a tensorflow-datasets name such as fashion_mnist",
    )
    return path


class _Own(NamedTuple):
    """One's own data set but for its images.

    Attributes:
      images: of each split, not read yet.
      labels: of each split.
      shape: of an image.
    """

    images: dict[str, Stored]
    labels: dict[str, np.ndarray]
    shape: ImageShape
    classes: int


def _own_labels(path: Path) -> _Own:
    stored = arrays.stored(path)
    images = {split: stored[f"x_{split}"] for split in ("train", "test")}
    shapes = {split: _image_shape(each) for split, each in images.items()}
    require(
        shapes["train"] == shapes["test"],
        f"{images['train'].name} has images of {_times(shapes['train'])}, and x_test of "
        f"{_times(shapes['test'])}: give both one size",
    )
    labels = {split: _labels(stored[f"y_{split}"], of) for split, of in images.items()}
    classes = 1 + max(int(each.max()) for each in labels.values())
    (first, *others) = np.unique(labels["train"])
    require(
        bool(others),
        f"{stored['y_train'].name} has the class {first} alone: give images of two classes or more",
    )
    return _Own(images, labels, shapes["train"], classes)


def _image_shape(images: Stored) -> ImageShape:
    """The shape of each image; a number an image and pixel is one channel."""
    shape, name = images.shape, images.name
    require(
        images.dtype.kind in "iuf",
        f"{name} is of type {images.dtype}: give whole numbers from 0 to 255, or floats from 0 to 1",
    )
    require(
        len(shape) in (3, 4),
        f"{name} has the shape {_times(shape)}: give images x height x width, or x channels behind it",
    )
    height, width, channels = (*shape[1:], 1)[:3]
    first = " (channels last, as x.transpose(0, 2, 3, 1) makes them)" if len(shape) == 4 else ""
    require(
        height == width and min(height, channels) >= 1,
        f"{name} has images of {_times(shape[1:])}: give square ones, height x width x channels{first}",
    )
    require(shape[0] > 0, f"{name} is empty: give at least one image")
    return height, width, channels


def _labels(labels: Stored, images: Stored) -> Int32[np.ndarray, " images"]:
    count = images.shape[0]
    right = f"give a whole number from 0 to {MOST_CLASSES - 1}, its class, for each of the {count:,} images"
    shape = labels.shape
    require(
        shape in ((count,), (count, 1)),
        f"{labels.name} has the shape {_times(shape)}: {right}"
        + (" (y.argmax(1) makes them of one-hot rows)" if len(shape) == 2 else ""),
    )
    require(labels.dtype.kind in "iuf", f"{labels.name} is of type {labels.dtype}: {right}")
    values = labels.read().reshape(count)
    wrong = ~((values >= 0) & (values < MOST_CLASSES) & (values == np.floor(values)))
    place = int(wrong.argmax())
    require(not wrong[place], f"{labels.name} has {values[place]} at place {place}: {right}")
    return values.astype(np.int32)


def _load_own(path: Path) -> Dataset:
    own = _own_labels(path)
    pixels = {split: _bytes_of(images).reshape(-1, *own.shape) for split, images in own.images.items()}
    train, test = (Examples(pixels[split], own.labels[split]) for split in pixels)
    return _checked(train, test, own.classes, arrays.files(path))


def _bytes_of(images: Stored) -> UInt8[np.ndarray, "..."]:
    """Values from 0 to 255, whole numbers or of floats from 0 to 1."""
    values = images.read()
    is_float = values.dtype.kind == "f"
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        wrong = ~np.isfinite(values)
        first = np.unravel_index(wrong.argmax(), wrong.shape)[0]
        raise UserError(
            f"{images.name} has {wrong.sum():,} values that are NaN or infinite, the first in image {first}: "
            "mend them, or leave these images out"
        )
    require(
        bool(low >= 0 and high <= (1 if is_float else 255)),
        f"{images.name} has {values.dtype} values from {low:g} to {high:g}: give whole numbers from 0 to "
        "255, or floats from 0 to 1",
    )
    return (np.rint(values * 255) if is_float else values).astype(np.uint8, order="C")


def classes_without_images(name: str, split: Examples, classes: int) -> list[str]:
    """Return a warning that names the classes of which a split has no images; none where it has all."""
    missing = sorted({*range(classes)} - {*split.labels.tolist()})
    if not missing:
        return []
    listed = ", ".join(map(str, missing[:_MOST_LISTED]))
    more = f" and {len(missing) - _MOST_LISTED} more" if len(missing) > _MOST_LISTED else ""
    return [f"of the classes 0 to {classes - 1} there are no {name} images of {listed}{more}"]


def _checked(train: Examples, test: Examples, classes: int, files: Iterable[Path]) -> Dataset:
    """Return a data set with what is to be said of it.

    Raises:
      UserError: all test images are training images.
    """
    warnings = []
    for name, split in (("training", train), ("test", test)):
        warnings += classes_without_images(name, split, classes)
        if split.images.max() == 1:
            alone = "hold 0 and 1 alone, of 0 to 255: give floats where 1 is white"
            warnings.append(f"the {name} images {alone}")
    learned = set(map(_digest, train.images))
    shared = sum(_digest(image) in learned for image in test.images)
    count = len(test.labels)
    require(
        shared < count,
        f"all {count:,} test images are training images, too, so that they say nothing of new ones: "
        "give other test images",
    )
    if shared:
        warnings.append(
            f"{shared:,} of the {count:,} test images are training images, too: "
            "the test accuracy is not that of new images"
        )
    sums = {}
    for file in files:
        with open(file, "rb") as stream:
            sums[str(file.absolute())] = hashlib.file_digest(stream, "sha256").hexdigest()
    return Dataset(train, test, classes, sums, tuple(warnings))


def _digest(image: np.ndarray) -> bytes:
    return hashlib.blake2b(image.data, digest_size=16).digest()


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"


def _tfds_builder(name: str, data_dir: str | None) -> Any:
    import tensorflow_datasets as tfds

    damaged = f"--dataset={name} in {data_dir or 'its folder'} is damaged: prepare it again"
    try:
        return tfds.builder(name, data_dir=data_dir)
    except UnicodeError as error:
        raise UserError(f"{damaged} ({error})") from error
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        raise UserError(
            f"--dataset={name} is no file or folder here, is not known to tensorflow-datasets and not in "
            f"{data_dir or 'its folder'}: give a name such as fashion_mnist, or the --data_dir that holds it"
        ) from error
    except ImportError as error:
        raise UserError(f"--dataset={name} cannot be read without {error.name}: give another") from error
    except Exception as error:  # whatever the parsers of its JSON files raise
        raise UserError(f"{damaged} ({error})") from error


def _load_tfds(name: str, data_dir: str | None) -> Dataset:
    builder = _tfds_builder(name, data_dir)
    shape, classes = _tfds_header(name, builder)
    if not builder.is_prepared():
        _require_preparable(name, builder)
        builder.download_and_prepare(file_format="array_record")
    place = f"--dataset={name} in {builder.data_path}"
    try:
        train, test = (_read_split(builder, split, shape) for split in ("train", "test"))
    except NotImplementedError as error:
        stored, anew = builder.info.file_format.value, 'download_and_prepare(file_format="array_record")'
        raise UserError(f"{place} is stored as {stored}: prepare it again with {anew}") from error
    except Exception as error:  # whatever array_record or the image decoder says of a damaged file
        first_line = str(error).splitlines()[0]
        raise UserError(f"{place} is damaged ({first_line}): prepare it again") from error
    files = sorted(file for file in Path(builder.data_path).rglob("*") if file.is_file())
    return _checked(train, test, classes, files)


def _tfds_header(name: str, builder: Any) -> Header:
    features = dict(builder.info.features or {})
    shape: Any = getattr(features.get("image"), "shape", None)
    classes: int = getattr(features.get("label"), "num_classes", None) or 0
    of_bytes = getattr(features.get("image"), "np_dtype", None) == np.uint8
    require(
        of_bytes and None not in shape and shape[0] == shape[1],
        f"--dataset={name} has images of shape {shape}: give one of square images of one size, of bytes",
    )
    require(
        2 <= classes <= MOST_CLASSES,
        f"--dataset={name} has {classes} classes: give one with 2 to {MOST_CLASSES}",
    )
    if builder.is_prepared():
        missing = {"train", "test"} - set(builder.info.splits)
        require(not missing, f"--dataset={name} has no split {', '.join(sorted(missing))}: give another")
    return Header(shape, classes)


def _require_preparable(name: str, builder: Any) -> None:
    """Say at once what tensorflow-datasets would find out after minutes of retries."""
    missing = f"--dataset={name} is not prepared in {builder.data_path}, and preparing it here needs"
    way_out = "; or prepare it elsewhere as array_record and give its folder as --data_dir"
    require(
        importlib.util.find_spec("tensorflow") is not None,
        f"{missing} TensorFlow: pip install tensorflow{way_out}",
    )
    try:
        socket.create_connection(_DOWNLOAD_HOST, timeout=5).close()
    except OSError as error:
        raise UserError(f"{missing} a network ({error}): connect{way_out}") from error


def _read_split(builder: Any, split: str, shape: ImageShape) -> Examples:
    source = builder.as_data_source(split)
    images = np.empty((len(source), *shape), np.uint8)
    labels = np.empty(len(source), np.int32)
    for index, example in enumerate(source):
        images[index], labels[index] = example["image"], example["label"]
    return Examples(images, labels)
