"""What --task=audit does with --workbook, top to bottom."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from audit.bounded import each_bounded, in_words
from audit.config import WORKBOOKS, AuditConfig
from audit.folder import counted, exit_code, left_by_earlier, open_for
from audit.lines import printable, quoted
from audit.spreadsheet import report
from audit.spreadsheet.annotate import annotated, copy_name
from audit.spreadsheet.reading import SUFFIXES
from audit.spreadsheet.verdict import FileAudit, audit_file
from harness.errors import UserError
from harness.workdir import write_bytes, write_csv


def audit_spreadsheets(config: AuditConfig) -> int:
    """Audit a spreadsheet, or each in a folder; say what is wrong and mark it in a copy.

    Returns the exit code: 0 when every number is right, 1 when one is not, 2 when one is not shown or a file
    of a folder cannot be read. A single one without a table is a UserError.
    """
    given = Path(str(config.workbook)).expanduser()
    if not os.path.lexists(given):
        name = printable(str(config.workbook))
        raise UserError(f"--workbook={name} is not there: give an {WORKBOOKS} file, or a folder")
    if given.is_dir():
        return _audit_folder(given, config)

    ((audit, copy),) = _audited([given])
    if audit.refused:
        raise UserError(printable(audit.refused))
    workdir = open_for(config, given)
    print(report.file_text(audit))
    write_csv(workdir / "audit.csv", report.CSV_HEADER, report.csv_rows(audit, given.parent))
    if copy is not None:
        write_bytes(workdir / "audited.xlsx", copy)
        print(f"\nThe wrong cells are marked, with the right equations, in {workdir / 'audited.xlsx'}.")
    return exit_code([audit.verdict])


def _audited(files: Sequence[Path]) -> Iterator[tuple[FileAudit, bytes | None]]:
    """Each file's audit and the marked copy of a wrong one, in their order; a bad one stops no other."""
    for file, answer in zip(files, each_bounded(_audit_and_copy, files), strict=True):
        if isinstance(answer, tuple):
            yield answer
        else:
            yield FileAudit(file, refused=in_words(answer, file.name)), None


def _audit_and_copy(file: Path) -> tuple[FileAudit, bytes | None]:
    audit = audit_file(file)
    return audit, annotated(audit) if audit.verdict == "wrong" else None


def _audit_folder(folder: Path, config: AuditConfig) -> int:
    files = _spreadsheets(folder, config.workdir)
    if not files:
        name = printable(str(folder))
        raise UserError(f"--workbook={name} holds no {WORKBOOKS} file: give a folder that does")
    workdir = open_for(config, *files)
    print(report.folder_line(report.FOLDER_HEADER, files, folder))
    verdicts: list[str] = []
    csv_rows: list[list[object]] = []
    mistakes: list[list[report.Mistake]] = []
    with tqdm(total=len(files), unit="file", disable=None) as bar:
        for file, (audit, copy) in zip(files, _audited(files), strict=True):
            for row in report.folder_rows(audit, folder):
                tqdm.write(report.folder_line(row, files, folder))
            if copy is not None:
                marked = workdir / "audited" / file.relative_to(folder).with_name(copy_name(file))
                marked.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(marked, copy)
            verdicts.append(audit.verdict)
            csv_rows += report.csv_rows(audit, folder)
            mistakes.append(report.mistakes_of(audit, folder))
            bar.update()
    write_csv(workdir / "audit.csv", report.CSV_HEADER, csv_rows)
    recurring = report.recurring_mistakes(mistakes)
    rows = ([quoted(cell) for cell in row] for row in recurring)
    write_csv(workdir / "mistakes.csv", report.MISTAKES_HEADER, rows)
    if lines := report.recurring_text(recurring):
        print(f"\nMistakes in more than one file:\n{lines}")
    print(
        f"\n{len(verdicts)} files: {counted(verdicts)}. "
        f"In {workdir}: audit.csv, mistakes.csv, and marked copies in audited/."
    )
    return exit_code(verdicts)


def _spreadsheets(folder: Path, workdir: str | None) -> list[Path]:
    """The files to audit: no lock files, nothing that an audit wrote."""
    left = left_by_earlier(workdir)
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in (*SUFFIXES, ".xlsm")
        and not file.is_dir()
        and not file.name.startswith((".", "~$"))
        and not any(file.absolute().resolve().is_relative_to(path) for path in left)
    )
