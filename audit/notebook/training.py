"""The training that a submission's code does: its optimizer, its loops, its images, as calls of PyTorch."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from audit.notebook.cells import Fact, Place
from audit.notebook.datasets import IMAGES, arguments, count, split_of
from audit.notebook.modules import is_module, walk
from audit.notebook.network import is_optimizer, module_of, stepped_by
from audit.notebook.state import Run
from audit.notebook.values import Event, Instance, Loop, Opaque, Site, within
from cnn.recipe import Recipe

LOSSES = {"torch.nn.NLLLoss", "torch.nn.CrossEntropyLoss"}
LOSSES |= {"torch.nn.functional.nll_loss", "torch.nn.functional.cross_entropy"}


@dataclass(frozen=True)
class Call:
    """A call of PyTorch or torchvision that was read."""

    name: str  # without the modules' names, such as StepLR
    arguments: Mapping[str, Any]  # by name, those given alone; a value that is not known is its text
    place: Place
    inside: tuple["Call", ...] = ()  # of Compose, RandomApply and their kin, what they hold


class Setting(NamedTuple):
    """A number that the code gives, and where it takes effect, such as the call of DataLoader."""

    value: int
    place: Place


@dataclass
class ReadRecipe:
    """How a submission trains; its parts are read into it one after the other."""

    start: Place  # of the file, the place of what is nowhere in it
    recipe: Recipe | None = None  # ours, where all of it can be said; None where something is missing
    flags: dict[str, Any] = field(default_factory=dict)  # the fields of cnn.recipe.Recipe that could be read
    held_out: int = 0  # training images that are not trained on, for --validation_size
    # what our recipe cannot say or the code does not tell, in a reader's words; names are fields of
    # cnn.recipe.Recipe, or what the thing is called in PyTorch
    missing: list[Fact] = field(default_factory=list)
    # what the recipe says otherwise than the code, though not by much
    departures: list[Fact] = field(default_factory=list)
    # what is worth a word, each a key of mistakes.MISTAKES, REMARKS or SILENT
    facts: list[Fact] = field(default_factory=list)
    # passes over the training images that the code asks for; None where it is not known
    epochs: Setting | None = None
    # images a step: with a GPU and, where that differs, without one. Empty where not known
    batch_size: tuple[Setting, ...] = ()
    optimizer: Call | None = None  # the call that made it; None where there is none, as with the schedule
    schedule: Call | None = None
    stepped: str = ""  # "never", "epoch" or "batch"; empty without a schedule
    # of the training images, in order; None where they are not known
    train_transforms: tuple[Call, ...] | None = None
    test_transforms: tuple[Call, ...] | None = None  # of the images that are evaluated
    rates: tuple[float, ...] = ()  # the epochs' learning rates, where each has one and the code tells it
    # what the code computes and calls a receptive field, with places, by its name; by the empty name the
    # lines that it prints
    fields: dict[str, list[tuple[Place, int | str]]] = field(default_factory=dict)

    def lacks(self, name: str, place: Place, detail: str) -> None:
        """Note what our flags cannot say, or the code does not tell."""
        self.missing.append(Fact(name, place, detail))

    def differs(self, name: str, place: Place, detail: str) -> None:
        """Note what our flags say a little otherwise."""
        self.departures.append(Fact(name, place, detail))

    def notes(self, name: str, place: Place, detail: str = "") -> None:
        """Note what is worth a word."""
        self.facts.append(Fact(name, place, detail))


class Images(NamedTuple):
    """What a loader loads."""

    # whether they are MNIST's training images; None where they are not MNIST's, or not known
    is_training: bool | None
    held_out: int | None  # how many of them are left out; None where that is not known
    transform: Any  # as the code has it; None without one
    site: Site | None  # where the data set is made
    changes_labels: bool = False  # whether the data set does (target_transform)
    data: Any = None  # the data set


class Loader(NamedTuple):
    """A DataLoader that a loop goes over; cut: the call, such as islice, that leaves it a part; or None."""

    arguments: Mapping[str, Any]
    images: Images
    site: Site
    cut: Opaque | None = None


class Evaluation(NamedTuple):
    """A loop in which a network is called, at first by `start`, and not trained."""

    loop: Loop
    loader: Loader
    module: Any
    start: Event


@dataclass(frozen=True)
class Training:
    """What trains a network."""

    events: Sequence[Event]  # all of the code's
    optimizer: Opaque | None = None  # the call that made it
    module: Any = None  # the network that it has; None where there is none
    others: tuple[Opaque, ...] = ()  # optimizers of the same network whose steps are taken, too
    steps: tuple[Event, ...] = ()  # the calls of its step
    loops: tuple[Loop, ...] = ()  # those over the training images, one an epoch
    loaders: tuple[Loader | None, ...] = ()  # of their images, None where not known
    loader: Loader | None = None  # of the training images; None where it is not known
    evaluated: tuple[Evaluation, ...] = ()  # what is evaluated of the network
    elsewhere: tuple[Evaluation, ...] = ()  # what is evaluated of other networks

    def steps_of(self, owner: Opaque) -> list[Event]:
        """The calls of its method step."""
        return [event for event in self.events if _is_step(event, owner)]

    def of_loop(self, loop: Loop) -> list[Event]:
        """What happens in a loop."""
        return [event for event in self.events if loop in event.loops]

    def modes(self, module: Any) -> dict[Event, bool | None]:
        """For each event whether a network is in training mode; None where that is not known."""
        found: dict[Event, bool | None] = {}
        mode: Any = True
        for event in self.events:
            what = event.what
            if what.method in ("train", "eval") and is_module(what.of.of) and module in walk(what.of.of):
                given = what.args[0] if what.args else what.kwargs.get("mode", True)
                mode = None if event.conditional else False if what.method == "eval" else given
            found[event] = mode if isinstance(mode, bool) else None
        return found

    def is_in_training(self, event: Event) -> bool:
        """Whether it is within a loop over the training images."""
        return not self._loops.isdisjoint(event.loops)

    @functools.cached_property
    def main_loops(self) -> tuple[Loop, ...]:
        """Those that are not over test images, if there are any."""
        pairs = zip(self.loops, self.loaders, strict=True)
        kept = tuple(loop for loop, each in pairs if each is None or each.images.is_training is not False)
        return kept or self.loops

    @functools.cached_property
    def _loops(self) -> frozenset[Loop]:
        return frozenset(self.loops)


def batch_size_of(training: Training) -> Setting | None:
    """The batch size of the training images; None where it is not known."""
    loader = training.loader
    size = loader.arguments.get("batch_size", 1) if loader is not None and loader.arguments else None
    return Setting(size, loader.site.place) if loader is not None and type(size) is int else None


def training_of(run: Run, model: Any) -> Training:
    """The training of a network, the last one where there are several; of any where none is given."""
    optimizers = [event.what for event in run.events if is_optimizer(event.what)]
    cls = model.cls if isinstance(model, Instance) else None
    of_model = [
        each
        for each in optimizers
        if model is None
        or (found := module_of(run, each)) is model
        or (isinstance(found, Instance) and found.cls is cls)
    ]
    if not of_model:
        return Training(run.events)
    stepped = {stepped_by(event.what) for event in run.events}
    taken = [each for each in of_model if each in stepped]
    optimizer = [*of_model, *taken][-1]
    module = module_of(run, optimizer)
    others = tuple(each for each in taken if each is not optimizer and module_of(run, each) is module)
    steps = [event for event in run.events if any(_is_step(event, each) for each in (optimizer, *others))]
    loops = loops_of(steps)
    starts: dict[Loop, Event] = {}
    for event in run.events:
        for loop in event.loops:
            starts.setdefault(loop, event)
    of_loops = [loader_of(loop.over, run, starts[loop]) for loop in loops]
    of_training = [each for each in of_loops if each is not None and each.images.is_training is not False]
    evaluated = list(_evaluated(loops, run))
    return Training(
        run.events,
        optimizer,
        module,
        others,
        tuple(steps),
        tuple(loops),
        tuple(of_loops),
        [None, *of_loops, *of_training][-1],
        tuple(each for each in evaluated if each.module is module),
        tuple(each for each in evaluated if each.module is not module),
    )


def loops_of(steps: Iterable[Event]) -> list[Loop]:
    """The loops over batches that steps are taken in, in order."""
    loops = (event.loop_over_batches for event in steps)
    return [*dict.fromkeys(loop for loop in loops if loop is not None)]


def made_of(value: Any, through: Callable[[Opaque], bool] = lambda _: True) -> Iterator[Opaque]:
    """Those of values.within that are not known."""
    return (each for each in within(value, through) if isinstance(each, Opaque))


def loss_in(value: Any) -> tuple[Opaque, Opaque] | None:
    """The nearest call of a loss that a value was made of, with the call that has its settings."""
    for each in made_of(value):
        if each.function in LOSSES and "functional" in each.function:
            return each, each
        if each.kind == "call" and isinstance(each.of, Opaque) and each.of.function in LOSSES:
            return each, each.of
    return None


def loaders(run: Run) -> list[Loader]:
    """All DataLoaders that the code makes, in order."""
    made = (event for event in run.events if event.what.function == "torch.utils.data.DataLoader")
    return [loader for event in made if (loader := loader_of(event.what, run, event)) is not None]


def transforms_of(value: Any, site: Site | None) -> tuple[Call, ...] | None:
    """The transforms of a data set in order, those in Compose one by one; None where they are not known."""
    if value is None:
        return ()
    if isinstance(value, Opaque) and value.function.startswith("torchvision.transforms."):
        call = call_of(value)
        if call.name not in ("Compose", "RandomApply", "RandomChoice", "RandomOrder"):
            return (call,)
        held = arguments(value).get("transforms")
        if not isinstance(held, list | tuple):
            return None
        parts = [transforms_of(each, value.site) for each in held]
        inside = tuple(itertools.chain(*filter(None, parts)))
        if None in parts:
            return None
        return inside if call.name == "Compose" else (replace(call, inside=inside),)
    where = getattr(value, "site", None) or site
    if where is None or not isinstance(value, Instance | Opaque):
        return None
    return (Call(value.cls.name if isinstance(value, Instance) else value.name, {}, where.place),)


def plain(value: Any) -> Any:
    """A value as it is written into a report: numbers, texts and tuples of them, otherwise its text."""
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, tuple | list):
        return tuple(plain(each) for each in value[:100])
    if isinstance(value, Opaque) and value.kind == "library":
        return value.name.rpartition(".")[2]
    site = getattr(value, "site", None)
    return site.text if site is not None else str(type(value).__name__)


def call_of(value: Opaque) -> Call:
    """A call that made an object, for a report."""
    assert value.site is not None
    given = arguments(value) or {str(index): arg for index, arg in enumerate(value.args)} | {**value.kwargs}
    held = ("params", "optimizer", "transforms")
    known = {name: plain(each) for name, each in given.items() if name not in held}
    return Call(value.function.rpartition(".")[2], known, value.site.place)


def _is_step(event: Event, owner: Opaque) -> bool:
    return event.key is None and stepped_by(event.what) is owner


_CUTS = ("islice", "takewhile", "cycle", "sample", "zip", "next")


def loader_of(value: Any, run: Run, before: Event | None = None) -> Loader | None:
    """The loader that a value comes from, with the images that it has before an event."""
    cut = None
    for each in made_of(value):
        cut = each if each.function.rpartition(".")[2] in _CUTS else cut
        if each.function == "torch.utils.data.DataLoader" and each.site is not None:
            given = arguments(each)
            data = given.get("dataset", each.args[0] if each.args else each.kwargs.get("dataset"))
            return Loader(given, _images(data, run, before)._replace(data=data), each.site, cut)
    return None


def _images(value: Any, run: Run, before: Event | None) -> Images:
    unknown = Images(None, None, None, getattr(value, "site", None))
    if isinstance(value, Instance):
        return _of_class(value, run, before) or unknown
    if not isinstance(value, Opaque):
        return unknown
    given = arguments(value)
    if value.function == "torchvision.datasets.MNIST" and given:
        is_training = given.get("train", True)
        known = is_training if isinstance(is_training, bool) else None
        earlier = [each for each in run.sets if before is None or each.number < before.number]
        given |= {str(event.key): event.value for event in earlier if event.what is value}
        changes_labels = given.get("target_transform") is not None
        return Images(known, 0, given.get("transform"), value.site, changes_labels)
    parts = [value.args[0], value.args[1]] if value.kind == "operation" and len(value.args) == 2 else None
    if value.function == "torch.utils.data.ConcatDataset" and given:
        parts = run.items(given["datasets"])
    if parts:
        images = [_images(part, run, before) for part in parts]
        of_test = [each for each in images if each.is_training is False]  # makes all of it test images
        is_known = of_test or not any(each.is_training is None for each in images)
        return [*of_test, *images][0]._replace(held_out=None) if is_known else unknown
    if value.function == "torch.utils.data.Subset" and given:
        whole = _images(given["dataset"], run, before)
    elif (split := split_of(value)) is not None:
        whole = _images(split[0], run, before)
    else:
        return unknown
    left = count(run, value)
    if whole.is_training is None or whole.held_out is None or left is None:
        return whole._replace(held_out=None)
    return whole._replace(held_out=IMAGES[whole.is_training] - left)


def _of_class(value: Instance, run: Run, before: Event | None) -> Images | None:
    """The images of a data set of the code's own class, which transforms the items of another one."""
    item = run.call_method(value, "__getitem__", Opaque("unknown", "an index", value.site))
    image = item[0] if isinstance(item, tuple) and item else None
    transform = None
    if isinstance(image, Opaque) and image.kind == "call" and len(image.args) == 1:
        transform, image = image.of, image.args[0]
    match image:
        case Opaque(kind="item", args=(0,), of=Opaque(kind="item", of=data)):
            images = _images(data, run, before)
            if images.is_training is not None and images.transform is None:
                return images._replace(transform=transform)
    return None


def _evaluated(loops: Sequence[Loop], run: Run) -> Iterator[Evaluation]:
    """The loops in which networks are called and not trained."""
    backward = (event for event in run.events if event.what.method == "backward")
    trains = {*loops, *(loop for event in backward for loop in event.loops)}
    seen: set[tuple[Loop, Any]] = set()
    for event in run.events:
        loop, called = event.loop_over_batches, event.what.of
        is_call = event.what.kind == "call" and is_module(called)
        if is_call and loop is not None and (loop, called) not in seen and loop not in trains:
            seen.add((loop, called))
            loader = loader_of(loop.over, run, event)
            if loader is not None:
                yield Evaluation(loop, loader, called, event)
