"""The cells of an .ods file, written anew: what LibreOffice gets to see of it, and all that it gets to see.

Of each element and attribute that is listed here, by its namespace, a copy is made; pictures, objects, forms,
scripts and links are not listed. The format: OpenDocument 1.3, part 3.
"""

import io
import re
import zipfile
from collections.abc import Mapping
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from audit.spreadsheet.package import (
    MAX_COST,
    MAX_DEPTH,
    MAX_FORMULA,
    MAX_UNPACKED,
    damaged,
    opened,
    parser_of,
    refuse,
    require_inside,
    too_costly,
    without_texts,
)
from harness.errors import require

_OASIS = "urn:oasis:names:tc:opendocument:xmlns:"
_PREFIXES: Final = {
    f"{_OASIS}office:1.0": "office",
    f"{_OASIS}table:1.0": "table",
    f"{_OASIS}text:1.0": "text",
    f"{_OASIS}style:1.0": "style",
    f"{_OASIS}datastyle:1.0": "number",
    f"{_OASIS}xsl-fo-compatible:1.0": "fo",
    f"{_OASIS}of:1.2": "of",
    "http://openoffice.org/2004/calc": "oooc",
}


def _with_prefixes(**names: str) -> frozenset[str]:
    return frozenset(f"{prefix}:{name}" for prefix, of_it in names.items() for name in of_it.split())


_ELEMENTS = _with_prefixes(
    office="document-content automatic-styles body spreadsheet",
    table="calculation-settings null-date table named-expressions named-range named-expression "
    "table-columns table-header-columns table-column-group table-column table-rows "
    "table-header-rows table-row-group table-row table-cell covered-table-cell",
    text="p s tab line-break",
    style="style table-column-properties table-cell-properties text-properties",
    number="number-style percentage-style currency-style date-style time-style boolean-style "
    "text-style number scientific-number fraction day month year day-of-week hours minutes "
    "seconds am-pm boolean text text-content currency-symbol",
)
_ATTRIBUTES = _with_prefixes(
    office="version value-type value date-value time-value boolean-value string-value currency",
    table="case-sensitive precision-as-shown null-year search-criteria-must-apply-to-whole-cell "
    "use-wildcards use-regular-expressions automatic-find-labels date-value value-type name "
    "display number-columns-repeated number-rows-repeated default-cell-style-name style-name "
    "visibility number-columns-spanned number-rows-spanned number-matrix-columns-spanned "
    "number-matrix-rows-spanned formula base-cell-address cell-range-address expression",
    text="c",
    style="name family data-style-name column-width",
    fo="background-color font-weight font-style color",
    number="language country automatic-order format-source truncate-on-overflow decimal-places "
    "min-decimal-places min-integer-digits grouping display-factor min-exponent-digits "
    "exponent-interval style textual",
)
_WITHIN_TEXT = frozenset(("text:span", "text:a"))  # they go, their text stays
_WITH_TEXT = frozenset(("text:p", "number:text", "number:currency-symbol"))
_FORMULAS = frozenset(
    ("table:formula", "table:expression", "table:base-cell-address", "table:cell-range-address")
)
_TEXTS = frozenset(("table:name", "style:name", "office:string-value"))
_PLAIN = re.compile(r"[\w.:+,%# -]{0,200}")
"""A value of any other attribute: no address has room in it."""
_GRAMMAR = re.compile(r"(of|oooc):")
_QUOTED = re.compile(r"'(?:[^']|'')*'")
_INDIRECT = re.compile(r"\bINDIRECT\s*\(", re.IGNORECASE)
_ERROR = re.compile(r"#(REF!|N/A|NAME\?|VALUE!|DIV/0!|NUM!|NULL!)")
_REACHING = frozenset(
    ("table-source", "dde-source", "dde-link", "database-range-source", "event-listener", "script")
)
_MAX_TABLES = 1000
_MANY = 1000  # blank cells: more of them at once get no format, or LibreOffice writes each out
_ODS = "application/vnd.oasis.opendocument.spreadsheet"
_MANIFEST = (
    '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0" '
    f'manifest:version="1.2"><manifest:file-entry manifest:full-path="/" manifest:media-type="{_ODS}"/>'
    '<manifest:file-entry manifest:full-path="content.xml" manifest:media-type="text/xml"/>'
    "</manifest:manifest>"
)


