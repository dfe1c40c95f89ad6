"""Forty rewrites that change nothing of what a submission does or says."""

import random
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from tests.metamorphic.submissions import DEFAULTS, STYLES, Cell, Files, Submission, files_of

Draw = random.Random


class Rewrite(NamedTuple):
    """A rewrite of the submission before it is filled in, or of its files.

    Attributes:
      of_submission, of_files: one of the two.
      hides: what a mistake may need and it takes away.
    """

    of_submission: Callable[[Submission, Draw], Submission] | None = None
    of_files: Callable[[Files, Draw], Files] | None = None
    hides: frozenset[str] = frozenset()


def _slots(**slots: str) -> Rewrite:
    return Rewrite(lambda submission, draw: submission.with_slots(**slots))


def _other_printing(submission: Submission, draw: Draw) -> Submission:
    return replace(submission, style=draw.choice([name for name in STYLES if name != submission.style]))


def _constants(submission: Submission, draw: Draw) -> Submission:
    slots = _settings(submission)
    lines = [f"{name} = {slots[key]}" for key, name in (("rate", "LR"), ("momentum", "MOMENTUM"))]
    last = re.search(r"range\(1, (\d+)\)", slots["range"])
    lines.append(f"EPOCHS = {int(last[1]) - 1 if last else 15}")
    return submission.with_slots(
        settings=_both("\n".join(lines), slots), rate="LR", momentum="MOMENTUM", range="range(1, EPOCHS + 1)"
    )


def _dictionary(submission: Submission, draw: Draw) -> Submission:
    slots = _settings(submission)
    line = f'config = {{"lr": {slots["rate"]}, "momentum": {slots["momentum"]}}}'
    return submission.with_slots(
        settings=_both(line, slots), rate='config["lr"]', momentum='config["momentum"]'
    )


def _arguments(submission: Submission, draw: Draw) -> Submission:
    slots = _settings(submission)
    lines = f"""
        import argparse

        parser = argparse.ArgumentParser()
        parser.add_argument("--lr", type=float, default={slots["rate"]})
        parser.add_argument("--momentum", type=float, default={slots["momentum"]})
        args = parser.parse_args([])"""
    return submission.with_slots(
        settings=_both(textwrap.dedent(lines), slots), rate="args.lr", momentum="args.momentum"
    )


def _settings(submission: Submission) -> Mapping[str, str]:
    return {**DEFAULTS, "settings": "", **submission.slots}


def _both(lines: str, slots: Mapping[str, str]) -> str:
    return "\n".join(filter(None, (slots["settings"], lines.strip("\n"))))


def _counted_in_training(submission: Submission, draw: Draw) -> Submission:
    slots = _settings(submission)
    return submission.with_slots(
        before_batches="seen, right = 0, 0",
        after_batch="\n".join(
            filter(
                None,
                (
                    slots.get("after_batch"),
                    "seen += len(data)",
                    "right += output.argmax(dim=1).eq(target).sum().item()",
                ),
            )
        ),
    )


def _made_by_function(submission: Submission, draw: Draw) -> Submission:
    slots = _settings(submission)
    first, _, rest = slots["model"].partition("\n")
    if first != "model = Net().to(device)":
        return submission
    helper = "def make_network():\n    return Net()\n\n\nmodel = make_network().to(device)"
    return submission.with_slots(model="\n".join(filter(None, (helper, rest))))


def _optimizer_by_function(submission: Submission, draw: Draw) -> Submission:
    made = _settings(submission)["optimizer"].removeprefix("optimizer = ")
    made = made.replace("model.parameters()", "network.parameters()")
    helper = (
        f"def make_optimizer(network):\n    return {made}  §optimizer§\n\n\noptimizer = make_optimizer(model)"
    )
    return submission.with_slots(optimizer=helper)


def _criterion(submission: Submission, draw: Draw) -> Submission:
    loss = _settings(submission)["loss"]
    kind = "NLLLoss" if "nll_loss" in loss else "CrossEntropyLoss"
    return submission.with_slots(loss=f"nn.{kind}()(output, target)")


def _bookkeeping(submission: Submission, draw: Draw) -> Submission:
    slots = _settings(submission)
    return submission.with_slots(
        settings=_both("losses = []", slots),
        after_batches="print(end='')",
        after_training="print(len(losses), 'epochs')",
    )


