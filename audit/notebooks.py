"""What --task=audit does with --notebook, top to bottom."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from audit import submissions
from audit.bounded import bounded
from audit.config import NOTEBOOKS, AuditConfig
from audit.folder import counted, exit_code, left_by_earlier, open_for
from audit.lines import line, printable, quoted
from audit.notebook import report as of_notebook
from audit.notebook.claims import Limits
from audit.notebook.mistakes import MISTAKES
from audit.notebook.standing import picture
from audit.spreadsheet import report as of_spreadsheet
from audit.spreadsheet.annotate import annotated, copy_name
from audit.submissions import Submission, files_of, submissions_in
from harness.errors import UserError, require
from harness.report import write_report
from harness.workdir import save_figure, write_bytes, write_csv, write_json


def audit_submissions(config: AuditConfig) -> int:
    """Audit one notebook with what lies beside it, or many.

    Returns the exit code: 0 when all is right, 1 when something is wrong, 2 when something is not shown or
    cannot be read. A single one that cannot be judged at all is a UserError.
    """
    limits = Limits(config.max_parameters, config.max_epochs, config.target_accuracy)
    names = str(config.notebook)
    given = [_submission(name.strip()) for name in ([names] if os.path.exists(names) else names.split(","))]
    folder = _folder(given)
    skip = left_by_earlier(config.workdir)
    found = [
        each for one in given for each in ([one] if one.notebook else submissions_in(Path(one.name), skip))
    ]
    if not found:
        raise UserError(
            f"--notebook={printable(str(config.notebook))} holds no notebook, no .py file that trains and no "
            "spreadsheet: give a folder that does"
        )
    if len(found) == 1:
        return _audit_one(found[0], folder, config, limits)
    return _audit_many(found, folder, config, limits)


def _submission(name: str) -> Submission:
    """One of the names of --notebook: a file, perhaps with a class, or a folder (without a notebook yet)."""
    path, _, class_name = (
        name.rpartition(":") if re.search(r"\.(py|ipynb):\w+$", name, re.I) else (name, "", "")
    )
    file = Path(path).expanduser().absolute()
    require(
        name != "" and os.path.lexists(file),
        f"--notebook={printable(name)} is not there: give an {NOTEBOOKS} file, several with commas, "
        "or a folder",
    )
    if file.is_dir():
        return Submission(str(file), None)
    return Submission(file.name, file, (), class_name or None)


def _folder(given: Sequence[Submission]) -> Path:
    """What the names in the tables are relative to."""
    folders = [each.notebook.parent if each.notebook else Path(each.name) for each in given]
    return Path(os.path.commonpath(folders))


def _audit_one(submission: Submission, folder: Path, config: AuditConfig, limits: Limits) -> int:
    (audit,) = submissions.audited([submission], limits)
    if len(audit.refused) == len(audit.spreadsheets) + (audit.notebook is not None):
        if audit.notebook and audit.notebook.tells:
            print(submissions.text(audit))
        raise UserError(audit.refused[0])
    workdir = open_for(config, *files_of(submission))
    print(submissions.text(audit))
    result = submissions.result(audit, folder, limits)
    notebook = audit.notebook
    tables = ["spreadsheets"] if result.sheets else []
    if notebook is not None and notebook.network is not None:
        rows = {
            "claims": (of_notebook.CLAIMS_HEADER, of_notebook.claim_rows(notebook)),
            "mistakes": (of_notebook.FINDINGS_HEADER, of_notebook.finding_rows(notebook)),
            "layers": (of_notebook.LAYERS_HEADER, of_notebook.layer_rows(notebook.network)),
            "log": (of_notebook.LOG_HEADER, of_notebook.log_rows(notebook)),
        }
        for name, (header, of_table) in rows.items():
            write_csv(workdir / f"{name}.csv", header, of_table)
            tables += [name] if of_table else []
    summary = {name: value for name, value in result.row.items() if value != ""}
    _write(workdir, [result], tables, summary, f"The audit of {submission.name}", limits)
    for each in audit.spreadsheets:
        if each.verdict == "wrong":
            (workdir / "audited").mkdir(exist_ok=True)
            write_bytes(workdir / "audited" / copy_name(each.file), bounded(annotated, each))
    print(f"\nThe same as a page: {workdir / 'report.html'}")
    return exit_code([audit.verdict])


def _audit_many(found: Sequence[Submission], folder: Path, config: AuditConfig, limits: Limits) -> int:
    workdir = open_for(config, *(file for each in found for file in files_of(each)))
    width = max(len(printable(each.name)) for each in found)
    results: list[submissions.Result] = []
    with tqdm(total=len(found), unit="submission", disable=None) as bar:
        for each, audit in zip(found, submissions.audited(found, limits), strict=True):
            result = submissions.result(audit, folder, limits)
            tqdm.write(f"{printable(each.name):<{width}}  {result.verdict:<10}  {result.line}")
            results.append(result)
            bar.update()
    verdicts = [result.verdict for result in results]
    mistakes = Counter(name for result in results for name in result.mistakes)
    summary: dict[str, object] = {
        **Counter(verdicts),
        "submissions": [
            {"file": result.row["file"], "verdict": result.verdict, "in_short": result.line}
            for result in results
        ],
    }
    rows = [
        [name, count, MISTAKES[name].what, MISTAKES[name].remedy] for name, count in mistakes.most_common()
    ]
    write_csv(workdir / "mistakes.csv", ("mistake", "submissions", "what", "to_do"), rows)
    tables = ["mistakes"] if rows else []
    tables += ["spreadsheets"] if any(result.sheets for result in results) else []
    _write(workdir, results, tables, summary, "The audit of many submissions", limits)
    if mistakes:
        print("\nMistakes, and in how many submissions:")
        for name, count in mistakes.most_common():
            print(line(str(count), f"{name}: {MISTAKES[name].what}"))
    print(f"\n{len(verdicts)} submissions: {counted(verdicts)}. In {workdir}: report.html, audit.csv.")
    return exit_code(verdicts)


def _write(
    workdir: Path,
    results: Sequence[submissions.Result],
    tables: Sequence[str],
    summary: Mapping[str, object],
    title: str,
    limits: Limits,
) -> None:
    """audit.csv, spreadsheets.csv, the picture, summary.json and the page of them all."""
    write_csv(
        workdir / "audit.csv",
        submissions.CSV_HEADER,
        ([quoted(cell) for cell in result.row.values()] for result in results),
    )
    sheets = [row for result in results for row in result.sheets]
    if sheets:
        write_csv(workdir / "spreadsheets.csv", of_spreadsheet.CSV_HEADER, sheets)
    points = [result.point for result in results if result.point]
    if points:
        save_figure(workdir, "standing", lambda: picture(points, target=limits.target_accuracy))
    write_json(workdir / "summary.json", summary)
    write_report(
        workdir, title, figures=["standing"] if points else [], tables=tables, labels=submissions.LABELS
    )
