"""report.html: what a run left in its folder, on one page that opens from disk."""

import base64
import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness.workdir import write_bytes

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 60rem; margin: 0 auto; padding: 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.2; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
figure { margin: 1.5rem 0; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { text-align: center; color: #555; font-size: .85rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem 1rem .25rem 0; border-bottom: 1px solid #ddd;
  text-align: left; vertical-align: top; }
th { font-weight: 500; color: #555; }
thead th { white-space: nowrap; }
data { white-space: nowrap; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  figure, tr { break-inside: avoid; }
  img { max-height: 12cm; }
  h2, h3 { break-after: avoid; }
}
"""


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
      figures: names of figures that workdir.save_figure wrote, in the order to show.
      tables: names of CSV files.
      labels: what summary.json's keys and the tables' columns mean, the important first; a key
        without a label comes after them, in words of its own. Accuracies are shown in per cent.
    """
    summary = json.loads((folder / "summary.json").read_text())
    sections = {
        "Summary": _object(summary, labels),
        "Figures": "\n".join(_figure(folder, name) for name in figures),
        **{
            name.replace("_", " ").capitalize(): _csv_table(folder / f"{name}.csv", labels) for name in tables
        },
        "Configuration": _object(json.loads((folder / "config.json").read_text()), None),
        "Files": _files(folder),
    }
    body = "\n".join(f"<h2>{escape(name)}</h2>\n{content}" for name, content in sections.items())
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
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
    content = {name: content[name] for name in (*(labels or ()), *content) if name in content}
    parts = {name: item for name, item in content.items() if isinstance(item, dict) or _is_table(item)}
    plain = {name: item for name, item in content.items() if name not in parts}
    rows = (
        f"<tr><th>{_name(name, labels)}</th><td>{_value(item, name, labels)}</td></tr>"
        for name, item in plain.items()
    )
    html = [_table(rows)] if plain else []
    for name, item in parts.items():
        title = f"{path}{_name(name, labels)}"
        html.append(f"<h3>{title}</h3>")
        html.append(_rows(item, labels) if _is_table(item) else _object(item, labels, f"{title}: "))
    return "\n".join(html)


def _is_table(item: object) -> bool:
    return isinstance(item, list) and bool(item) and isinstance(item[0], dict)


def _value(value: object, name: str, labels: Mapping[str, str] | None) -> str:
    match value:
        case list():
            return ", ".join(_value(item, name, labels) for item in value)
        case dict():
            return ", ".join(
                f"{_name(key, labels)} {_value(item, key, labels)}" for key, item in value.items()
            )
        case bool():
            return "yes" if value else "no"
        case float() if labels is not None and "accuracy" in name:
            shown = f"{value:.2%}" if abs(value) >= 0.01 else f"{value:.3%}"
            return f'<data value="{value!r}">{shown.removesuffix("%")} %</data>'
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


def _csv_table(file: Path, labels: Mapping[str, str]) -> str:
    with file.open(newline="") as stream:
        rows = [{name: _number(cell) for name, cell in row.items()} for row in csv.DictReader(stream)]
    return _rows(rows, labels)


def _rows(rows: Sequence[Mapping[str, Any]], labels: Mapping[str, str] | None) -> str:
    heading = "".join(f"<th>{_name(name, labels)}</th>" for name in rows[0])
    cells = ("".join(f"<td>{_value(item, name, labels)}</td>" for name, item in row.items()) for row in rows)
    return _table((f"<tr>{row}</tr>" for row in cells), head=f"<thead><tr>{heading}</tr></thead>")


def _table(rows: Iterable[str], head: str = "") -> str:
    """In a box of its own, which scrolls sideways where the screen is narrow."""
    body = "\n".join(rows)
    return f'<div class="wide"><table>{head}<tbody>\n{body}\n</tbody></table></div>'


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _figure(folder: Path, name: str) -> str:
    """The figure inside the page, as SVG or as PNG, whichever is smaller."""
    types = {f"{name}.svg": "image/svg+xml", f"{name}.png": "image/png"}
    file = min(types, key=lambda file: (folder / file).stat().st_size)
    content = base64.b64encode((folder / file).read_bytes()).decode()
    return (
        f'<figure><img alt="{escape(name)}" src="data:{types[file]};base64,{content}">\n'
        f"<figcaption>{escape(name)}: {', '.join(map(_link, types))}</figcaption></figure>"
    )


def _files(folder: Path) -> str:
    files = [file.name for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")]
    names = sorted(set(files) - {"report.html"})
    return f"<p>{', '.join(map(_link, names))}</p>"


def _link(name: str) -> str:
    return f'<a href="{quote(name)}">{escape(name)}</a>'
