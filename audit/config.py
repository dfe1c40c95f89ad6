"""What a user can set for --task=audit. No JAX here: a wrong flag is answered at once."""

from dataclasses import dataclass
from typing import Annotated

from harness.errors import require, require_folder_name


@dataclass(frozen=True)
class AuditConfig:
    """The flags of --task=audit, checked.

    Raises:
      UserError: no workbook named.
    """

    workbook: Annotated[str | None, "the .xlsx, .ods, .xls or .csv file to check, or a folder of them"] = None
    workdir: Annotated[str | None, "folder for the results (default: runs/TASK-DATE-TIME)"] = None

    def __post_init__(self) -> None:
        require(
            self.workbook is not None and self.workbook.strip() != "",
            "--workbook is missing: give an .xlsx, .ods, .xls or .csv file, or a folder of them",
        )
        require_folder_name("workdir", self.workdir)
