"""The door of audit/: what launch.py and the page call. They import its task, its flags, and no other module.

What reads spreadsheets is imported by audit_spreadsheet: it takes as long as all else of a start.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from audit.bounded import SECONDS, Exceeded, bounded, in_words
from audit.lines import printable
from audit.notebook.claims import Limits
from audit.notebook.command import flags, settings, with_submission
from audit.notebook.report import figures, in_one_line
from audit.notebook.verdict import audit_notebook

if TYPE_CHECKING:
    from audit.spreadsheet.verdict import FileAudit

__all__ = [
    "OF_SPREADSHEETS",
    "SECONDS",
    "Exceeded",
    "Notebook",
    "Spreadsheet",
    "audit_spreadsheet",
    "bounded",
    "for_a_page",
    "in_words",
    "printable",
    "read_notebook",
    "with_submission",
]
OF_SPREADSHEETS = ("audit.spreadsheet.annotate", "audit.spreadsheet.report", "audit.spreadsheet.verdict")
"""Modules that a server imports before the first spreadsheet comes."""


class Spreadsheet(NamedTuple):
    """The audit of a spreadsheet."""

    text: str  # as the terminal has it: a title, the tables, and what follows, parted by empty lines
    verdicts: tuple[str, ...] = ()  # one a table
    refused: bool = False  # the text says why there is nothing to judge
    copy: bytes = b""  # the marked copy as .xlsx, of a wrong one
    copy_name: str = ""


class Notebook(NamedTuple):
    """A notebook's network as text, and what the audit says."""

    layers: str  # as --layers takes them; empty where the network is refused
    words: str  # one line: what it is, or why it is refused
    recipe: str = ""  # the flags that train it as the notebook does; empty where they are not all known
    settings: Mapping[str, Any] = {}  # the same flags by name
    mistakes: tuple[str, ...] = ()  # each with its place


def audit_spreadsheet(file: Path) -> Spreadsheet:
    """Return the audit of a spreadsheet; call it in a process of its own (bounded)."""
    from audit.spreadsheet.verdict import audit_file

    return for_a_page(audit_file(file))


def for_a_page(audit: "FileAudit") -> Spreadsheet:
    """Return an audit's words, and the marked copy of a wrong spreadsheet."""
    from audit.spreadsheet.annotate import annotated, copy_name
    from audit.spreadsheet.report import file_text

    if audit.refused:
        return Spreadsheet(file_text(audit), refused=True)
    copy = annotated(audit) if audit.verdict == "wrong" else b""
    verdicts = tuple(table.verdict for table in audit.tables)
    return Spreadsheet(file_text(audit), verdicts, copy=copy, copy_name=copy_name(audit.file))


def read_notebook(file: Path) -> Notebook:
    """Return a notebook's or a .py file's network and mistakes; call it in a process of its own (bounded)."""
    audit = audit_notebook(file, Limits())
    if audit.refused or audit.network is None or audit.recipe is None:
        return Notebook("", in_one_line(audit))
    words = f"{file.name}: class {audit.network.class_name}, {figures(audit)}"
    mistakes = tuple(f"{found.place}: {found.what}" for found in audit.mistakes)
    if audit.recipe.recipe is None:
        return Notebook(audit.network.text, words, mistakes=mistakes)
    return Notebook(audit.network.text, words, flags(audit.recipe), settings(audit.recipe), mistakes)
