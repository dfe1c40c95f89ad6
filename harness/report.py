"""report.html: what a run left in its folder, on one page that opens from disk."""

import base64
import contextlib
import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness.workdir import write_bytes

_KEPT_AS_TEXT = re.compile(r"(^|[;\t\r\n])'(?='*[=+\-@\uff1d\uff0b\uff0d\uff20])")
"""The apostrophe of audit/lines.py, for spreadsheet programs: it is no part of the text."""
_STYLE = Path(__file__).with_suffix(".css").read_text()


def write_report(
    folder: Path,
    title: str,
    *,
    figures: Iterable[str],
    tables: Iterable[str],
    labels: Mapping[str, str],
) -> None:
    """Write report.html: summary, figures, tables and configuration, all within the one file.

    Nothing is fetched from elsewhere; links lead to files beside it.

    Args:
      folder: of a finished run, with summary.json and config.json.
      title: the heading.
      figures: names of figures that workdir.save_figure wrote, in the order to show; of those that it could
        not write there is none.
      tables: names of CSV files.
      labels: what summary.json's keys and the tables' columns mean, the important first; a key
        without a label comes after them, in words of its own. Accuracies are shown in per cent.
    """
    sections = {
        "Summary": _object(json.loads((folder / "summary.json").read_text()), labels),
        "Figures": "\n".join(_figure(folder, name) for name in figures if (folder / f"{name}.svg").exists()),
    }
    for name in tables:
        with (folder / f"{name}.csv").open(newline="") as stream:
            rows = [{key: _number(cell) for key, cell in row.items()} for row in csv.DictReader(stream)]
        sections[name.replace("_", " ").capitalize()] = _rows(rows, labels)
    sections["Configuration"] = _object(json.loads((folder / "config.json").read_text()), None)
    names = sorted(file.name for file in folder.iterdir() if file.is_file() and file.name[0] != ".")
    links = ", ".join(_link(name) for name in names if name != "report.html")
    sections["Files"] = f"<p>{links}</p>"
    body = "\n".join(f"<h2>{escape(name)}</h2>\n{content}" for name, content in sections.items() if content)
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{body}
</body>
</html>
"""
    write_bytes(folder / "report.html", page.encode())


def _object(content: Mapping[str, Any], labels: Mapping[str, str] | None, path: str = "") -> str:
    """A JSON object: a table of its plain values; each object or list of objects under a heading.

    Args:
      labels: as write_report has them; None shows names and values as the file has them.
      path: the headings above this one.
    """
    rows, parts = [], []
    for key in sorted(content, key=[*(labels or ()), *content].index):
        name = _name(key, labels)
        match content[key]:
            case dict() as item:
                parts += [f"<h3>{path}{name}</h3>", _object(item, labels, f"{path}{name}: ")]
            case [dict(), *_] as item:
                parts += [f"<h3>{path}{name}</h3>", _rows(item, labels)]
            case item:
                rows.append(f"<tr><th>{name}</th><td>{_value(item, key, labels)}</td></tr>")
    return "\n".join([*([_table(rows)] if rows else []), *parts])


def _value(value: object, name: str, labels: Mapping[str, str] | None) -> str:
    match value:
        case list():
            return ", ".join(_value(item, name, labels) for item in value)
        case dict():
            items = ((_name(key, labels), _value(item, key, labels)) for key, item in value.items())
            return ", ".join(map(" ".join, items))
        case bool():
            return "yes" if value else "no"
        case float() if labels is not None and "accuracy" in name:
            digits = 2 if abs(value) >= 0.01 else 3
            return f'<data value="{value!r}">{100 * value:.{digits}f} %</data>'
        case float():
            return f'<data value="{value!r}">{value:.6g}</data>'
        case None:
            return "none"
        case _:
            return escape(str(value))


def _name(name: str, labels: Mapping[str, str] | None) -> str:
    """A key's label, or else the key: in words of its own where there are labels for others."""
    if labels is None:
        return escape(name).replace("_", "_<wbr>")
    return escape(labels.get(name, name.replace("_", " ")))


def _rows(rows: Sequence[Mapping[str, Any]], labels: Mapping[str, str] | None) -> str:
    heading = "".join(f"<th>{_name(name, labels)}</th>" for name in rows[0])
    cells = ("".join(f"<td>{_value(item, name, labels)}</td>" for name, item in row.items()) for row in rows)
    return _table((f"<tr>{row}</tr>" for row in cells), head=f"<thead><tr>{heading}</tr></thead>")


def _table(rows: Iterable[str], head: str = "") -> str:
    """Return a table in a box of its own, which scrolls sideways where the screen is narrow."""
    body = "\n".join(rows)
    return f'<div class="wide"><table>{head}<tbody>\n{body}\n</tbody></table></div>'


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return _KEPT_AS_TEXT.sub(r"\1", text)


def _figure(folder: Path, name: str) -> str:
    """The figure inside the page, as SVG or as PNG, whichever is smaller."""
    types = {f"{name}.svg": "image/svg+xml", f"{name}.png": "image/png"}
    file = min(types, key=lambda file: (folder / file).stat().st_size)
    content = base64.b64encode((folder / file).read_bytes()).decode()
    return (
        f'<figure><img alt="{escape(name)}" src="data:{types[file]};base64,{content}">\n'
        f"<figcaption>{escape(name)}: {', '.join(map(_link, types))}</figcaption></figure>"
    )


def _link(name: str) -> str:
    return f'<a href="{quote(name)}">{escape(name)}</a>'
