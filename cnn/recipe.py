"""Recipes of training: each field is a flag, and is declared here alone. No JAX here."""

import itertools
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, NamedTuple

from harness.errors import require, require_choice

OPTIMIZERS = ("sgd", "adam", "adamw", "lion", "nadamw", "muon")
WITH_MOMENTUM = ("sgd", "muon")
"""Optimizers that --momentum is for; the others' first beta is 0.9."""
SCHEDULES = ("constant", "one_cycle", "OneCycleLR", "step", "multistep", "cosine", "plateau")
INITIALIZATIONS = ("torch", "he")


class Use(NamedTuple):
    """The other fields that a field needs: a test of a recipe's values, and the same in words."""

    holds: Callable[[Mapping[str, Any]], bool]
    of: str


class Setting(NamedTuple):
    """A field of a recipe, which is a flag of --task=mnist.

    Attributes:
      help: of the flag.
      low, high: limits of a number, or of each of several; whole where low is.
      below: the number is less than high.
      choices: names that are allowed.
      use: what the field belongs to; None: to every recipe.
    """

    help: str
    low: int | float = 0
    high: int | float | None = None
    below: bool = False
    choices: tuple[str, ...] = ()
    use: Use | None = None

    def check(self, name: str, value: Any) -> None:
        """Raise UserError, in the flag's words, unless the value, or each of several, is allowed."""
        if self.choices:
            require_choice(name, value, self.choices)
        if self.high is None:
            return
        kind = "a whole number" if isinstance(self.low, int) else "a number"
        to = "to below" if self.below else "to"
        for each in value if isinstance(value, tuple) else [value]:
            inside = self.low <= each < self.high if self.below else self.low <= each <= self.high
            require(inside, f"--{name}={each}: give {kind} from {self.low:g} {to} {self.high:g}")


def _setting(default: Any, *setting: Any, **options: Any) -> Any:
    return field(default=default, metadata={"setting": Setting(*setting, **options)})


def _with(name: str, *choices: str) -> Use:
    return Use(lambda values: values[name] in choices, f"--{name}={' or '.join(choices)}")


_MOMENTUM = Use(
    lambda values: values["optimizer"] in WITH_MOMENTUM and values["schedule"] != "OneCycleLR",
    f"--optimizer={' or '.join(WITH_MOMENTUM)}, and --schedule=OneCycleLR sets it itself",
)
_DISTORTED = Use(
    lambda values: any(
        values[each.name] for each in fields(Distortion) if each.name not in ("fade", "crop_size")
    ),
    "a distortion, such as --shift=2",
)
_ZOOMED = Use(lambda values: values["zoom"] > 0, "--zoom, a probability above 0")
_CYCLE, _STEP = _with("schedule", "one_cycle", "OneCycleLR"), _with("schedule", "step")
_MULTISTEP, _FALLS = _with("schedule", "multistep"), _with("schedule", "step", "multistep")
_PLATEAU = _with("schedule", "plateau")
_COUNT, _SHARE = (1, 60_000), (0.0, 1)


@dataclass(frozen=True)
class Distortion:
    """Strength of the random augmentation of training images; 0 is off.

    The order is that of the fields, but zoom is the first. Rotation, scale, shear and shift are one affine
    map, each uniform within plus or minus its strength. Elastic moves each of 6 x 6 control points by a
    normal number of pixels; the image bends smoothly between them, so that its pixels move by 0.48 of it.
    Brightness and contrast are ColorJitter's of torchvision: a factor within 1 plus or minus the strength,
    not below 0. Erasing is its RandomErasing with its own scale (0.02 to 0.33 of the area) and ratio (0.3 to
    3.3); its value 0 is the background here, and the mean where it comes after the normalisation.
    """

    rotation: float = _setting(0.0, "distortion of training images: at most so many degrees", 0.0, 180)
    scale: float = _setting(0.0, "distortion: larger or smaller by at most this share", *_SHARE, below=True)
    shear: float = _setting(0.0, "distortion: at most so many pixels sideways for each one up", 0.0, 10)
    shift: float = _setting(0.0, "distortion: at most so many pixels along each axis", 0.0, 28)
    elastic: float = _setting(0.0, "distortion: bends, by so many pixels at their control points", 0.0, 28)
    fade: float = _setting(0.0, "share of all distortion gone after the last step", *_SHARE, use=_DISTORTED)
    brightness: float = _setting(0.0, "distortion: torchvision's ColorJitter(brightness=)", 0.0, 10)
    contrast: float = _setting(0.0, "distortion: torchvision's ColorJitter(contrast=)", 0.0, 10)
    erasing: float = _setting(0.0, "distortion: probability of torchvision's RandomErasing", *_SHARE)
    zoom: float = _setting(0.0, "distortion: probability of CenterCrop(crop_size) and Resize", *_SHARE)
    crop_size: int = _setting(22, "of zoom: pixels that are left along each axis", *_COUNT, use=_ZOOMED)

    @property
    def moves(self) -> bool:
        """True where pixels are sampled at other places."""
        return any((self.rotation, self.scale, self.shear, self.shift, self.elastic))

    @property
    def distorts(self) -> bool:
        """True where it changes an image at all."""
        return self.moves or any((self.brightness, self.contrast, self.erasing, self.zoom))


