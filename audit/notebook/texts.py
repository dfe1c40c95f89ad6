"""The texts beside a submission that are its own: a log or a README that names it, or has its numbers."""

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from audit.notebook.cells import Source, Text, read_code

_FILES = re.compile(r"[\w.-]*\w\.(?:ipynb|py)\b", re.I)
_STARTED = re.compile(r"(?:python\S*|run)\s+\S+\.py\b|\w\.ipynb\b", re.I)
_LOG = re.compile(r"readme|log|train|result|output|report|history|note", re.I)
_TOPIC = re.compile(r"(?<![a-z])mnist|/\s*10,?000\b", re.I)
_MOST_FILES = 500  # of the folder that are looked at
_TRAINS = re.compile(r"\boptim\b|\bAdamW?\(|\bSGD\(")


def own_texts(source: Source, beside: Sequence[Text], links: Iterable[str]) -> tuple[Text, ...]:
    """Those that have the submission's name, or that name it or one of its numbers, and name no other one.

    Args:
      source: the submission.
      beside: the texts in its folder.
      links: what only a text about this submission has: its class, its parameters, its accuracies.
    """
    others = _others(source) if beside else set()
    names = [source.path.name, *links]
    link = re.compile(rf"(?<![\w.,])(?:{'|'.join(map(re.escape, names))})(?!\w|[.,]\d)", re.I)
    return tuple(
        text
        for text in beside
        if _is_named(text, source.path) or (not _is_of(text, others) and (link.search(text.text) is not None))
    )


def likely_logs(source: Source, beside: Sequence[Text]) -> tuple[Text, ...]:
    """READMEs and logs about MNIST that do not say whose they are, beside the only submission of a folder."""
    return tuple(
        text
        for text in sorted(beside, key=lambda each: not each.place.file.lower().endswith(".log"))
        if _LOG.search(Path(text.place.file).stem)
        and _TOPIC.search(text.text)
        and not _STARTED.search(text.text)
        and not _others(source)
    )


def _is_of(text: Text, others: set[str]) -> bool:
    """Whether it has the name of another submission, or names it."""
    named = {name.lower() for name in _FILES.findall(text.text)}
    return bool(named & others) or any(_is_named(text, Path(name)) for name in others)


def _is_named(text: Text, file: Path) -> bool:
    """Whether it is called as the submission is: train.log beside train.py."""
    name = re.escape(file.stem)
    return bool(re.search(rf"(?<![^\W_]){name}(?![^\W_])", Path(text.place.file).stem, re.I))


def _others(source: Source) -> set[str]:
    """The folder's other submissions: notebooks; of a .py file also those that train, and share no import."""
    code = "\n".join(cell.code for cell in source.cells)
    others = set()
    for path in itertools.islice(source.path.parent.iterdir(), _MOST_FILES):
        kind, is_own = path.suffix.lower(), path.name == source.path.name
        if kind == ".ipynb" and not is_own:
            others.add(path.name.lower())
        elif kind == ".py" and not is_own and not source.is_notebook and not _imports(code, path.stem):
            other = read_code(path) or ""
            if _TRAINS.search(other) and not _imports(other, source.path.stem):
                others.add(path.name.lower())
    return others


def _imports(code: str, module: str) -> bool:
    return re.search(rf"^\s*(?:from|import)\s.*\b{re.escape(module)}\b", code, re.M) is not None
