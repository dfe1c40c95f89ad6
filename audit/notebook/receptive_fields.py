"""Receptive fields that people write beside their layers, in comments and in tables, against the right ones.

The commonest mistake doubles the field at a pooling: what doubles there is the distance between neighbours.
"""

import ast
import io
import itertools
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from audit.notebook.cells import Place, parse
from audit.notebook.network import ReadNetwork
from cnn.architecture import AveragePool, Conv, MaxPool, Residual, summarize


class Wrong(NamedTuple):
    """The first wrong receptive field of a table."""

    line: int  # where it stands
    written: int
    right: int
    rows: tuple[int, int]  # how many of the table's are wrong, and of how many
    doubled: bool  # whether it is twice the field before a pooling


class _Row(NamedTuple):
    line: int
    written: int
    right: Sequence[int]
    doubled: bool = False


_FIELD = re.compile(r"receptive[ _-]*field|\br\.?f\.?(?=[\s_:=\-|(]|out|in)|\brf\b|\brf(?=\d)|rf_out", re.I)
_LONGEST_LINE = 1_000  # characters of a comment or of a table's row
_OLD_CODE = re.compile(r"nn\.|self\.|^#+\s*\)|Conv2d\(")
_VALUE = re.compile(
    r"\s*(?:_?out(?:put)?)?\s*[:=\-(#|*`]*\s*(\d{1,3})(?:\s*[xX*]\s*\1)?"
    r"(?:\s*\)?\s*(?:-+>|to|=>|➡|→)\s*(\d{1,3}))?"
)
_SUM = re.compile(r"\d+\s*\+\s*\(?[\d\s\-]+\)?\s*\*\s*\d+\s*\)?\s*=\s*(\d{1,3})")


def written_field(text: str) -> int | None:
    """The receptive field that a comment gives, the one behind the layer where it gives both."""
    found = None
    text = text[:_LONGEST_LINE]
    for word in _FIELD.finditer(text):
        rest = text[word.end() :]
        if total := _SUM.search(rest):
            found = int(total[1])
        elif (value := _VALUE.match(rest)) and "_in" not in rest[:3]:
            found = int(value[2] or value[1])
    return found


def wrong_in_code(code: str, network: ReadNetwork) -> Wrong | None:
    """The first wrong one among the comments of a class's constructor, in the code around it."""
    lines = _constructor(code, network)
    rights = {line: fields for line, fields in _right_fields(network).items() if line in lines}
    tables: tuple[list[_Row], list[_Row]] = ([], [])
    before = 1
    for line, comment, alone in _comments(code):
        written = written_field(comment)
        if line not in lines or written is None or _OLD_CODE.search(comment):
            continue
        of_above = next((rights[place] for place in reversed(rights) if place <= line), [1] if alone else [])
        of_below = next((rights[place] for place in rights if place > line), []) if alone else of_above
        for table, fields in zip(tables, (of_above, of_below), strict=True):
            if fields:
                table.append(_Row(line, written, fields, doubled=written == 2 * before))
        before = written
    # A comment with its line to itself is of the layer above or below it: whichever makes more of them right.
    return min(map(_first_wrong, tables), key=lambda wrong: wrong.rows[0] if wrong else 0)


def wrong_in_values(
    fields: Mapping[str, Sequence[tuple[Place, int | str]]], network: ReadNetwork
) -> Iterator[tuple[Place, Wrong]]:
    """The first wrong one of what the code computes: of a table that begins right, or of a single number."""
    layers = network.architecture.layers
    rows = summarize(network.architecture)
    maps = [row.receptive_field for row in rows if len(row.output_shape) == 3 and row.output_shape[0] > 1]
    grows = [each for before, each in itertools.pairwise([1, *maps]) if each > before]
    right = {1, *itertools.chain(*_right_fields(network).values())}
    right |= {row.receptive_field for row in rows}
    if any(isinstance(layer, Residual) for layer in layers):
        return
    for values in fields.values():
        numbers = [(place, written_field(each) if isinstance(each, str) else each) for place, each in values]
        table = [(place, each) for place, each in numbers if each is not None and each > 1]
        wrong = [index for index, (_, each) in enumerate(table) if each not in right]
        if grows and wrong and (wrong[0] > 0 or len(table) in (1, len(grows))):
            place, written = table[wrong[0]]
            doubled = wrong[0] > 0 and written == 2 * table[wrong[0] - 1][1]
            belongs = grows[min(wrong[0], len(grows) - 1) if len(table) > 1 else -1]
            yield place, Wrong(place.line, written, belongs, (len(wrong), len(table)), doubled)


