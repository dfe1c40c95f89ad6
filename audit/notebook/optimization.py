"""The optimizer and the schedule of its learning rate, as our flags where these can say them."""

import itertools
from dataclasses import dataclass
from typing import Any

from audit.notebook.cells import Fact, Place
from audit.notebook.library import OBJECTS
from audit.notebook.training import (
    IMAGES,
    Call,
    Found,
    Setting,
    Training,
    arguments,
    batch_size_of,
    call_of,
    default,
    loops_of,
    loss_in,
    made_of,
    plain,
)
from audit.notebook.values import Event, Opaque

_BETAS = (0.9, 0.999)
_SCHEDULES = "torch.optim.lr_scheduler."


def read_optimizer(training: Training, found: Found) -> Call | None:
    """The call that made the optimizer; None where there is none."""
    call = training.optimizer
    if call is None or call.site is None:
        found.lacks("optimizer", found.start, "none is found")
        return None
    place = call.site.place
    name = call.function.removeprefix("torch.optim.")
    if name not in ("SGD", "Adam", "AdamW"):
        found.lacks("optimizer", place, f"{name}: ours are SGD, Adam and AdamW")
        return call_of(call)
    given = arguments(call)
    if isinstance(given, str):
        found.lacks("optimizer", place, f"{name} is called with what is not known here: {given}")
        return call_of(call)
    if isinstance(given.get("params"), list | tuple):
        found.lacks("optimizer", place, "groups of parameters of their own")
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
    for argument, usual in ({"dampening": 0} if name == "SGD" else expected).items():
        value = default(call, argument)
        value = tuple(value) if isinstance(value, list) else value
        if value != usual:
            found.lacks("optimizer", place, f"{argument}={plain(value)}: ours has {usual}")
    if training.others and not _one_after_another(training, found, *training.others, call):
        found.lacks("optimizer", place, "another one trains the same network before")
    return call_of(call)


def _one_after_another(training: Training, found: Found, *optimizers: Opaque) -> bool:
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


def read_schedule(training: Training, found: Found, epochs: Setting | None) -> tuple[Call | None, str]:
    """The call that made the schedule, None without one, and when it is stepped; see recipe.ReadRecipe."""
    owners = (training.optimizer, *training.others)
    made = [
        event.what
        for event in training.events
        if event.what.function.startswith(_SCHEDULES)
        and any(each is owner for each in (*event.what.args, *event.what.kwargs.values()) for owner in owners)
    ]
    _by_hand(training, found)
    if not made or training.optimizer is None:
        return None, ""
    stepped = [each for each in made if training.steps_of(each)]
    call = stepped[-1] if stepped else made[-1]
    assert call.site is not None
    place = call.site.place
    name = call.function.removeprefix(_SCHEDULES)
    steps = training.steps_of(call)
    if not steps:
        found.facts.append(Fact("schedule_never_stepped", place, name))
        if name == "OneCycleLR":
            found.lacks("schedule", place, "OneCycleLR without steps trains by its first learning rate")
        return call_of(call), "never"
    if len(stepped) > 1:
        found.lacks("schedule", place, "two schedules are stepped")
    how = "batch" if training.is_in_training(steps[0]) else "epoch"
    if any(event.conditional for event in steps):
        found.lacks("schedule", steps[0].site.place, "it is stepped on a condition that is not known")
    elif epochs is not None and len(steps) != epochs.value:
        found.lacks("schedule", steps[0].site.place, f"{len(steps)} steps in {epochs.value} epochs")
    given = arguments(call)
    if isinstance(given, str) and call.function in OBJECTS:
        found.lacks("schedule", place, f"{name} is called with what is not known here: {given}")
    else:
        taken = _steps_taken(training, epochs, how)
        _Schedule(training, found, call, place, steps[0], how == "epoch", taken).read(name)
    return call_of(call), how


