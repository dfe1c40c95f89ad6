"""A stranger's spreadsheet, audited in a process of its own: bounded in time, and nothing of it is kept."""

import base64
import html
import multiprocessing
import re
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from audit.lines import printable
from audit.spreadsheet import report
from audit.spreadsheet.annotate import annotated, copy_name
from audit.spreadsheet.verdict import FileAudit, audit_file

MOST_BYTES = 5 * 2**20
_SECONDS = 60
_SECONDS_TO_END = 5
_LONGEST_NAME = 200  # bytes; file systems take 255
_LABEL = 17  # characters, of a line of report
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_FORKED = "forkserver" in multiprocessing.get_all_start_methods()
_PROCESSES: Any = multiprocessing.get_context("forkserver" if _FORKED else "spawn")  # mypy: no Process
_PROCESSES.set_forkserver_preload([__name__])  # it imports this once, and is forked for each file

STYLE = """
.audit h3 { display: flex; flex-wrap: wrap; gap: 0.5em; align-items: center; overflow-wrap: anywhere;
  margin: 0 0 0.8em }
.audit section { margin: 1.2em 0; padding-left: 0.9em; border-left: 4px solid var(--border-color-primary) }
.audit section.wrong { border-color: #d55e00 }
.audit section.right { border-color: #009e73 }
.audit section.warnings { border-color: #e69f00 }
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


def audited(name: str, content: bytes, seconds: float = _SECONDS) -> str:
    """What the audit says of a file, and its marked copy as a link, in HTML.

    Args:
      name: of the file; what it ends with says of which kind it is.
      seconds: the process that audits it is ended after that many.
    """
    name = _file_name(name)
    if len(content) > MOST_BYTES:
        return too_large(name, len(content))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, name)
        file.write_bytes(content)
        receiver, sender = _PROCESSES.Pipe(duplex=False)
        process = _PROCESSES.Process(target=_audit, args=(file, sender), daemon=True)
        process.start()
        sender.close()
        try:
            if receiver.poll(seconds):
                return str(receiver.recv())
            return refusal(
                f"{name} was not audited within {seconds:g} seconds, which is all that it may take here: "
                "give the table's sheet alone, or use --task=audit"
            )
        except EOFError:  # the process died
            return refusal(f"{name} was not audited: it took too much memory, or this program has a fault")
        finally:
            process.terminate()
            process.join(_SECONDS_TO_END)
            process.kill()
            process.join()
            receiver.close()


def refusal(words: str) -> str:
    """One line, in HTML, that says why there is nothing to judge."""
    return f'<div class="audit"><p class="refused">{html.escape(printable(words))}</p></div>'


def too_large(name: str, size: int) -> str:
    """The same for a file of so many bytes."""
    return refusal(
        f"{name} is too large ({size / 2**20:.1f} MB): give a file of at most {MOST_BYTES // 2**20} MB, "
        "the table's sheet alone, or use --task=audit"
    )


def as_html(audit: FileAudit) -> str:
    """An audit's words (audit.spreadsheet.report) laid out for a page, and the marked copy as a link."""
    if audit.refused:
        return refusal(audit.refused)
    # file_text parts the tables, and what follows them, by empty lines.
    title, *parts = report.file_text(audit).split("\n\n")
    tables = [
        f'<section class="{table.verdict}">{_section(part)}</section>'
        for table, part in zip(audit.tables, parts, strict=False)
    ]
    rest = [f"<p>{html.escape(' '.join(part.split()))}</p>" for part in parts[len(tables) :]]
    link = _copy(audit) if audit.verdict == "wrong" else ""
    return f'<div class="audit"><h3>{html.escape(title)}</h3>{link}{"".join([*tables, *rest])}</div>'


def _copy(audit: FileAudit) -> str:
    """The marked copy itself is in the link: the server keeps none."""
    content = base64.b64encode(annotated(audit)).decode()
    name = html.escape(copy_name(audit.file))
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


def _file_name(name: str) -> str:
    """A name that a file may have on this system, with the end of the one that was given."""
    end = name.encode(errors="replace")[-_LONGEST_NAME:].decode(errors="ignore")
    return Path(end.replace("\0", "")).name or "workbook"


def _audit(file: Path, sender: Connection) -> None:
    """What the process does. Ended from outside, it ends LibreOffice, too, where it waits for that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    tempfile.tempdir = str(file.parent)
    sender.send(as_html(audit_file(file)))
