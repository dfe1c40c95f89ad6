"""What a user can set for --task=audit. No JAX here: a wrong flag is answered at once."""

from dataclasses import dataclass
from typing import Annotated

from harness.errors import require, require_folder_name

WORKBOOKS, NOTEBOOKS = ".xlsx, .ods, .xls or .csv", ".ipynb or .py"
"""The kinds of files, in words."""


@dataclass(frozen=True)
class AuditConfig:
    """The flags of --task=audit, checked: one kind of file to audit, and limits within their own."""

    workbook: Annotated[str | None, f"the {WORKBOOKS} file to check, or a folder of them"] = None
    notebook: Annotated[
        str | None,
        f"the {NOTEBOOKS} file to check (FILE.py:Name for one of its classes), several with commas, or a "
        "folder of submissions, whose spreadsheets are checked, too",
    ] = None
    max_parameters: Annotated[int, "a notebook's limit: fewer parameters than this"] = 20_000
    max_epochs: Annotated[int, "a notebook's limit: at most so many epochs"] = 20
    target_accuracy: Annotated[float, "test accuracy that a notebook's log is to reach, as a fraction"] = (
        0.994
    )
    workdir: Annotated[str | None, "folder for the results (default: runs/TASK-DATE-TIME)"] = None

    def __post_init__(self) -> None:
        for name, value, most in (
            ("max_parameters", self.max_parameters, 10**12),
            ("max_epochs", self.max_epochs, 60_000),
        ):
            require(1 <= value <= most, f"--{name}={value}: give a whole number from 1 to {most}")
        require(
            0 < self.target_accuracy <= 1,
            f"--target_accuracy={self.target_accuracy}: give a fraction above 0, at most 1, such as 0.994",
        )
        require_folder_name("workdir", self.workdir)
        require(
            self.workbook is None or self.notebook is None,
            "--workbook and --notebook exclude each other: a folder given as --notebook is searched for both",
        )
        require(
            (self.workbook or self.notebook or "").strip() != "",
            f"--{'workbook' if self.notebook is None else 'notebook'} is missing: give --workbook, an .xlsx, "
            ".ods, .xls or .csv file, or --notebook, an .ipynb or .py file, or a folder of them",
        )
        for name in ("max_parameters", "max_epochs", "target_accuracy"):
            require(
                self.notebook is not None or getattr(self, name) == getattr(AuditConfig, name),
                f"--{name} is a limit of --notebook: leave it out",
            )