def _renamed(**names: str) -> Rewrite:
    """Words of the code get other names, in code alone."""

    def rewrite(files: Files, draw: Draw) -> Files:
        def text(code: str) -> str:
            for name, other in names.items():
                code = re.sub(rf"(?<![.\w\"'/§]){name}(?![\w\"'=§])(?!=)", other, code)
            return code

        return _each_code(files, text)

    return Rewrite(of_files=rewrite)


def _each_code(files: Files, change: Callable[[str], str]) -> Files:
    cells = tuple(
        cell._replace(text=change(cell.text)) if cell.kind == "code" else cell for cell in files.cells
    )
    return files._replace(cells=cells)


def _in_code(before: str, after: str) -> Rewrite:
    """A pattern in the code is written otherwise."""
    return Rewrite(
        of_files=lambda files, draw: _each_code(files, lambda text: re.sub(before, after, text, flags=re.M))
    )


def _attributes(files: Files, draw: Draw) -> Files:
    own = {"training", "parameters", "block", "rate"}
    return _each_code(
        files,
        lambda text: re.sub(
            r"\bself\.(\w+)", lambda found: found[0] if found[1] in own else f"self.my_{found[1]}", text
        ),
    )


def _comments(files: Files, draw: Draw) -> Files:
    remarks = ["# as in the lecture", "# see the paper", "# 28 x 28", "# changed twice"]

    def text(code: str) -> str:
        lines = [
            f"{line}  {draw.choice(remarks)}"
            if line.endswith(")") and "#" not in line and "§" not in line and draw.random() < 0.5
            else line
            for line in code.split("\n")
        ]
        return "\n".join(lines)

    return _each_code(files, text)


def _magics(files: Files, draw: Draw) -> Files:
    if files.suffix == ".py":
        return files
    return files._replace(cells=(Cell("%matplotlib inline\n!pip install torchsummary"), *files.cells))


def _docstrings(files: Files, draw: Draw) -> Files:
    def text(code: str) -> str:
        code = re.sub(
            r"^(class \w+\([\w.]+\):(?:  §class§)?)\n( +)",
            r'\1\n\2"""The network."""\n\n\2',
            code,
            flags=re.M,
        )
        return re.sub(r"^(def \w+\(.*\):)\n( +)", r'\1\n\2"""One of the steps."""\n\2', code, flags=re.M)

    return _each_code(files, text)


def _inserted(*cells: Cell, at: int) -> Rewrite:
    """Further cells, at a place of the notebook."""

    def rewrite(files: Files, draw: Draw) -> Files:
        index = at if at >= 0 else len(files.cells) + at + 1
        return files._replace(cells=(*files.cells[:index], *cells, *files.cells[index:]))

    return Rewrite(of_files=rewrite)


def _notes_between(files: Files, draw: Draw) -> Files:
    notes = ["# Part", "## Next step", "Here we go on.", "* a\n* b", "---"]
    cells = [each for cell in files.cells for each in (Cell(draw.choice(notes), kind="markdown"), cell)]
    return files._replace(cells=tuple(cells))


def _before_class(mark: str) -> Rewrite:
    """The cell with a mark goes right before that with the class."""

    def rewrite(files: Files, draw: Draw) -> Files:
        moved, target = (_with(files, each) for each in (mark, "class"))
        if moved <= target:
            return files
        cells = list(files.cells)
        cells.insert(target, cells.pop(moved))
        return files._replace(cells=tuple(cells))

    return Rewrite(of_files=rewrite)


def _with(files: Files, mark: str) -> int:
    """The cell that has a mark."""
    return next(number for number, cell in enumerate(files.cells) if f"§{mark}§" in cell.text)


def _old_class(files: Files, draw: Draw) -> Files:
    at = _with(files, "class")
    if "import torch.nn" in files.cells[at].text:
        return files
    return files._replace(cells=(*files.cells[:at], Cell(OLD_CLASS.strip()), *files.cells[at:]))


def _one_cell(files: Files, draw: Draw) -> Files:
    code = [cell for cell in files.cells if cell.kind == "code"]
    text = "\n\n\n".join(cell.text for cell in code)
    one = Cell(text, "".join(cell.output for cell in code))
    return files._replace(cells=(one, *(cell for cell in files.cells if cell.kind != "code")))


