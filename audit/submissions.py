"""What somebody handed in, both parts: a notebook (Part 2) and the spreadsheets beside it (Part 1)."""

import functools
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from audit.bounded import each_bounded, in_words
from audit.lines import printable
from audit.notebook import report as notebook_report
from audit.notebook.claims import Limits
from audit.notebook.standing import Point
from audit.notebook.texts import TRAINS
from audit.notebook.verdict import VERDICTS, NotebookAudit, audit_notebook
from audit.spreadsheet import report as spreadsheet_report
from audit.spreadsheet.reading import SUFFIXES as OF_SPREADSHEETS
from audit.spreadsheet.verdict import FileAudit, audit_file
from harness.files import open_file

_MOST_CODE = 2_000_000  # characters of a .py file that are searched for what it imports
CSV_HEADER = (*notebook_report.CSV_HEADER, "spreadsheet", "spreadsheet_verdict", "first_wrong_cell")
LABELS = {
    "verdict": "verdict",
    "file": "file",
    "class": "class",
    "parameters": "parameters",
    "used_parameters": "parameters that forward uses",
    "epochs": "epochs in the code",
    "epochs_run": "epochs in the log",
    "best_accuracy": "best accuracy in the log",
    "best_epoch": "best epoch",
    "last_accuracy": "last accuracy in the log",
    "holds_from_epoch": "at the target for good from epoch",
    "evaluated": "images evaluated",
    "percentile": "percentile among public ones of its size",
    "broken_limits": "limits not kept",
    "layers": "network, for --layers",
    "recipe": "recipe, as flags",
    "not_expressed": "not expressed in flags",
    "to_do": "what to do",
}
"""What the columns mean, for the page."""


class Submission(NamedTuple):
    """One person's files: the notebook of Part 2 and the spreadsheets of Part 1.

    The name is relative to the folder that was given; class_name is the network's, where the user named it.
    """

    name: str
    notebook: Path | None
    spreadsheets: tuple[Path, ...] = ()
    class_name: str | None = None


class SubmissionAudit(NamedTuple):
    """What became of a submission; notebook is None where it has none."""

    submission: Submission
    notebook: NotebookAudit | None
    spreadsheets: tuple[FileAudit, ...]

    @property
    def refused(self) -> list[str]:
        """What is said of the parts that cannot be judged."""
        of_notebook = [self.notebook.refused] if self.notebook else []
        return [words for words in (*of_notebook, *(each.refused for each in self.spreadsheets)) if words]

    @property
    def verdict(self) -> str:
        """One of VERDICTS: the first that a part has."""
        verdicts = {self.notebook.verdict} if self.notebook else set()
        for audit in self.spreadsheets:
            warned = audit.verdict.startswith("right")
            verdicts.add("unreadable" if audit.refused else "right" if warned else audit.verdict)
        return next((verdict for verdict in VERDICTS if verdict in verdicts), "unreadable")


def submissions_in(folder: Path, skip: Sequence[Path] = ()) -> list[Submission]:
    """The submissions of a folder: each notebook, or .py file that trains, with the spreadsheets near it.

    Where there are notebooks the .py files in their folder belong to them. A spreadsheet belongs to the
    notebook with which it shares the most folders; one that shares none but the given folder, where that
    holds several people's, is a submission without a notebook. Paths to skip are those that an audit wrote.
    """
    files = [file for file in _files(folder) if not any(file.resolve().is_relative_to(path) for path in skip)]
    notebooks = _main_files(files, folder)
    of: dict[Path, list[Path]] = {notebook: [] for notebook in notebooks}
    alone = []
    for sheet in (file for file in files if file.suffix.lower() in OF_SPREADSHEETS):
        common = {each: Path(os.path.commonpath([sheet.parent, each.parent])) for each in notebooks}
        shared = {notebook: len(path.relative_to(folder).parts) for notebook, path in common.items()}
        nearest = max(notebooks, key=lambda notebook: shared[notebook], default=None)
        if nearest is not None and (shared[nearest] > 0 or len(notebooks) == 1):
            of[nearest].append(sheet)
        else:
            alone.append(sheet)
    found = [Submission(str(file.relative_to(folder)), file, tuple(sheets)) for file, sheets in of.items()]
    found += [Submission(str(sheet.relative_to(folder)), None, (sheet,)) for sheet in alone]
    return sorted(found)


def _files(folder: Path) -> list[Path]:
    """All files below a folder but for hidden ones, locks and installed packages; no link is followed."""
    found = []
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if not name.startswith((".", "__")) and name != "site-packages"
        )
        found += [Path(path, name) for name in sorted(names) if not name.startswith((".", "~$"))]
    return found


