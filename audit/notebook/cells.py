"""A notebook or a .py file as cells. Nothing in the file is ever run."""

import ast
import contextlib
import io
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.config import NOTEBOOKS
from harness.errors import UserError, require
from harness.files import open_file

SUFFIXES = (".ipynb", ".py")
_MAX_BYTES = 60 * 2**20  # of the file: pictures in the outputs make notebooks large
_MAX_CODE = 1_000_000  # characters of all cells together, those of text included
_MAX_CELLS = 5_000
_MAX_OUTPUT = 4_000_000  # characters of one cell's output that are kept, the last ones
_MAX_NODES = 400_000  # of the syntax trees of all cells together
_MAX_FAULTS = 10  # statements of a cell that are no Python
_MAX_BITS = 14_000  # of a whole number; Python writes out none of more than 4,300 digits
_MAX_README = 300_000  # characters of a text beside the file, the first ones
_MOST_TEXTS = 100
_TEXTS = (".log", ".txt", ".md")
_MAGIC = re.compile(r"\s*(%\w|![^=]|\?|[\w.]+\s*=\s*(%\w|![^=])|[\w.]+\?{1,2}\s*$|print\s+[\w\"'])")
_STARTS = re.compile(r"[^\s)\]}#]")  # a statement that stands in no other
_TIMED = re.compile(r"(\s*)%(?:time|prun)\s+(\w.*)")
_OF_PYTHON = {"time", "timeit", "capture", "prun", "python", "python3", "debug"}
_WRITES = re.compile(r"%%(writefile|file)\s+(?:-\S+\s+)*(\S+)\s*$")


@dataclass(frozen=True, order=True)
class Place:
    """Where something stands."""

    file: str  # its name, without folders
    # counted from 1 over all cells of a notebook, those of text included; None in a .py file
    cell: int | None
    line: int  # of the cell or the file, from 1

    def __str__(self) -> str:
        return f"{self.file if self.cell is None else f'cell {self.cell}'}, line {self.line}"


@dataclass(frozen=True)
class Fact:
    """Something about a network or a recipe that is worth a word."""

    name: str  # a key of mistakes.MISTAKES, REMARKS or SILENT, or what a recipe lacks
    place: Place
    detail: str = ""  # what is special about this one, in a reader's words; may be empty


@dataclass(frozen=True)
class Cell:
    """A cell of a notebook, or a whole .py file."""

    number: int  # counted from 1 over all cells
    kind: str  # code, or markdown for all that is text
    text: str  # as it was written
    # what of it is Python, with `pass` or nothing in place of IPython's magics and of shell commands, so that
    # lines keep their numbers; empty where it is text or no Python
    code: str = ""
    execution_count: int | None = None  # the number that the notebook shows beside it; None if it was not run
    output: str = ""  # what it printed, standard output, standard error and text/plain in their order
    # the name of the .py file that the cell saves itself as (%%writefile); its code is that file's
    writes: str | None = None
    # its lines that are no Python, and what hangs on them; they are not in the code
    lost: tuple[int, ...] = ()
    error: str = ""  # why the first of them, or all of it, is no Python; empty where it is


@dataclass(frozen=True)
class Source:
    """A file as cells, in the file's order; is_notebook tells whether places name them."""

    path: Path
    cells: tuple[Cell, ...]
    is_notebook: bool

    def place(self, cell: Cell, line: int) -> Place:
        """Where a line of a cell is."""
        return Place(self.path.name, cell.number if self.is_notebook else None, line)


@dataclass(frozen=True)
class Text:
    """Prose beside the code: a notebook's cell, or a README."""

    place: Place
    text: str


