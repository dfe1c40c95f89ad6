"""The network of a submission: a class in PyTorch followed from an image to its logits, as our layers."""

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from audit.notebook import calls, tensors
from audit.notebook.cells import Fact, Place
from audit.notebook.modules import count_of_layer, count_parameters, is_module, named_leaves, walk
from audit.notebook.natives import name_of
from audit.notebook.state import Frame, Given, Run
from audit.notebook.values import Class, Instance, Node, Opaque, Refused, Scope, Site, Tensor, origin, within
from cnn import architecture as ours
from cnn.text import format_layers
from harness.errors import UserError, did_you_mean


class ReadLayer(NamedTuple):
    """A layer of the network that was read."""

    layer: ours.Layer  # in our language; a residual's layers are inside it
    name: str  # of the module, as PyTorch names it (conv1.0); of the function where it is none (F.relu)
    place: Place  # where the module is made, or the function called


class UnusedLayer(NamedTuple):
    """A module that the class holds and forward does not use: its name, parameters, and where it is made."""

    name: str
    parameters: int
    place: Place


@dataclass(frozen=True)
class ReadNetwork:
    """A class of a submission, read."""

    class_name: str  # as the file has it
    place: Place  # where the class begins
    architecture: ours.Architecture  # the same network in our language, without the log_softmax at its end
    layers: tuple[ReadLayer, ...]  # those of the architecture, each with its place
    parameters: int  # of the class, as PyTorch counts them: those of unused layers included
    used_parameters: int  # of what forward uses (torchsummary counts these alone)
    unused: tuple[UnusedLayer, ...]  # what forward does not use, in the order of the class
    facts: tuple[Fact, ...]  # what is worth a word, each a key of mistakes.MISTAKES, REMARKS or SILENT

    @property
    def text(self) -> str:
        """The network for --layers."""
        return format_layers(self.architecture.layers)


_ACTIVATIONS = (ours.ReLU, ours.SiLU, ours.GELU, ours.LeakyReLU)
_WEIGHTS = (ours.Conv, ours.Dense)
_DROPOUTS = (ours.Dropout, ours.ChannelDropout)
_ENDS = {"log_softmax": "log_softmax", "softmax": "softmax_output", "clamp": "clamped_log_softmax"}
CLASSES = 10


def read_network(run: Run, class_name: str | None = None) -> ReadNetwork:
    """The network of a submission whose code has been followed: of a class, or the one that was trained.

    That is the one whose instance an optimizer got, otherwise the last one that was made, or the only one.

    Raises:
      UserError: no such class, more than one, or something in it that our language cannot say; where.
    """
    if run.unfollowed is not None:
        raise run.unfollowed
    model = _chosen(run, class_name)
    site = model.site if not isinstance(model, Instance) else model.cls.site
    name = name_of(model)
    try:
        return _read(run, model, name, site)
    except Refused as error:
        raise UserError(f"{name} is not understood: {error}") from error
    except RecursionError as error:
        raise UserError(f"{name} is not understood: {run.source.path.name} nests too deep") from error


def count(run: Run, class_name: str | None = None) -> tuple[str, int] | None:
    """The class of a network and its parameters, whatever forward does; None where they cannot be counted."""
    try:
        model = _chosen(run, class_name)
        if run.unfollowed is not None or (isinstance(model, Instance) and model.refused is not None):
            return None
        return name_of(model), count_parameters(model)
    except (UserError, RecursionError):
        return None


def trained_module(run: Run) -> Any:
    """The network of the last optimizer whose step was called, else of the last one; None without one."""
    optimizers = (event.what for event in run.events if is_optimizer(event.what))
    made = [each for each in optimizers if modules_given(run, each)]
    stepped = [owner for event in run.events if (owner := stepped_by(event.what)) in made]
    return module_of(run, [*made, *stepped][-1]) if made else None


def is_optimizer(value: Opaque) -> bool:
    """Whether it is a call that makes an optimizer."""
    name = value.function.removeprefix("torch.optim.")
    return name != value.function and "." not in name and value.is_object


def stepped_by(call: Opaque) -> Opaque | None:
    """The optimizer or schedule whose step a call is, also by a scaler of gradients; None for other calls."""
    owner = call.of.of if call.method == "step" else None
    if isinstance(owner, Opaque) and owner.function.endswith("GradScaler") and call.args:
        owner = call.args[0]
    return owner if isinstance(owner, Opaque) else None


def modules_given(run: Run, optimizer: Opaque) -> list[Any]:
    """The modules whose weights an optimizer was given, in order."""
    added = (event.what for event in run.events if event.what.method == "add_param_group")
    groups = [call.args for call in added if call.of.of is optimizer]
    return list(modules_in((*optimizer.given, *groups)))


