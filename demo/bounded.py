"""A stranger's file, read in a process of its own (audit.bounded): nothing of it is kept."""

import html
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, TypeVar

from audit.api import OF_SPREADSHEETS, SECONDS, Exceeded, bounded, in_words, printable
from harness.errors import UserError

MOST_BYTES = 5 * 2**20
_LONGEST_NAME = 200  # bytes; file systems take 255
# The server has threads, and must not fork: another process imports these once, and is forked for each file.
_FORKED = "forkserver" in multiprocessing.get_all_start_methods()
_PROCESSES: Any = multiprocessing.get_context("forkserver" if _FORKED else "spawn")
_PROCESSES.set_forkserver_preload(
    ["demo.bounded_audit", "demo.bounded_notebook", "demo.bounded_drawing", *OF_SPREADSHEETS]
)
_NICENESS = 10  # of these processes: whoever presses a button is answered first
Answer = TypeVar("Answer")


def prepare() -> None:
    """Have that process begin its imports, which take seconds, before the first file comes.

    Raises:
      UserError: the folder for temporary files has too long a name for a socket in it.
    """
    if not _FORKED:
        return
    try:
        forkserver.ensure_running()
    except OSError as error:
        if "AF_UNIX path too long" not in str(error):
            raise
        raise UserError(f"TMPDIR={tempfile.gettempdir()} is too long: give the page a shorter one") from error


class Refused(Exception):
    """Why a file was not read, in one line."""


def read_in_a_process(
    read: Callable[[Path], Answer], name: str, content: bytes, *, seconds: float = SECONDS
) -> Answer:
    """The function's answer on a file that holds the content, by a process that is ended after that time.

    Args:
      read: at the top of a module; its answer can be pickled.
      name: of the file; what it ends with says of which kind it is.
      content: of the file.
      seconds: that it may take.

    Raises:
      Refused: the file takes too much, or the function raised UserError.
    """
    name = _file_name(name)
    try:
        return bounded(_read, (read, name, content), seconds=seconds, processes=_PROCESSES)
    except (Exceeded, UserError) as error:
        raise Refused(in_words(error, name)) from error


def _read(item: tuple[Callable[[Path], Answer], str, bytes]) -> Answer:
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    read, name, content = item
    file = Path(tempfile.gettempdir(), name)  # it goes with the process
    file.write_bytes(content)
    return read(file)


def refusal(words: str) -> str:
    """One line, in HTML, that says why there is nothing to judge."""
    return f'<div class="audit"><p class="refused">{html.escape(printable(words))}</p></div>'


def _file_name(name: str) -> str:
    """A name that a file may have on this system, with the end of the one that was given."""
    end = name.encode(errors="replace")[-_LONGEST_NAME:].decode(errors="ignore")
    last = Path(end.replace("\0", "")).name
    return "file" if last in ("", "..") else last
