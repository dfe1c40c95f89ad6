"""The log that a training left in a notebook's outputs: accuracy by epoch, as it was printed.

Where the code that printed a line is there, the line is read by it (prints.py), otherwise by its words
(outputs.py).
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from audit.notebook.cells import Source, Text
from audit.notebook.outputs import TRAINING_IMAGES, Said, lines_of, said_in
from audit.notebook.prints import Prints


class Epoch(NamedTuple):
    """One evaluation."""

    number: int | None  # as it was printed; None where the log counts no epochs
    accuracy: Fraction  # of the evaluated images, a fraction with the digits that the log has
    images: int | None = None  # how many were evaluated, where the log says
    train_accuracy: Fraction | None = None  # of the training images in the same epoch, where the log has it
    loss: float | None = None  # of the evaluated images, where the log has it


class Training(NamedTuple):
    """The log of one training."""

    cell: int  # the number of the cell that printed its first epoch
    epochs: tuple[Epoch, ...]  # the evaluations in their order, at least one
    steps: int | None = None  # of an epoch, as the progress bar has them; None without one
    # which images were evaluated: "test" or "validation", as the log calls them, or "train" where it says
    # that there were 60,000
    split: str = "test"
    final_test: Fraction | None = None  # what was printed of the test images once, after epochs of validation
    unfinished: bool = False  # whether an epoch begins after the last evaluation
    file: str = ""  # the text beside the code that the log stands in; empty where it stands in the outputs
    ran: int = 0  # how many epochs the log counts, where not each of them was evaluated; otherwise 0

    @property
    def num_epochs(self) -> int:
        """How many epochs it had."""
        return max(self.ran, len(self.epochs))

    @property
    def best(self) -> Fraction:
        """The largest accuracy."""
        return max(epoch.accuracy for epoch in self.epochs)

    @property
    def best_epoch(self) -> int:
        """The first epoch that has it, counted from 1."""
        return self._number([epoch.accuracy for epoch in self.epochs].index(self.best) + 1)

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
            first = self._number(number)
        return first

    def _number(self, evaluation: int) -> int:
        """The epoch of an evaluation, both counted from 1."""
        if evaluation == len(self.epochs):
            return self.num_epochs
        return (self.epochs[evaluation - 1].number or evaluation) if self.ran else evaluation


def printed_trainings(source: Source, prints: Prints | None) -> tuple[Training, ...]:
    """Those in a notebook's outputs, if possible of the cells that train."""
    found = read_log(((each.number, each.output) for each in source.cells if each.output), prints)
    return tuple(each for each in found if prints and each.cell in prints.cells) or found


def written_trainings(texts: Iterable[Text], prints: Prints | None) -> Iterator[Training]:
    """Those in texts beside the code, what reads as it prints first."""

    def is_other(text: Text) -> bool:
        return not prints or not _evaluations(prints.said_in(lines_of(text.text)))

    for text in sorted(texts, key=is_other):
        for training in read_log([(0, text.text)], prints):
            yield training._replace(file=text.place.file)


def read_log(outputs: Iterable[tuple[int, str]], prints: Prints | None = None) -> tuple[Training, ...]:
    """Every training that the outputs of cells tell of, in their order; with their numbers."""
    trainings: list[Training] = []
    for cell, text in outputs:
        for number, training in enumerate(_trainings(cell, _said(text, prints))):
            before = trainings[-1] if trainings else None
            if before is not None and number == 0 and _goes_on(before, training, prints):
                trainings[-1] = before._replace(
                    epochs=before.epochs + training.epochs, unfinished=training.unfinished
                )
            else:
                trainings.append(training)
    return tuple(trainings)


def _said(text: str, prints: Prints | None) -> list[Said]:
    """What an output says, by the code that printed it where that says as much as the words alone do."""
    lines = _ended(list(lines_of(text)))
    by_words = list(said_in(lines))
    by_code = prints.said_in(lines) if prints else []
    exact, guessed = _evaluations(by_code), _evaluations(by_words)
    return by_code if exact and guessed <= 2 * exact else by_words


def _evaluations(said: Sequence[Said]) -> int:
    """How many accuracies are of other images than those that are trained on."""
    return sum(each.kind not in ("epoch", "steps", "train") for each in said)


def _ended(lines: list[str]) -> list[str]:
    """Without the earlier ends of an epoch's bar that was written again with what came later."""
    kept: list[str] = []
    last: tuple[tuple[str, str] | None, int] = None, 0
    for line in lines:
        bar = _EPOCH_BAR.match(line)
        if bar and (bar[1], bar[2]) == last[0]:
            del kept[last[1]]
        if bar:
            last = (bar[1], bar[2]), len(kept)
        kept.append(line)
    return kept


_EPOCH_BAR = re.compile(r"(ep(?:och)?\b[^%|━]*\d)\W*(?:100%\||━)[^|]*?\|?\s*(\d+)/\2(?!\d)", re.I)


def _goes_on(before: Training, training: Training, prints: Prints | None) -> bool:
    """Whether a cell's log is a later part of the training before: by its epochs, or as its code has it."""
    last, first = before.epochs[-1].number, training.epochs[0].number
    if last is not None and first == last + 1 and first > 1:
        return True
    both = {before.cell, training.cell}
    return prints is not None and training.cell > before.cell and both <= prints.cells


def _trainings(cell: int, events: Sequence[Said]) -> Iterator[Training]:
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
    numbers: set[int] = set()
    number, train, steps, fresh = None, None, None, True
    for event in events:
        if event.kind == "epoch":
            if number is not None and int(event.value) < number and epochs:
                yield _finished(training, epochs, steps, len(numbers))
                epochs, steps, numbers = [], None, set()
            fresh = fresh or int(event.value) != number
            number = int(event.value)
            numbers.add(number)
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
        counts = len(numbers) or (kinds.count("steps") if len(epochs) == 1 else 0)
        yield _finished(training, epochs, steps, counts)._replace(
            final_test=Fraction(test) if split == "validation" and test else None,
            unfinished=number != epochs[-1].number,
        )


def _finished(training: Training, epochs: list[Epoch], steps: int | None, counts: int) -> Training:
    """With its epochs, of which it counts so many; an evaluation before the first of them is none of them."""
    if epochs[0].number is None and len(epochs) == counts + 1 > 1:
        del epochs[0]
    split = "train" if any(epoch.images == TRAINING_IMAGES for epoch in epochs) else training.split
    ran = counts if counts > len(epochs) + 1 else 0
    return training._replace(epochs=tuple(epochs), steps=steps, split=split, ran=ran)


def chosen(trainings: Sequence[Training]) -> Training | None:
    """The training that a notebook ends in: the last one that is more than an evaluation."""
    most = max((len(training.epochs) for training in trainings), default=0)
    return next((each for each in reversed(trainings) if 2 * len(each.epochs) >= min(most, 4)), None)
