"""A submission's log, and the texts beside it that are its own: those that name it, or have its numbers."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from audit.notebook.cells import Source, Text, read_code, texts_beside
from audit.notebook.log import Training, chosen, printed_trainings, written_trainings
from audit.notebook.outputs import lines_of
from audit.notebook.prints import Prints

_FILES = re.compile(r"[\w.-]*\w\.(?:ipynb|py)\b", re.I)
_STARTED = re.compile(r"(?:python\S*|run)\s+\S+\.py\b|\w\.ipynb\b", re.I)
_LOG = re.compile(r"readme|log|train|result|output|report|history|note", re.I)
_TOPIC = re.compile(r"(?<![a-z])mnist|/\s*10,?000\b", re.I)
_MOST_FILES = 500  # of the folder that are looked at
TRAINS = re.compile(r"\boptim\b|\bAdamW?\(|\bSGD\(")
"""In the code of a program that trains."""


def read_log_of(
    source: Source, prints: Prints | None, known: Iterable[str | int]
) -> tuple[tuple[Training, ...], tuple[Text, ...]]:
    """The trainings that a submission's log tells of, and the texts beside it that are its own.

    Args:
      prints: what its code prints; None where it cannot be followed.
      known: its class, and numbers that it alone has.
    """
    beside = texts_beside(source.path)
    others = _others(source) if beside else {}
    trainings = printed_trainings(source, prints)
    own = _own_texts(source, beside, others, _links(known, trainings))
    logs = dict.fromkeys((*own, *_likely_logs(beside, others, prints)))
    trainings = trainings or tuple(written_trainings(logs, prints))
    training = chosen(trainings)
    has_log = training.file if training else ""
    own += _own_texts(source, beside, others, _links((), [training] if training else ()))
    return trainings, tuple(text for text in beside if text in own or text.place.file == has_log)


def _links(known: Iterable[str | int], trainings: Sequence[Training]) -> Iterator[str]:
    """What only a text about this submission has: of its class and its numbers, those of no other one."""
    for each in known:
        if isinstance(each, int):
            yield from (str(each), f"{each:,}")
        elif not re.fullmatch("(?:my)?(?:net(?:work)?|model|cnn)", each, re.I):
            yield each
    for training in trainings:
        yield from (f"{100 * float(accuracy):.2f}" for accuracy in (training.best, training.last))


def _own_texts(
    source: Source, beside: Sequence[Text], others: Mapping[str, bool], links: Iterable[str]
) -> tuple[Text, ...]:
    """Those that have the submission's name, or that have it or a link in them, and name no other one."""
    names = [source.path.name, *links]
    link = re.compile(rf"(?<![\w.,])(?:{'|'.join(map(re.escape, names))})(?!\w|[.,]\d)", re.I)

    def is_of_other(text: Text) -> bool:
        named = {name.lower() for name in _FILES.findall(text.text)}
        return any(name in named or _is_named(text, Path(name)) for name in others)

    return tuple(
        text
        for text in beside
        if _is_named(text, source.path) or (not is_of_other(text) and link.search(text.text) is not None)
    )


def _likely_logs(beside: Sequence[Text], others: Mapping[str, bool], prints: Prints | None) -> Iterator[Text]:
    """READMEs and logs that do not say whose they are: one about MNIST beside the only program of a folder,
    or one that reads as this code prints, beside the only program about MNIST.
    """
    for text in sorted(beside, key=lambda each: not each.place.file.lower().endswith(".log")):
        name = Path(text.place.file).stem
        if _LOG.search(name) and not _STARTED.search(text.text) and not any(others.values()):
            is_readme = name.lower().startswith("readme")
            printed = prints.said_in(lines_of(text.text)) if prints and not is_readme else ()
            accuracies = [each for each in printed if each.kind not in ("epoch", "steps")]
            if (_TOPIC.search(text.text) and not others) or len(accuracies) > 1:
                yield text


def _is_named(text: Text, file: Path) -> bool:
    """Whether it is called as the submission is: train.log beside train.py."""
    name = re.escape(file.stem)
    return bool(re.search(rf"(?<![^\W_]){name}(?![^\W_])", Path(text.place.file).stem, re.I))


def _others(source: Source) -> dict[str, bool]:
    """The folder's other programs, and whether each may be about MNIST, as all notebooks may.

    Of a .py file also those that train, and share no import.
    """
    code = "\n".join(cell.code for cell in source.cells)
    others = {}
    for path in itertools.islice(source.path.parent.iterdir(), _MOST_FILES):
        kind, is_own = path.suffix.lower(), path.name == source.path.name
        if kind == ".ipynb" and not is_own:
            others[path.name.lower()] = True
        elif kind == ".py" and not is_own and not source.is_notebook and not _imports(code, path.stem):
            other = read_code(path) or ""
            if TRAINS.search(other) and not _imports(other, source.path.stem):
                others[path.name.lower()] = _TOPIC.search(other) is not None
    return others


def _imports(code: str, module: str) -> bool:
    return re.search(rf"^\s*(?:from|import)\s.*\b{re.escape(module)}\b", code, re.M) is not None
