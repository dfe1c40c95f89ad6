"""The log that a training left in a notebook's outputs: accuracy by epoch, as it was printed.

Programs print it in many styles. What is read here is their common part: a progress bar that ends, a line
that counts epochs, and an accuracy with a word that says which images it is of.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from audit.notebook.cells import Source, Text

_MOST_TEXT = 5_000_000  # characters of a cell's output that are read
_LONGEST_LINE = 2_000
TRAINING_IMAGES = 60_000


class Epoch(NamedTuple):
    """One evaluation.

    Attributes:
      number: as it was printed; None where the log counts no epochs.
      accuracy: of the evaluated images, a fraction with the digits that the log has.
      images: how many those are, where the log says.
      train_accuracy: of the training images in the same epoch, where the log has it.
      loss: of the evaluated images, where the log has it.
    """

    number: int | None
    accuracy: Fraction
    images: int | None = None
    train_accuracy: Fraction | None = None
    loss: float | None = None


class Training(NamedTuple):
    """The log of one training.

    Attributes:
      cell: the number of the cell that printed its first epoch.
      epochs: the evaluations in their order, at least one.
      steps: of an epoch, as the progress bar has them; None without one.
      split: which images were evaluated: "test" or "validation", as the log calls them, or "train" where it
        says that there were 60,000.
      unfinished: whether an epoch begins after the last evaluation.
      final_test: what was printed of the test images once, after epochs of validation.
    """

    cell: int
    epochs: tuple[Epoch, ...]
    steps: int | None = None
    split: str = "test"
    final_test: Fraction | None = None
    unfinished: bool = False

    @property
    def best(self) -> Fraction:
        """The largest accuracy."""
        return max(epoch.accuracy for epoch in self.epochs)

    @property
    def best_epoch(self) -> int:
        """The first epoch that has it, counted from 1."""
        return [epoch.accuracy for epoch in self.epochs].index(self.best) + 1

    @property
    def last(self) -> Fraction:
        """The last epoch's accuracy."""
        return self.epochs[-1].accuracy

    def holds_from(self, target: float) -> int | None:
        """The epoch, counted from 1, from which on all reach the target; None: the last does not."""
        first = None
        for number, epoch in reversed(list(enumerate(self.epochs, 1))):
            if epoch.accuracy < Fraction(str(target)):
                break
            first = number
        return first


def trainings_of(source: Source, beside: Sequence[Text]) -> tuple[Training, ...]:
    """Those in a notebook's outputs; of a .py file, those with progress bars in the texts beside it."""
    if source.is_notebook:
        return read_log((cell.number, cell.output) for cell in source.cells if cell.kind == "code")
    return tuple(each for each in read_log((0, text.text) for text in beside) if each.steps)


def read_log(outputs: Iterable[tuple[int, str]]) -> tuple[Training, ...]:
    """Every training that a notebook's outputs tell of, in their order.

    Args:
      outputs: the number and the text of each cell's output, in the order of the notebook.
    """
    trainings: list[Training] = []
    for cell, text in outputs:
        for training in _trainings(cell, list(_events(text))):
            before = trainings[-1] if trainings else None
            if before is not None and _goes_on(before, training):
                trainings[-1] = before._replace(epochs=before.epochs + training.epochs)
            else:
                trainings.append(training)
    return tuple(trainings)


def _goes_on(before: Training, training: Training) -> bool:
    """Whether a cell's log is a later part of the training before: its epochs are counted on."""
    last, first = before.epochs[-1].number, training.epochs[0].number
    return last is not None and first == last + 1 and first > 1


class _Event(NamedTuple):
    """What a line says: an epoch's `number`, a bar's `steps`, an `accuracy` of `train` or `test` images."""

    kind: str
    value: int | Fraction
    images: int | None = None
    loss: float | None = None


_NOISE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\b\x00]")
_WARNING = re.compile(r"\w+Warning:|^warnings\.warn")
_BAR = re.compile(r"(\d{1,7})/(\d{1,7}) \[(?:\d|=)")  # tqdm: 469/469 [00:12<00:00; Keras: 469/469 [=====
_EPOCH = re.compile(r"\bepochs?\s*(?:no\.?|number|num)?\s*[:=#\-]*\s*[\[(]?\s*(\d{1,4})\b(?!\.\d)", re.I)
_NO_EPOCH = re.compile(r"reducing learning rate|\bbest\b|patience|early stop", re.I)
_ASIDE = re.compile(
    r"[\[(]?\b(?:best|max(?:imum)?|highest|so far|improved|increased|target|saving|saved|reached)\b.*",
    re.I,
)
_ACCURACY = re.compile(
    r"\b(?:\w*_)?acc(?:uracy)?(?:_\w+)?\b[^\d%\n]{0,40}?"
    r"(?:(?P<right>\d{1,6})\s*/\s*(?P<of>\d{2,6})|(?P<number>\d{1,3}(?:\.\d+)?(?:e-\d+)?)\s*(?P<percent>%?))",
    re.I,
)
_PERCENT = re.compile(r"\(\s*(\d{1,3}(?:\.\d+)?)\s*%?\s*\)")
_LOSS = re.compile(r"loss\w*[^\d\n]{0,20}?(\d+\.\d+(?:e-?\d+)?|\d+e-?\d+)", re.I)
_SPLITS = re.compile(
    r"(?P<test>test|eval)|(?P<validation>val(?:id(?:ation)?)?(?![a-z])|\bdev\b)|(?P<train>train)", re.I
)


