"""A stranger's file, read in a process of its own: bounded in time, and nothing of it is kept."""

import html
import multiprocessing
import signal
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from audit.lines import printable

MOST_BYTES = 5 * 2**20
SECONDS = 60
_SECONDS_TO_END = 5
_LONGEST_NAME = 200  # bytes; file systems take 255
_FORKED = "forkserver" in multiprocessing.get_all_start_methods()
_PROCESSES: Any = multiprocessing.get_context("forkserver" if _FORKED else "spawn")  # mypy: no Process
# It imports these once, and is forked for each file.
_PROCESSES.set_forkserver_preload(["demo.bounded_audit", "demo.bounded_notebook"])
Answer = TypeVar("Answer")


class Refused(Exception):
    """Why a file was not read, in one line."""


def read_in_a_process(
    read: Callable[[Path], Answer], name: str, content: bytes, *, seconds: float, remedy: str
) -> Answer:
    """What a function makes of a file that holds the content, in a process that is ended after that time.

    Args:
      read: at the top of a module; its answer can be pickled.
      name: of the file; what it ends with says of which kind it is.
      content: of the file.
      seconds: that it may take.
      remedy: what somebody can do whose file takes longer or is too large.

    Raises:
      Refused: the file is too large, the time is up, or the process died.
    """
    name = _file_name(name)
    if len(content) > MOST_BYTES:
        raise Refused(too_large(name, len(content), remedy))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, name)
        file.write_bytes(content)
        receiver, sender = _PROCESSES.Pipe(duplex=False)
        process = _PROCESSES.Process(target=work, args=(read, file, sender), daemon=True)
        process.start()
        sender.close()
        try:
            if receiver.poll(seconds):
                answer: Answer = receiver.recv()
                return answer
            raise Refused(
                f"{name} was not audited within {seconds:g} seconds, which is all that it may take here: "
                f"{remedy}"
            )
        except EOFError as error:  # the process died
            raise Refused(
                f"{name} was not audited: it took too much memory, or this program has a fault"
            ) from error
        finally:
            process.terminate()
            process.join(_SECONDS_TO_END)
            process.kill()
            process.join()
            receiver.close()


def too_large(name: str, size: int, remedy: str) -> str:
    """One line on a file of so many bytes."""
    most, given = MOST_BYTES // 2**20, f"{size / 2**20:.1f} MB"
    return f"{name} is too large ({given}): give a file of at most {most} MB, {remedy}"


def refusal(words: str) -> str:
    """One line, in HTML, that says why there is nothing to judge."""
    return f'<div class="audit"><p class="refused">{html.escape(printable(words))}</p></div>'


def work(read: Callable[[Path], Answer], file: Path, sender: Connection) -> None:
    """What the process does. Ended from outside, it ends LibreOffice, too, where it waits for that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    tempfile.tempdir = str(file.parent)
    sender.send(read(file))


def _file_name(name: str) -> str:
    """A name that a file may have on this system, with the end of the one that was given."""
    end = name.encode(errors="replace")[-_LONGEST_NAME:].decode(errors="ignore")
    return Path(end.replace("\0", "")).name or "file"
