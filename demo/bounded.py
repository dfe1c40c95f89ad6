"""A stranger's file, read in a process of its own (audit.bounded): nothing of it is kept."""

import html
import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from audit.bounded import SECONDS, Exceeded, bounded, in_words
from audit.lines import printable
from harness.errors import UserError

MOST_BYTES = 5 * 2**20
_LONGEST_NAME = 200  # bytes; file systems take 255
# The server has threads, and must not fork: another process imports these once, and is forked for each file.
_FORKED = "forkserver" in multiprocessing.get_all_start_methods()
_PROCESSES: Any = multiprocessing.get_context("forkserver" if _FORKED else "spawn")
_PROCESSES.set_forkserver_preload(["demo.bounded_audit", "demo.bounded_notebook"])
Answer = TypeVar("Answer")


class Refused(Exception):
    """Why a file was not read, in one line."""


def read_in_a_process(
    read: Callable[[Path], Answer], name: str, content: bytes, *, seconds: float = SECONDS, remedy: str
) -> Answer:
    """The function's answer on a file that holds the content, by a process that is ended after that time.

    Args:
      read: at the top of a module; its answer can be pickled.
      name: of the file; what it ends with says of which kind it is.
      content: of the file.
      seconds: that it may take.
      remedy: what somebody can do whose file is too large.

    Raises:
      Refused: the file is too large, or takes too much.
    """
    name = _file_name(name)
    if len(content) > MOST_BYTES:
        raise Refused(too_large(name, len(content), remedy))
    try:
        return bounded(_read, (read, name, content), seconds=seconds, processes=_PROCESSES)
    except (Exceeded, UserError) as error:
        raise Refused(in_words(error, name)) from error


def _read(item: tuple[Callable[[Path], Answer], str, bytes]) -> Answer:
    read, name, content = item
    file = Path(tempfile.gettempdir(), name)  # it goes with the process
    file.write_bytes(content)
    return read(file)


def too_large(name: str, size: int, remedy: str) -> str:
    """One line on a file of so many bytes."""
    most, given = MOST_BYTES // 2**20, f"{size / 2**20:.1f} MB"
    return f"{name} is too large ({given}): give a file of at most {most} MB, {remedy}"


def refusal(words: str) -> str:
    """One line, in HTML, that says why there is nothing to judge."""
    return f'<div class="audit"><p class="refused">{html.escape(printable(words))}</p></div>'


def _file_name(name: str) -> str:
    """A name that a file may have on this system, with the end of the one that was given."""
    end = name.encode(errors="replace")[-_LONGEST_NAME:].decode(errors="ignore")
    return Path(end.replace("\0", "")).name or "file"