def _constructor(code: str, network: ReadNetwork) -> range:
    """The lines of the class's __init__; none where it has none of its own."""
    own = network.class_name, network.place.line
    for node in ast.walk(parse(code)):
        if isinstance(node, ast.ClassDef) and (node.name, node.lineno) == own:
            for number, part in enumerate(node.body):
                if isinstance(part, ast.FunctionDef) and part.name == "__init__":
                    after = node.body[number + 1 :]
                    return range(part.lineno, after[0].lineno if after else (node.end_lineno or 0) + 1)
    return range(0)


def _right_fields(network: ReadNetwork) -> dict[int, list[int]]:
    """The right fields of what each line makes; from a pooling of the whole map on also of what is pooled."""
    layers = network.architecture.layers
    if any(isinstance(layer, Residual) for layer in layers):
        return {}
    fields: dict[int, list[int]] = {}
    before = 1
    for layer, row in zip(network.layers, summarize(network.architecture), strict=True):
        whole = row.output_shape[:2] == (1, 1) or len(row.output_shape) == 1
        before = before if whole else row.receptive_field
        if layer.place.file == network.place.file and layer.place.cell == network.place.cell:
            fields.setdefault(layer.place.line, []).extend(dict.fromkeys((row.receptive_field, before)))
    return dict(sorted(fields.items()))


