"""The training that a submission's code does: its optimizer, its loops, its images, as calls of PyTorch."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from audit.notebook.calls import item_of
from audit.notebook.cells import Fact, Place
from audit.notebook.library import OBJECTS, REQUIRED, bind
from audit.notebook.network import module_in
from audit.notebook.state import Run
from audit.notebook.values import Event, Instance, Loop, Module, Opaque, Site

LOSSES = {
    "torch.nn.functional.nll_loss",
    "torch.nn.functional.cross_entropy",
    "torch.nn.NLLLoss",
    "torch.nn.CrossEntropyLoss",
}
IMAGES = {True: 60_000, False: 10_000}
"""How many of MNIST's images are for training, and how many are not."""
_MOST = 2_000  # values that are looked through for what one was made of


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
      missing, departures, facts: as in recipe.ReadRecipe.
    """

    start: Place
    flags: dict[str, Any] = field(default_factory=dict)
    missing: list[Fact] = field(default_factory=list)
    departures: list[Fact] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)

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
    """

    is_training: bool | None
    held_out: int | None
    transform: Any
    site: Site | None


class Loader(NamedTuple):
    """A DataLoader."""

    arguments: Mapping[str, Any]
    images: Images
    site: Site


@dataclass(frozen=True)
class Training:
    """What trains a network.

    Attributes:
      optimizer: the call that made it; None where there is none.
      others: optimizers of the same network whose steps are taken, too.
      steps: the calls of its step.
      loops: those over the training images, one an epoch.
      loader: of the training images; None where it is not known.
      evaluated: the loaders of what is evaluated.
      events: all of the code's.
    """

    optimizer: Opaque | None
    others: tuple[Opaque, ...]
    steps: tuple[Event, ...]
    loops: tuple[Loop, ...]
    loader: Loader | None
    evaluated: tuple[tuple[Loop, Loader], ...]
    events: tuple[Event, ...]

    def steps_of(self, owner: Opaque) -> list[Event]:
        """The calls of its method step."""
        return [event for event in self.events if _is_step(event, owner)]

    def is_in_training(self, event: Event) -> bool:
        """Whether it is within a loop over the training images."""
        return any(loop is each for loop in event.loops for each in self.loops)

    def is_in_evaluation(self, event: Event) -> bool:
        """Whether it is within a loop over what is evaluated."""
        return any(loop is each for loop in event.loops for each, _ in self.evaluated)


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
        or (found := _module_of(each)) is model
        or (isinstance(found, Instance) and found.cls is cls)
    ]
    stepped = {id(event.what.of.of) for event in events if event.what.method == "step"}
    taken = [each for each in of_model if id(each) in stepped]
    optimizer = taken[-1] if taken else of_model[-1] if of_model else None
    if optimizer is None:
        return Training(None, (), (), (), None, (), events)
    module = _module_of(optimizer)
    others = tuple(each for each in taken if each is not optimizer and _module_of(each) is module)
    steps = tuple(event for event in events if any(_is_step(event, each) for each in (optimizer, *others)))
    loops = loops_of(steps)
    loader = loader_of(loops[-1].over, run) if loops else None
    evaluated = tuple(_evaluated(events, module, loops, run))
    return Training(optimizer, others, steps, tuple(loops), loader, evaluated, events)


def loops_of(steps: Iterable[Event]) -> list[Loop]:
    """The loops over batches that steps are taken in, in order."""
    loops: list[Loop] = []
    for event in steps:
        loop = next((each for each in reversed(event.loops) if not each.known), None)
        if loop is not None and not any(loop is each for each in loops):
            loops.append(loop)
    return loops


def is_optimizer(value: Opaque) -> bool:
    """Whether it is a call that makes an optimizer."""
    name = value.function
    return (
        name.startswith("torch.optim.") and "." not in name.removeprefix("torch.optim.") and value.is_object
    )


def arguments(call: Opaque) -> dict[str, Any] | str:
    """A call's arguments by name, those given alone; or what is wrong with them."""
    return bind(OBJECTS.get(call.function, {}), call.args, call.kwargs)