def _events(text: str) -> Iterator[_Event]:
    """The events of a cell's output in their order; of a bar only its end."""
    header = ""
    for line in re.split(r"[\r\n]+", _NOISE.sub("", text[:_MOST_TEXT])):
        line = line[:_LONGEST_LINE].strip()
        if line and not _WARNING.search(line):
            yield from _of_line(line, header)
            header = line


def _of_line(line: str, header: str) -> Iterator[_Event]:
    if (found := _EPOCH.search(line)) and not _NO_EPOCH.search(line):
        yield _Event("epoch", int(found[1]))
    bars = list(_BAR.finditer(line))
    if bars and bars[-1][1] != bars[-1][2]:  # the bar is under way
        return
    yield from _accuracies(line, header, in_bar=bool(bars))
    if bars and not re.search(r"test|val", line, re.I):
        yield _Event("steps", int(bars[-1][2]))


def _accuracies(line: str, header: str, *, in_bar: bool) -> Iterator[_Event]:
    line = _ASIDE.sub("", line)
    start = 0
    for found in _ACCURACY.finditer(line):
        before = line[start : found.end()]
        start = found.end()
        accuracy, images = _fraction(found, line)
        if accuracy is None:
            continue
        kind = _kind(before, line, header, images, in_bar=in_bar)
        loss = _LOSS.search(before)
        yield _Event(kind, accuracy, images, float(loss[1]) if loss else None)


def _fraction(found: re.Match[str], line: str) -> tuple[Fraction | None, int | None]:
    """An accuracy as a fraction, and of how many images it is."""
    if found["of"]:
        right, of = int(found["right"]), int(found["of"])
        return (Fraction(right, of), of) if right <= of else (None, None)
    number = Fraction(found["number"])
    if number > 100:
        return None, None
    if found["percent"] or number > 1:
        return number / 100, None
    return number, None


def _kind(before: str, line: str, header: str, images: int | None, *, in_bar: bool) -> str:
    """Which images an accuracy is of: test, validation, train, or other where nothing says it."""
    splits = [str(match.lastgroup) for match in _SPLITS.finditer(before)]
    if splits:
        return splits[-1]
    others = len(_ACCURACY.findall(line)) > 1  # of which another one has the line's word
    if in_bar or others:
        return "train"
    for words in (line, header):
        splits = [str(match.lastgroup) for match in _SPLITS.finditer(words)]
        if len(set(splits)) == 1:
            return splits[0]
    return "train" if images == TRAINING_IMAGES else "other"


def _trainings(cell: int, events: Sequence[_Event]) -> Iterator[Training]:
    """The trainings of a cell.

    An epoch is an evaluation after anything else: a line that counts, a bar, an accuracy in training. One
    that follows another directly is of the same epoch, said twice or evaluated again, unless the log has
    nothing else. Where epochs are counted from the start again another training begins.
    """
    marked = any(event.kind in ("epoch", "steps") for event in events)
    kinds = [event.kind for event in events]
    split = max(("test", "validation", "other"), key=kinds.count)  # of equals, the first
    apart = sum(pair == (split, split) for pair in itertools.pairwise(kinds))
    alone = not marked or 2 * apart > kinds.count(split)  # evaluations follow each other: each is an epoch
    if not marked and (kinds.count(split) < 2 or split == "other"):
        return
    counted = len({event.value for event in events if event.kind == "epoch"}) > 1
    test = next((event.value for event in reversed(events) if event.kind == "test"), None)
    training = Training(cell, (), split="validation" if split == "validation" else "test")
    epochs: list[Epoch] = []
    number, train, steps, fresh = None, None, None, True
    for event in events:
        if event.kind == "epoch":
            if number is not None and int(event.value) < number and epochs:
                yield _finished(training, epochs, steps)
                epochs, steps = [], None
            fresh = fresh or int(event.value) != number
            number = int(event.value)
        elif event.kind == "steps":
            steps, fresh = max(steps or 0, int(event.value)), True
        elif event.kind == "train":
            train, fresh = Fraction(event.value), True
        elif event.kind == split and (fresh or alone):
            if counted and epochs and epochs[-1].number == number:
                continue
            epochs.append(Epoch(number, Fraction(event.value), event.images, train, event.loss))
            train, fresh = None, False
    if epochs:
        yield _finished(training, epochs, steps)._replace(
            final_test=Fraction(test) if split == "validation" and test else None,
            unfinished=number != epochs[-1].number,
        )


def _finished(training: Training, epochs: Sequence[Epoch], steps: int | None) -> Training:
    """With its epochs; 60,000 images are the training set, whatever the log calls them."""
    split = "train" if any(epoch.images == TRAINING_IMAGES for epoch in epochs) else training.split
    return training._replace(epochs=tuple(epochs), steps=steps, split=split)


def chosen(trainings: Sequence[Training]) -> Training | None:
    """The training that a notebook ends in: the last one that is more than an evaluation."""
    most = max((len(training.epochs) for training in trainings), default=0)
    return next((each for each in reversed(trainings) if 2 * len(each.epochs) >= min(most, 4)), None)
