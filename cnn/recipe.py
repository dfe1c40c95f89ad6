"""How a network is trained: each field is a flag of --task=mnist. No JAX here."""

import itertools
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from harness.errors import require, require_choice

OPTIMIZERS = ("sgd", "adam", "adamw", "lion", "nadamw", "muon")
SCHEDULES = ("constant", "one_cycle", "OneCycleLR", "step", "multistep", "cosine", "plateau")
INITIALIZATIONS = ("torch", "he")
_MOST = 60_000


@dataclass(frozen=True)
class Distortion:
    """Strength of the random augmentation; 0 is off. The order is that of the fields, but zoom is the first.

    Attributes:
      rotation: degrees. This and the next three are an affine map, each uniform within plus or minus it.
      scale: fraction of the size.
      shear: fraction: pixels sideways for each pixel up or down.
      shift: pixels, along each axis.
      elastic: pixels, the standard deviation of what each of 6 x 6 control points is moved by. The image
        bends smoothly between them, so that its pixels move by 0.48 of it; 0 keeps straight lines straight.
      fade: share of all this that is gone after the last step; it falls linearly from the first one on.
      brightness: as torchvision's ColorJitter: times a factor within 1 plus or minus it, not below 0.
      contrast: as torchvision's ColorJitter: away from or towards the image's mean, by such a factor.
      erasing: probability that a random rectangle becomes background, as torchvision's RandomErasing has it
        with its own scale (0.02 to 0.33 of the area) and ratio (0.3 to 3.3). Its value 0 is the background
        here, and the mean where it comes after the normalisation.
      zoom: probability of torchvision's CenterCrop(crop_size) and Resize back to the image's size.
      crop_size: pixels.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    elastic: float = 0.0
    fade: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    erasing: float = 0.0
    zoom: float = 0.0
    crop_size: int = 22

    @property
    def moves(self) -> bool:
        """Whether pixels are sampled at other places."""
        return any((self.rotation, self.scale, self.shear, self.shift, self.elastic))

    @property
    def distorts(self) -> bool:
        """Whether it changes an image at all."""
        return self.moves or any((self.brightness, self.contrast, self.erasing, self.zoom))


@dataclass(frozen=True, kw_only=True)
class Recipe(Distortion):
    """How a network is trained, on cross-entropy; its distortion is that of the training images.

    Steps and milestones are in epochs, as PyTorch's users write them.

    Attributes:
      epochs: passes over the training images.
      batch_size: images a step.
      optimizer: sgd, adam, adamw as PyTorch defines them (betas 0.9 and 0.999); lion (Chen et al. 2023, betas
        0.9 and 0.99) and nadamw (Dozat 2016) as optax does; or optax's muon (Jordan 2024): a convolution's
        weights move along the orthogonal matrix nearest to their momentum, all others by Adam at a tenth of
        the learning rate.
      momentum: of SGD or Muon.
      nesterov: Nesterov's momentum in place of SGD's plain one; Muon has it always.
      weight_decay: times the weights, added to the gradient (sgd, adam) or to the step before the learning
        rate (adamw, lion, nadamw, muon).
      learning_rate: the constant one, the first one, or the peak of one cycle.
      schedule: constant; one_cycle (Smith and Topin 2018), optax.cosine_onecycle_schedule: cosine up, cosine
        down to about 0; OneCycleLR, PyTorch's with its defaults: the same rates within a step, a 25th of the
        peak at first and a 250,000th at last, and momentum, or the first beta, from 0.95 to 0.85 and back;
        step, multistep, cosine: StepLR, MultiStepLR and, down to 0 at the last step, CosineAnnealingLR;
        plateau: ReduceLROnPlateau. That one watches the validation loss where images are held out,
        otherwise the training loss, never the test images.
      warmup: fraction of the steps that one cycle rises (pct_start).
      step_size: epochs between two falls of step.
      milestones: epochs after which multistep falls.
      gamma: what step and multistep multiply the learning rate by.
      factor: what plateau multiplies it by.
      patience: epochs without a better loss that plateau lets pass.
      ema_decay: of the average of weights that is evaluated, with batch norm's statistics of its own; 0
        evaluates the weights themselves, with the running statistics.
      initialization: torch, uniform within 1/sqrt(fan_in) for kernels and biases; or he, normal
        with variance 2/fan_in and zero biases.
      label_smoothing: share of the target that is spread over all classes, as PyTorch's cross_entropy does.

    Raises:
      UserError: a name that is not known, a number out of its limits, or a field that the optimizer, the
        schedule or the distortion has no use for.
    """

    epochs: int
    batch_size: int
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    learning_rate: float = 0.01
    schedule: str = "constant"
    warmup: float = 0.2
    step_size: int | None = None
    milestones: tuple[int, ...] | None = None
    gamma: float = 0.1
    factor: float = 0.1
    patience: int = 10
    ema_decay: float = 0.0
    initialization: str = "torch"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        _check(vars(self), self.changed)

    @property
    def changed(self) -> list[str]:
        """Names of the fields that differ from their defaults; epochs and batch_size have none."""
        distortion_last = sorted(fields(self), key=lambda field: hasattr(Distortion, field.name))
        return [field.name for field in distortion_last if getattr(self, field.name) != field.default]

    @property
    def flags(self) -> str:
        """As a command line's flags, without those at their defaults."""
        words = []
        for name in self.changed:
            value = getattr(self, name)
            if isinstance(value, bool):
                words.append(f"--{name}")  # none is on by default
            else:
                text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
                words.append(f"--{name}={text}")
        return " ".join(words)

    def require_side(self, side: int) -> None:
        """Raise UserError unless the distortion can be had of images with so many rows and columns."""
        require(
            self.zoom == 0 or self.crop_size <= side,
            f"--crop_size={self.crop_size} is more than the images' {side} pixels: give 1 to {side}",
        )

    def with_flags(self, given: Mapping[str, Any]) -> "Recipe":
        """This recipe with what was given.

        What the optimizer, schedule and distortion that come of it have no use for is dropped from this
        recipe, and an error where it was given.

        Args:
          given: values by the fields' names.

        Raises:
          UserError: see the class.
        """
        values = vars(self) | dict(given)
        _check(values, given)
        unused = {name for name, use in _USES.items() if name not in given and not use.holds(values)}
        return Recipe(
            **values | {field.name: field.default for field in fields(Recipe) if field.name in unused}
        )