def read(path: Path) -> Source:
    """The cells of a notebook (formats 3 and 4), or of a .py file, which is one cell; else UserError."""
    kind = path.suffix.lower()
    require(kind in SUFFIXES, f"{path.name} is not an {NOTEBOOKS} file: give a notebook, or the code itself")
    content = _content(path)
    is_notebook = kind == ".ipynb" or content.lstrip().startswith("{")
    if kind == ".ipynb" and not content.lstrip().startswith("{"):
        with contextlib.suppress(SyntaxError):  # a notebook that is Python
            imports = any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(parse(content)))
            is_notebook = not imports
    if is_notebook:
        return Source(path, tuple(_notebook(path.name, content)), is_notebook)
    _require_short(path.name, len(content))
    return Source(path, (_cell(1, "code", content),), is_notebook)


def texts_beside(file: Path) -> tuple[Text, ...]:
    """The texts in the file's folder, such as a README."""
    texts: list[Text] = []
    for path in sorted(file.parent.iterdir()):
        if path.suffix.lower() in _TEXTS and len(texts) < _MOST_TEXTS:
            with (
                contextlib.suppress(OSError),
                io.TextIOWrapper(open_file(path), "utf-8", "replace") as stream,
            ):
                texts.append(Text(Place(path.name, None, 1), stream.read(_MAX_README)))
    return tuple(texts)


def parse(code: str) -> ast.Module:
    """The syntax tree of some Python; a SyntaxError of one line where it is none, too deep or too long."""
    try:
        with warnings.catch_warnings(action="ignore"):  # about the file's own escapes and comparisons
            tree = ast.parse(code)
    except SyntaxError as error:
        plain = SyntaxError(f"{error.msg} (line {error.lineno})")
        plain.lineno = error.lineno
        raise plain from error
    except (RecursionError, MemoryError) as error:
        raise SyntaxError("it nests too deep") from error
    except ValueError as error:  # a null character
        raise SyntaxError(str(error)) from error
    for count, node in enumerate(ast.walk(tree)):
        if count >= _MAX_NODES:
            raise SyntaxError("it is too long")
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, int)
            and node.value.bit_length() > _MAX_BITS
        ):
            raise SyntaxError("a number of thousands of digits")  # as Python says of a decimal one
    return tree


def _content(path: Path) -> str:
    try:
        with open_file(path) as stream:
            content = stream.read(_MAX_BYTES + 1)  # in case that it grows, or has no size, as in /proc
    except OSError as error:
        raise UserError(f"{path.name} cannot be read ({error.strerror}): give an {NOTEBOOKS} file") from error
    require(
        len(content) <= _MAX_BYTES,
        f"{path.name} is too large: give a file of at most {_MAX_BYTES // 2**20} MB, without its pictures",
    )
    require(content.strip() != b"", f"{path.name} is empty: save it again")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name} is no text (UTF-8): save it again as {NOTEBOOKS}") from error


def _require_short(name: str, size: int) -> None:
    problem = f"{name} is too large ({size:,} characters in its cells): give at most {_MAX_CODE:,}"
    require(size <= _MAX_CODE, problem)


def _notebook(name: str, content: str) -> Iterator[Cell]:
    damaged = f"{name} is damaged or no notebook: open it in Jupyter or Colab and save it again"
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(damaged) from error
    require(isinstance(document, dict), damaged)
    raw = document.get("cells")
    if raw is None and isinstance(document.get("worksheets"), list):  # format 3
        sheets = [sheet for sheet in document["worksheets"] if isinstance(sheet, dict)]
        lists = [sheet["cells"] for sheet in sheets if isinstance(sheet.get("cells"), list)]
        raw = [cell for cells in lists for cell in cells]
    require(isinstance(raw, list) and all(isinstance(cell, dict) for cell in raw), damaged)
    require(len(raw) <= _MAX_CELLS, f"{name} is too large: give at most {_MAX_CELLS:,} cells")
    _require_short(name, sum(len(_text(cell.get("source", cell.get("input", "")))) for cell in raw))
    for number, cell in enumerate(raw, 1):
        kind = "code" if cell.get("cell_type") == "code" else "markdown"
        text = _text(cell.get("source", cell.get("input", "")))
        count = cell.get("execution_count", cell.get("prompt_number"))
        count = count if isinstance(count, int) and not isinstance(count, bool) else None
        yield _cell(number, kind, text, count, _output(cell.get("outputs")) if kind == "code" else "")