def module_of(run: Run, optimizer: Opaque) -> Any:
    """The network that an optimizer trains; None where that is not known.

    It is the smallest module that holds all that the optimizer was given. Where the code calls no such one on
    images, it is the called one that holds it, or, as in Lightning, a part of it.
    """
    given = modules_given(run, optimizer)
    if not given:
        return None
    owners = (event.what.of for event in run.events if event.what.kind == "call")
    called = [*dict.fromkeys(filter(is_module, owners))]
    inside = {each: {*walk(each)} for each in (*called, *run.modules, *given)}

    def size(module: Any) -> int:
        return len(inside[module])

    whole = min((each for each in inside if inside[each].issuperset(given)), key=size, default=given[0])
    around = sorted((each for each in called if whole in inside[each]), key=size)
    has_forward = not isinstance(whole, Instance) or whole.layer is not None or whole.cls.find("forward")
    parts = [each for each in called if each in inside[whole] and not has_forward]
    return next(iter(around or parts), whole)


def modules_in(value: Any) -> Iterator[Any]:
    """The modules that a value was made of, such as model.parameters(), the nearest first, each once."""
    return filter(is_module, within(value))


def no_parts(modules: Sequence[Any]) -> list[Any]:
    """Those that are no part of another one."""
    parts = {part for each in modules for part in walk(each) if part is not each}
    return [each for each in modules if each not in parts]


def _chosen(run: Run, class_name: str | None) -> Any:
    """The module to read."""
    trained = trained_module(run)
    if class_name is None:
        if trained is None:
            _require_network(run)
        return trained or next(reversed(no_parts(run.modules)), None) or _only_class(run)
    if isinstance(trained, Instance) and trained.cls.name == class_name:
        return trained
    made = [each for each in run.modules if each.cls.name == class_name]
    if made:
        return next((each for each in reversed(made) if each.refused is None), made[-1])
    if class_name not in run.classes:
        near = did_you_mean(class_name, run.classes)
        known = ", ".join(run.classes) or "none"
        file = run.source.path.name
        raise UserError(f"{file} has no class {class_name}{near} that is a network: it has {known}")
    return _instance(run, run.classes[class_name])


def _instance(run: Run, cls: Class) -> Any:
    """Of a class, made without arguments."""
    return calls.call(cls, Given(run, (), {}, cls.site, Frame(Scope({}), cls.site.unit)))


def _only_class(run: Run) -> Any:
    """An instance of the only class that is no part of another one; the code itself makes none."""
    file = run.source.path.name
    own = [cls for cls in run.classes.values() if cls.site.unit.file == file] or [*run.classes.values()]
    if not own:
        raise UserError(f"{file} has no network: give a file with a class that comes from torch.nn.Module")
    made = [_instance(run, cls) for cls in own]
    held = [part for each in made for part in walk(each) if part is not each]
    parts = [part.cls for part in held if isinstance(part, Instance)]
    whole = [each for each in made if each.cls not in parts]
    if len(whole) == 1:
        return whole[0]
    names = ", ".join(each.cls.name for each in whole)
    example = whole[0].cls.name if whole else own[0].name
    raise UserError(f"{file} makes no network and has the classes {names}: say which, {file}:{example}")


def _require_network(run: Run) -> None:
    """Raise Refused where an optimizer got something in place of a network that the code does not tell."""
    for event in reversed(run.events):
        module, _, name = event.what.function.rpartition(".")
        if module == "torch.optim" and name[:1].isupper() and event.what.given:
            source = origin(event.what.given[0])
            if source is not None and source.site is not None:
                what = (
                    f"the network that is trained is not known here: {source.name}{_why_missing(run, source)}"
                )
                todo = "give the file that has its class, or a class of this one"
                raise Refused(source.site, f"{what}: {todo}, {run.source.path.name}:CLASS")


def _why_missing(run: Run, value: Opaque) -> str:
    """Why a value is not known, where that is a file that is not there, or a cell that is no Python."""
    name = value.name.partition(",")[0].partition("(")[0]
    for cell in run.source.cells:
        if cell.error and re.search(rf"^\s*(class|def)\s+{re.escape(name)}\b", cell.text, re.M):
            return f" ({run.source.place(cell, 1)}, where it is defined, is no Python: {cell.error})"
    library = value.of.name if isinstance(value.of, Opaque) and value.of.kind == "library" else ""
    absent = [each for each in run.absent if library.startswith(f"{each}.")]
    absent = absent or [each for each in run.scope.names.get("(stars)", []) if each in run.absent]
    return "".join(f" ({each.replace('.', '/')}.py is not beside it)" for each in absent[:1])


