"""The flags of --task=compare. No JAX here: a wrong flag is answered at once."""

from dataclasses import dataclass
from typing import Annotated

from harness.errors import require, require_folder_name


@dataclass(frozen=True)
class CompareConfig:
    """The flags of --task=compare, checked.

    Raises:
      UserError: a value that is not allowed.
    """

    workdir: Annotated[str | None, "folder of a finished run of --task=mnist"] = None
    against: Annotated[str | None, "folder of the run to compare it with"] = None

    def __post_init__(self) -> None:
        for flag, path in (("workdir", self.workdir), ("against", self.against)):
            require(path is not None, f"--{flag} is missing: name the folder of a run of --task=mnist")
            require_folder_name(flag, path)
