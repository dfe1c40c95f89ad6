"""Mistakes that are plain in each of the dozen submissions: their names in the audit, and their places."""

import functools
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from audit.notebook import cells
from audit.notebook.interpreter import follow
from audit.notebook.network import read_network
from cnn.architecture import AveragePool, Conv, MaxPool
from tests.metamorphic.submissions import DEFAULTS, NLL, RIGHT, Submission, files_of, write

Change = Callable[[Submission], Submission]


class Mistake(NamedTuple):
    """A mistake.

    Attributes:
      name: of the finding, or of the limit that is not kept.
      change: puts it into a submission.
      places: marks, of which one is where it must be named.
      group: no two of a group are put into one submission, for they hide each other.
      needs: what no rewrite may take away.
      also: names of what comes with it.
    """

    name: str
    change: Change
    places: tuple[str, ...]
    group: str
    needs: frozenset[str] = frozenset()
    also: tuple[str, ...] = ()


def _slots(**slots: str) -> Change:
    return lambda submission: submission.with_slots(**slots)


def _schedule(made: str, *, epoch: str = "", batch: str = "") -> Change:
    given = ", scheduler" if batch else ""
    return _slots(
        schedule=f"scheduler = optim.lr_scheduler.{made}  §at§",
        after_epoch=epoch,
        after_batch=batch,
        train_parameters=given,
        train_arguments=given,
    )


LATE = ("dropout_before_last_layer",)  # where little but the last layer comes behind the place
STEP = "scheduler.step()  §stepped§"
OPTIONS = "transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])"


def _is_flat(submission: Submission) -> bool:
    """Whether the logits are rows already, where the slot stands behind them."""
    return "<logits>\n        <end>" in submission.net


def _batch_norm(submission: Submission) -> Submission:
    kind = "BatchNorm1d" if _is_flat(submission) else "BatchNorm2d"
    return submission.with_slots(
        constructor=f"self.norm_of_logits = nn.{kind}(10)  §at§", logits="x = self.norm_of_logits(x)  §used§"
    )


def _loaders_again(submission: Submission) -> Submission:
    slots = {**DEFAULTS, **submission.slots}
    again = (
        "train_loader = torch.utils.data.DataLoader(  §at§\n"
        f'    datasets.MNIST("data", train=True, transform={OPTIONS}),\n'
        f"    batch_size={slots['batch']}, shuffle=True)"
    )
    return submission.with_slots(
        train_first="transforms.RandomRotation((-7.0, 7.0), fill=(0,)),", settings=again
    )


def _mean_losses(submission: Submission) -> Submission:
    slots = {**DEFAULTS, **submission.slots}
    return submission.with_slots(test_loss=slots["test_loss"].replace(', reduction="sum"', ""))


def _end(words: str) -> Change:
    return _slots(end=words, loss=NLL, test_loss=DEFAULTS["test_loss"])


def _steps(submission: Submission) -> Submission:
    return replace(submission, steps=938 if submission.steps != 938 else 469)


def _best_quoted(submission: Submission) -> Submission:
    text = "# Digits\n\nTest accuracy: 99.47 %  §at§\n"
    return replace(
        submission, right=(*RIGHT[:-2], 9947, 9941), beside={**submission.beside, "README.md": text}
    )


def _text(text: str) -> Change:
    return lambda submission: replace(submission, texts=(*submission.texts, text))


FIELDS = """# Layers

| Layer | Kernel | Stride | Receptive Field |
|-|-|-|-|
| Conv | 3x3 | 1 | 3 |
| Conv | 3x3 | 2 | 5 |
| Conv | 3x3 | 1 | 7 |  §at§
"""


def _computed(submission: Submission) -> Submission:
    """Code that computes the receptive fields, and takes a stride for the layer that has it, too."""
    return submission.with_slots(after_training=COMPUTED.format(sizes=_sizes(submission.net)))


@functools.cache
def _sizes(net: str) -> list[tuple[int, int]]:
    """The kernel and the stride of a network's layers that have them, in their order."""
    with tempfile.TemporaryDirectory() as folder:
        file, _ = write(files_of(Submission("", net)), Path(folder))
        layers = read_network(follow(cells.read(file))).architecture.layers
    sizes: list[tuple[int, int]] = []
    for layer in layers:
        match layer:
            case Conv(kernel=kernel, stride=stride):
                sizes.append((kernel, stride))
            case MaxPool(window) | AveragePool(int(window)):
                sizes.append((window, window))
    return sizes


COMPUTED = """field, jump = 1, 1
for kernel, stride in {sizes}:
    jump = jump * stride
    field = field + (kernel - 1) * jump  §at§
    print("receptive field", field)  §printed§"""

