"""What --task=audit does with --workbook, top to bottom."""

import os
from pathlib import Path

from tqdm import tqdm

from audit.config import AuditConfig
from audit.folder import counted, exit_code, left_by_earlier, open_for
from audit.lines import printable
from audit.spreadsheet import report
from audit.spreadsheet.annotate import copy_name
from audit.spreadsheet.parallel import Result, audited
from audit.spreadsheet.reading import KINDS, SUFFIXES
from harness.errors import UserError
from harness.workdir import write_bytes, write_csv


def audit_spreadsheets(config: AuditConfig) -> int:
    """Audit a spreadsheet, or each in a folder; say what is wrong and mark it in a copy.

    Returns:
      0 when every number is right, 1 when one is not, 2 when one is not shown or a file cannot be read.

    Raises:
      UserError: nothing to read, or a single file without a table; a folder of another task's run.
    """
    given = Path(str(config.workbook)).expanduser()
    if not os.path.lexists(given):
        name = printable(str(config.workbook))
        raise UserError(f"--workbook={name} is not there: give an {KINDS} file, or a folder")
    if given.is_dir():
        return _audit_folder(given, config)

    (result,) = audited([given], given.parent)
    if result.refused:
        raise UserError(printable(result.refused))
    workdir = open_for(config, given)
    print(result.text)
    write_csv(workdir / "audit.csv", report.CSV_HEADER, result.csv_rows)
    if result.copy is not None:
        write_bytes(workdir / "audited.xlsx", result.copy)
        print(f"\nThe wrong cells are marked, with the right equations, in {workdir / 'audited.xlsx'}.")
    return exit_code([result.verdict])


def _audit_folder(folder: Path, config: AuditConfig) -> int:
    files = _spreadsheets(folder, config.workdir)
    if not files:
        name = printable(str(folder))
        raise UserError(f"--workbook={name} holds no {KINDS} file: give a folder that does")
    workdir = open_for(config, *files)
    print(report.folder_line(report.FOLDER_HEADER, files, folder))
    results: list[Result] = []
    with tqdm(total=len(files), unit="file", disable=None) as bar:
        for file, result in zip(files, audited(files, folder), strict=True):
            for row in result.rows:
                tqdm.write(report.folder_line(row, files, folder))
            if result.copy is not None:
                copy = workdir / "audited" / file.relative_to(folder).with_name(copy_name(file))
                copy.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(copy, result.copy)
            results.append(result._replace(copy=None))
            bar.update()
    write_csv(
        workdir / "audit.csv", report.CSV_HEADER, (row for result in results for row in result.csv_rows)
    )
    recurring = report.recurring_mistakes([result.mistakes for result in results])
    write_csv(workdir / "mistakes.csv", report.MISTAKES_HEADER, recurring)
    if lines := report.recurring_text(recurring):
        print(f"\nMistakes in more than one file:\n{lines}")
    verdicts = [result.verdict for result in results]
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
