"""The bundled MNIST; any other 28x28x1 data set through tensorflow-datasets."""

import gzip
import hashlib
import importlib.util
import math
import socket
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from harness.errors import UserError, require

CLASSES = 10
IMAGE_SHAPE = (28, 28, 1)
_BUNDLED = Path(__file__).parent / "mnist"
_DOWNLOAD_HOST = ("storage.googleapis.com", 443)


class Split(NamedTuple):
    """Images with their labels.

    Attributes:
      images: grey values, 0 (background) to 255.
      labels: classes, 0 to 9.
    """

    images: UInt8[np.ndarray, "images 28 28 1"]
    labels: Int32[np.ndarray, " images"]


class Dataset(NamedTuple):
    """The images a network learns from and those it is tested on."""

    train: Split
    test: Split


def load(name: str, data_dir: str | None = None) -> Dataset:
    """The bundled MNIST, or a data set that tensorflow-datasets prepared.

    Args:
      name: mnist, or a tensorflow-datasets name such as fashion_mnist or emnist/digits.
      data_dir: folder of prepared data sets; None is tensorflow-datasets' own.

    Raises:
      UserError: damaged files, an unknown name, a data set that is not prepared and cannot be
        here, or one whose images are not 28x28x1 with at most 10 classes.
    """
    return load_bundled_mnist(_BUNDLED) if name == "mnist" else _load_tfds(name, data_dir)


def hold_out(train: Split, size: int) -> tuple[Split, Split]:
    """Split off the last `size` training images for validation: (what is left, held out)."""
    held = len(train.labels) - size
    require(
        held > 0,
        f"--validation_size={size} leaves none of the {len(train.labels)} training images: give fewer",
    )
    return Split(train.images[:held], train.labels[:held]), Split(train.images[held:], train.labels[held:])


def grey_statistics(images: UInt8[np.ndarray, "images 28 28 1"]) -> tuple[float, float]:
    """Mean and standard deviation of the grey values as fractions of 255, to four digits.

    On MNIST's training images these are the 0.1307 and 0.3081 that the assignments use.
    """
    total = int(images.sum(dtype=np.int64))
    squares = np.arange(256, dtype=np.uint16) ** 2
    mean = total / images.size
    variance = int(squares[images].sum(dtype=np.int64)) / images.size - mean**2
    return round(mean / 255, 4), round(math.sqrt(variance) / 255, 4)


def load_bundled_mnist(folder: Path) -> Dataset:
    """MNIST from the four gzipped IDX files that SHA256SUMS beside them names.

    Raises:
      UserError: a file that is missing, or whose content is not what SHA256SUMS says.
    """
    sums = _read_sums(folder / "SHA256SUMS")

    def split(prefix: str) -> Split:
        images, labels = (
            np.frombuffer(_read_bundled(folder / f"{prefix}-{name}.gz", sums), np.uint8, offset=offset)
            for name, offset in (("images-idx3-ubyte", 16), ("labels-idx1-ubyte", 8))
        )
        return Split(images.reshape(-1, *IMAGE_SHAPE), labels.astype(np.int32))

    return Dataset(train=split("train"), test=split("t10k"))


def _read_sums(file: Path) -> dict[str, str]:
    """The hexadecimal SHA-256 of each unpacked file."""
    try:
        return {name: digest for digest, name in map(str.split, file.read_text("ascii").splitlines())}
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is missing or damaged ({error}): install the project again") from error


def _read_bundled(file: Path, sums: Mapping[str, str]) -> bytes:
    """The content of a .gz file; what packs it may differ, what is packed may not."""
    try:
        content = gzip.decompress(file.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file} is missing or damaged ({error}): install the project again") from error
    require(
        hashlib.sha256(content).hexdigest() == sums.get(file.stem),
        f"{file} is not the MNIST of SHA256SUMS beside it: install the project again",
    )
    return content


def _load_tfds(name: str, data_dir: str | None) -> Dataset:
    import tensorflow_datasets as tfds

    damaged = f"--dataset={name} in {data_dir or 'its folder'} is damaged: prepare it again"
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except UnicodeError as error:
        raise UserError(f"{damaged} ({error})") from error
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        raise UserError(
            f"--dataset={name} is not known to tensorflow-datasets and not in {data_dir or 'its folder'}: "
            "give a name such as fashion_mnist or kmnist, or the --data_dir that holds it"
        ) from error
    except ImportError as error:
        raise UserError(f"--dataset={name} cannot be read without {error.name}: give another") from error
    except Exception as error:  # whatever the parsers of its JSON files raise
        raise UserError(f"{damaged} ({error})") from error
    _require_suitable(name, builder)
    if not builder.is_prepared():
        _require_preparable(name, builder)
        builder.download_and_prepare(file_format="array_record")
    try:
        return Dataset(*(_read_split(builder, split) for split in ("train", "test")))
    except NotImplementedError as error:
        raise UserError(
            f"--dataset={name} in {builder.data_path} is stored as {builder.info.file_format.value}: "
            'prepare it again with download_and_prepare(file_format="array_record")'
        ) from error
    except Exception as error:  # whatever array_record or the image decoder says of a damaged file
        raise UserError(
            f"--dataset={name} in {builder.data_path} is damaged ({str(error).splitlines()[0]}): "
            "prepare it again"
        ) from error


def _require_suitable(name: str, builder: Any) -> None:
    features = dict(builder.info.features or {})
    shape = getattr(features.get("image"), "shape", None)
    classes = getattr(features.get("label"), "num_classes", None)
    require(
        shape == IMAGE_SHAPE and classes is not None and classes <= CLASSES,
        f"--dataset={name} has images of shape {shape} and {classes} classes: "
        f"give one with 28x28x1 images and at most {CLASSES} classes",
    )
    if builder.is_prepared():
        missing = {"train", "test"} - set(builder.info.splits)
        require(not missing, f"--dataset={name} has no split {', '.join(sorted(missing))}: give another")


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


def _read_split(builder: Any, split: str) -> Split:
    source = builder.as_data_source(split)
    images = np.empty((len(source), *IMAGE_SHAPE), np.uint8)
    labels = np.empty(len(source), np.int32)
    for index, example in enumerate(source):
        images[index], labels[index] = example["image"], example["label"]
    return Split(images, labels)
