"""A stranger's notebook, read in a process of its own: its network as text, and what the audit says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from audit.notebook.claims import Limits
from audit.notebook.command import flags
from audit.notebook.command import settings as settings_of
from audit.notebook.report import figures, in_one_line
from audit.notebook.verdict import audit_notebook
from demo.bounded import SECONDS, Refused, read_in_a_process


class Read(NamedTuple):
    """What of a notebook the page shows.

    Attributes:
      layers: the network's text, as --layers takes it; empty where it is refused.
      words: a line that says what it is, or why it is refused.
      recipe: the flags that train it as the notebook does; empty where they are not all known.
      settings: the same flags by name.
      mistakes: each with its place.
    """

    layers: str
    words: str
    recipe: str = ""
    settings: Mapping[str, Any] = {}
    mistakes: tuple[str, ...] = ()


def read(name: str, content: bytes, seconds: float = SECONDS) -> Read:
    """Read a notebook or a .py file; the process that does it is ended after so many seconds."""
    try:
        return read_in_a_process(_answer, name, content, seconds=seconds)
    except Refused as refused:
        return Read("", str(refused))


def _answer(file: Path) -> Read:
    audit = audit_notebook(file, Limits())
    if audit.refused or audit.network is None or audit.recipe is None:
        return Read("", in_one_line(audit))
    words = f"{file.name}: class {audit.network.class_name}, {figures(audit)}"
    mistakes = tuple(f"{found.place}: {found.what}" for found in audit.mistakes)
    known = audit.recipe.recipe is not None
    recipe, settings = (flags(audit.recipe), settings_of(audit.recipe)) if known else ("", {})
    return Read(audit.network.text, words, recipe, settings, mistakes)
