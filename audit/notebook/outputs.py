"""What the lines of an output say, guessed from their words: epochs, progress bars, accuracies.

Programs print a training in many styles. What is read here is their common part: a progress bar that ends, a
line or a column that counts epochs, and an accuracy with a word that says which images it is of.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

_MOST_TEXT = 5_000_000  # characters of a cell's output that are read
_LONGEST_LINE = 2_000
TRAINING_IMAGES = 60_000


class Said(NamedTuple):
    """What a line says."""

    # "epoch", its number; "steps", of a bar; otherwise an accuracy, of "train", "test" or "validation"
    # images, or "other" where nothing says it
    kind: str
    value: int | Fraction  # the number; of an accuracy a fraction
    images: int | None = None  # how many an accuracy is of, where the line says
    loss: float | None = None  # of the same images, where the line has it


_NOISE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\b\x00]")
_WARNING = re.compile(r"Warning:|^warnings\.warn")
# tqdm: 100%|###| 469/469 [00:12<00:00, also cut off; Keras: 469/469 [=====; rich: ━━━━ 469/469
_BAR = re.compile(
    r"(\d{1,7})/(\d{1,7}) \[(?:\d|=)|(\d{1,3})%\|(?:[^|]*\|\s*(\d{1,7})/(\d{1,7}))?"
    r"|━\s*(?:100%\s*)?(\d+)/(\d+)"
)
_EPOCH = re.compile(r"\bep(?:och)?s?\s*(?:no\.?|number|num)?\s*[:=#\-]*\s*[\[(]?\s*(\d{1,4})\b(?!\.\d)", re.I)
_NUMBERED = re.compile(r"^\W{0,3}(\d{1,4})\s*/\s*\d{1,4}(?=[\])\s|:])")  # [01/15]
_NO_EPOCH = re.compile(r"reducing learning rate|\bbest\b|patience|early stop", re.I)
_ASIDE = re.compile(
    r"[\[(]?(?<![a-z])(?:(?:best|max(?:imum)?|highest|so far|improved|increased|target|goal|threshold"
    r"|sav(?:ing|ed)|reach\w*|required|desired)(?![a-z])"
    r"|(?:(?:greater|more|higher|larger|less|lower|better)\s+than|above|over|exceed\w*|beyond|below|under|past"
    r"|at\s+least|(?<![-=<>])>=?|≥)\s*\D?\d).*?(?=[|;\])]|$)",
    re.I,
)
_SHARE = (
    r"(?:(?P<right>\d{1,3},\d{3}|\d{1,6}(?:\.\d+)?)\s*(?:/|out of|of)\s*"
    r"(?P<of>\d{2,3},\d{3}|\d{2,6})(?:\.0)?(?![.,]?\d)"
    r"|(?P<number>\d{1,3}(?:\.\d+)?(?:e-\d+)?)(?![\d/])\s*(?P<percent>%?))"
)
_ACCURACY = re.compile(
    r"(?<![a-z])(?:\w{0,30}_)?(?:acc(?:ur\w*)?|top-?1|prec(?=@1)|correct\w*)(?:@1|1)?(?:_\w+)?(?![a-z])"
    r"(?:[^\d%\n]|\b\d[\d,]*\s+(?:\w+\s+)?images\b){0,60}?" + _SHARE,
    re.I,
)
_BEFORE_WORD = re.compile(_SHARE + r"\s*(?:\w+\s+){0,2}(?:acc(?:uracy)?|correct)\b", re.I)
_OF_SPLIT = re.compile(
    r"(?<![a-z])(?:test|eval|val|train)\w*(?![a-z])(?!\s*epoch)[^\d%|;,\[]{0,25}?"
    r"(?:(?:loss|nll)\D{0,10}\d+\.\d+(?:e-?\d+)?[\s,;|]*(?:and\b)?\D{0,4}?)?"
    + _SHARE.replace("%?)", "%)(?!\\|)").replace(r"\d{2,6}", r"\d{3,6}"),
    re.I,
)
_ERROR = re.compile(r"(?<![a-z])err(?:or)?s?(?:\s+rate)?(?![a-z])", re.I)
_LOSS = re.compile(r"loss\w*[^\d\n]{0,20}?(\d+\.\d+(?:e-?\d+)?|\d+e-?\d+)", re.I)
_SPLITS = re.compile(
    r"(?P<test>test|eval)|(?P<validation>val(?:id(?:ation)?)?(?![a-z])|\bdev\b)|(?P<train>train)", re.I
)
_STEP = re.compile(r"\blr\b|\bbatch\b|\bit/s\b|\bbatch_?idx?\b", re.I)


def lines_of(text: str) -> Iterator[str]:
    """The lines of an output, of a bar each state, without warnings."""
    for line in re.split(r"[\r\n]+", _NOISE.sub("", text[:_MOST_TEXT])):
        line = line[:_LONGEST_LINE].strip()
        if line and not _WARNING.search(line):
            yield line


def said_in(lines: Iterable[str]) -> Iterator[Said]:
    """What the lines of an output say, in their order; of a bar only its end."""
    lines = [*lines]
    is_cut = any(re.fullmatch(r"(?:\.{2,3}\s*){2,}", line) for line in lines)  # pandas leaves rows out
    header, columns = "", None
    for line in lines:
        columns = (None if is_cut else _header(line)) or columns
        row = _row(line, columns) if columns else None
        yield from said_by(line, header) if row is None else row
        header = "" if _ACCURACY.search(line) else line


def said_by(line: str, header: str = "") -> Iterator[Said]:
    """What a line says by its words, under the line before it."""
    yield from counted(line)
    bar = bar_of(line)
    if bar is None or bar[0]:
        yield from _accuracies(line, header, in_bar=bar is not None)
        yield from steps_of(line)


def counted(line: str) -> Iterator[Said]:
    """The epoch that a line counts."""
    found = _EPOCH.search(line) or (None if _BAR.search(line) else _NUMBERED.search(line))
    aside = _ASIDE.search(line)
    if found and not _NO_EPOCH.search(line) and not (aside and aside.start() < found.start()):
        yield Said("epoch", int(found[1]))


def bar_of(line: str) -> tuple[bool, int | None] | None:
    """Of a line with a progress bar, whether it has ended, and its steps where they are told."""
    bars = list(_BAR.finditer(line))
    if not bars:
        return None
    done, of = (bars[-1][first] or bars[-1][first + 3] for first in (1, 2))
    if bars[-1][6]:
        done, of = bars[-1][6], bars[-1][7]
    if of is None:
        return bars[-1][3] == "100", None
    return done == of, int(of)


def steps_of(line: str) -> Iterator[Said]:
    """The steps of a training's bar."""
    bar = bar_of(line)
    if bar and bar[1] and not re.search(r"test|val(?!_)", line, re.I):
        yield Said("steps", bar[1])


