"""The four arrays of a data set in an .npz or in IDX files: sizes first, values once they are asked for.

Nothing is unpickled, and a size that a file declares is bounded before memory is taken for it. The formats
are those of numpy.lib.format and of the MNIST database (LeCun, Cortes and Burges 1998).
"""

import contextlib
import gzip
import math
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from harness.errors import UserError, require
from harness.files import open_file

NAMES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
"""What an .npz calls an array, and the IDX file of it, which may end in .gz."""
_MOST_BYTES = 2**32
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class Stored(NamedTuple):
    """An array in a file.

    Attributes:
      name: of NAMES, and the file, as an error says it.
      read: its values; UserError where they are damaged.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


def stored(path: Path) -> dict[str, Stored]:
    """The arrays by the names of NAMES, of an .npz file or a folder of IDX files.

    Raises:
      UserError: no such file, one that is damaged, or an array that is missing, of objects, or too large.
    """
    if path.is_dir():
        return {name: _idx(name, file) for name, file in zip(NAMES, files(path), strict=True)}
    with _readable(path):
        require(
            path.is_file(), f"{path} is neither a file nor a folder: give an .npz, or a folder of IDX files"
        )
        with zipfile.ZipFile(path) as archive:
            there = [name.removesuffix(".npy") for name in archive.namelist()]
            missing = [name for name in NAMES if name not in there]
            require(
                not missing,
                f"{path} has no {', '.join(missing)}: it has {', '.join(there) or 'nothing'}, and needs "
                f"{', '.join(NAMES)}",
            )
            return {name: _npy(path, archive, name) for name in NAMES}


def files(path: Path) -> list[Path]:
    """The .npz itself, or the four files of a folder.

    Raises:
      UserError: one of the four is missing.
    """
    return [_idx_file(path, base) for base in NAMES.values()] if path.is_dir() else [path]


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Say of a file in one line what its parsers raise."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except OSError as error:
        reason = error.strerror or f"damaged: {error}"
        raise UserError(f"{file} cannot be read ({reason}): give another, or make it anew") from error
    except Exception as error:  # zipfile, zlib and numpy.lib.format raise many types for damaged files
        format = "IDX" if file.name.removesuffix(".gz") in NAMES.values() else ".npz"
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(
            f"{file} is damaged, or no {format} file ({reason}): give another, or make it anew"
        ) from error


def _npy(file: Path, archive: zipfile.ZipFile, name: str) -> Stored:
    with archive.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = readers[version](stream)
        size = archive.getinfo(f"{name}.npy").file_size - stream.tell()

    def read() -> np.ndarray:
        with _readable(file), zipfile.ZipFile(file) as archive, archive.open(f"{name}.npy") as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)

    require(
        not dtype.hasobject,
        f"{name} in {file} holds Python objects, which could run code and are not read: "
        "save an array of numbers",
    )
    array = Stored(f"{name} in {file}", shape, dtype, read)
    declared = _bytes(array)
    require(size == declared, f"{array.name} is damaged: {declared:,} bytes are declared, {size:,} are there")
    return array


def _idx_file(folder: Path, base: str) -> Path:
    """The file, or the packed one."""
    for file in (folder / base, folder / f"{base}.gz"):
        if os.path.lexists(file):
            return file
    raise UserError(
        f"{folder} has no {base} or {base}.gz: give a folder with the four files that MNIST comes in, "
        f"{', '.join(NAMES.values())}"
    )


def _idx(name: str, file: Path) -> Stored:
    with _readable(file), _opened(file) as stream:
        zeros, kind, axes = struct.unpack(">HBB", stream.read(4))
        require(
            zeros == 0 and kind in _IDX_TYPES,
            f"{file} is no IDX file: it should begin with two zeros and a type of numbers",
        )
        shape = struct.unpack(f">{axes}I", stream.read(4 * axes))
    dtype = np.dtype(_IDX_TYPES[kind])

    def read() -> np.ndarray:
        with _readable(file), _opened(file) as stream:
            stream.read(4 + 4 * axes)
            content = stream.read(declared + 1)
        size = "more" if len(content) > declared else f"{len(content):,}"
        require(
            len(content) == declared,
            f"{array.name} is damaged: {declared:,} bytes are declared, {size} are there",
        )
        return np.frombuffer(content, dtype).reshape(shape)

    array = Stored(f"{name} in {file}", shape, dtype, read)
    declared = _bytes(array)
    return array


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[BinaryIO | gzip.GzipFile]:
    """An IDX file's content, packed by gzip or not."""
    with open_file(file) as stream:
        yield gzip.GzipFile(fileobj=stream) if file.suffix == ".gz" else stream


def _bytes(array: Stored) -> int:
    """Return the size of an array; UserError if that is more than is read."""
    declared = math.prod(array.shape) * array.dtype.itemsize
    require(
        min(array.shape, default=0) >= 0 and declared <= _MOST_BYTES,
        f"{array.name} declares {'x'.join(map(str, array.shape))} numbers, {declared:,} bytes: "
        f"at most {_MOST_BYTES:,} are read",
    )
    return declared
