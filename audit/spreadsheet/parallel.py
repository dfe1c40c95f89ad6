"""A folder's spreadsheets, each audited in a process."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from audit.parallel import in_parallel
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
    yield from in_parallel(
        functools.partial(_audited, folder=folder), files, functools.partial(_died, folder=folder)
    )


def _died(file: Path, folder: Path) -> Result:
    words = f"{file.name} took more memory than there is: it was not audited"
    return _result(FileAudit(file, refused=words), folder)


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
