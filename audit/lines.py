"""What every report is made of: labelled lines for the terminal, and cells that stay text in a table."""

import math
import re
import textwrap

_WIDTH = 100


def line(label: str, text: str) -> str:
    """A label and its words, wrapped and indented, without what would steer a terminal."""
    return textwrap.fill(
        printable(text),
        _WIDTH,
        initial_indent=f"  {label:<14} ",
        subsequent_indent=" " * 17,
        break_long_words=False,
        break_on_hyphens=False,
    )


_COMPUTED = re.compile(r"(^|[;\t\r\n])(?='*[=+\-@\uff1d\uff0b\uff0d\uff20])")
"""Where a spreadsheet program would see a formula: some part a .csv file at semicolons or tabs."""


def quoted(cell: object) -> object:
    """For spreadsheet programs: an apostrophe in front keeps text text; harness/report.py takes it off."""
    if isinstance(cell, float):
        return "" if math.isnan(cell) else cell
    return _COMPUTED.sub(r"\1'", printable(cell)) if isinstance(cell, str) else cell


def printable(text: str) -> str:
    """Text from a file as one line, without what would steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.splitlines()))