def checked_ods(name: str, content: bytes) -> bytes:
    """The cells of an .ods file in an archive of our own; one that reaches outside is refused."""
    with opened(name, content, ".ods") as archive:
        part = archive.getinfo("content.xml")
        megabytes = f"{part.file_size / 2**20:.0f} MB"
        require(
            part.file_size <= MAX_UNPACKED,
            f"{name} is too large when unpacked ({megabytes}): give the table's sheet alone",
        )
        macros = any(part.startswith(("Basic/", "Scripts/")) for part in archive.namelist())
        refuse(name, "macros" if macros else "")
        with archive.open(part) as stream:
            cells = _Copy(name).of(stream.read(part.file_size))
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w") as archive:
        archive.writestr("mimetype", _ODS)
        archive.writestr("content.xml", cells)
        archive.writestr("META-INF/manifest.xml", _MANIFEST)
    return copy.getvalue()


class _Copy:
    """Copies what is listed while it reads, and counts its cost as package.checked does.

    It is `left` elements deep in one that is left out; a row is repeated `rows` times, a cell `cells` times.
    """

    def __init__(self, name: str):
        self.name = name
        self.parts: list[str] = []
        self.open: list[str] = []
        self.left = self.cost = self.tables = 0
        self.rows = self.cells = 1

    def of(self, content: bytes) -> str:
        """The copy; of what is not XML, ExpatError."""
        parser = parser_of(self.name, namespace_separator=" ")
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.Parse(content, True)
        return "".join(self.parts)

    def _start(self, tag: str, given: Mapping[str, str]) -> None:
        name = _prefixed(tag)
        refuse(self.name, "links to other files, or macros" if tag.split()[-1] in _REACHING else "")
        if len(self.open) + self.left >= MAX_DEPTH:
            raise damaged(self.name, f"more than {MAX_DEPTH} elements within each other")
        self._add(1 if name in ("table:table-row", "table:table-cell", "text:p") else 10)
        nested = name == "table:table" and "table:table" in self.open
        if self.left or nested or not (name in _ELEMENTS or name in _WITHIN_TEXT):
            self.left += 1
            return
        attributes = {_prefixed(key): value for key, value in given.items()}
        listed = {key: value for key, value in attributes.items() if key in _ATTRIBUTES}
        kept = {key: value for key, value in listed.items() if self._is_kept(key, value)}
        self._repeat(name, kept)
        self.open.append(name)
        if name in _ELEMENTS:
            spaces = "" if self.open[1:] else "".join(f' xmlns:{to}="{uri}"' for uri, to in _PREFIXES.items())
            self.parts.append(
                f"<{name}{spaces}{''.join(f' {key}={quoteattr(value)}' for key, value in kept.items())}>"
            )

    def _is_kept(self, key: str, value: str) -> bool:
        if key in _FORMULAS:
            require(
                len(value) <= MAX_FORMULA,
                f"{self.name} holds a formula of {len(value)} letters: give at most {MAX_FORMULA}",
            )
            plain = _ERROR.sub("", _QUOTED.sub("", without_texts(value)))
            refuse(self.name, "links to other files" if "#" in plain else "")  # 'file:///a.ods'#Sheet1.A1
            refuse(self.name, "INDIRECT, which may refer to other files" if _INDIRECT.search(value) else "")
            require_inside(self.name, value)
            return key != "table:formula" or _GRAMMAR.match(value) is not None
        return key in _TEXTS or _PLAIN.fullmatch(value) is not None

    def _repeat(self, name: str, kept: dict[str, str]) -> None:
        """Count what a table, a row or a cell costs as often as it is there."""
        if name == "table:table":
            self.tables += 1
            refuse(self.name, f"more than {_MAX_TABLES} sheets" if self.tables > _MAX_TABLES else "")
        elif name == "table:table-row":
            self.rows = _count(kept.get("table:number-rows-repeated"))
            if self.rows > _MANY:
                kept.pop("table:default-cell-style-name", None)
        elif name in ("table:table-cell", "table:covered-table-cell"):
            self.cells = self.rows * _count(kept.get("table:number-columns-repeated"))
            if "office:value-type" in kept or "table:formula" in kept:
                length = sum(map(len, kept.values()))
                self._add(self.cells * (1 + length // 20))
            elif self.cells > _MANY:
                kept.pop("table:style-name", None)

    def _text(self, text: str) -> None:
        if not self.left and not _WITH_TEXT.isdisjoint(self.open):
            self._add(self.cells * (1 + len(text) // 100))
            self.parts.append(escape(text))

    def _end(self, _: str) -> None:
        if self.left:
            self.left -= 1
        elif (name := self.open.pop()) in _ELEMENTS:
            self.parts.append(f"</{name}>")

    def _add(self, cost: int) -> None:
        self.cost += cost
        if self.cost > MAX_COST:
            raise too_costly(self.name)


def _prefixed(name: str) -> str:
    """An element's or attribute's name with the usual prefix of its namespace; empty for another one."""
    uri, _, local = name.rpartition(" ")
    return f"{_PREFIXES[uri]}:{local}" if uri in _PREFIXES else ""


def _count(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 1
