"""What is wrong in a submission, where, what that does to result or claim, and what to do; and remarks."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from audit.notebook.cells import Fact, Place, Source, Text
from audit.notebook.claims import HAND_IN, Limits, percent
from audit.notebook.log import Training
from audit.notebook.network import ReadNetwork
from audit.notebook.receptive_fields import Wrong, wrong_in_code, wrong_in_text, wrong_in_values
from audit.notebook.training import ReadRecipe


class Words(NamedTuple):
    """What is wrong and what that does, and what to do instead."""

    what: str
    remedy: str = ""


def _words(table: str) -> dict[str, Words]:
    """By name what is wrong, and behind an arrow what to do."""
    blocks = [" ".join(block.split()).partition(": ") for block in re.split(r"\n(?=\w)", table.strip())]
    return {name: Words(*words.split(" -> ")) for name, _, words in blocks}


MISTAKES = _words("""
schedule_never_stepped: a learning rate schedule is made and never stepped, so that the learning rate stays as
    it is
    -> call scheduler.step() after each epoch, or leave the schedule out of code and claim
one_cycle_stepped_per_epoch: OneCycleLR counts batches and is stepped once an epoch, so that it hardly leaves
    its first rate
    -> call scheduler.step() after each batch
schedule_stepped_per_batch: a schedule that counts epochs is stepped after every batch, so that its rate falls
    far too soon
    -> call scheduler.step() after each epoch, or give its steps in batches
trained_on_test_images: the network is trained on the test images, so that the accuracy says nothing of unseen
    ones
    -> make the training loader from MNIST(train=True)
other_model_evaluated: another network is evaluated than the one that is trained, so that the accuracy is not
    its own
    -> give the evaluation the network that the optimizer has
optimizer_of_other_model: the optimizer has another network's weights than those of the one that gets the
    training images: nothing is learnt
    -> make the optimizer after the network, from its parameters()
no_eval_mode: the test images are evaluated in training mode: dropout drops, and batch norm takes the
    statistics of the test batch and changes its running ones
    -> call model.eval() before the evaluation, and model.train() after it
gradients_never_zeroed: the gradients are never zeroed: each step takes the sum of all batches' gradients so
    far
    -> call optimizer.zero_grad() for each batch, before backward()
zeroed_before_step: the gradients are zeroed between backward() and step(), so that nothing is learnt
    -> call optimizer.zero_grad() before backward()
printed_settings: the code prints a setting that the training does not have
    -> print what the optimizer and the loader have, or give them what is printed
test_is_training_set: what is evaluated are the training images, so that the accuracy says nothing of unseen
    ones
    -> make the test loader from MNIST(train=False)
test_images_augmented: the test images are distorted at random: each evaluation is of other images
    -> leave only ToTensor and Normalize in the test transforms
activation_after_last_layer: an activation stands on the logits: those below zero are cut off and get no
    gradient
    -> end with the last convolution or dense layer and the pooling
batch_norm_after_last_layer: a batch norm stands on the logits: it scales each class by the batch's statistics
    -> leave the batch norm behind the last convolution out
dropout_after_last_layer: dropout stands on the logits: it sets classes' scores to zero at random while
    training
    -> leave the dropout behind the last layer out
rotation_fill: the rotation fills its corners with what is no background
    -> rotate before ToTensor with fill=(0,), or fill with the background's value after Normalize, -0.4242
stays_in_evaluation: after the first test the training goes on in evaluation: no dropout, and batch norm's
    statistics stay as they are
    -> call model.train() at the start of each epoch
loaders_redefined: the training loader is made again without what the first one had, which is lost
    -> make the loaders once, with the transforms that are meant
shuffle_off: the training images come in the same order in every epoch, so that all epochs have the same
    batches
    -> give the training loader shuffle=True
dropout_in_evaluation: dropout is active in evaluation, too, so that the accuracy is lower and changes with
    each evaluation
    -> write F.dropout(x, training=self.training), or use nn.Dropout and model.eval()
normalization_differs: training and test images are normalised differently, so that the network sees others
    than it learnt
    -> give both the same Normalize
test_loss_of_batches: the average test loss is the sum of batches' means divided by the number of images: it
    is as many times too small as a batch has images (the accuracy is right)
    -> sum with reduction='sum', or divide by len(test_loader)