def _accuracies(line: str, header: str, *, in_bar: bool) -> Iterator[Said]:
    line = _ASIDE.sub("", line)
    found = list(_ACCURACY.finditer(line)) or list(_BEFORE_WORD.finditer(line))
    if not found and not in_bar:
        found = list(_OF_SPLIT.finditer(line))
    start = 0
    for each in found:
        before = line[start : each.end()]
        start = each.end()
        accuracy, images = fraction(
            each["right"] or each["number"], each["of"], percent=bool(each["percent"])
        )
        if accuracy is None:
            continue
        if _ERROR.search(each[0]) and each["percent"]:
            accuracy = 1 - accuracy
        loss = _LOSS.search(before)
        kind = _kind(before, line, header, images, in_bar=in_bar, others=len(found) > 1)
        yield Said(kind, accuracy, images, float(loss[1]) if loss else None)


def fraction(
    number: str, of: str | None = None, *, percent: bool = False
) -> tuple[Fraction | None, int | None]:
    """An accuracy as a fraction, and of how many images it is."""
    value = Fraction(number.replace(",", ""))
    if of:
        of = of.replace(",", "")
        return (value / int(of), int(of)) if value <= int(of) else (None, None)
    if value > 100:
        return None, None
    return (value / 100 if percent or value > 1 else value), None