def _cell(number: int, kind: str, text: str, count: int | None = None, output: str = "") -> Cell:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if kind != "code":
        return Cell(number, kind, text)
    code, writes = _python(text)
    code, lost, error = _without_faults(code)
    return Cell(number, kind, text, code, count, output, writes, lost, error)


def _without_faults(code: str) -> tuple[str, tuple[int, ...], str]:
    """Python without what is none, the lines that it loses, and why; empty where that is most of it.

    A line goes with the whole statement that it is in: half a class would be another class.
    """
    lines, lost, first = code.split("\n"), set[int](), ""
    for _ in range(_MAX_FAULTS + 1):
        try:
            parse("\n".join(lines))
            return "\n".join(lines), tuple(sorted(lost)), first
        except SyntaxError as problem:
            first = first or str(problem.msg)
            at = min(problem.lineno or 0, len(lines))
        starts = [number for number, line in enumerate(lines, 1) if _STARTS.match(line)]
        start = max((number for number in starts if number <= at), default=0)
        stop = min((number for number in starts if number > at), default=len(lines) + 1)
        if start == 0 or {*range(start, stop)} <= lost:
            break
        lost |= {*range(start, stop)}
        lines[start - 1 : stop - 1] = [""] * (stop - start)
        if 2 * len(lost) > len(lines):
            break
    return "", (), first


def _text(value: Any) -> str:
    """A notebook's text: a string, or a list of its lines."""
    return "".join(map(str, value)) if isinstance(value, list) else str(value or "")


def _output(outputs: Any) -> str:
    parts: list[str] = []
    for output in outputs if isinstance(outputs, list) else ():
        if not isinstance(output, dict):
            continue
        data = output.get("data", output)
        if output.get("output_type") == "stream":
            parts.append(_text(output.get("text")))
        elif output.get("output_type") in ("error", "pyerr"):
            parts.append(f"\n{output.get('ename')}: {output.get('evalue')}\n")
        elif isinstance(data, dict) and "text/plain" in data:
            parts.append(_text(data["text/plain"]) + "\n")
        elif isinstance(data, dict) and isinstance(data.get("text"), list | str):
            parts.append(_text(data["text"]) + "\n")
    return "".join(parts)[-_MAX_OUTPUT:]


def _python(text: str) -> tuple[str, str | None]:
    """A cell's Python, and the file that it is written to."""
    first, _, rest = text.lstrip("\n").partition("\n")
    before = "\n" * (len(text) - len(text.lstrip("\n")) + 1)
    writes = _WRITES.match(first)
    if writes:
        name = writes[2].strip("'\"")
        return (before + rest, name) if name.endswith(".py") else ("", None)
    if first.startswith("%%"):
        return (before + _blanked(rest) if first[2:].split(" ")[0].strip() in _OF_PYTHON else ""), None
    return _blanked(text), None


def _blanked(text: str) -> str:
    """Python with `pass` in place of lines that are IPython's or the shell's, if there are any."""
    try:
        parse(text)
        return text
    except SyntaxError:
        pass
    lines, continued = [], False
    for line in text.split("\n"):
        if continued or _MAGIC.match(line):
            timed = _TIMED.match(line)
            indent = line[: len(line) - len(line.lstrip())]
            lines.append("" if continued else f"{timed[1]}{timed[2]}" if timed else f"{indent}pass")
            continued = line.rstrip().endswith("\\")
        else:
            lines.append(line)
    return "\n".join(lines)


def read_code(file: Path) -> str | None:
    """A .py file that a submission imports; None where there is none, or it is no Python, or too long."""
    try:
        with open_file(file) as stream:
            content = stream.read(_MAX_CODE + 1)
        if len(content) > _MAX_CODE:
            return None
        code, _, fault = _without_faults(
            content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        )
        if fault and not code:
            return None
    except (OSError, ValueError, SyntaxError):
        return None
    return code