nll_loss_without_log_softmax: nll_loss is given no log_softmax, so that it has no lower bound
    -> return F.log_softmax(x, dim=1), or use cross_entropy
softmax_output: it ends in softmax, and the loss takes it for something else
    -> return log_softmax for nll_loss, or the logits for cross_entropy
not_a_number_a_class: it does not end in ten numbers, one a class
    -> let the last layer have 10 channels, and pool what is left of the map
clamped_log_softmax: what log_softmax gives is limited: losses beyond it have no gradient
    -> return log_softmax as it is
unused_layers: the class holds layers with parameters that forward never uses
    -> remove them: PyTorch counts their parameters, torchsummary does not
printed_total: the total in the outputs is not this class's
    -> run the notebook from top to bottom before handing it in
quoted_total: the text gives another number of parameters than the class has
    -> give the class's number
receptive_fields: the receptive fields that are written or computed are wrong
    -> a layer adds (kernel - 1) times the product of all strides before it
steps_unlike_code: the log is of another version of the code: its steps do not fit the batch size
    -> run the notebook from top to bottom before handing it in
epochs_unlike_code: the log is of another version of the code: it has another number of epochs
    -> run the notebook from top to bottom before handing it in
log_of_training_images: the log is of another version of the code: what it evaluates are 60,000 images, the
    training set
    -> run the notebook from top to bottom before handing it in
best_epoch_quoted: the best epoch's accuracy is given as the result
    -> give the last epoch's, or choose the epoch on validation images
""")
REMARKS = _words("""
schedule_steps: the schedule is not stepped once after each epoch's training
not_python: a line of the cell is no Python and is left out
    -> remove it, or mark the cell as text
log_softmax_without_dim: log_softmax is not told its dimension
    -> write dim=1
bias_before_batch_norm: a bias is followed by a batch norm, which takes it away again
    -> write bias=False there
epochs_at_limit: exactly 20 epochs: some years of the assignment ask for within 20, some for fewer than 20
    -> where fewer are asked for, audit with --max_epochs=19, and give the accuracy after the 19th
no_seed: no seed is set: another run gives another accuracy
    -> torch.manual_seed(1)
cross_entropy_on_log_softmax: cross-entropy gets a log_softmax: it takes it again, which changes nothing
    -> return the logits, or use nll_loss
dropout_before_last_layer: dropout stands right before the last weights
no_nonlinearity_between: two layers with weights follow each other without a nonlinearity: they are one linear
    map
padded_1x1_convolution: a 1x1 convolution has padding: it adds a border that holds nothing but the bias
pool_drops_border: the pooling leaves out a border of the map
no_batch_norm: it has no batch norm
no_dropout: it has no dropout
no_pooling_to_1x1: neither a pooling of the whole map nor a dense layer is in it
output_keeps_1x1_map: the output keeps the height and width of its 1x1 map
depends_on_cuda: it depends on whether there is a GPU
one_cycle_of_epochs: OneCycleLR is stepped once an epoch, with as many steps as epochs: a cycle of few, coarse
    steps
unused_without_parameters: layers without parameters are made and never used
run_out_of_order: the cells were not run in their order, as the numbers beside them tell
    -> run the notebook from top to bottom before handing it in
