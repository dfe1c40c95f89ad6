"""What is read of public submissions, beside what a person read of them.

    python -m benchmarks.submissions FOLDER [TABLE]

FOLDER holds a folder a submission, named by its id, with the files of the table (../shared/submissions.csv).
Nothing in them is run. A submission whose first file has no network is read from its next one.
"""

import collections
import csv
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from audit.notebook import cells
from audit.notebook.claims import Limits
from audit.notebook.distortion import is_random
from audit.notebook.interpreter import follow
from audit.notebook.network import ReadNetwork, read_network
from audit.notebook.recipe import read_recipe
from audit.notebook.state import Run
from audit.notebook.training import ReadRecipe
from audit.notebook.verdict import NotebookAudit, audit_notebook
from cnn.architecture import Architecture, AveragePool, Layer, summarize
from cnn.zoo import ZOO
from harness.errors import UserError

TABLE = Path("../shared/submissions.csv")
ZOO_SOURCES = {
    "plain_4k": ("44", "Net1"),
    "bn_4k": ("44", "Net2"),
    "bn_dropout_4k": ("44", "Net3"),
    "bn_dropout_14k": ("44", "Net4"),
    "fc_16k": ("67", "Net"),
    "deep_15k": ("51", "Net"),
    "reduced_19k": ("58", "Net"),
    "strided_18k": ("80", "Net"),
}
"""The zoo's published networks: the id in the table of the notebook that each comes from, and its class."""
Row = Mapping[str, str]


class Submission(NamedTuple):
    """A row of the table with what was read; refused says why the network was not."""

    row: Row
    network: ReadNetwork | None
    recipe: ReadRecipe | None
    refused: str
    audits: tuple[NotebookAudit, ...]


def main() -> None:
    """Read every submission of the table that is in the folder, and print how much is as it says."""
    folder, table = Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else TABLE
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (folder / row["id"]).is_dir()]
    submissions = [read(folder / row["id"], row) for row in rows]
    print_networks(submissions)
    print_recipes(submissions)
    print_logs(submissions)
    print_mistakes(submissions)
    print_zoo(folder, {row["id"]: row for row in rows})


def read(folder: Path, row: Row) -> Submission:
    """A submission's network and recipe."""
    refused = ""
    network = recipe = None
    for name in row["files"].split(" | "):
        try:
            network = read_network(_followed(folder / name), row["class_trained"] if refused else None)
            break
        except UserError as error:
            refused = refused or str(error)
    try:
        recipe = read_recipe(_followed(folder / row["files"].split(" | ")[0]), network)
    except UserError as error:
        refused = refused or str(error)
    return Submission(row, network, recipe, refused, tuple(_audits(folder, row)))


def _audits(folder: Path, row: Row) -> Iterator[NotebookAudit]:
    """The audit of the first file, and, where that is refused, of the next ones until one is not."""
    for number, name in enumerate(row["files"].split(" | ")):
        yield (audit := audit_notebook(folder / name, Limits(), row["class_trained"] if number else None))
        if not audit.refused:
            return


def print_networks(submissions: list[Submission]) -> None:
    """How many networks are read, and whether with the right number of parameters."""
    counts: collections.Counter[str] = collections.Counter()
    for row, network, _, refused, _ in submissions:
        if network is None:
            counts["refused"] += 1
            print(f"{row['id']:>4} refused: {refused}")
            continue
        read = (network.class_name, str(network.parameters))
        right = read == (row["class_trained"], row["parameters"])
        counts["right" if right else "WRONG"] += 1
        if not right:
            print(f"{row['id']:>4} WRONG: {read} for {row['class_trained']} {row['parameters']}")
    print(f"networks of {len(submissions)}: {_shown(counts)}\n")


