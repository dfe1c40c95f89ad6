"""What the audit says of a stranger's spreadsheet, as HTML."""

import base64
import html
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from audit.api import Spreadsheet, audit_spreadsheet
from demo.bounded import SECONDS, Refused, read_in_a_process, refusal

_LABEL = 17  # characters, of a line of report
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

STYLE = """
.audit h3 { display: flex; flex-wrap: wrap; gap: 0.5em; align-items: center; overflow-wrap: anywhere;
  margin: 0 0 0.8em }
.audit section { margin: 1.2em 0; padding-left: 0.9em; border-left: 4px solid var(--border-color-primary) }
.audit section.wrong { border-color: #d55e00 }
.audit section.right { border-color: #009e73 }
.audit section.warnings, .audit section.shown { border-color: #e69f00 }
.audit h4 { margin: 0 0 0.5em }
.audit dl { display: grid; grid-template-columns: 7.5em minmax(0, 1fr); gap: 0.25em 0.6em; margin: 0;
  font-size: 14px; line-height: 1.45 }
.audit dt { opacity: 0.75 }
.audit dd { margin: 0; overflow-wrap: anywhere }
.audit dd.formula { font-family: var(--font-mono); font-size: 13px }
.audit .first { font-weight: 700; opacity: 1 }
.audit .copy { display: inline-block; padding: 8px 18px; border-radius: 8px; font-weight: 700;
  text-decoration: none; background: var(--button-primary-background-fill);
  color: var(--button-primary-text-color) }
@media (max-width: 600px) { .audit dl { grid-template-columns: 6.6em minmax(0, 1fr) } }
.audit .refused { margin: 0; padding-left: 0.9em; border-left: 4px solid #d55e00; overflow-wrap: anywhere }
"""
"""Colours by Okabe and Ito."""


def audited(name: str, content: bytes, seconds: float = SECONDS) -> str:
    """What the audit says of a file, and its marked copy as a link, in HTML.

    Args:
      name: of the file; what it ends with says of which kind it is.
      seconds: the process that audits it is ended after that many.
    """
    try:
        return read_in_a_process(_answer, name, content, seconds=seconds)
    except Refused as refused:
        return refusal(str(refused))


def _answer(file: Path) -> str:
    return as_html(audit_spreadsheet(file))


def as_html(audit: Spreadsheet) -> str:
    """Return an audit's words laid out for a page, and the marked copy as a link."""
    if audit.refused:
        return refusal(audit.text)
    title, *parts = audit.text.split("\n\n")
    tables = [
        f'<section class="{verdict}">{_section(part)}</section>'
        for verdict, part in zip(audit.verdicts, parts, strict=False)
    ]
    rest = [f"<p>{html.escape(' '.join(part.split()))}</p>" for part in parts[len(tables) :]]
    link = _link(audit) if audit.copy else ""
    return f'<div class="audit"><h3>{html.escape(title)}</h3>{link}{"".join([*tables, *rest])}</div>'


def _link(audit: Spreadsheet) -> str:
    """Return a link that holds the marked copy itself: the server keeps none."""
    content = base64.b64encode(audit.copy).decode()
    name = html.escape(audit.copy_name)
    return (
        f'<a class="copy" download="{name}" href="data:{_XLSX};base64,{content}">Download the marked copy</a>'
    )


def _section(text: str) -> str:
    """A table's lines: its verdict, then a label and words each."""
    title, *lines = text.splitlines()
    rows = "".join(
        f'<dt class="{kind}">{html.escape(label)}</dt><dd class="{kind}">{html.escape(words)}</dd>'
        for label, words in _labelled(lines)
        for kind in [_KINDS.get(label, "")]
    )
    return f"<h4>{html.escape(title)}</h4><dl>{rows}</dl>"


_KINDS = {
    "FIRST WRONG": "first",
    "looks like": "first",
    "formula": "formula",
    "right": "formula",
    "": "formula",
}


def _labelled(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """What report wrapped, in whole: a label and its words; a formula on a line of its own has no label."""
    label, words = "", ""
    for line in lines:
        start, rest = line[:_LABEL].strip(), line[_LABEL:]
        if not start and not re.match(r"=\S", rest):
            words += f" {rest}"
            continue
        if words:
            yield label, words
        label, words = start, rest
    if words:
        yield label, words