class _Limits(NamedTuple):
    """Of a number, whole where low is: from low to high, or to below it."""

    low: int | float
    high: int | float
    below: bool = False

    def check(self, name: str, value: int | float) -> None:
        """Raise UserError, in the flag's words, unless the value is within them."""
        inside = self.low <= value < self.high if self.below else self.low <= value <= self.high
        kind = "a whole number" if isinstance(self.low, int) else "a number"
        to = "to below" if self.below else "to"
        require(inside, f"--{name}={value}: give {kind} from {self.low:g} {to} {self.high:g}")


_EPOCHS = _Limits(1, _MOST)
_SHARE, _BELOW_ONE = _Limits(0.0, 1), _Limits(0.0, 1, below=True)
_LIMITS = {
    "rotation": _Limits(0.0, 180),
    "scale": _BELOW_ONE,
    "shear": _Limits(0.0, 10),
    "shift": _Limits(0.0, 28),
    "elastic": _Limits(0.0, 28),
    "fade": _SHARE,
    "brightness": _Limits(0.0, 10),
    "contrast": _Limits(0.0, 10),
    "erasing": _SHARE,
    "zoom": _SHARE,
    "crop_size": _Limits(1, _MOST),
    "epochs": _EPOCHS,
    "batch_size": _EPOCHS,
    "momentum": _BELOW_ONE,
    "weight_decay": _Limits(0.0, 100),
    "learning_rate": _Limits(1e-8, 100),
    "warmup": _Limits(0.0, 0.99),
    "step_size": _EPOCHS,
    "gamma": _Limits(1e-8, 1),
    "factor": _Limits(1e-8, 1, below=True),
    "patience": _Limits(0, _MOST),
    "ema_decay": _BELOW_ONE,
    "label_smoothing": _BELOW_ONE,
}


def check_learning_rates(rates: Sequence[float]) -> None:
    """Raise UserError unless each of the learning rates to compare is allowed, and there once."""
    require(bool(rates), "--learning_rate is empty: give one, or several such as 0.003,0.01,0.03")
    for rate in rates:
        _LIMITS["learning_rate"].check("learning_rate", rate)
        require(rates.count(rate) == 1, f"--learning_rate has {rate:g} twice: give each learning rate once")


class _Use(NamedTuple):
    """What a field belongs to: whether a recipe's values have it, and what that is in words."""

    holds: Callable[[Mapping[str, Any]], bool]
    of: str


def _use(name: str, *choices: str) -> _Use:
    return _Use(lambda values: values[name] in choices, f"--{name}={' or '.join(choices)}")


_CYCLES = ("one_cycle", "OneCycleLR")
_DISTORTIONS = [field.name for field in fields(Distortion) if field.name not in ("fade", "crop_size")]
_USES = {
    "momentum": _Use(
        lambda values: values["optimizer"] in ("sgd", "muon") and values["schedule"] != "OneCycleLR",
        "--optimizer=sgd or muon, and --schedule=OneCycleLR sets it itself",
    ),
    "nesterov": _use("optimizer", "sgd"),
    "warmup": _use("schedule", *_CYCLES),
    "step_size": _use("schedule", "step"),
    "milestones": _use("schedule", "multistep"),
    "gamma": _use("schedule", "step", "multistep"),
    "factor": _use("schedule", "plateau"),
    "patience": _use("schedule", "plateau"),
    "fade": _Use(
        lambda values: any(values[name] for name in _DISTORTIONS), "a distortion, such as --shift=2"
    ),
    "crop_size": _Use(lambda values: values["zoom"] > 0, "--zoom, a probability above 0"),
}


def _check(values: Mapping[str, Any], given: Container[str]) -> None:
    """Raise UserError unless a recipe's values are allowed, and those that were given have a use."""
    for name, choices in (
        ("optimizer", OPTIMIZERS),
        ("schedule", SCHEDULES),
        ("initialization", INITIALIZATIONS),
    ):
        require_choice(name, values[name], choices)
    for name, limits in _LIMITS.items():
        if values[name] is not None:
            limits.check(name, values[name])
    milestones = values["milestones"] or ()
    for each in milestones:
        _EPOCHS.check("milestones", each)
    for before, after in itertools.pairwise(milestones):
        require(before < after, f"--milestones has {after} after {before}: give rising epochs, such as 8,12")
    for name, schedule, such_as in (("step_size", "step", "6"), ("milestones", "multistep", "8,12")):
        require(
            values["schedule"] != schedule or bool(values[name]),
            f"--schedule={schedule} needs --{name}: give it in epochs, such as --{name}={such_as}",
        )
    for name, use in _USES.items():
        require(
            name not in given or use.holds(values),
            f"--{name} belongs to {use.of}: leave it out, or give that",
        )