def print_recipes(submissions: list[Submission]) -> None:
    """How many recipes are read whole, what the others lack, and where they are not as the table says."""
    counts: collections.Counter[str] = collections.Counter()
    lacks: collections.Counter[str] = collections.Counter()
    agree: collections.Counter[str] = collections.Counter()
    for row, _, recipe, *_ in submissions:
        if recipe is None:
            counts["not read"] += 1
            continue
        kind = "in part" if recipe.recipe is None else "whole, nearly" if recipe.departures else "whole"
        counts[kind] += 1
        lacks.update({fact.name for fact in recipe.missing})
        for fact in recipe.missing:
            print(f"{row['id']:>4} lacks {fact.name}: {fact.place}: {fact.detail}")
        for name, ours, theirs in compared(row, recipe):
            agree[f"{name} {'as listed' if ours == theirs else 'other'}"] += 1
            if ours != theirs:
                print(f"{row['id']:>4} {name} is {ours}, listed is {theirs}")
    print(f"recipes of {len(submissions)}: {_shown(counts)}")
    print(f"what the others lack: {_shown(lacks)}")
    print(f"beside the table: {_shown(agree)}\n")


def compared(row: Row, recipe: ReadRecipe) -> Iterator[tuple[str, object, object]]:
    """What the table lists of a recipe: its name, as it was read, as it is listed."""
    optimizer = recipe.optimizer
    if row["epochs_run"]:
        yield "epochs", recipe.epochs and recipe.epochs.value, int(row["epochs_run"])
    if row["batch_size"]:
        sizes = [size.value for size in recipe.batch_size]
        size = int(row["batch_size"])
        yield "batch_size", size if size in sizes else sizes, size
    if row["optimizer"]:
        yield "optimizer", optimizer and optimizer.name, row["optimizer"]
    for column, argument, default in (("learning_rate", "lr", 1e-3), ("momentum", "momentum", 0.0)):
        if row[column] and optimizer:
            yield column, optimizer.arguments.get(argument, default), float(row[column])
    if row["schedule_never_stepped"]:
        yield "never_stepped", recipe.stepped == "never", row["schedule_never_stepped"] == "True"
    if row["augmentation"]:
        listed = re.findall(r"([A-Z]\w+)\(", row["augmentation"])
        calls = recipe.train_transforms or ()
        names = [each.name for call in calls for each in (call, *call.inside)]
        yield "transforms", names, [name for name in listed if name != "Compose"]
    elif recipe.train_transforms is not None:
        yield "augmentation", is_random(recipe.train_transforms), False
    listed_schedule = re.match(r"[A-Z]\w+", row["schedule"])
    name = listed_schedule[0] if listed_schedule else ""
    yield "schedule", recipe.schedule.name if recipe.schedule else "", name


def print_logs(submissions: list[Submission]) -> None:
    """How many logs are read with the listed best and last accuracy, of test images as the table has it."""
    counts: collections.Counter[str] = collections.Counter()
    for submission in submissions:
        row, training = submission.row, submission.audits[0].training
        read = ("", "")
        if training is not None and training.split != "train":
            read = (f"{100 * float(training.best):.2f}", f"{100 * float(training.last):.2f}")
        listed = tuple(f"{float(row[name]):.2f}" if row[name] else "" for name in ("best_test", "last_test"))
        kind = "as listed" if read == listed else "not there" if read == ("", "") else "OTHER"
        counts[f"without a log, {kind}" if listed == ("", "") else kind] += 1
        if read != listed:
            print(f"{row['id']:>4} log: best and last are {read}, listed are {listed}")
        elif training and row["epochs_run"] and len(training.epochs) != int(row["epochs_run"]):
            print(f"{row['id']:>4} log: {len(training.epochs)} epochs, listed are {row['epochs_run']}")
    print(f"logs of {len(submissions)}: {_shown(counts)}\n")