def _read(run: Run, model: Any, name: str, site: Site) -> ReadNetwork:
    if isinstance(model, Instance) and model.refused is not None:
        raise model.refused
    output = _followed(run, model, training=True)
    used = set(run.used)
    steps, ends = _steps(output.node, None)
    if not steps:
        raise Refused(site, "forward uses no layer")
    layers = _made(steps)
    architecture = ours.Architecture(layers)
    try:
        rows = ours.summarize(architecture)
    except UserError as error:
        raise Refused(site, f"it is no network in our language: {error}") from error
    if math.prod(rows[-1].output_shape) != math.prod(output.shape[1:]):
        raise Refused(site, f"it ends in {rows[-1].output_shape} in our language, in {output.shape[1:]} here")
    names = {leaf: label for label, leaf in named_leaves(model)}
    reads = tuple(
        ReadLayer(layer, names.get(step.node.module, step.node.name), step.place)
        for layer, step in zip(layers, steps, strict=True)
    )
    unused = tuple(
        UnusedLayer(label, count_of_layer(leaf), leaf.site.place)
        for leaf, label in names.items()
        if id(leaf) not in used
    )
    parameters = count_parameters(model)
    used_parameters = parameters - sum(each.parameters for each in unused)
    of_rows = sum(row.parameters for row in rows)
    if of_rows != used_parameters:
        here = f"{used_parameters:,} parameters in what forward uses"
        raise Refused(site, f"PyTorch counts {here}, our layers {of_rows:,}")
    flat = list(_flat(steps, layers, rows, architecture.input_shape))
    of_ways = (*_facts_of_end(ends, output, site), *_facts_of_evaluation(run, model, steps))
    facts = (*of_ways, *_facts_of_layers(flat, site))
    return ReadNetwork(name, site.place, architecture, reads, parameters, used_parameters, unused, facts)


def _followed(run: Run, model: Any, *, training: bool) -> Tensor:
    """What forward makes of a batch of images."""
    run.training = training
    run.used.clear()
    site = model.site
    frame = Frame(Scope({}), site.unit, strict=True)
    output = calls.call_module(model, Given(run, (tensors.image(),), {}, site, frame))
    if isinstance(output, tuple | list | dict):
        raise Refused(site, "forward returns several values")
    if not isinstance(output, Tensor):
        raise tensors.not_understood(output, site)
    return output


@dataclass(frozen=True, eq=False)
class _Step:
    """A layer on the images' way; of a sum, the steps that the other part of it takes."""

    node: Node
    inside: tuple["_Step", ...] = ()

    @property
    def place(self) -> Place:
        return self.node.module.site.place if self.node.module is not None else self.node.site.place


def _steps(node: Node, start: Node | None) -> tuple[list[_Step], list[Node]]:
    """The layers between two nodes in order, and the softmaxes at the end."""
    steps: list[_Step] = []
    ends: list[Node] = []
    while node is not start and node.kind != "input":
        match node.kind:
            case "layer":
                steps.append(_Step(node))
                node = node.inputs[0]
            case "log_softmax" | "softmax" | "clamp":
                if steps or start is not None:
                    raise Refused(node.site, "it is understood at the network's end alone")
                ends.append(node)
                node = node.inputs[0]
            case "add":
                skip, long = _branches(node)
                steps.append(_Step(node, tuple(_steps(long, skip)[0])))
                node = skip
            case "mean":
                raise Refused(node.site, "a mean along one side of a map is no layer of our language")
            case _:
                raise Refused(node.site, "what this makes of the images is not known here")
    return steps[::-1], ends[::-1]


def _branches(node: Node) -> tuple[Node, Node]:
    """Of a sum: the part that is the other one's input, and the other."""
    first, other = node.inputs
    for skip, long in ((first, other), (other, first)):
        if skip is not long and any(each is skip for each in _way_back(long)):
            return skip, long
    raise Refused(node.site, "neither part of this sum is the other's input, which our residual adds")


def _way_back(node: Node) -> Iterator[Node]:
    while node.kind != "input":
        yield node
        node = node.inputs[0] if node.kind != "add" else _branches(node)[0]
    yield node


def _made(steps: list[_Step]) -> tuple[ours.Layer, ...]:
    """Our layers; a convolution that is used again shares the weights of its first use."""
    first: dict[Any, int] = {}
    numbers = itertools.count()

    def layer_of(step: _Step) -> ours.Layer:
        node = step.node
        if node.kind == "add":
            return ours.Residual(tuple(map(layer_of, step.inside)))
        layer: ours.Layer = node.layer
        if isinstance(layer, ours.Conv):
            number = next(numbers)
            before = first.setdefault(node.module, number)
            return replace(layer, shares=before) if before != number else layer
        if isinstance(layer, ours.BatchNorm | ours.Dense):
            if node.module in first:
                raise Refused(node.site, f"{node.name} is used twice: our layers share convolutions alone")
            first[node.module] = 0
        return layer

    return tuple(map(layer_of, steps))