def _kind(before: str, line: str, header: str, images: int | None, *, in_bar: bool, others: bool) -> str:
    """Which images an accuracy is of: test, validation, train, or other where nothing says it."""
    splits = splits_in(before)
    if splits:
        return splits[-1]
    if in_bar or others:  # of which another one has the line's word
        return "train"
    for words in (line, header):
        splits = splits_in(words)
        if len(set(splits)) == 1:
            return splits[0]
        if _STEP.search(words):
            break
    return "train" if images == TRAINING_IMAGES or _STEP.search(line) else "other"


def splits_in(words: str) -> list[str]:
    """The images that some words name, in their order."""
    return [str(match.lastgroup) for match in _SPLITS.finditer(words)]


_BORDER = re.compile(r"[│┃|]")
_CELL = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?\s*%?|\d{1,6}(?:\.\d+)?/\d{2,6}|nan", re.I)


def _cells(line: str) -> list[str]:
    """The cells of a table's line: between borders, tabs, commas or wide gaps, otherwise between blanks."""
    for border in (_BORDER, re.compile(r"\t+|,\s*"), re.compile(r"\s{2,}"), re.compile(r"\s+")):
        cells = [cell.strip() for cell in border.split(line.strip().strip("│┃|"))]
        if len(cells) > 1:
            return cells
    return cells


def _header(line: str) -> list[str] | None:
    """The headings of columns of which one is an accuracy; None where the line is none of headings."""
    if len(line) > 200 or any(mark in line for mark in ":=.") or not re.search("acc|test|val", line, re.I):
        return None
    cells = _cells(line)
    words = all(re.fullmatch(r"[a-z#][\w @()%/-]*", cell, re.I) or not cell for cell in cells)
    is_one = words and len(cells) > 1 and any(map(_column, cells))
    return [*cells] if is_one and re.search("epoch|loss|train", line, re.I) else None


def _column(name: str) -> str:
    """Which images a column's accuracies are of; empty where it has none."""
    if re.search(r"loss|err|time|\blr\b|best|rate", name, re.I):
        return ""
    splits = splits_in(name)
    if re.search(r"acc|top-?1", name, re.I):
        return splits[-1] if splits else "other"
    return (
        splits[-1] if splits and re.fullmatch(r"(?:test|val\w*|train\w*)(?: ?\(?%\)?)?", name, re.I) else ""
    )


def _row(line: str, columns: Sequence[str]) -> list[Said] | None:
    """What a row says under these headings; None where it is none of theirs."""
    cells = _cells(line)
    if len(cells) not in (len(columns), len(columns) + 1):  # pandas numbers its rows
        cells = line.split()
    if len(cells) not in (len(columns), len(columns) + 1):
        return None
    row = dict(zip(columns, cells[-len(columns) :], strict=True))
    said = [(_column(name), cell) for name, cell in row.items() if _column(name)]
    numbers = [cell for cell in cells if _CELL.fullmatch(cell)]
    if 2 * len(numbers) < len(cells) or not all(_CELL.fullmatch(cell) for _, cell in said):
        return None
    found = [
        Said("epoch", int(cell))
        for name, cell in row.items()
        if re.fullmatch(r"epochs?|ep\.?", name, re.I) and cell.isdigit()
    ]
    kinds = {kind for kind, _ in said}
    others = "test" if "train" in kinds else "train" if kinds & {"test", "validation"} else "other"
    others = "validation" if others == "other" and re.search("val", " ".join(columns), re.I) else others
    for kind, cell in sorted(said, key=lambda each: each[0] != "train"):
        right, _, of = cell.rstrip("% ").partition("/")
        if right.lower() == "nan":
            continue
        accuracy, images = fraction(right, of or None, percent="%" in cell)
        if accuracy is not None:
            found.append(Said(others if kind == "other" else kind, accuracy, images))
    return found
