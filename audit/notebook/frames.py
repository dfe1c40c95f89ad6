"""What a piece of code is followed with: its names, and how a statement ends."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from audit.notebook.values import Class, Refused, Scope, Site, Unit
from harness.errors import UserError


class Signal(NamedTuple):
    """How a statement ends other than by going on to the next."""

    kind: str  # return, break, continue, raise
    value: Any = None


@dataclass
class Frame:
    """What is being followed.

    Attributes:
      strict: whether what is not known is refused where something hangs on it.
      cls, first: in a method its class and its first argument, for super().
      returned: what may be returned, on conditions that are not known.
    """

    scope: Scope
    unit: Unit
    strict: bool = False
    cls: Class | None = None
    first: Any = None
    returned: list[Any] = field(default_factory=list)

    def require_known(self, site: Site, problem: str) -> None:
        """Raise Refused where something hangs on what is not known."""
        if self.strict:
            raise Refused(site, problem)


class TooLong(UserError):
    """Code that does not come to its end within the steps that are followed."""
