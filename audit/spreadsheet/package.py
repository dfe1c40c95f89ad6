"""The ZIP archive of XML parts that an .xlsx file is, checked before any library believes it.

The format: ECMA-376, part 2 (Open Packaging Conventions).
"""

import contextlib
import io
import posixpath
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from xml.etree import ElementTree
from xml.parsers import expat

from openpyxl.utils.cell import range_boundaries

from harness.errors import UserError, require

MAX_ROWS, MAX_COLUMNS = 2**20, 2**14  # of a sheet in a spreadsheet program
MAX_UNPACKED = 50 * 2**20
_MAX_PARTS = 2000
MAX_DEPTH = 100  # of elements in elements; spreadsheet programs stay below 30
MAX_FORMULA = 8192  # as in Excel
MAX_COST = 1_000_000
_OF_CELLS = frozenset(("row", "c", "v", "f", "is", "si", "t"))
_OTHER_COST = 10  # openpyxl makes an object, or several, of each other element
_SHEET_COST = 1000
_BYTES_A_COST = 200  # openpyxl keeps a picture's bytes for each place that shows it
_FORMULAS = frozenset(("f", "formula", "formula1", "formula2", "definedName"))
_RANGES = frozenset(("mergeCell", "hyperlink", "comment", "table"))
"""What openpyxl makes all cells of a range for, blank or not."""
_REACHES_OUT = re.compile(
    r"\b(WEBSERVICE|DDE|FILTERXML|IMPORT\w*|RTD|CALL|REGISTER|EXEC|IMAGE)\s*\(|://", re.IGNORECASE
)
_OTHER_FILE = re.compile(r"\||\[[^][]*\][^][()+*/^&=<>,;]*!")  # cmd|'...'!A0, [1]Sheet1!A1; not Table1[w1]
_RELATIONS = {
    **dict.fromkeys(("vbaProject", "xlMacrosheet", "xlIntlMacrosheet"), "macros"),
    **dict.fromkeys(("oleObject", "package", "control"), "embedded objects"),
    **dict.fromkeys(("connections", "queryTable"), "connections to data elsewhere"),
}
_PARTS = {
    **dict.fromkeys(("vbaproject", "xl/macrosheets/"), "macros"),
    **dict.fromkeys(("xl/embeddings/", "xl/activex/"), "embedded objects"),
    **dict.fromkeys(("xl/connections.", "xl/querytables/"), "connections to data elsewhere"),
}
_LINKS = "xl/externallinks/"
_LINK_RELATION = re.compile(rb"<([\w.-]+:)?Relationship\s[^>]*/externalLink\"[^>]*>")
_LINK_REFERENCES = re.compile(rb"(?s)<([\w.-]+:)?externalReferences\b.*?</([\w.-]+:)?externalReferences>")
_IS_XML = re.compile(rb"[\xef\xbb\xbf\xff\xfe\0 \t\r\n]*<")


class Package(NamedTuple):
    """What was checked of an .xlsx file: an archive of its parts, and what a teacher should know of it."""

    content: bytes
    notes: tuple[str, ...] = ()


def checked(name: str, content: bytes) -> Package:
    """The parts of an .xlsx file in an archive of our own, uncompressed.

    So what is read later is what was checked, whatever the file's own archive says of its parts. Links to
    other files are left out: a formula that needs one is refused, as is all that reaches outside the file.
    """
    if content.startswith(b"\xd0\xcf\x11\xe0"):
        encrypted = "EncryptedPackage".encode("utf-16-le") in content
        raise UserError(
            f"{name} is protected by a password: save it without one"
            if encrypted
            else f"{name} is in the old .xls format: open it in a spreadsheet program and save it as .xlsx"
        )
    with opened(name, content, ".xlsx") as archive:
        return _repacked(name, archive, len(content))


@contextlib.contextmanager
def opened(name: str, content: bytes, kind: str) -> Iterator[zipfile.ZipFile]:
    """The archive that a file of a kind is; whatever reading a malformed part raises becomes a UserError."""
    require(
        content.startswith(b"PK"),
        f"{name} is not an {kind} file inside: open it in a spreadsheet program and save it as .xlsx",
    )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield archive
    except UserError:
        raise
    except expat.ExpatError as error:
        locked = ", or protected by a password" if kind == ".ods" else ""
        raise damaged(name, f"a part of it is not XML from line {error.lineno} on{locked}") from error
    except Exception as error:  # zipfile and zlib raise whatever a malformed part leads to
        raise damaged(name, "its archive is broken or cut short") from error


