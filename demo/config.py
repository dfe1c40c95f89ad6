"""What a user can set for --task=demo. No JAX here: a wrong flag is answered at once."""

from dataclasses import dataclass
from typing import Annotated

from harness.errors import require, require_folder_name


@dataclass(frozen=True)
class DemoConfig:
    """The flags of --task=demo, checked.

    Raises:
      UserError: a value that is not allowed.
    """

    workdir: Annotated[
        str | None, "folder of the --task=mnist run that reads digits; the other tabs need none"
    ] = None
    port: Annotated[int, "where the page is served on this machine"] = 7860
    share: Annotated[bool, "also make a public link, through Gradio's servers"] = False

    def __post_init__(self) -> None:
        require_folder_name("workdir", self.workdir)
        require(
            1 <= self.port <= 65535,
            f"--port={self.port}: give a whole number from 1 to 65535, such as 7860",
        )