def _steps_taken(training: Training, epochs: Setting | None, how: str) -> int | None:
    """How often a schedule is stepped in the whole training; None where that is not known."""
    size, loader = batch_size_of(training), training.loader
    if (
        epochs is None
        or size is None
        or loader is None
        or loader.images.is_training is None
        or size.value < 1
    ):
        return None
    images = IMAGES[loader.images.is_training] - (loader.images.held_out or 0)
    return int(epochs.value * (-(-images // size.value) if how == "batch" else 1))


@dataclass(frozen=True)
class _Schedule:
    """A schedule that is stepped, read into `found`.

    Attributes:
      call: that made it; place: of that call.
      step: the first call of its step; per_epoch: whether that comes after epochs, not after batches.
      taken: how many steps are taken in all; None where it is not known.
    """

    training: Training
    found: Found
    call: Opaque
    place: Place
    step: Event
    per_epoch: bool
    taken: int | None

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
            case "StepLR" if self.per_epoch:
                self.found.flags["schedule"] = "step"
                self.number("gamma", "gamma")
                self.number("step_size", "step_size")
            case "ExponentialLR" if self.per_epoch:
                self.found.flags["schedule"] = "step"
                self.number("gamma", "gamma")
                self.found.flags["step_size"] = 1
            case "MultiStepLR" if self.per_epoch:
                self.multistep()
            case "ReduceLROnPlateau" if self.per_epoch:
                self.plateau()
            case "OneCycleLR":
                self.one_cycle()
            case "CosineAnnealingLR":
                self.cosine()
            case _:
                after = "" if self.per_epoch else ", stepped after every batch"
                self.found.lacks("schedule", self.place, f"{name}{after}: there is no flag for it")

    def multistep(self) -> None:
        self.found.flags["schedule"] = "multistep"
        self.number("gamma", "gamma")
        milestones = self.value("milestones")
        if isinstance(milestones, list | tuple) and all(type(each) is int for each in milestones):
            self.found.flags["milestones"] = tuple(milestones)
        else:
            self.found.lacks("milestones", self.place, "they are not known without running the code")

    def plateau(self) -> None:
        self.found.flags["schedule"] = "plateau"
        self.number("factor", "factor")
        self.number("patience", "patience")
        usual = {"threshold": 1e-4, "threshold_mode": "rel", "cooldown": 0, "min_lr": 0}
        for argument, ours in usual.items():
            if self.value(argument) != ours:
                detail = f"{argument}={plain(self.value(argument))}; here PyTorch's default, {ours}"
                self.found.differs("schedule", self.place, detail)
        given = (*self.step.what.args, *self.step.what.kwargs.values())
        watched = {id(each) for each in made_of(given[:1])}
        events = self.training.events
        losses = [event for event in events if id(event.what) in watched and loss_in(event.what)]
        if self.value("mode") == "max":
            self.found.differs("schedule", self.place, "it watches an accuracy; here the training loss")
        elif not losses or any(self.training.is_in_evaluation(event) for event in losses):
            place = self.step.site.place
            self.found.differs("schedule", place, "it watches the test loss; here the training loss")

    def one_cycle(self) -> None:
        self.found.flags["schedule"] = "OneCycleLR"
        self.found.flags.pop("momentum", None)
        self.number("max_lr", "learning_rate")
        self.number("pct_start", "warmup")
        usual = {
            "anneal_strategy": "cos",
            "cycle_momentum": True,
            "base_momentum": 0.85,
            "max_momentum": 0.95,
        }
        usual |= {"div_factor": 25, "final_div_factor": 1e4}
        for argument, ours in usual.items():
            if self.value(argument) != ours:
                detail = f"{argument}={plain(self.value(argument))}: ours has PyTorch's default, {ours}"
                self.found.lacks("schedule", self.place, detail)
        total = self.value("total_steps")
        if total is None:
            parts = self.value("epochs"), self.value("steps_per_epoch")
            total = parts[0] * parts[1] if all(isinstance(part, int) for part in parts) else None
        if self.per_epoch:
            self.found.facts.append(Fact("one_cycle_stepped_per_epoch", self.place))
        if not isinstance(total, int) or self.taken is None:
            self.found.lacks("schedule", self.place, "how many steps its cycle has is not known")
        elif total != self.taken:
            detail = f"its cycle has {total:,} steps, and {self.taken:,} are taken"
            self.found.lacks("schedule", self.place, detail)
        elif self.per_epoch:
            self.coarse()

    def cosine(self) -> None:
        self.found.flags["schedule"] = "cosine"
        end, least = self.value("T_max"), self.value("eta_min")
        if end != self.taken or least != 0:
            detail = f"T_max={plain(end)}, eta_min={plain(least)}: ours ends at 0 with the last step"
            self.found.lacks("schedule", self.place, detail)
        elif self.per_epoch:
            self.coarse()

    def coarse(self) -> None:
        self.found.differs("schedule", self.place, "it changes after epochs; here after every step")


def _by_hand(training: Training, found: Found) -> None:
    """A learning rate that the code itself sets."""
    for event in training.events:
        if event.key == "lr" and any(each is training.optimizer for each in made_of(event.what)):
            found.lacks("schedule", event.site.place, "the code sets the learning rate itself")
            return