def parser_of(name: str, namespace_separator: str | None = None) -> expat.XMLParserType:
    """A parser of XML that refuses a file with entities of its own."""

    def refuse_doctype(*_: object) -> None:
        raise damaged(name, "it defines XML entities")

    parser = expat.ParserCreate(namespace_separator=namespace_separator)
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse_doctype
    return parser


def require_plain_xls(name: str, content: bytes) -> None:
    """Raise UserError unless a file is an .xls file without macros, password and embedded objects."""
    require(
        content.startswith(b"\xd0\xcf\x11\xe0"),
        f"{name} is not an .xls file inside: open it in a spreadsheet program and save it as .xlsx",
    )
    if "EncryptedPackage".encode("utf-16-le") in content:
        raise UserError(f"{name} is protected by a password: save it without one")
    refuse(name, "macros" if "_VBA_PROJECT".encode("utf-16-le") in content else "")
    refuse(name, "embedded objects" if "MBD".encode("utf-16-le") in content else "")


def refuse(name: str, what: str) -> None:
    """Raise UserError if there is something to refuse."""
    require(not what, f"{name} contains {what}: save it as an .xlsx file without, with values in their place")


def require_inside(name: str, formula: str) -> None:
    """Raise UserError if a formula refers to another file or an address."""
    plain = without_texts(formula)
    require(
        not (_REACHES_OUT.search(formula) or _OTHER_FILE.search(plain) or "#$" in plain),
        f"{name} holds a formula that refers to other files or addresses "
        f"({' '.join(formula.split())[:60]}): replace it with its value and save it again",
    )


def without_texts(formula: str) -> str:
    """A formula without its texts in quotation marks; a sheet's name may hold such a mark, too."""
    return re.sub(r"""\"(?:[^"]|"")*"|('(?:[^']|'')*')""", lambda found: found[1] or "", formula)


def too_costly(name: str) -> UserError:
    """The error for a file that is too much work to read."""
    return UserError(
        f"{name} is too large (more than about {MAX_COST // 6} formulas, or as much else): "
        "give the table's sheet alone"
    )


def damaged(name: str, reason: str) -> UserError:
    """The error for a file that a spreadsheet program has to repair."""
    return UserError(
        f"{name} is damaged ({reason}): open it in a spreadsheet program, repair it and save it again"
    )


def bare(package: bytes) -> bytes:
    """A checked file's cells alone, for one whose formats and the like are damaged."""
    copy = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(package)) as archive, zipfile.ZipFile(copy, "w") as cells:
        for name in archive.namelist():
            if name in _NEEDED:
                cells.writestr(name, archive.read(name))
            elif name.startswith("xl/worksheets/") and "/_rels/" not in name:
                cells.writestr(name, _cells_alone(archive.read(name)))
    return copy.getvalue()


_NEEDED = (
    *("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml", "xl/_rels/workbook.xml.rels"),
    "xl/sharedStrings.xml",
)


def _cells_alone(sheet: bytes) -> bytes:
    root = ElementTree.fromstring(sheet)
    for part in list(root):
        if part.tag.rpartition("}")[2] not in ("sheetData", "mergeCells"):
            root.remove(part)
    for cell in root.iter():
        if cell.tag.rpartition("}")[2] in ("c", "row"):
            for attribute in set(cell.attrib) - {"r", "t"}:
                del cell.attrib[attribute]
    return ElementTree.tostring(root)


def _repacked(name: str, archive: zipfile.ZipFile, size: int) -> Package:
    parts = archive.infolist()
    names = [part.filename for part in parts]
    unpacked = sum(part.file_size for part in parts)
    require(
        unpacked <= MAX_UNPACKED and len(parts) <= _MAX_PARTS,
        f"{name} is too large when unpacked ({unpacked / 2**20:.0f} MB in {len(parts)} parts): "
        f"give at most {MAX_UNPACKED // 2**20} MB, the table's sheet alone",
    )
    require(
        "xl/workbook.xml" in names,
        f"{name} is not an .xlsx file inside: open it in a spreadsheet program and save it as .xlsx",
    )
    if len(set(names)) < len(names):
        raise damaged(name, "two parts have the same name")
    if sum(part.compress_size for part in parts) > size:
        raise damaged(name, "parts overlap")
    copy = io.BytesIO()
    scan = _Scan(name)
    links = [part for part in parts if part.filename.lower().startswith(_LINKS)]
    with zipfile.ZipFile(copy, "w") as repacked:
        for part in parts:
            if part in links:
                continue
            refuse(name, next((what for start, what in _PARTS.items() if start in part.filename.lower()), ""))
            if part.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise damaged(name, f"{part.filename} is compressed in a way that .xlsx files are not")
            with archive.open(part) as stream:
                content = stream.read(part.file_size)  # without a number it inflates what is there
            if links and part.filename in ("xl/workbook.xml", "xl/_rels/workbook.xml.rels"):
                content = _LINK_REFERENCES.sub(b"", _LINK_RELATION.sub(b"", content))
            scan.read(part.filename, content)
            repacked.writestr(part.filename, content)
    if scan.most() > MAX_COST:
        raise too_costly(name)
    notes = ("a link to another file, which no cell, chart or name refers to, was left out",) if links else ()
    return Package(copy.getvalue(), notes)