def _comments(code: str) -> Iterator[tuple[int, str, bool]]:
    """The line and the text of each comment, and whether it has its line to itself."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string, token.line.strip() == token.string.strip()
    except (tokenize.TokenError, SyntaxError):
        return


def _first_wrong(table: Sequence[_Row]) -> Wrong | None:
    wrong = [row for row in table if row.written not in row.right]
    if not wrong:
        return None
    first = wrong[0]
    return Wrong(first.line, first.written, first.right[0], (len(wrong), len(table)), first.doubled)


_FEWEST_ROWS = 3  # of a table; its first one is right, or it does not begin at the image


class _Operation(NamedTuple):
    """A convolution or a pooling in a line of a table; kernel None where the line has none."""

    pools: bool
    kernel: int | None
    stride: int


_POOL = re.compile(r"max[ _-]*pool|\bMP\b|\bpool", re.I)
_GLOBAL = re.compile(r"\bgap\b|avg|average|adaptive|global|\bfc\b|linear|dense|output", re.I)
_CONVOLUTION = re.compile(r"conv|\(\d+x\d+x\d+\)\s*x\s*\d+", re.I)
_KERNEL = re.compile(
    r"\(\s*\d+\s*,\s*\d+\s*,\s*\(?(\d)|\b(\d)\s*[xX*]\s*\2\b(?!\s*[xX*]\s*\d{2})|kernel_size\s*=\s*\(?(\d)|\((\d)x\4x\d+\)"
)
_STRIDE = re.compile(r"stride\s*[=:]?\s*\(?(\d)", re.I)


def wrong_in_text(text: str, network: ReadNetwork) -> Wrong | None:
    """The first wrong one in the tables of a text in Markdown, if any is surely wrong.

    A table is judged by its own kernels and strides, or, where it has as many convolutions and poolings as
    the network, by the network's.
    """
    for table in _tables(text.split("\n")):
        judged = _judged(table, network)
        wrong = _first_wrong(judged)
        if wrong is not None and len(judged) >= _FEWEST_ROWS and judged[0].written in judged[0].right:
            return wrong
    return None


_TableRow = tuple[int, _Operation | None, int]  # line, operation, written field
_HEADINGS = {
    "field": r"(local_|global_)?(receptive_?field|rf|r_?out|rf_out|output_rf|rfout)(_\(.*\))?",
    "kernel": r"k|kernel(_?size)?|filter(_size)?",
    "stride": r"s|strides?",
}


def _tables(lines: Sequence[str]) -> Iterator[list[_TableRow]]:
    """Tables of layers: rows of columns under a heading, or lines that say it in words."""
    table: list[_TableRow] = []
    columns: Mapping[str, int] = {}
    for number, whole in enumerate(lines, 1):
        line = whole[:_LONGEST_LINE]
        cells = [cell.strip(" *`\t") for cell in line.strip().strip("|").split("|")]
        heads = _heads(cells)
        if heads or (table and not line.strip() and columns):
            yield table
            table, columns = [], heads
            continue
        if columns and len(cells) > max(columns.values()):
            operation, written = _row_of_cells(cells, columns)
        else:
            written = written_field(line)
            operation = None if written is None else _operation(line)
        if written is None:
            continue
        if table and written < table[-1][2]:  # another network's begins
            yield table
            table = []
        table.append((number, operation, written))
    yield table


def _heads(cells: Sequence[str]) -> dict[str, int]:
    """Which column of a table has the field, the kernel and the stride; empty where none has the field."""
    words = [cell.lower().replace(" ", "_") for cell in cells]
    found = {
        name: index
        for index, word in enumerate(words)
        for name, heading in _HEADINGS.items()
        if re.fullmatch(heading, word)
    }
    return found if "field" in found and len(cells) > 2 else {}


def _row_of_cells(cells: Sequence[str], columns: Mapping[str, int]) -> tuple[_Operation | None, int | None]:
    written = re.match(r"(\d{1,3})(?:\s*[xX*]\s*\1)?$", cells[columns["field"]])
    line = " | ".join(cell for index, cell in enumerate(cells) if index != columns["field"])
    operation = _operation(line)
    if operation is not None and "kernel" in columns:
        kernel = re.match(r"\d", cells[columns["kernel"]])
        stride = re.match(r"\d", cells[columns["stride"]]) if "stride" in columns else None
        operation = operation._replace(
            kernel=int(kernel[0]) if kernel else None, stride=int(stride[0]) if stride else operation.stride
        )
    return operation, int(written[1]) if written else None


def _operation(line: str) -> _Operation | None:
    convolves = _CONVOLUTION.search(line)
    if _POOL.search(line) and not re.search(r"conv", line, re.I) and (convolves or not _GLOBAL.search(line)):
        return _Operation(True, 2, 2)
    if not convolves:
        return None
    kernel, stride = _KERNEL.search(line), _STRIDE.search(line)
    number = next((int(group) for group in kernel.groups() if group), None) if kernel else None
    return _Operation(False, number, int(stride[1]) if stride else 1)


def _judged(table: Sequence[_TableRow], network: ReadNetwork) -> list[_Row]:
    operations = [operation for _, operation, _ in table if operation is not None]
    own = [
        (layer, row.receptive_field)
        for layer, row in zip(network.architecture.layers, summarize(network.architecture), strict=True)
        if isinstance(layer, Conv | MaxPool) or (isinstance(layer, AveragePool) and layer.window)
    ]
    same = [isinstance(layer, Conv) for layer, _ in own] == [not each.pools for each in operations]
    field, jump, before = 1, 1, 1
    rows: list[_Row] = []
    for line, operation, written in table:
        if operation is None:
            if written != before:
                break  # a layer that is not understood
            continue
        if same:
            field = own[len(rows)][1]
        elif operation.kernel is None:
            break
        else:
            field, jump = field + (operation.kernel - 1) * jump, jump * operation.stride
        rows.append(_Row(line, written, [field], doubled=operation.pools and written == 2 * before))
        before = written
    return rows