MISTAKES: Mapping[str, Mistake] = {
    "steps never taken": Mistake(
        "schedule_never_stepped",
        _schedule("StepLR(optimizer, step_size=5, gamma=0.5)"),
        ("at",),
        "schedule",
    ),
    "a cycle never taken": Mistake(
        "schedule_never_stepped",
        _schedule("OneCycleLR(optimizer, max_lr=0.1, steps_per_epoch=len(train_loader), epochs=15)"),
        ("at",),
        "schedule",
    ),
    "milestones never taken": Mistake(
        "schedule_never_stepped",
        _schedule("MultiStepLR(optimizer, milestones=[8, 12], gamma=0.1)"),
        ("at",),
        "schedule",
    ),
    "a cycle by epochs": Mistake(
        "one_cycle_stepped_per_epoch",
        _schedule(
            "OneCycleLR(optimizer, max_lr=0.1, steps_per_epoch=len(train_loader), epochs=15)", epoch=STEP
        ),
        ("at", "stepped"),
        "schedule",
    ),
    "steps by batches": Mistake(
        "schedule_stepped_per_batch",
        _schedule("StepLR(optimizer, step_size=6, gamma=0.1)", batch=STEP),
        ("at", "stepped"),
        "schedule",
    ),
    "evaluated on training images": Mistake(
        "test_is_training_set", _slots(test_split="True"), ("test_loader",), "test images"
    ),
    "test images rotated": Mistake(
        "test_images_augmented",
        _slots(test_first="transforms.RandomRotation(5, fill=(0,)),"),
        ("test_loader",),
        "test images",
    ),
    "test images moved": Mistake(
        "test_images_augmented",
        _slots(test_first="transforms.RandomAffine(degrees=10, translate=(0.1, 0.1)),"),
        ("test_loader",),
        "test images",
    ),
    "test images cropped": Mistake(
        "test_images_augmented",
        _slots(test_first="transforms.RandomCrop(28, padding=2),"),
        ("test_loader",),
        "test images",
    ),
    "relu on the logits": Mistake(
        "activation_after_last_layer", _slots(logits="x = F.relu(x)  §at§"), ("at",), "end"
    ),
    "a relu layer on the logits": Mistake(
        "activation_after_last_layer",
        _slots(
            constructor="self.relu_of_logits = nn.ReLU()  §at§", logits="x = self.relu_of_logits(x)  §used§"
        ),
        ("at", "used"),
        "end",
    ),
    "batch norm on the logits": Mistake(
        "batch_norm_after_last_layer", _batch_norm, ("at", "used"), "end", also=("bias_before_batch_norm",)
    ),
    "a dropout layer on the logits": Mistake(
        "dropout_after_last_layer",
        _slots(
            constructor="self.drop_of_logits = nn.Dropout(0.1)  §at§",
            logits="x = self.drop_of_logits(x)  §used§",
        ),
        ("at", "used"),
        "end",
    ),
    "dropout on the logits": Mistake(
        "dropout_after_last_layer",
        _slots(logits="x = F.dropout(x, 0.1, training=self.training)  §at§"),
        ("at",),
        "end",
    ),
    "dropout always on": Mistake(
        "dropout_in_evaluation", _slots(within="x = F.dropout(x, 0.1)  §at§"), ("at",), "mode", also=LATE
    ),
    "dropout of channels always on": Mistake(
        "dropout_in_evaluation",
        _slots(within="x = F.dropout2d(x, p=0.1)  §at§"),
        ("at",),
        "mode",
        also=LATE,
    ),
    "white corners": Mistake(
        "rotation_fill",
        _slots(train_last="transforms.RandomRotation(7, fill=1),  §at§"),
        ("at",),
        "train images",
    ),
    "grey corners": Mistake(
        "rotation_fill",
        _slots(train_last="transforms.RandomRotation(10),  §at§"),
        ("at",),
        "train images",
    ),
    "never back in training": Mistake("stays_in_evaluation", _slots(train_mode=""), ("eval",), "mode"),
    "trained in evaluation": Mistake(
        "stays_in_evaluation", _slots(train_mode="model.eval()  §at§"), ("at", "eval"), "mode"
    ),
    "never in evaluation": Mistake("no_eval_mode", _slots(eval_mode=""), ("evaluated",), "mode"),
    "evaluated in training": Mistake(
        "no_eval_mode", _slots(eval_mode="model.train()  §at§"), ("at", "evaluated"), "mode"
    ),
    "loaders again": Mistake("loaders_redefined", _loaders_again, ("at",), "train images"),
    "not shuffled": Mistake(
        "shuffle_off", _slots(shuffle=", shuffle=False"), ("train_loader",), "train images"
    ),
    "not told to shuffle": Mistake("shuffle_off", _slots(shuffle=""), ("train_loader",), "train images"),
    "trained on test images": Mistake(
        "trained_on_test_images", _slots(train_split="False"), ("train_loader",), "train images"
    ),
    "another mean": Mistake(
        "normalization_differs",
        _slots(test_norm="transforms.Normalize((0.5,), (0.3081,)),"),
        ("test_loader",),
        "test images",
    ),
    "another deviation": Mistake(
        "normalization_differs",
        _slots(test_norm="transforms.Normalize((0.1307,), (0.5,)),"),
        ("test_loader",),
        "test images",
    ),
    "test images as they are": Mistake(
        "normalization_differs", _slots(test_norm=""), ("test_loader",), "test images"
    ),
    "mean of means": Mistake("test_loss_of_batches", _mean_losses, ("test_loss",), "end"),
    "no log_softmax": Mistake("nll_loss_without_log_softmax", _end("return x"), ("loss",), "end"),
    "softmax": Mistake("softmax_output", _end("return F.softmax(x, dim=1)  §at§"), ("at",), "end"),
    "clamped": Mistake(
        "clamped_log_softmax", _end("return F.log_softmax(x, dim=1).clamp(-10, 0)  §at§"), ("at",), "end"
    ),
    "twelve classes": Mistake("not_a_number_a_class", _slots(outputs="12"), ("class",), "end"),
    "a layer never used": Mistake(
        "unused_layers", _slots(constructor="self.extra = nn.Linear(10, 10)  §at§"), ("at",), "end"
    ),
    "another total printed": Mistake(
        "printed_total",
        lambda submission: replace(submission, summary="Total params: 12,345\nTrainable params: 12,345\n"),
        ("cell summary",),
        "total",
        frozenset({"cell"}),
    ),
    "another total in the text": Mistake(
        "quoted_total",
        _text("# The network\n\nIt has 4,321 parameters.  §at§"),
        ("at",),
        "total",
        frozenset({"text"}),
    ),
    "a field doubled": Mistake("receptive_fields", _slots(wrong_field="1"), ("field",), "fields"),
    "a field doubled in a table": Mistake(
        "receptive_fields", _text(FIELDS), ("at",), "fields", frozenset({"text"})
    ),
    "fields computed wrongly": Mistake("receptive_fields", _computed, ("at", "printed"), "fields"),
    "steps of another batch size": Mistake(
        "steps_unlike_code", _steps, ("cell epochs",), "log", frozenset({"cell"})
    ),
    "three epochs missing": Mistake(
        "epochs_unlike_code",
        lambda submission: replace(submission, right=RIGHT[3:]),
        ("cell epochs",),
        "log",
        frozenset({"cell"}),
    ),
    "a log of training images": Mistake(
        "log_of_training_images",
        lambda submission: replace(submission, images=60_000, style="classic"),
        ("cell epochs",),
        "log",
        frozenset({"count", "cell"}),
        also=("accuracy",),
    ),
    "the best epoch's accuracy": Mistake("best_epoch_quoted", _best_quoted, ("at",), "log"),
    "gradients never zeroed": Mistake("gradients_never_zeroed", _slots(zero=""), ("step",), "gradients"),
    "gradients zeroed too late": Mistake(
        "zeroed_before_step",
        _slots(zero="", backward="loss.backward()\noptimizer.zero_grad()  §at§"),
        ("at", "step"),
        "gradients",
    ),
    "another network evaluated": Mistake(
        "other_model_evaluated",
        _slots(evaluated="other", model="model = Net().to(device)\nother = Net().to(device)"),
        ("evaluated", "test_call"),
        "networks",
    ),
    "a network made again": Mistake(
        "optimizer_of_other_model",
        _slots(printed="model = Net().to(device)"),
        ("trained", "step"),
        "networks",
    ),
    "a rate that is not": Mistake(
        "printed_settings",
        _slots(settings="learning_rate = 0.7", printed='print(f"learning rate: {learning_rate}")  §at§'),
        ("at",),
        "settings",
    ),
    "too few right": Mistake(
        "accuracy", lambda submission: replace(submission, right=(*RIGHT[:-1], 9931)), (), "log"
    ),
    "too many epochs": Mistake(
        "epochs",
        lambda submission: replace(
            submission.with_slots(range="range(1, 24)"), right=(*RIGHT, *(9941 + each for each in range(8)))
        ),
        (),
        "log",
    ),
}