def _main_files(files: Sequence[Path], folder: Path) -> list[Path]:
    """The notebooks, and the .py files that train and belong to none of them."""
    notebooks = [file for file in files if file.suffix.lower() == ".ipynb"]
    texts = {
        file: _text(file)
        for file in files
        if file.suffix.lower() == ".py" and not any(_belongs(file, one, folder) for one in notebooks)
    }
    imported = {
        (_first_folder(file, folder), name)
        for file, text in texts.items()
        for name in re.findall(r"^\s*(?:from|import)\s+\.?(?:\w+\.)*(\w+)", text, re.M)
    }
    scripts = [
        file
        for file, text in texts.items()
        if TRAINS.search(text)
        and (_first_folder(file, folder), file.stem) not in imported
        and not file.name.startswith("test_")
    ]
    return [*notebooks, *scripts]


def _belongs(script: Path, notebook: Path, folder: Path) -> bool:
    """Whether a .py file lies beside a notebook, or below its folder where that is one person's."""
    return script.parent == notebook.parent or (
        notebook.parent != folder and script.is_relative_to(notebook.parent)
    )


def _first_folder(file: Path, folder: Path) -> str:
    return next(iter(file.relative_to(folder).parts[:-1]), "")


def _text(file: Path) -> str:
    try:
        with io.TextIOWrapper(open_file(file), "utf-8", "replace") as stream:
            return stream.read(_MOST_CODE)
    except OSError:
        return ""


def audited(submissions: Sequence[Submission], limits: Limits) -> Iterator[SubmissionAudit]:
    """Each submission's audit, in their order, as soon as it and those before it are there."""
    parts = [(each, file) for each in submissions for file in files_of(each)]
    answers = each_bounded(functools.partial(_audited, limits=limits), parts)
    for submission in submissions:
        notebook: NotebookAudit | None = None
        spreadsheets = []
        for file, answer in zip(files_of(submission), answers, strict=False):
            match answer:
                case NotebookAudit():
                    notebook = answer
                case FileAudit():
                    spreadsheets.append(answer)
                case error if file == submission.notebook:
                    notebook = NotebookAudit(file, refused=in_words(error, file.name))
                case error:
                    spreadsheets.append(FileAudit(file, refused=in_words(error, file.name)))
        # Beside a notebook, a table of something else is no Part 1.
        of_part_1 = [audit for audit in spreadsheets if notebook is None or audit.verdict != "no table"]
        yield SubmissionAudit(submission, notebook, tuple(of_part_1))


def files_of(submission: Submission) -> list[Path]:
    """The notebook, and the spreadsheets."""
    return [*([submission.notebook] if submission.notebook else []), *submission.spreadsheets]


def _audited(part: tuple[Submission, Path], limits: Limits) -> NotebookAudit | FileAudit:
    submission, file = part
    if file == submission.notebook:
        return audit_notebook(file, limits, submission.class_name)
    return audit_file(file)


def text(audit: SubmissionAudit) -> str:
    """Everything about one submission, under headings where it has both parts."""
    part_1 = [spreadsheet_report.file_text(each) for each in audit.spreadsheets]
    part_2 = [notebook_report.text(audit.notebook)] if audit.notebook else []
    if part_1 and part_2:
        part_1, part_2 = ["PART 1, BY HAND", *part_1], ["PART 2, THE NETWORK", *part_2]
    return "\n\n".join([*part_1, *part_2])


class Result(NamedTuple):
    """An audit's line in the folder's table and row of CSV_HEADER, the rows of its spreadsheets, its point in
    the picture and the names of its notebook's mistakes.
    """

    line: str
    row: dict[str, object]
    sheets: list[list[object]]
    point: Point | None = None
    mistakes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """The first of VERDICTS that a part has."""
        return str(self.row["verdict"])


def result(audit: SubmissionAudit, folder: Path, limits: Limits) -> Result:
    """An audit as a row of each table."""
    notebook, name = audit.notebook, audit.submission.name
    row: dict[str, object] = dict.fromkeys(CSV_HEADER, "")
    words = ["no notebook"]
    if notebook is not None:
        row |= notebook_report.csv_row(notebook, limits.target_accuracy)
        words = [notebook_report.in_one_line(notebook)]
    firsts = [
        table.findings[0].cells[0].address
        for each in audit.spreadsheets
        for table in each.tables
        if table.findings
    ]
    row |= {
        "file": name,
        "verdict": audit.verdict,
        "spreadsheet": "; ".join(each.file.name for each in audit.spreadsheets),
        "spreadsheet_verdict": "; ".join(each.verdict for each in audit.spreadsheets),
        "first_wrong_cell": "; ".join(firsts),
    }
    return Result(
        printable("; ".join([*words, *map(spreadsheet_report.in_one_line, audit.spreadsheets)])),
        row,
        [row for each in audit.spreadsheets for row in spreadsheet_report.csv_rows(each, folder)],
        notebook_report.point(notebook) if notebook else None,
        tuple(found.name for found in notebook.mistakes) if notebook else (),
    )