@dataclass(frozen=True, kw_only=True)
class Recipe(Distortion):
    """The hyperparameters of a training on cross-entropy, with the distortion of its images.

    sgd, adam and adamw are as PyTorch defines them (betas 0.9 and 0.999); lion (Chen et al. 2023, betas 0.9
    and 0.99) and nadamw (Dozat 2016) as optax does; muon (Jordan 2024) is optax's: a convolution's weights
    move along the orthogonal matrix nearest to their momentum, always Nesterov's, all others by Adam at a
    tenth of the learning rate.

    step, multistep, cosine and plateau are StepLR, MultiStepLR, CosineAnnealingLR down to 0 at the last step,
    and ReduceLROnPlateau. one_cycle (Smith and Topin 2018) is optax.cosine_onecycle_schedule: cosine up,
    cosine down to about 0. OneCycleLR is PyTorch's with its defaults: a 25th of the peak at first and a
    250,000th at last, and momentum, or the first beta, from 0.95 to 0.85 and back. Milestones and the other
    counts of schedules are in epochs.

    The average of weights has batch norm's statistics of its own. torch initializes uniformly within
    1/sqrt(fan_in), biases too; he normally with variance 2/fan_in, biases with zero. label_smoothing is
    that of PyTorch's cross_entropy.

    Raises:
      UserError: a name that is not known, a number out of its limits, or a field that the optimizer, the
        schedule or the distortion has no use for.
    """

    epochs: int = _setting(
        MISSING,
        "passes over the training images; its default, as of all down to crop_size, is the recipe's",
        *_COUNT,
    )
    batch_size: int = _setting(MISSING, "images a step", *_COUNT)
    optimizer: str = _setting(
        "sgd", f"{', '.join(OPTIMIZERS)}; the first three as PyTorch has them", choices=OPTIMIZERS
    )
    momentum: float = _setting(0.9, f"of {' or '.join(WITH_MOMENTUM)}", *_SHARE, below=True, use=_MOMENTUM)
    nesterov: bool = _setting(False, "of sgd: Nesterov's momentum", use=_with("optimizer", "sgd"))
    weight_decay: float = _setting(0.0, "in the gradient (sgd, adam), otherwise decoupled", 0.0, 100)
    learning_rate: float = _setting(
        0.01,
        "the constant one, the first one, or one cycle's peak; of several, 0.003,0.01,0.03, each is trained "
        "with each seed, and they are compared",
        1e-8,
        100,
    )
    schedule: str = _setting(
        "constant",
        f"{', '.join(SCHEDULES)}: one_cycle is optax's, OneCycleLR PyTorch's (cycles the momentum, too); "
        "plateau watches the validation loss, or the training loss where no images are held out",
        choices=SCHEDULES,
    )
    warmup: float = _setting(
        0.2, "of one_cycle and OneCycleLR: fraction of the steps that rise", 0.0, 0.99, use=_CYCLE
    )
    step_size: int | None = _setting(None, "of step: epochs between two falls", *_COUNT, use=_STEP)
    milestones: tuple[int, ...] | None = _setting(
        None, "of multistep: epochs after which it falls, 8,12", *_COUNT, use=_MULTISTEP
    )
    gamma: float = _setting(
        0.1, "of step and multistep: what the learning rate is multiplied by", 1e-8, 1, use=_FALLS
    )
    factor: float = _setting(
        0.1, "of plateau: what the learning rate is multiplied by", 1e-8, 1, below=True, use=_PLATEAU
    )
    patience: int = _setting(
        10, "of plateau: epochs without a better loss that it lets pass", 0, 60_000, use=_PLATEAU
    )
    ema_decay: float = _setting(
        0.0, "of the average of weights that is evaluated; 0: none", *_SHARE, below=True
    )
    initialization: str = _setting(
        "torch", f"of weights: {' or '.join(INITIALIZATIONS)}", choices=INITIALIZATIONS
    )
    label_smoothing: float = _setting(0.0, "share of the target spread over all classes", *_SHARE, below=True)

    def __post_init__(self) -> None:
        _check(vars(self), self.changed)

    @property
    def changed(self) -> list[str]:
        """The names of fields that differ from their defaults; epochs and batch_size have none."""
        defaults = {each.name: each.default for each in fields(self)}
        return [name for name in settings() if getattr(self, name) != defaults[name]]

    @property
    def flags(self) -> str:
        """The recipe as a command line's flags, without those at their defaults."""
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
        defaults = {each.name: each.default for each in fields(Recipe)}
        unused = [
            name for name, setting in settings().items() if setting.use and not setting.use.holds(values)
        ]
        return Recipe(**values | {name: defaults[name] for name in unused})


def settings() -> dict[str, Setting]:
    """Return each field's setting by its name, those of the distortion last."""
    last = sorted(fields(Recipe), key=lambda each: hasattr(Distortion, each.name))
    return {each.name: each.metadata["setting"] for each in last}


def check_learning_rates(rates: Sequence[float]) -> None:
    """Raise UserError unless each of the learning rates to compare is allowed, and there once."""
    require(bool(rates), "--learning_rate is empty: give one, or several such as 0.003,0.01,0.03")
    for rate in rates:
        settings()["learning_rate"].check("learning_rate", rate)
        require(rates.count(rate) == 1, f"--learning_rate has {rate:g} twice: give each learning rate once")


def _check(values: Mapping[str, Any], given: Container[str]) -> None:
    """Raise UserError unless a recipe's values are allowed, and those that were given have a use."""
    for name, setting in settings().items():
        if values[name] is not None:
            setting.check(name, values[name])
    for before, after in itertools.pairwise(values["milestones"] or ()):
        require(before < after, f"--milestones has {after} after {before}: give rising epochs, such as 8,12")
    for name, schedule, such_as in (("step_size", "step", "6"), ("milestones", "multistep", "8,12")):
        require(
            values["schedule"] != schedule or bool(values[name]),
            f"--schedule={schedule} needs --{name}: give it in epochs, such as --{name}={such_as}",
        )
    for name, setting in settings().items():
        require(
            setting.use is None or name not in given or setting.use.holds(values),
            f"--{name} belongs to {setting.use and setting.use.of}: leave it out, or give that",
        )