""")
REMARKS["no_log"] = Words("there is no log of a training", HAND_IN)
SILENT = ("log_softmax",)
"""Facts that are as they should be."""


class Finding(NamedTuple):
    """A mistake or a remark, by its key, with its first place, and how many others there are of it."""

    name: str
    place: Place
    what: str
    remedy: str
    others: int = 0

    @property
    def is_mistake(self) -> bool:
        """Whether it changes the result or the claim."""
        return self.name in MISTAKES


def findings(
    source: Source,
    network: ReadNetwork | None,
    recipe: ReadRecipe | None,
    training: Training | None,
    limits: Limits,
    *,
    code: str = "",
    texts: Sequence[Text] = (),
) -> tuple[Finding, ...]:
    """All mistakes, then all remarks, in the order of their places; code: what the class stands in."""
    prose = [Text(source.place(cell, 1), cell.text) for cell in source.cells if cell.kind == "markdown"]
    texts = [*prose, *texts]
    facts = [*_quoted(training, texts), *_about_the_run(source, training)]
    if network is not None:
        facts += [*network.facts, *_unused(network)]
        facts += [*_receptive_fields(network, recipe, code, texts), *_totals(source, network, texts)]
    if recipe is not None and (network is not None or recipe.optimizer is not None):
        facts += [*recipe.facts, *_epochs_at_limit(recipe, training, limits)]
        facts += _other_version(source, recipe, training)
    found: dict[str, Finding] = {}
    for fact in sorted(facts, key=lambda each: (each.place.cell or 0, each.place.line)):
        if fact.name in SILENT:
            continue
        if fact.name in found:
            found[fact.name] = found[fact.name]._replace(others=found[fact.name].others + 1)
            continue
        words = MISTAKES[fact.name] if fact.name in MISTAKES else REMARKS[fact.name]
        detail = f": {fact.detail}" if fact.detail else ""
        found[fact.name] = Finding(fact.name, fact.place, words.what + detail, words.remedy)
    return tuple(sorted(found.values(), key=lambda each: not each.is_mistake))


def _unused(network: ReadNetwork) -> Iterator[Fact]:
    with_parameters = [layer for layer in network.unused if layer.parameters]
    if with_parameters:
        names = ", ".join(f"{layer.name} ({layer.parameters:,})" for layer in with_parameters)
        yield Fact("unused_layers", with_parameters[0].place, names)
    for layer in network.unused:
        if not layer.parameters:
            yield Fact("unused_without_parameters", layer.place, layer.name)


def _epochs_at_limit(recipe: ReadRecipe, training: Training | None, limits: Limits) -> Iterator[Fact]:
    """Exactly the 20 that the assignment names."""
    assigned = Limits().max_epochs
    if recipe.epochs is None or recipe.epochs.value != assigned or limits.max_epochs != assigned:
        return
    if training and training.num_epochs != assigned:
        return
    detail = ""
    if training:
        detail = f"after epoch {assigned - 1} the log has {percent(training.epochs[-2].accuracy)}"
    yield Fact("epochs_at_limit", recipe.epochs.place, detail)


def _receptive_fields(
    network: ReadNetwork, recipe: ReadRecipe | None, code: str, texts: Sequence[Text]
) -> Iterator[Fact]:
    for place, computed in wrong_in_values(recipe.fields if recipe else {}, network):
        yield Fact("receptive_fields", place, _in_words(computed))
    wrong = wrong_in_code(code, network)
    if wrong is not None:
        yield Fact("receptive_fields", replace(network.place, line=wrong.line), _in_words(wrong))
    for text in texts:
        wrong = wrong_in_text(text.text, network)
        if wrong is not None:
            yield Fact("receptive_fields", replace(text.place, line=wrong.line), _in_words(wrong))


def _in_words(wrong: Wrong) -> str:
    doubled = ", doubled at the pooling" if wrong.doubled else ""
    return f"{wrong.written}{doubled}, where {wrong.right} belongs ({wrong.rows[0]} of {wrong.rows[1]} rows)"


_PRINTED = re.compile(
    r"^(?:Total params|Total parameters|Trainable params|Total Trainable Params)\D{0,3}([\d,]+)", re.M
)
_QUOTED = re.compile(
    r"(?:param(?:eter)?s?(?:\s+count)?(?:\s+(?:used|are|is))?[\s:=*|`\-]{1,8}(\d{1,3},\d{3}|\d{4,6})\b(?!\.\d)"
    r"|\b(\d{1,3},\d{3}|\d{4,6})[\s*`]{0,4}(?:total\s+|trainable\s+)?param(?:eter)?s?\b)",
    re.I,
)


def _totals(source: Source, network: ReadNetwork, texts: Sequence[Text]) -> Iterator[Fact]:
    """The totals that torchsummary printed and that the text gives, where none is this class's."""
    right, has = {network.parameters, network.used_parameters}, f"and the class has {network.parameters:,}"
    printed = [
        (cell, int(found[1].replace(",", "")))
        for cell in source.cells
        for found in _PRINTED.finditer(cell.output)
        if found[1].strip(",")
    ]
    if printed and not right & {total for _, total in printed}:
        cell, total = printed[-1]
        yield Fact("printed_total", source.place(cell, 1), f"{total:,}, {has}")
    quoted = [
        (text.place, number, int(next(filter(None, found.groups())).replace(",", "")))
        for text in texts
        for number, line in enumerate(text.text.split("\n"), 1)
        for found in _QUOTED.finditer(line)
        if not (_PRINTED.match(line) and network.used_parameters != network.parameters)  # see unused_layers
    ]
    exact = [each for each in quoted if each[2] % 500]  # 20,000 is a limit
    if len({total for *_, total in exact}) == 1 and exact[0][2] != network.parameters:
        place, number, total = exact[0]
        yield Fact("quoted_total", replace(place, line=number), f"{total:,}, {has}")