class _Row(NamedTuple):
    """A layer that is no residual, with what comes in."""

    layer: ours.Layer
    place: Place
    name: str
    input_shape: ours.Shape


def _flat(
    steps: Sequence[_Step], layers: Sequence[ours.Layer], rows: Sequence[ours.LayerSummary], shape: ours.Shape
) -> Iterator[_Row]:
    """The layers in order, those inside of residuals at the residual's place."""
    for step, layer, row in zip(steps, layers, rows, strict=True):
        if isinstance(layer, ours.Residual):
            yield from _flat(step.inside, layer.layers, row.inside, shape)
        else:
            yield _Row(layer, step.place, step.node.name, shape)
        shape = row.output_shape


def _facts_of_end(ends: list[Node], output: Tensor, site: Site) -> Iterator[Fact]:
    for node in ends:
        yield Fact(_ENDS[node.kind], node.site.place)
        if "without dim" in node.notes:
            yield Fact("log_softmax_without_dim", node.site.place)
    if math.prod(output.shape[1:]) != CLASSES:
        yield Fact("not_a_number_a_class", site.place, f"{math.prod(output.shape[1:]):,} numbers")
    elif len(output.shape) > 2:
        yield Fact("output_keeps_1x1_map", site.place, "x".join(map(str, output.shape[1:])))


def _facts_of_evaluation(run: Run, model: Any, steps: list[_Step]) -> Iterator[Fact]:
    """What drops in evaluation, too; Refused where images take another way than in training."""
    evaluated, _ = _steps(_followed(run, model, training=False).node, None)
    others = [[step for step in way if not _drops(step)] for way in (steps, evaluated)]
    if [_words(step) for step in others[0]] != [_words(step) for step in others[1]]:
        raise Refused(model.site, "it takes another way in evaluation than in training")
    for step in evaluated:
        if _drops(step):
            yield Fact("dropout_in_evaluation", step.place, str(step.node.layer.rate))


def _drops(step: _Step) -> bool:
    return isinstance(step.node.layer, _DROPOUTS)


def _words(step: _Step) -> tuple[object, ...]:
    inside = tuple(_words(each) for each in step.inside if not _drops(each))
    return (step.node.layer, step.place, inside)


def _facts_of_layers(rows: list[_Row], site: Site) -> Iterator[Fact]:
    weights = [index for index, row in enumerate(rows) if isinstance(row.layer, _WEIGHTS)]
    last = weights[-1] if weights else 0
    for row in rows[last + 1 :]:
        for kinds, name in (
            (_ACTIVATIONS, "activation_after_last_layer"),
            (ours.BatchNorm, "batch_norm_after_last_layer"),
            (_DROPOUTS, "dropout_after_last_layer"),
        ):
            if isinstance(row.layer, kinds):
                yield Fact(name, row.place, row.name)
    before_last = [row for row in rows[:last] if not isinstance(row.layer, ours.AveragePool | ours.MaxPool)]
    if before_last and isinstance(before_last[-1].layer, _DROPOUTS):
        yield Fact("dropout_before_last_layer", before_last[-1].place)
    for before, row in itertools.pairwise(rows):
        if isinstance(row.layer, ours.BatchNorm) and isinstance(before.layer, _WEIGHTS) and before.layer.bias:
            yield Fact("bias_before_batch_norm", before.place)
    for start, stop in itertools.pairwise(weights):
        between = [row.layer for row in rows[start + 1 : stop]]
        if isinstance(grouped := rows[start].layer, ours.Conv) and grouped.groups > 1:
            continue  # the two are one separable convolution (Chollet 2016)
        if not any(isinstance(layer, (*_ACTIVATIONS, ours.MaxPool)) for layer in between):
            yield Fact("no_nonlinearity_between", rows[stop].place, f"{rows[start].place} and here")
    for row in rows:
        match row.layer:
            case ours.Conv(kernel=1, padding=int(padding)) if padding:
                yield Fact("padded_1x1_convolution", row.place, f"padding {padding}")
            case ours.MaxPool(int(window)) | ours.AveragePool(int(window)) if row.input_shape[0] % window:
                yield Fact("pool_drops_border", row.place, f"{window}x{window} of {row.input_shape[0]} wide")
    layers = [row.layer for row in rows]
    if not any(isinstance(layer, ours.BatchNorm) for layer in layers):
        yield Fact("no_batch_norm", site.place)
    if not any(isinstance(layer, _DROPOUTS) for layer in layers):
        yield Fact("no_dropout", site.place)
    if not any(isinstance(layer, ours.Dense) or layer == ours.AveragePool(None) for layer in layers):
        yield Fact("no_pooling_to_1x1", site.place)
