"""The training that a submission's code does: its optimizer, its loops, its images, as calls of PyTorch."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from audit.notebook.cells import Fact, Place
from audit.notebook.datasets import IMAGES, arguments, count, split_of
from audit.notebook.library import OBJECTS, REQUIRED
from audit.notebook.modules import is_module, walk
from audit.notebook.network import is_optimizer, module_of, stepped_by
from audit.notebook.state import Run
from audit.notebook.values import Event, Instance, Loop, Opaque, Site, within

LOSSES = {
    "torch.nn.functional.nll_loss",
    "torch.nn.functional.cross_entropy",
    "torch.nn.NLLLoss",
    "torch.nn.CrossEntropyLoss",
}


@dataclass(frozen=True)
class Call:
    """A call of PyTorch or torchvision that was read.

    Attributes:
      name: without the modules' names, such as StepLR.
      arguments: by name, those given alone; a value that is not known is its text.
      place: of the call.
      inside: of Compose, RandomApply and their kin, what they hold.
    """

    name: str
    arguments: Mapping[str, Any]
    place: Place
    inside: tuple["Call", ...] = ()


@dataclass(frozen=True)
class Setting:
    """A number or a name that the code gives.

    Attributes:
      value: as Python has it.
      place: where it takes effect, such as the call of DataLoader.
    """

    value: Any
    place: Place


@dataclass
class Found:
    """What is collected of a recipe.

    Attributes:
      start: of the file, the place of what is nowhere in it.
      flags: fields of cnn.recipe.Recipe.
      missing, departures, facts, rates: as in recipe.ReadRecipe.
    """

    start: Place
    flags: dict[str, Any] = field(default_factory=dict)
    missing: list[Fact] = field(default_factory=list)
    departures: list[Fact] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    rates: tuple[float, ...] = ()

    def lacks(self, name: str, place: Place, detail: str) -> None:
        """Note what our flags cannot say, or the code does not tell."""
        self.missing.append(Fact(name, place, detail))

    def differs(self, name: str, place: Place, detail: str) -> None:
        """Note what our flags say a little otherwise."""
        self.departures.append(Fact(name, place, detail))


class Images(NamedTuple):
    """What a loader loads.

    Attributes:
      is_training: whether they are MNIST's training images; None where they are not MNIST's, or not known.
      held_out: how many of them are left out; None where that is not known.
      transform: as the code has it; None without one.
      site: of the data set.
      changes_labels: whether the data set does (target_transform).
      data: the data set; None where it is not known.
    """

    is_training: bool | None
    held_out: int | None
    transform: Any
    site: Site | None
    changes_labels: bool = False
    data: Any = None


class Loader(NamedTuple):
    """A DataLoader that a loop goes over.

    Attributes:
      cut: the call, such as itertools.islice, that leaves the loop a part of it; None without one.
    """

    arguments: Mapping[str, Any]
    images: Images
    site: Site
    cut: Opaque | None = None


class Evaluation(NamedTuple):
    """A loop in which a network is called and not trained.

    Attributes:
      start: the place of that call among the events.
    """

    loop: Loop
    loader: Loader
    module: Any
    start: int


@dataclass(frozen=True)
class Training:
    """What trains a network.

    Attributes:
      events: all of the code's.
      optimizer: the call that made it; None where there is none.
      module: the network that it has.
      others: optimizers of the same network whose steps are taken, too.
      steps: the calls of its step.
      loops: those over the training images, one an epoch.
      loaders: of the loops' images, one each; None where it is not known.
      loader: of the training images; None where it is not known.
      evaluated: what is evaluated of the network; elsewhere: of other networks.
    """

    events: tuple[Event, ...]
    optimizer: Opaque | None = None
    module: Any = None
    others: tuple[Opaque, ...] = ()
    steps: tuple[Event, ...] = ()
    loops: tuple[Loop, ...] = ()
    loaders: tuple[Loader | None, ...] = ()
    loader: Loader | None = None
    evaluated: tuple[Evaluation, ...] = ()
    elsewhere: tuple[Evaluation, ...] = ()

    def steps_of(self, owner: Opaque) -> list[Event]:
        """The calls of its method step."""
        return [event for event in self.events if _is_step(event, owner)]

    def of_loop(self, loop: Loop) -> list[tuple[int, Event]]:
        """What happens in a loop, with its places among the events."""
        return [(place, event) for place, event in enumerate(self.events) if _is_in(event, loop)]

    def modes(self, module: Any) -> list[bool | None]:
        """For each event whether a network is in training mode; None where that is not known."""
        found: list[bool | None] = []
        mode: Any = True
        for event in self.events:
            what = event.what
            switches = what.method in ("train", "eval") and is_module(what.of.of)
            if switches and any(each is module for each in walk(what.of.of)):
                given = what.args[0] if what.args else what.kwargs.get("mode", True)
                mode = None if event.conditional else False if what.method == "eval" else given
            found.append(mode if isinstance(mode, bool) else None)
        return found

    def is_in_training(self, event: Event) -> bool:
        """Whether it is within a loop over the training images."""
        return any(id(loop) in self._loops for loop in event.loops)

    @functools.cached_property
    def main_loops(self) -> tuple[Loop, ...]:
        """Those that are not over test images, if there are any."""
        pairs = list(zip(self.loops, self.loaders, strict=True))
        kept = tuple(loop for loop, each in pairs if each is None or each.images.is_training is not False)
        return kept or self.loops

    @functools.cached_property
    def _loops(self) -> set[int]:
        return {id(loop) for loop in self.loops}

    def is_in_evaluation(self, event: Event) -> bool:
        """Whether it is within a loop over what is evaluated."""
        return any(_is_in(event, each.loop) for each in self.evaluated)


def batch_size_of(training: Training) -> Setting | None:
    """The batch size of the training images; None where it is not known."""
    loader = training.loader
    size = loader.arguments.get("batch_size", 1) if loader is not None and loader.arguments else None
    if loader is None or not isinstance(size, int) or isinstance(size, bool):
        return None
    return Setting(size, loader.site.place)


def training_of(run: Run, model: Any) -> Training:
    """The training of a network, the last one where there are several.

    Args:
      run: the code, followed.
      model: the network; None takes any.
    """
    events = tuple(event for event in run.events if isinstance(event.what, Opaque))
    optimizers = [event.what for event in events if is_optimizer(event.what)]
    cls = model.cls if isinstance(model, Instance) else None
    of_model = [
        each
        for each in optimizers
        if model is None
        or (found := module_of(run, each)) is model
        or (isinstance(found, Instance) and found.cls is cls)
    ]
    stepped = {id(stepped_by(event.what)) for event in events}
    taken = [each for each in of_model if id(each) in stepped]
    optimizer = taken[-1] if taken else of_model[-1] if of_model else None
    if optimizer is None:
        return Training(events)
    module = module_of(run, optimizer)
    others = tuple(each for each in taken if each is not optimizer and module_of(run, each) is module)
    steps = tuple(event for event in events if any(_is_step(event, each) for each in (optimizer, *others)))
    loops = tuple(loops_of(steps))
    starts: dict[int, int] = {}
    for place, event in enumerate(events):
        for loop in event.loops:
            starts.setdefault(id(loop), place)
    sets = _sets(events)
    of_loops = tuple(loader_of(loop.over, run, _before(sets, starts[id(loop)])) for loop in loops)
    of_training = [each for each in of_loops if each is not None and each.images.is_training is not False]
    loader = next(iter([*of_training[::-1], *of_loops[::-1]]), None)
    evaluated = tuple(_evaluated(events, loops, run))
    return Training(
        events,
        optimizer,
        module,
        others,
        steps,
        loops,
        of_loops,
        loader,
        tuple(each for each in evaluated if each.module is module),
        tuple(each for each in evaluated if each.module is not module),
    )


def loops_of(steps: Iterable[Event]) -> list[Loop]:
    """The loops over batches that steps are taken in, in order."""
    loops: list[Loop] = []
    for event in steps:
        loop = next((each for each in reversed(event.loops) if not each.known), None)
        if loop is not None and not any(loop is each for each in loops):
            loops.append(loop)
    return loops


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


def loaders(events: tuple[Event, ...], run: Run) -> list[Loader]:
    """All DataLoaders that the code makes, in order."""
    sets = _sets(events)
    made = [
        (each.what, _before(sets, place))
        for place, each in enumerate(events)
        if each.what.function == "torch.utils.data.DataLoader"
    ]
    return [loader for each, before in made if (loader := loader_of(each, run, before)) is not None]


def transforms_of(value: Any, site: Site | None) -> tuple[Call, ...] | None:
    """The transforms of a data set in order, those in Compose one by one; None where they are not known."""
    if value is None:
        return ()
    call = _transform(value, site)
    if call is None:
        return None
    return call.inside if call.name == "Compose" else (call,)


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
    given = arguments(value)
    if not given:
        given = {**{str(index): arg for index, arg in enumerate(value.args)}, **value.kwargs}
    known = {name: plain(each) for name, each in given.items() if name not in ("params", "optimizer")}
    return Call(value.function.rpartition(".")[2], known, value.site.place)


def _transform(value: Any, site: Site | None) -> Call | None:
    if not isinstance(value, Opaque) or not value.function.startswith("torchvision.transforms."):
        where = getattr(value, "site", None) or site
        if isinstance(value, Instance | Opaque) and where is not None:
            name = value.cls.name if isinstance(value, Instance) else value.name
            return Call(name, {}, where.place)
        return None
    call = call_of(value)
    given = arguments(value)
    held = given.get("transforms")
    if call.name in ("Compose", "RandomApply", "RandomChoice", "RandomOrder"):
        if not isinstance(held, list | tuple):
            return None
        inside = [_transform(each, value.site) for each in held]
        if None in inside:
            return None
        known = {name: each for name, each in call.arguments.items() if name != "transforms"}
        flat: list[Call] = []
        for each in inside:
            assert each is not None
            flat += each.inside if each.name == "Compose" else (each,)
        return Call(call.name, known, call.place, tuple(flat))
    return call


def _is_step(event: Event, owner: Opaque) -> bool:
    return event.key is None and stepped_by(event.what) is owner


def _is_in(event: Event, loop: Loop) -> bool:
    return any(loop is each for each in event.loops)


_Sets = Sequence[tuple[int, Event]]


def _sets(events: Sequence[Event]) -> _Sets:
    """What has been set in values, with its places among the events."""
    return [(place, event) for place, event in enumerate(events) if event.key is not None]


def _before(sets: _Sets, place: int) -> list[Event]:
    return [event for at, event in sets if at < place]


_CUTS = ("islice", "takewhile", "cycle", "sample", "zip", "next")


def loader_of(value: Any, run: Run, before: Sequence[Event] = ()) -> Loader | None:
    """The loader that a value comes from, with the images that it has after these events."""
    cut = None
    for each in made_of(value):
        cut = each if each.function.rpartition(".")[2] in _CUTS else cut
        if each.function == "torch.utils.data.DataLoader" and each.site is not None:
            given = arguments(each)
            data = given.get("dataset", each.args[0] if each.args else each.kwargs.get("dataset"))
            return Loader(given, _images(data, run, before)._replace(data=data), each.site, cut)
    return None


def _images(value: Any, run: Run, before: Sequence[Event]) -> Images:
    unknown = Images(None, None, None, getattr(value, "site", None))
    if isinstance(value, Instance):
        return _of_class(value, run, before) or unknown
    if not isinstance(value, Opaque):
        return unknown
    given = arguments(value)
    if value.function == "torchvision.datasets.MNIST" and given:
        set_later = {event.key: event.value for event in before if event.what is value}
        transform = set_later.get("transform", given.get("transform"))
        labels = set_later.get("target_transform", given.get("target_transform"))
        is_training = given.get("train", True)
        known = is_training if isinstance(is_training, bool) else None
        return Images(known, 0, transform, value.site, labels is not None)
    parts = [value.args[0], value.args[1]] if value.kind == "operation" and len(value.args) == 2 else None
    if value.function == "torch.utils.data.ConcatDataset" and given:
        parts = run.items(given["datasets"])
    if parts:
        return _together([_images(part, run, before) for part in parts], unknown)
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


def _together(parts: Sequence[Images], unknown: Images) -> Images:
    """The images of several data sets; test images among them make it one of test images."""
    kinds = [each.is_training for each in parts]
    if False in kinds:
        return parts[kinds.index(False)]._replace(held_out=None)
    return parts[0]._replace(held_out=None) if None not in kinds else unknown


def _of_class(value: Instance, run: Run, before: Sequence[Event]) -> Images | None:
    """The images of a data set of the code's own class, which transforms the items of another one."""
    item = run.call_method(value, "__getitem__", Opaque("unknown", "an index", value.site))
    image = item[0] if isinstance(item, tuple) and item else None
    if not isinstance(image, Opaque):
        return None
    transform = None
    if image.kind == "call" and len(image.args) == 1 and isinstance(image.of, Opaque):
        transform, image = image.of, image.args[0]
    if not isinstance(image, Opaque) or image.kind != "item" or image.args != (0,):
        return None
    whole = image.of
    if not isinstance(whole, Opaque) or whole.kind != "item":
        return None
    inner = _images(whole.of, run, before)
    if inner.is_training is None or inner.transform is not None:
        return None
    return inner._replace(transform=transform)


def _evaluated(events: Sequence[Event], loops: Sequence[Loop], run: Run) -> Iterator[Evaluation]:
    """The loops in which networks are called and not trained."""
    seen: set[tuple[int, int]] = set()
    sets = _sets(events)
    trains = {id(loop) for event in events if event.what.method == "backward" for loop in event.loops}
    trains |= {id(loop) for loop in loops}
    for place, event in enumerate(events):
        called = event.what.of
        if event.what.kind != "call" or not is_module(called):
            continue
        loop = next((each for each in reversed(event.loops) if not each.known), None)
        if loop is None or (id(loop), id(called)) in seen or id(loop) in trains:
            continue
        seen.add((id(loop), id(called)))
        loader = loader_of(loop.over, run, _before(sets, place))
        if loader is not None:
            yield Evaluation(loop, loader, called, place)


def default(call: Opaque, name: str) -> Any:
    """A call's argument, or PyTorch's default; None where it has neither."""
    value = arguments(call).get(name, OBJECTS.get(call.function, {}).get(name))
    return None if value is REQUIRED else value