_TRAINED_ON = (60_000, 50_000, 55_000, 54_000, 51_000, 48_000, 45_000)
"""Training images: all, and what is left when a round share is held out."""


def _other_version(source: Source, recipe: ReadRecipe, training: Training | None) -> Iterator[Fact]:
    if training is None or not training.cell:
        return
    place = source.place(source.cells[training.cell - 1], 1)
    sizes = [size.value for size in recipe.batch_size if isinstance(size.value, int) and size.value > 0]
    fits = {
        steps for images in _TRAINED_ON for size in sizes for steps in (images // size, -(-images // size))
    }
    if training.split == "train" and "test_is_training_set" not in (fact.name for fact in recipe.facts):
        yield Fact("log_of_training_images", place)
    if training.steps and fits and training.steps not in fits:
        size = " or ".join(map(str, sizes))
        yield Fact("steps_unlike_code", place, f"{training.steps:,} an epoch, and the batch size is {size}")
    code, run = recipe.epochs.value if recipe.epochs else training.num_epochs, training.num_epochs
    if run > code or (run < code and not training.unfinished and not _may_stop_early(source)):
        yield Fact("epochs_unlike_code", place, f"{run}, and the code asks for {code}")


def _may_stop_early(source: Source) -> bool:
    """Whether the training may end before its last epoch: by a break, a patience or an error."""
    text = "\n".join(cell.code for cell in source.cells)
    errors = any(re.search(r"^(KeyboardInterrupt|\w+Error)\b", cell.output, re.M) for cell in source.cells)
    return errors or re.search(r"\bbreak\b|patience|early", text) is not None


_ACCURACY = re.compile(r"(?<![\d.])(9\d\.\d\d)(?!\d)")
_CHOSEN = re.compile(r"best|max|high|peak|epoch|top|at least|target|>|≥", re.I)
_LOG_LINE = re.compile(r"loss|\d/\d|it/s", re.I)


def _quoted(training: Training | None, texts: Sequence[Text]) -> Iterator[Fact]:
    """A text that gives the best epoch's accuracy, and nowhere says that it is that."""
    if training is None or training.best == training.last:
        return
    best, last = (f"{100 * float(accuracy):.2f}" for accuracy in (training.best, training.last))
    for text in texts:
        lines = [
            (number, line)
            for number, line in enumerate(text.text.split("\n"), 1)
            if best in _ACCURACY.findall(line) and re.search("acc", line, re.I) and not _LOG_LINE.search(line)
        ]
        if lines and last not in text.text and not any(_CHOSEN.search(line) for _, line in lines):
            detail = f"{best} % is that of epoch {training.best_epoch}, the last has {last} %"
            yield Fact("best_epoch_quoted", replace(text.place, line=lines[0][0]), detail)
            return


def _about_the_run(source: Source, training: Training | None) -> Iterator[Fact]:
    for cell in source.cells:
        if cell.lost:
            written = cell.text.split("\n")[cell.lost[0] - 1].strip()
            yield Fact("not_python", source.place(cell, cell.lost[0]), f"{written[:60]}: {cell.error}")
    counts = [
        (cell.execution_count, cell) for cell in source.cells if cell.kind == "code" and cell.execution_count
    ]
    for (before, _), (after, cell) in itertools.pairwise(counts):
        if after < before:
            yield Fact("run_out_of_order", source.place(cell, 1), f"[{after}] stands below [{before}]")
            break
    if training is None and source.cells:
        yield Fact("no_log", source.place(source.cells[-1], 1))
