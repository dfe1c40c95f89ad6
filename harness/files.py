"""A file that somebody names, opened for reading: nothing that would give bytes without end, or never any."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_file(path: Path) -> BinaryIO:
    """A regular file's bytes.

    Raises:
      OSError: it cannot be opened, or is a pipe, a device, a socket or a folder.
    """
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # of a folder the system says so
        raise OSError(errno.EINVAL, "it is not a file", str(path))
    return path.open("rb")