def _split(files: Files, draw: Draw) -> Files:
    """Two blank lines part cells, but for the last one, which has the log."""
    cells: list[Cell] = []
    for cell in files.cells:
        if cell.kind != "code" or cell.output:
            cells.append(cell)
        else:
            cells += [Cell(part) for part in re.split(r"\n\n\n+", cell.text)]
    return files._replace(cells=tuple(cells))


def _imports_apart(files: Files, draw: Draw) -> Files:
    first, *others = files.cells
    lines = first.text.split("\n")
    if not all(line.startswith(("import ", "from ")) for line in lines):
        return files
    return files._replace(cells=(*map(Cell, lines), *others))


def _as_script(files: Files, draw: Draw) -> Files:
    """A .py file; its log lies beside it."""
    if files.suffix == ".py":
        return files
    log = "".join(cell.output for cell in files.cells)
    kept = tuple(
        Cell(
            re.sub(r"^[%!].*\n?", "", cell.text, flags=re.M) if cell.kind == "code" else cell.text,
            kind=cell.kind,
        )
        for cell in files.cells
    )
    return Files(kept, {**files.beside, "train.log": log}, ".py")


def _as_percent_script(files: Files, draw: Draw) -> Files:
    """A .py file with the cells' borders in comments, as editors have it."""
    script = _as_script(files, draw)
    cells = [
        cell._replace(text=f"# %%{' [markdown]' if cell.kind == 'markdown' else ''}\n{cell.text}")
        if cell.kind == "code"
        else cell
        for cell in script.cells
    ]
    return script._replace(cells=tuple(cells))


def _within_main(files: Files, draw: Draw) -> Files:
    """The cell that trains becomes a function that is called."""
    cells = list(files.cells)
    index = _with(files, "epochs")
    if "§class§" in cells[index].text:
        return files
    body = textwrap.indent(cells[index].text, "    ")
    text = f'def main():\n{body}\n\n\nif __name__ == "__main__":\n    main()'
    cells[index] = cells[index]._replace(text=text)
    return files._replace(cells=tuple(cells))


