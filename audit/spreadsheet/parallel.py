"""Spreadsheets audited, each in a process: a bad one never stops the others."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from audit.bounded import each_bounded, in_words
from audit.spreadsheet import report
from audit.spreadsheet.annotate import annotated
from audit.spreadsheet.verdict import FileAudit, audit_file


class Result(NamedTuple):
    """What of one file's audit leaves its process.

    Attributes:
      refused: the line that is said of one that cannot be judged; text: all that is said.
      rows: for the table of a folder; csv_rows: for audit.csv.
      copy: the marked copy of a wrong one.
      mistakes: for the list of those that recur.
    """

    verdict: str
    refused: str | None
    text: str
    rows: list[tuple[str, ...]]
    csv_rows: list[list[object]]
    mistakes: list[report.Mistake]
    copy: bytes | None = None


def audited(files: Sequence[Path], folder: Path) -> Iterator[Result]:
    """Each file's result, in their order, as soon as it and those before it are there."""
    answers = each_bounded(functools.partial(_audited, folder=folder), files)
    for file, answer in zip(files, answers, strict=True):
        match answer:
            case Result():
                yield answer
            case _:
                yield _result(FileAudit(file, refused=in_words(answer, file.name)), folder)


def _audited(file: Path, folder: Path) -> Result:
    return _result(audit_file(file), folder)


def _result(audit: FileAudit, folder: Path) -> Result:
    return Result(
        audit.verdict,
        audit.refused,
        report.file_text(audit),
        report.folder_rows(audit, folder),
        list(report.csv_rows(audit, folder)),
        report.mistakes_of(audit, folder),
        annotated(audit) if audit.verdict == "wrong" else None,
    )