def made_of(value: Any) -> Iterator[Opaque]:
    """A value that is not known and all those that it was made of, the nearest first."""
    left: list[Any] = [value]
    seen: set[int] = set()
    while left and len(seen) < _MOST:
        each = left.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, Opaque):
            yield each
            left += [each.of, *each.args, *each.kwargs.values()]
        elif isinstance(each, list | tuple):
            left += each


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
    made = [event.what for event in events if event.what.function == "torch.utils.data.DataLoader"]
    return [loader for each in made if (loader := loader_of(each, run)) is not None]


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
    if isinstance(given, str):
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
    held = given.get("transforms") if isinstance(given, dict) else None
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
    call = event.what
    return event.key is None and call.method == "step" and call.of.of is owner


def _module_of(optimizer: Opaque) -> Any:
    return module_in((*optimizer.args, *optimizer.kwargs.values()))


def loader_of(value: Any, run: Run) -> Loader | None:
    """The nearest DataLoader that a value was made of."""
    for each in made_of(value):
        if each.function == "torch.utils.data.DataLoader" and each.site is not None:
            given = arguments(each)
            if isinstance(given, dict):
                return Loader(given, _images(given["dataset"], run), each.site)
            first = each.args[0] if each.args else each.kwargs.get("dataset")
            return Loader({}, _images(first, run), each.site)
    return None


def _images(value: Any, run: Run) -> Images:
    unknown = Images(None, None, None, getattr(value, "site", None))
    if isinstance(value, Instance):
        return _of_class(value, run) or unknown
    if not isinstance(value, Opaque):
        return unknown
    given = arguments(value)
    if value.function == "torchvision.datasets.MNIST" and isinstance(given, dict):
        transform = value.attributes.get("transform", given.get("transform"))
        is_training = given.get("train", True)
        return Images(is_training if isinstance(is_training, bool) else None, 0, transform, value.site)
    if value.function == "torch.utils.data.Subset" and isinstance(given, dict):
        whole, count = _images(given["dataset"], run), _how_many(given["indices"])
        if whole.is_training is None or whole.held_out != 0 or count is None:
            return whole._replace(held_out=None)
        return whole._replace(held_out=IMAGES[whole.is_training] - count)
    if value.kind == "item" and isinstance(value.of, Opaque):
        given = arguments(value.of)
        if value.of.function == "torch.utils.data.random_split" and isinstance(given, dict):
            lengths, index = given["lengths"], value.args[0]
            known = isinstance(lengths, list | tuple) and all(type(each) is int for each in lengths)
            known = known and type(index) is int and -len(lengths) <= index < len(lengths)
            held_out = sum(lengths) - lengths[index] if known else None
            return _images(given["dataset"], run)._replace(held_out=held_out)
    return unknown


def _how_many(indices: Any) -> int | None:
    """How many different images they are of; None where that is not known."""
    if isinstance(indices, list | tuple | range) and all(type(each) is int for each in indices):
        return len(set(indices))
    if not isinstance(indices, Opaque):
        return None
    if indices.kind == "item" and isinstance(indices.args[0], slice):
        whole = _how_many(indices.of)
        return None if whole is None else len(range(whole)[indices.args[0]])
    if indices.method == "tolist":
        return _how_many(indices.of.of)
    permutes = indices.function in ("torch.randperm", "numpy.random.permutation") and len(indices.args) == 1
    return indices.args[0] if permutes and type(indices.args[0]) is int else None


def _of_class(value: Instance, run: Run) -> Images | None:
    """The images of a data set of the code's own class, which transforms the items of another one."""
    item = item_of(run, value)
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
    inner = _images(whole.of, run)
    if inner.is_training is None or inner.transform is not None:
        return None
    return inner._replace(transform=transform)


def _evaluated(
    events: tuple[Event, ...], module: Any, loops: list[Loop], run: Run
) -> Iterator[tuple[Loop, Loader]]:
    """The loops in which the network is called and not trained."""
    seen: list[Loop] = []
    for event in events:
        called = event.what.of
        if event.what.kind != "call" or not isinstance(called, Instance | Module) or called is not module:
            continue
        loop = next((each for each in reversed(event.loops) if not each.known), None)
        if loop is None or any(loop is each for each in (*seen, *loops)):
            continue
        seen.append(loop)
        loader = loader_of(loop.over, run)
        if loader is not None:
            yield loop, loader


def default(call: Opaque, name: str) -> Any:
    """A call's argument, or PyTorch's default; None where it has neither."""
    given = arguments(call)
    value = given.get(name) if isinstance(given, dict) else None
    if value is None and not (isinstance(given, dict) and name in given):
        value = OBJECTS.get(call.function, {}).get(name)
    return None if value is REQUIRED else value