def _narrow(files: Files, draw: Draw) -> Files:
    """Two spaces for four."""
    return _each_code(
        files,
        lambda text: re.sub(r"^( +)", lambda found: found[1][: (len(found[1]) + 1) // 2], text, flags=re.M),
    )


def _beside(**texts: str) -> Rewrite:
    """Other programs' files in the folder; the submission's own stay."""
    others = {name.replace("_dot_", "."): text for name, text in texts.items()}
    return Rewrite(of_files=lambda files, draw: files._replace(beside={**others, **files.beside}))


OTHER_README = """# Sentiment analysis of film reviews

A transformer with 1,234,567 parameters, trained by `python sentiment.py` for 30 epochs.

    Epoch: 1
    Test set: Average loss: 0.4014, Accuracy: 8123/10000 (81.23%)
    Epoch: 2
    Test set: Average loss: 0.3014, Accuracy: 8444/10000 (84.44%)

Test accuracy: 84.44 %
"""
SHELL_LOG = """$ ls
notes.txt  reviews.csv
$ python sentiment.py
Epoch 1: accuracy 81.2 %
Epoch 2: accuracy 84.4 %
"""
OTHER_PROGRAM = """
import torch.nn as nn
import torch.optim as optim


class Sentiment(nn.Module):
    def __init__(self):
        super().__init__()
        self.word = nn.Embedding(1000, 16)
        self.out = nn.Linear(16, 2)

    def forward(self, x):
        return self.out(self.word(x).mean(1))


optimizer = optim.Adam(Sentiment().parameters(), lr=0.1)
"""
PLOT = """
import matplotlib.pyplot as plt

fig, axes = plt.subplots(1, 2, figsize=(12, 4))
axes[0].set_title("loss")
axes[1].set_title("accuracy")
plt.show()
"""
LOOK = """
images, labels = next(iter(train_loader))
print(images.shape, labels[:4])
"""
OLD_CLASS = """
class FirstTry(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, x):
        return F.log_softmax(self.conv(x).mean((2, 3)), dim=1)
"""
TARGETS = "Target: at least 99.4 % in fewer than 20 epochs, with fewer than 20000 parameters."
FIELDS = """| Layer | Kernel | Stride | Receptive Field |
|-|-|-|-|
| Conv | 3x3 | 1 | 3 |
| Conv | 3x3 | 2 | 5 |
| Conv | 3x3 | 1 | 9 |
"""

REWRITES: Mapping[str, Rewrite] = {
    "other printing": Rewrite(_other_printing, hides=frozenset({"count"})),
    "numbers as constants": Rewrite(_constants),
    "numbers in a dict": Rewrite(_dictionary),
    "numbers as arguments": Rewrite(_arguments),
    "accuracy counted in training": Rewrite(_counted_in_training),
    "network made by a function": Rewrite(_made_by_function),
    "optimizer made by a function": Rewrite(_optimizer_by_function),
    "loss as an object": Rewrite(_criterion),
    "bookkeeping": Rewrite(_bookkeeping),
    "plain loop over batches": _slots(batches="data, target in tqdm(train_loader)"),
    "inference mode": _slots(no_grad="torch.inference_mode()"),
    "counted by equality": _slots(count="correct += (output.argmax(1) == target).sum().item()"),
    "more seeds": _slots(seed="torch.manual_seed(1)\ntorch.cuda.manual_seed_all(1)"),
    "workers": _slots(loader_options=", num_workers=2, pin_memory=True"),
    "other class name": _renamed(Net="DigitRecognizer"),
    "other name of the model": _renamed(model="network"),
    "other names of the loaders": _renamed(train_loader="loader_a", test_loader="loader_b"),
    "other names of the functions": _in_code(r"\b(train|test)\((?=model|other)", r"run_\1("),
    "other name of the optimizer": _renamed(optimizer="opt"),
    "other names of a batch": _renamed(data="images", target="labels"),
    "other name of the activations": _renamed(x="features"),
    "other names of the layers": Rewrite(of_files=_attributes),
    "comments": Rewrite(of_files=_comments),
    "docstrings": Rewrite(of_files=_docstrings),
    "types": _in_code(
        r"def forward\(self, (\w+)\):", r"def forward(self, \1: torch.Tensor) -> torch.Tensor:"
    ),
    "notes between": Rewrite(of_files=_notes_between),
    "a note with the targets": _inserted(Cell(TARGETS, kind="markdown"), at=0),
    "a right table of fields": _inserted(Cell(FIELDS, kind="markdown"), at=-1),
    "imports apart": Rewrite(of_files=_imports_apart),
    "nn in full": _in_code(r"\bnn\.(?=[A-Z])", "torch.nn."),
    "functional in full": _in_code(r"\bF\.(?=[a-z])", "torch.nn.functional."),
    "data before the class": _before_class("train_loader"),
    "loops before the class": _before_class("trained"),
    "all in one cell": Rewrite(of_files=_one_cell),
    "cells split": Rewrite(of_files=_split),
    "magics": Rewrite(of_files=_magics),
    "a plot": _inserted(Cell(PLOT.strip(), "<Figure size 1200x400 with 2 Axes>"), at=-1),
    "a look at a batch": _inserted(
        Cell(LOOK.strip(), "torch.Size([64, 1, 28, 28]) tensor([5, 0, 4, 1])\n"), at=-1
    ),
    "an old class": Rewrite(of_files=_old_class),
    "a script with its log": Rewrite(of_files=_as_script, hides=frozenset({"cell", "text"})),
    "a script of cells": Rewrite(of_files=_as_percent_script, hides=frozenset({"cell", "text"})),
    "training within main": Rewrite(of_files=_within_main),
    "two spaces": Rewrite(of_files=_narrow),
    "another project beside": _beside(README_dot_md=OTHER_README, sentiment_dot_py=OTHER_PROGRAM.strip()),
    "a shell's log beside": _beside(shell_dot_log=SHELL_LOG),
}


def rewritten(names: list[str], submission: Submission, draw: Draw) -> Files:
    """A submission with some rewrites, those of its slots first."""
    for name in names:
        if (change := REWRITES[name].of_submission) is not None:
            submission = change(submission, draw)
    files = files_of(submission)
    for name in names:
        if (of_files := REWRITES[name].of_files) is not None:
            files = of_files(files, draw)
    return files