class _Scan:
    """Reads all XML parts of a file once: what they cost openpyxl, and whether they reach outside.

    Of each part: its cost, how often it uses each of its relations, and the parts that these lead to.
    """

    def __init__(self, name: str):
        self.name = name
        self.cost = 0
        self.costs: dict[str, int] = {}
        self.uses: dict[str, Counter[str]] = {}
        self.relations: dict[str, list[tuple[str, str]]] = {}
        self.depth = 0
        self.formula: list[str] | None = None
        self.shared: dict[str | None, int] = {}

    def most(self) -> int:
        """What the costliest part costs with all that is read for it, as often as it is named."""
        costs: dict[str, int] = {}

        def cost(part: str) -> int:
            if part not in costs:
                costs[part] = 0  # in a circle, which openpyxl does not follow
                costs[part] = self.costs.get(part, 0) + sum(
                    max(1, self.uses.get(part, Counter())[label]) * cost(target)
                    for label, target in self.relations.get(part, ())
                )
            return costs[part]

        return max(map(cost, self.costs), default=0)

    def read(self, part: str, content: bytes) -> None:
        """Read a part; one that is not XML raises ExpatError."""
        self.costs[part] = len(content) // _BYTES_A_COST
        if not _IS_XML.match(content):
            return
        folder, _, file = part.rpartition("/")
        self.folder = folder.removesuffix("_rels").removesuffix("/")
        self.related = self.relations.setdefault(posixpath.join(self.folder, file.removesuffix(".rels")), [])
        self.used = self.uses.setdefault(part, Counter())
        before = self.cost
        self.depth, self.shared = 0, {}
        self.parser = parser = parser_of(self.name)
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.Parse(content, True)
        self.costs[part] += self.cost - before

    def _start(self, tag: str, attributes: Mapping[str, str]) -> None:
        tag = tag.rpartition(":")[2]
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise damaged(self.name, f"more than {MAX_DEPTH} elements within each other")
        self._add(1 if tag in _OF_CELLS else _OTHER_COST)
        if attributes:  # a pattern may take the square of an attribute's length
            squares = sum([len(value) ** 2 for value in attributes.values()])
            self._add(max(0, len(attributes) - 10) + squares // 1000)
            for key in attributes:
                if ":" in key:
                    self.used[attributes[key]] += 1
        if tag in _FORMULAS:
            self.formula, self.attributes = [], attributes
            self.parser.CharacterDataHandler = self.formula.append
        elif tag in _RANGES and "ref" in attributes:
            left, top, right, bottom = range_boundaries(attributes["ref"])
            self._add(((right or MAX_COLUMNS) - (left or 1) + 1) * ((bottom or MAX_ROWS) - (top or 1) + 1))
        elif tag == "Relationship":
            kind = attributes.get("Type", "").rpartition("/")[2]
            outside = attributes.get("TargetMode") == "External" and kind != "hyperlink"
            refuse(self.name, _RELATIONS.get(kind, "links to other files" if outside else ""))
            target = posixpath.normpath(posixpath.join("/", self.folder, attributes.get("Target", "")))
            self.related.append((attributes.get("Id", ""), target[1:]))
        elif tag == "sheet":
            self._add(_SHEET_COST)
        elif tag in ("Override", "Default"):
            refuse(self.name, "macros" if "macroEnabled" in attributes.get("ContentType", "") else "")

    def _end(self, tag: str) -> None:
        self.depth -= 1
        if self.formula is not None and tag.rpartition(":")[2] in _FORMULAS:
            text = "".join(self.formula)
            self.formula, self.parser.CharacterDataHandler = None, None
            length = len(text)
            if self.attributes.get("t") == "shared":  # openpyxl writes the first one out for each cell
                length = self.shared.setdefault(self.attributes.get("si"), length)
            require(
                length <= MAX_FORMULA,
                f"{self.name} holds a formula of {length} letters: give at most {MAX_FORMULA}, as in Excel",
            )
            self._add(length // 20)
            require_inside(self.name, text)

    def _add(self, cost: int) -> None:
        self.cost += cost
        if self.cost > MAX_COST:
            raise too_costly(self.name)
