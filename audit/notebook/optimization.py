"""The optimizer and the schedule of its learning rate, as our flags where these can say them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from audit.notebook.cells import Place
from audit.notebook.datasets import IMAGES, default
from audit.notebook.library import OBJECTS, bind
from audit.notebook.modules import has_weights, named_leaves
from audit.notebook.network import modules_in
from audit.notebook.training import (
    ReadRecipe,
    Training,
    batch_size_of,
    call_of,
    loops_of,
    loss_in,
    made_of,
    plain,
)
from audit.notebook.values import Event, Opaque

_BETAS = (0.9, 0.999)
_SCHEDULES = "torch.optim.lr_scheduler."
_SETTINGS = ("lr", "momentum", "weight_decay", "betas")
_NOTHING = 1e-3  # of the first learning rate: with less nothing is learnt any more


def read_optimizer(training: Training, found: ReadRecipe) -> None:
    """What made the optimizer, with its settings as flags."""
    call = training.optimizer
    if call is None or call.site is None:
        found.lacks("optimizer", found.start, "none is found")
        return
    place = call.site.place
    found.optimizer = call_of(call)
    name = call.function.removeprefix("torch.optim.")
    if name not in ("SGD", "Adam", "AdamW"):
        found.lacks("optimizer", place, f"{name}: ours are SGD, Adam and AdamW")
        return
    given = bind(OBJECTS.get(call.function, {}), call.args, call.kwargs)
    if isinstance(given, str):
        found.lacks("optimizer", place, f"{name} is called with what is not known here: {given}")
        return
    _groups(training, found, call, given.get("params"))
    found.flags["optimizer"] = name.lower()
    wanted = {"lr": "learning_rate", "weight_decay": "weight_decay"}
    wanted |= {"momentum": "momentum", "nesterov": "nesterov"} if name == "SGD" else {}
    for argument, flag in wanted.items():
        value = default(call, argument)
        if isinstance(value, bool | int | float):
            found.flags[flag] = value if flag == "nesterov" else float(value)
        else:
            found.lacks(flag, place, f"{argument}={plain(value)} is not known without running the code")
    expected: dict[str, Any] = {"betas": _BETAS, "eps": 1e-8, "amsgrad": False}
    expected = {"maximize": False} | ({"dampening": 0} if name == "SGD" else expected)
    for argument, usual in expected.items():
        value = default(call, argument)
        value = tuple(value) if isinstance(value, list) else value
        if value != usual:
            found.lacks("optimizer", place, f"{argument}={plain(value)}: ours has {usual}")
    if training.others and not _one_after_another(training, found, *training.others, call):
        found.lacks("optimizer", place, "another one trains the same network before")


def _groups(training: Training, found: ReadRecipe, call: Opaque, params: Any) -> None:
    """Weights that have settings of their own, or none."""
    assert call.site is not None
    groups = [(call.site.place, each) for each in params] if isinstance(params, list | tuple) else []
    groups += [
        (event.site.place, event.what.args[0])
        for event in training.events
        if event.what.method == "add_param_group" and event.what.of.of is call and event.what.args
    ]
    for place, group in groups:
        own = [name for name in group if name not in ("params", "name")] if isinstance(group, dict) else []
        if own:
            words = ", ".join(f"{name}={plain(group[name])}" for name in own)
            found.lacks("optimizer", place, f"groups of parameters of their own: {words}")
            break
    held = modules_in((*call.given, *(each for _, each in groups)))
    given = {leaf for each in held for _, leaf in named_leaves(each)}
    for name, leaf in named_leaves(training.module) if training.module is not None else ():
        if leaf not in given and has_weights(leaf):
            detail = f"{name} is not trained: the optimizer does not have it"
            found.lacks("optimizer", call.site.place, detail)
            break


def _one_after_another(training: Training, found: ReadRecipe, *optimizers: Opaque) -> bool:
    """Whether they train in turn and differ in the learning rate alone, which falls as in multistep."""
    settings = [
        {name: default(each, name) for name in OBJECTS[each.function].keys() - {"lr", "params"}}
        for each in optimizers
        if each.function == optimizers[-1].function
    ]
    loops = [loops_of(training.steps_of(each)) for each in optimizers]
    rates = [default(each, "lr") for each in optimizers]
    if (
        any(event.what.function.startswith(_SCHEDULES) for event in training.events)
        or settings != settings[:1] * len(optimizers)
        or tuple(itertools.chain(*loops)) != training.loops
        or not all(isinstance(rate, int | float) and rate > 0 for rate in rates)
    ):
        return False
    gammas = {round(after / before, 9) for before, after in itertools.pairwise(rates)}
    if len(gammas) > 1 or max(gammas) > 1:
        return False
    found.flags["learning_rate"] = float(rates[0])
    if gammas != {1.0}:
        milestones = tuple(itertools.accumulate(map(len, loops[:-1])))
        found.flags |= {"schedule": "multistep", "milestones": milestones, "gamma": gammas.pop()}
    for each in optimizers[1:]:
        assert each.site is not None
        detail = "a new one begins with what it gathers; here one goes on"
        found.differs("optimizer", each.site.place, detail)
    return True


def schedules(training: Training) -> list[Opaque]:
    """The schedules of its optimizers."""
    owners = (training.optimizer, *training.others)
    made = [event.what for event in training.events if event.what.function.startswith(_SCHEDULES)]
    return [call for call in made if any(each in owners for each in call.given)]


def set_by_hand(training: Training) -> Event | None:
    """Where the code itself sets a learning rate or the like; None where it does not."""
    for event in training.events:
        if event.key in _SETTINGS and any(each is training.optimizer for each in made_of(event.what)):
            return event
    return None


def read_schedule(training: Training, found: ReadRecipe) -> None:
    """What made the schedule, when it is stepped, and its settings as flags."""
    made, by_hand = schedules(training), set_by_hand(training)
    if by_hand is not None:
        words = "learning rate" if by_hand.key == "lr" else str(by_hand.key)
        found.lacks("schedule", by_hand.site.place, f"the code sets the {words} itself")
    if not made or training.optimizer is None:
        return
    stepped = [each for each in made if training.steps_of(each)]
    call = [*made, *stepped][-1]
    assert call.site is not None
    place = call.site.place
    name = call.function.removeprefix(_SCHEDULES)
    found.schedule = call_of(call)
    steps = training.steps_of(call)
    if not steps and not training.loops:  # a training that was not found may step it
        return
    if not steps:
        found.stepped = "never"
        found.notes("schedule_never_stepped", place, name)
        if name == "OneCycleLR":
            found.lacks("schedule", place, "OneCycleLR without steps trains by its first learning rate")
        return
    found.stepped = "batch" if training.is_in_training(steps[0]) else "epoch"
    if len(stepped) > 1:
        found.lacks("schedule", place, "two schedules are stepped")
    taken = _steps_taken(training, steps)
    given = bind(OBJECTS.get(call.function, {}), call.args, call.kwargs)
    if any(event.conditional for event in steps):
        found.lacks("schedule", steps[0].site.place, "it is stepped on a condition that is not known")
    elif taken is None:
        unknown = "after how many batches or epochs it is stepped is not known"
        found.lacks("schedule", steps[0].site.place, unknown)
    elif isinstance(given, str) and call.function in OBJECTS:
        found.lacks("schedule", place, f"{name} is called with what is not known here: {given}")
    else:
        _Schedule(training, found, call, place, steps[0], taken).read(name)


class _Taken(NamedTuple):
    """The steps that a schedule takes."""

    # how many it has taken before each epoch, where it is stepped outside of the loops over batches
    before: tuple[int, ...]
    a_batch: int  # how many it takes after each batch, 0 where it is stepped outside
    batches: int | None  # of an epoch; None where they are not known

    @property
    def is_once_an_epoch(self) -> bool:
        """Whether it takes one step after each epoch, as schedules that count epochs are meant."""
        return self.before == tuple(range(len(self.before)))

    @property
    def total(self) -> int | None:
        """How many it takes in all."""
        epochs = len(self.before)
        return epochs if not self.a_batch else self.batches and epochs * self.batches * self.a_batch


def _steps_taken(training: Training, steps: Sequence[Event]) -> _Taken | None:
    """The steps of a schedule, counted; None where they are not known."""
    before: list[int] = []
    taken, of_epochs, known = 0, [0] * len(training.loops), {*steps}
    numbers = {loop: index for index, loop in enumerate(training.loops)}
    for event in training.events:
        inside = [numbers[loop] for loop in event.loops if loop in numbers]
        if inside and inside[0] == len(before):
            before.append(taken)
        if event not in known:
            continue
        if inside:
            of_epochs[inside[0]] += 1
        elif event.loop_over_batches is not None:
            return None  # in a loop over what is evaluated
        else:
            given = event.what.args[0] if event.what.args else None
            taken = given if type(given) is int else taken + 1  # step(epoch)
    if len(before) < len(of_epochs) or (any(before) and any(of_epochs)) or len(set(of_epochs)) != 1:
        return None
    size, loader = batch_size_of(training), training.loader
    batches = None
    if size is not None and size.value > 0 and loader is not None and loader.images.is_training is not None:
        images = IMAGES[loader.images.is_training] - (loader.images.held_out or 0)
        whole = loader.arguments.get("drop_last") is True
        batches = images // size.value if whole else -(-images // size.value)
    return _Taken(tuple(before), of_epochs[0], batches)


@dataclass(frozen=True)
class _Schedule:
    """A schedule that is stepped, read into `found`: its call, the first `step`, and all that are `taken`."""

    training: Training
    found: ReadRecipe
    call: Opaque
    place: Place
    step: Event
    taken: _Taken

    def value(self, argument: str) -> Any:
        return default(self.call, argument)

    def number(self, argument: str, flag: str) -> None:
        given = self.value(argument)
        if isinstance(given, int | float) and not isinstance(given, bool):
            self.found.flags[flag] = given
        else:
            detail = f"{argument}={plain(given)} is not known without running the code"
            self.found.lacks(flag, self.place, detail)

    def read(self, name: str) -> None:
        if self.value("last_epoch") not in (None, -1):
            self.found.lacks("schedule", self.place, "last_epoch: ours begins at the beginning")
        match name:
            case "StepLR" | "ExponentialLR" | "MultiStepLR":
                self.falls(name)
            case "ReduceLROnPlateau" if self.taken.is_once_an_epoch:
                self.plateau()
            case "OneCycleLR":
                self.one_cycle()
            case "CosineAnnealingLR":
                self.cosine()
            case _:
                self.found.lacks("schedule", self.place, f"{name}{self.when()}: there is no flag for it")

    def when(self) -> str:
        """When it is stepped, where that is not after each epoch."""
        if self.taken.a_batch:
            return ", stepped after every batch"
        return "" if self.taken.is_once_an_epoch else ", not stepped once after each epoch"

    def falls(self, name: str) -> None:
        """A learning rate that falls by gamma: after so many steps, at milestones, or at each step."""
        gamma, size, epochs = self.value("gamma"), self.value("step_size"), len(self.taken.before)
        milestones = self.value("milestones") if name == "MultiStepLR" else [size or 1]
        usable = isinstance(milestones, list | tuple) and all(type(m) is int and m > 0 for m in milestones)
        rate = self.found.flags.get("learning_rate")
        if not usable or not isinstance(gamma, int | float) or rate is None:
            self.found.lacks("schedule", self.place, f"{name} is called with what is not known here")
            return

        def fallen(steps: int) -> int:
            return sum(m <= steps for m in milestones) if name == "MultiStepLR" else steps // milestones[0]

        before = self.taken.before
        if self.taken.a_batch:
            total, unit = self.taken.total, (self.taken.batches or 0) * self.taken.a_batch
            if not unit or total is None or any(m % unit and m < total for m in milestones):
                after = f": {rate * gamma ** fallen(unit):.3g} after the first epoch" if unit else ""
                self.found.lacks("schedule", self.place, f"{name}{self.when()}{after}")
                too_soon = unit and (
                    gamma ** fallen(unit) < _NOTHING or (name == "MultiStepLR" and max(milestones) < unit)
                )
                if too_soon:
                    self.found.notes("schedule_stepped_per_batch", self.step.site.place, f"{name}{after}")
                return
            before = tuple(range(0, epochs * unit, unit))
        counts = [fallen(steps) for steps in before]
        self.found.rates = tuple(float(f"{rate * gamma**count:.12g}") for count in counts)
        if not self.taken.is_once_an_epoch and not self.taken.a_batch:
            rates = ", ".join(f"{each:.6g}" for each in self.found.rates)
            self.found.notes("schedule_steps", self.step.site.place, f"the epochs have {rates}")
        if name != "MultiStepLR" and counts == [epoch // milestones[0] for epoch in range(epochs)]:
            self.found.flags |= {"schedule": "step", "gamma": gamma, "step_size": milestones[0]}
            return
        if name == "MultiStepLR" and self.taken.is_once_an_epoch and len({*milestones}) == len(milestones):
            self.found.flags |= {"schedule": "multistep", "gamma": gamma, "milestones": tuple(milestones)}
            return
        differences = [after - count for count, after in itertools.pairwise(counts)]
        sizes = {each for each in differences if each}
        if len(sizes) > 1:
            self.found.lacks("schedule", self.place, f"{name} falls by several powers of gamma{self.when()}")
            return
        self.found.flags["learning_rate"] = self.found.rates[0]
        if sizes:
            at = tuple(epoch for epoch, each in enumerate(differences, 1) if each)
            self.found.flags |= {"schedule": "multistep", "gamma": gamma ** sizes.pop(), "milestones": at}

    def plateau(self) -> None:
        self.found.flags["schedule"] = "plateau"
        self.number("factor", "factor")
        self.number("patience", "patience")
        usual = {"threshold": 1e-4, "threshold_mode": "rel", "cooldown": 0, "min_lr": 0}
        for argument, ours in usual.items():
            if self.value(argument) != ours:
                detail = f"{argument}={plain(self.value(argument))}; here PyTorch's default, {ours}"
                self.found.differs("schedule", self.place, detail)
        watched = {*made_of(self.step.what.given[:1])}
        losses = [each for each in self.training.events if each.what in watched and loss_in(each.what)]
        tested = {each.loop for each in self.training.evaluated}
        if self.value("mode") == "max":
            self.found.differs("schedule", self.place, "it watches an accuracy; here the training loss")
        elif not losses or any(not tested.isdisjoint(each.loops) for each in losses):
            place = self.step.site.place
            self.found.differs("schedule", place, "it watches the test loss; here the training loss")

    def one_cycle(self) -> None:
        self.found.flags["schedule"] = "OneCycleLR"
        self.found.flags.pop("momentum", None)
        self.number("max_lr", "learning_rate")
        self.number("pct_start", "warmup")
        usual = {"anneal_strategy": "cos", "cycle_momentum": True, "base_momentum": 0.85}
        usual |= {"max_momentum": 0.95, "div_factor": 25, "final_div_factor": 1e4}
        for argument, ours in usual.items():
            if self.value(argument) != ours:
                detail = f"{argument}={plain(self.value(argument))}: ours has PyTorch's default, {ours}"
                self.found.lacks("schedule", self.place, detail)
        total = self.value("total_steps")
        if total is None:
            parts = self.value("epochs"), self.value("steps_per_epoch")
            total = parts[0] * parts[1] if all(isinstance(part, int) for part in parts) else None
        if not self.taken.a_batch:
            of_epochs = self.value("total_steps") == self.found.flags.get("epochs")  # on purpose
            self.found.notes(
                "one_cycle_of_epochs" if of_epochs else "one_cycle_stepped_per_epoch", self.place
            )
        taken = self.taken.total
        if not isinstance(total, int) or taken is None:
            self.found.lacks("schedule", self.place, "how many steps its cycle has is not known")
        elif total != taken:
            detail = f"its cycle has {total:,} steps, and {taken:,} are taken"
            self.found.lacks("schedule", self.place, detail)
        else:
            self.coarse()

    def cosine(self) -> None:
        self.found.flags["schedule"] = "cosine"
        end, least = self.value("T_max"), self.value("eta_min")
        if end != self.taken.total or least != 0:
            detail = f"T_max={plain(end)}, eta_min={plain(least)}: ours ends at 0 with the last step"
            self.found.lacks("schedule", self.place, detail)
        else:
            self.coarse()

    def coarse(self) -> None:
        if self.taken.is_once_an_epoch:
            self.found.differs("schedule", self.place, "it changes after epochs; here after every step")
        elif self.taken.a_batch != 1:
            self.found.lacks("schedule", self.place, f"a cycle{self.when()}")
