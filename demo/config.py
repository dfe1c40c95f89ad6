"""What a user can set for --task=demo. No JAX here: a wrong flag is answered at once."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated

from harness.errors import require, require_folder_name

_NAME = r"(\*\.)?[a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*|\[[0-9a-fA-F:.]+\]"


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
    host: Annotated[str, "this machine's address that serves the page; 0.0.0.0 is all it has"] = "127.0.0.1"
    allowed_hosts: Annotated[
        str | None, "names and addresses, separated by commas, by which visitors on other machines call it"
    ] = None
    share: Annotated[bool, "also make a public link, through Gradio's servers"] = False

    def __post_init__(self) -> None:
        require_folder_name("workdir", self.workdir)
        require(
            1 <= self.port <= 65535,
            f"--port={self.port}: give a whole number from 1 to 65535, such as 7860",
        )
        require(
            _is_address(self.host),
            f"--host={self.host} is not an address: give one of this machine's, such as 192.168.0.5, or "
            "0.0.0.0",
        )
        for name in self._given:
            require(
                re.fullmatch(_NAME, name) is not None,
                f"--allowed_hosts: {name!r} is not a host: give names or addresses without ports, separated "
                "by commas, such as 192.168.0.5,pc12.school.example",
            )
        require(
            self.allowed_hosts is not None or not ipaddress.ip_address(self.host).is_unspecified,
            f"--host={self.host} needs --allowed_hosts: the names and addresses that visitors will type, "
            "such as 192.168.0.5,pc12.school.example",
        )

    @property
    def hosts(self) -> list[str]:
        """What a request may name as its host."""
        return [*dict.fromkeys(["127.0.0.1", "localhost", self._own, *self._given])]

    @property
    def address(self) -> str:
        """Where the page is."""
        everywhere = ipaddress.ip_address(self.host).is_unspecified
        return f"http://{self._given[0] if everywhere else self._own}:{self.port}/"

    @property
    def _own(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def _given(self) -> list[str]:
        return [] if self.allowed_hosts is None else self.allowed_hosts.split(",")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
