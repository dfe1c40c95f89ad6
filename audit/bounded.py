"""What strangers' files need: each is read in a process of its own, bounded in time and memory.

Nothing of it stays: its temporary files are in a folder that is removed, the programs that it started end.
"""

import contextlib
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from harness.errors import UserError

SECONDS = 60.0
_GIGABYTES = 1  # beyond what a process has when it begins; the programs that it starts may take as much
_FORKED = sys.platform == "linux"
# A forked process has all modules; elsewhere than on Linux, system libraries do not stand a fork.
PROCESSES: Any = multiprocessing.get_context("fork" if _FORKED else "spawn")  # mypy: no Process
_SLICE = 1.0  # second
_ORPHANS_SECONDS = 900  # should the process that waits be killed
_MOST_BYTES = 2**30  # of a file that is written
_REMEDY = "give a smaller file"
_TOO_LARGE = f"takes more than {_GIGABYTES} GB of memory, or breaks this program: {_REMEDY}"
Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Exceeded(Exception):
    """Why there is no answer, as the end of a sentence that begins with the file's name."""


def in_words(error: Exceeded | UserError, name: str) -> str:
    """Why there is no answer on the file of that name, as a line."""
    return str(error) if isinstance(error, UserError) else f"{name} {error}"


def bounded(
    work: Callable[[Item], Answer], item: Item, *, seconds: float = SECONDS, processes: Any = None
) -> Answer:
    """The function's answer on one item; raises Exceeded, or the UserError that the function raised."""
    (answer,) = each_bounded(work, [item], seconds=seconds, processes=processes)
    if isinstance(answer, Exception):
        raise answer
    return answer


def each_bounded(
    work: Callable[[Item], Answer], items: Sequence[Item], *, seconds: float = SECONDS, processes: Any = None
) -> Iterator[Answer | Exceeded | UserError]:
    """The function's answer on each item, in their order, as soon as it and those before it are there.

    As many processes as there are cores work at once. Where one takes too much, or raises, the item's
    answer is that exception. The function, the items and the answers can be pickled. A process with threads
    must not use `fork`, the default of processes, which is multiprocessing's context.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    running: dict[connection.Connection, tuple[int, _Job]] = {}
    answers: dict[int, Any] = {}
    started = given = 0
    passed = 0.0  # seconds, but for those in which this process was stopped, and with it perhaps all others
    try:
        while given < len(items):
            while len(running) < cores and started < len(items):
                job = _start(work, items[started], passed + seconds, processes or PROCESSES)
                running[job.receiver] = (started, job)
                started += 1
            left = min(job.deadline for _, job in running.values()) - passed
            before = time.monotonic()
            ready = connection.wait(running, min(left, _SLICE))
            passed += min(time.monotonic() - before, _SLICE)
            for receiver, (number, job) in list(running.items()):
                if receiver in ready:
                    answers[number] = _answer(job)
                elif passed >= job.deadline:
                    answers[number] = Exceeded(f"takes more than {seconds:g} seconds: {_REMEDY}")
                else:
                    continue
                del running[receiver]
                _end(job)
            while given in answers:
                yield answers.pop(given)
                given += 1
    finally:
        for _, job in running.values():
            _end(job)


class _Job(NamedTuple):
    """A process and what it needs; deadline is when it has to be done."""

    process: Any
    receiver: connection.Connection
    folder: Path
    deadline: float


def _start(work: Callable[[Item], Any], item: Item, deadline: float, processes: Any) -> _Job:
    folder = Path(tempfile.mkdtemp())
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=_work, args=(work, item, folder, sender), daemon=True)
    process.start()
    sender.close()
    return _Job(process, receiver, folder, deadline)


def _answer(job: _Job) -> Any:
    try:
        return job.receiver.recv()
    except EOFError:  # the process died
        return Exceeded(_TOO_LARGE)


def _end(job: _Job) -> None:
    """End the process with all that it started, and remove its folder."""
    job.process.kill()
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it had no group yet, or has ended
        os.killpg(job.process.pid, signal.SIGKILL)
    job.process.join()
    job.receiver.close()
    for _ in range(100):  # what is being ended may still write a file
        shutil.rmtree(job.folder, ignore_errors=True)
        if not job.folder.exists():
            break
        time.sleep(0.01)


def _work(work: Callable[[Item], Any], item: Item, folder: Path, sender: connection.Connection) -> None:
    os.setsid()  # so that it ends with its children, and Ctrl-C is the parent's alone
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGKILL))
    signal.alarm(_ORPHANS_SECONDS)
    tempfile.tempdir = str(folder)
    os.environ["TMPDIR"] = os.environ["HOME"] = str(folder)
    most = _data() + _GIGABYTES * 2**30
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MOST_BYTES, _MOST_BYTES))
    answer: Any
    try:
        answer = work(item)
    except UserError as error:
        answer = UserError(str(error))  # a class of its own may need more than its words to be sent
    except Exceeded as error:
        answer = error
    except MemoryError:
        answer = Exceeded(_TOO_LARGE)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}"
        answer = Exceeded(f"could not be read, by a fault of this program ({where}): report it")
    sender.send(answer)


def _data() -> int:
    """The memory that counts for RLIMIT_DATA, in bytes; only Linux tells, and only there it is a limit."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    except OSError:
        return 0