LISTED = {
    "ReLU after the last layer": "activation_after_last_layer",
    "BN after the last layer": "batch_norm_after_last_layer",
    "dropout after the last layer": "dropout_after_last_layer",
    "dropout right before the last layer": "dropout_before_last_layer",
    "log_softmax without dim": "log_softmax_without_dim",
    r"\d pairs of layers without nonlinearity between": "no_nonlinearity_between",
    "neither GAP nor FC": "no_pooling_to_1x1",
    "no dropout": "no_dropout",
    "no batch norm": "no_batch_norm",
    "bias before batch norm": "bias_before_batch_norm",
    "1x1 conv with padding": "padded_1x1_convolution",
    "average pool .* drops a border .*": "pool_drops_border",
    "parameterless layers never used.*": "unused_without_parameters",
    "layers with parameters never used.*": "unused_layers",
    r"output shape \[8, 10, 1, 1\]": "output_keeps_1x1_map",
    "output shape .*": "not_a_number_a_class",
}
"""What the table's mistakes are called here, as patterns; the first that fits.

"neither GAP nor FC" goes by the modules alone: where F.avg_pool2d pools the whole map it is not named here.
"""


def listed_mistakes(row: Row) -> set[str]:
    """The names of what the table lists, in its mistakes and in its other columns."""
    found = {
        next(name for pattern, name in LISTED.items() if re.fullmatch(pattern, words))
        for words in filter(None, row["mistakes"].split("; "))
    }
    if row["schedule_never_stepped"] == "True":
        found.add("schedule_never_stepped")
    if row["epochs_run"] == "20":
        found.add("epochs_at_limit")
    if row["test_set"] == "TRAIN":
        found.add("test_is_training_set")
    if row["test_set"] == "log is of 60,000":
        found.add("log_of_training_images")
    return found


def print_mistakes(submissions: list[Submission]) -> None:
    """How many listed mistakes are named, and what is named beyond the list, which lists some kinds only."""
    named: collections.Counter[str] = collections.Counter()
    missed: collections.Counter[str] = collections.Counter()
    beyond: collections.Counter[str] = collections.Counter()
    for submission in submissions:
        row, audit = submission.row, submission.audits[-1]
        listed = listed_mistakes(row)
        found = {finding.name: finding for finding in audit.findings}
        named.update(listed & found.keys())
        missed.update(listed - found.keys())
        for name in sorted(listed - found.keys()):
            print(f"{row['id']:>4} missed: {name}{' (refused)' if audit.refused else ''}")
        for name in sorted(found.keys() - listed):
            beyond[f"{name}{'' if found[name].is_mistake else ' (remark)'}"] += 1
            if found[name].is_mistake:
                print(f"{row['id']:>4} beyond the list: {name}: {found[name].place}: {found[name].what}")
    for name in sorted(named.keys() | missed.keys()):
        print(f"{name:>30}: {named[name]:>3} of {named[name] + missed[name]} listed are named")
    print(f"mistakes: {named.total()} of {named.total() + missed.total()} listed are named")
    print(f"beyond the list: {_shown(beyond)}\n")


def _followed(file: Path) -> Run:
    return follow(cells.read(file))


def print_zoo(folder: Path, rows: Mapping[str, Row]) -> None:
    """Whether the zoo's networks and recipes are what is read from their authors' notebooks."""
    equal = 0
    for name, (number, cls) in ZOO_SOURCES.items():
        if number not in rows:
            continue
        run = _followed(folder / number / rows[number]["files"].split(" | ")[0])
        network = read_network(run, cls)
        recipe = read_recipe(run, network).recipe
        ours = ZOO[name]
        same = (_plain(network.architecture) == _plain(ours.architecture), recipe == ours.recipe)
        equal += all(same)
        if not all(same):
            print(
                f"{name}: network {'equal' if same[0] else 'OTHER'}, recipe {'equal' if same[1] else 'OTHER'}"
            )
    print(f"the zoo's networks that equal their authors', recipes included: {equal} of {len(ZOO_SOURCES)}")


def _plain(architecture: Architecture) -> tuple[Layer, ...]:
    """The layers, with global average pooling where a window is as large as the map."""
    sides = [architecture.input_shape[0], *(row.output_shape[0] for row in summarize(architecture))]
    return tuple(
        AveragePool(None) if layer == AveragePool(side) else layer
        for layer, side in zip(architecture.layers, sides, strict=False)
    )


def _shown(counts: Mapping[str, int]) -> str:
    return ", ".join(
        f"{count} {name}" for name, count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    )


if __name__ == "__main__":
    main()
