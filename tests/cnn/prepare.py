"""Small data sets: an .npz file, or as tensorflow-datasets prepares it, without TensorFlow or a network."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from cnn import data
from cnn.data import Examples

LAYERS = (
    "conv 6 5x5 stride 2, batch norm, ReLU, channel dropout 0.05, "
    "conv 8 3x3, batch norm, SiLU, dropout 0.05, global average pool, dense 10 bias"
)
"""A network with all that can go wrong in training and resuming, which compiles in a second."""


def some_of_mnist(file: Path, counts: tuple[int, int]) -> None:
    """Write the first training and test images of MNIST to an .npz file, which is read the fastest."""
    train, test, *_ = data.load("mnist")
    (x_train, y_train), (x_test, y_test) = (
        [array[:count] for array in split] for split, count in zip((train, test), counts, strict=True)
    )
    np.savez(file, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


def prepare(folder: Path, *, train: Examples, test: Examples, counts: tuple[int, int]) -> None:
    """Write the first images of two splits to `folder` as the data set tiny_mnist."""

    class TinyMnist(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> tfds.core.DatasetInfo:
            features = {
                "image": tfds.features.Image(shape=(28, 28, 1)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager: object) -> dict:
            return {
                "train": self._generate_examples(train, counts[0]),
                "test": self._generate_examples(test, counts[1]),
            }

        def _generate_examples(self, split: Examples, count: int) -> Iterator[tuple[int, dict]]:
            for index in range(count):
                png = io.BytesIO()
                Image.fromarray(split.images[index, :, :, 0]).save(png, "png")
                png.seek(0)
                yield index, {"image": png, "label": int(split.labels[index])}

    TinyMnist(data_dir=folder, file_format="array_record").download_and_prepare()
