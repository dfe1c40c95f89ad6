"""Many spreadsheets at once, each in a process: a bad one never stops the others."""

import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

from audit.spreadsheet import report
from audit.spreadsheet.annotate import annotated
from audit.spreadsheet.verdict import FileAudit, audit_file


class Result(NamedTuple):
    """What of one file's audit leaves its process.

    Attributes:
      rows: for the terminal; csv_rows: for audit.csv.
      copy: the marked copy of a wrong one.
      mistakes: for the list of those that recur.
    """

    verdict: str
    rows: list[tuple[str, ...]]
    csv_rows: list[list[object]]
    mistakes: list[report.Mistake]
    copy: bytes | None = None


def audited_in_parallel(files: Sequence[Path], folder: Path) -> Iterator[Result]:
    """Each file's result, in their order, as soon as it and those before it are there."""
    left = list(files)
    while left:
        with _pool(len(left)) as pool:
            try:
                for result in pool.map(_audited, left, [folder] * len(left)):
                    left.pop(0)
                    yield result
            except BrokenProcessPool:  # a process died: this file's, or another one's beside it
                yield _alone(left.pop(0), folder)


def _pool(files: int) -> ProcessPoolExecutor:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # A forked process has all modules; elsewhere than on Linux, system libraries do not stand a fork.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    return ProcessPoolExecutor(min(cores, files), mp_context=context)


def _alone(file: Path, folder: Path) -> Result:
    with _pool(1) as pool:
        try:
            return pool.submit(_audited, file, folder).result()
        except BrokenProcessPool:
            return _result(
                FileAudit(file, refused=f"{file.name} took more memory than there is: it was not audited"),
                folder,
            )


def _audited(file: Path, folder: Path) -> Result:
    try:
        return _result(audit_file(file), folder)
    except Exception:  # a fault of this program: the other files are audited all the same
        words = f"{file.name} could not be audited, by a fault of this program: audit it alone, and report it"
        return _result(FileAudit(file, refused=words), folder)


def _result(audit: FileAudit, folder: Path) -> Result:
    return Result(
        audit.verdict,
        report.folder_rows(audit, folder),
        list(report.csv_rows(audit, folder)),
        report.mistakes_of(audit, folder),
        annotated(audit) if audit.verdict == "wrong" else None,
    )
