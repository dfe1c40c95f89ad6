"""The networks by name, each with the recipe that trains it. Nothing but data.

c K k in the assignments' notation is Conv(K, k). The published recipes are SGD with learning rate
0.01 and momentum 0.9 at a constant rate, PyTorch's default initialisation, no augmentation.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from cnn.architecture import (
    Architecture,
    AveragePool,
    BatchNorm,
    ChannelDropout,
    ConcatPool,
    Conv,
    Crop,
    Dense,
    Dropout,
    Layer,
    MaxPool,
    ReLU,
    SiLU,
)
from errors import require_choice

OPTIMIZERS = ("sgd", "muon")
SCHEDULES = ("constant", "one_cycle")
INITIALIZATIONS = ("torch", "he")


@dataclass(frozen=True)
class Distortion:
    """Strength of the random augmentation: an affine map, uniform within plus or minus it, and bends.

    Attributes:
      rotation: degrees.
      scale: fraction of the size.
      shear: fraction: pixels sideways for each pixel up or down.
      shift: pixels, along each axis.
      elastic: pixels, the standard deviation of what each of 6 x 6 control points is moved by. The image
        bends smoothly between them, so that its pixels move by 0.48 of it; 0 keeps straight lines straight.
      fade: share of all this that is gone after the last step; it falls linearly from the first one on.
    """

    rotation: float
    scale: float
    shear: float
    shift: float
    elastic: float = 0.0
    fade: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: on cross-entropy, by SGD with momentum or Muon, and what is added to it.

    Attributes:
      epochs: passes over the training images.
      batch_size: images a step.
      learning_rate: the constant rate, or the peak of the one-cycle schedule.
      schedule: constant, or one_cycle (Smith and Topin 2018): cosine up, cosine down to about 0.
      warmup: fraction of the steps that the one-cycle schedule rises.
      optimizer: sgd; or muon (Jordan 2024): a convolution's weights move along the orthogonal matrix
        nearest to their momentum, all others by Adam at a tenth of the learning rate.
      momentum: of SGD or Muon.
      nesterov: Nesterov's momentum in place of the plain one; Muon has it always.
      weight_decay: times the weights, added to SGD's gradient, or to the step that Muon takes.
      ema_decay: of the average of weights and statistics that is evaluated; None evaluates the
        weights themselves.
      initialization: torch, uniform within 1/sqrt(fan_in) for kernels and biases; or he, normal
        with variance 2/fan_in and zero biases.
      augmentation: of the training images; None leaves them as they are.

    Raises:
      UserError: a schedule, an optimizer or an initialization that is not known.
    """

    epochs: int
    batch_size: int
    learning_rate: float = 0.01
    schedule: str = "constant"
    warmup: float = 0.2
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    ema_decay: float | None = None
    initialization: str = "torch"
    augmentation: Distortion | None = None

    def __post_init__(self) -> None:
        require_choice("schedule", self.schedule, SCHEDULES)
        require_choice("optimizer", self.optimizer, OPTIMIZERS)
        require_choice("initialization", self.initialization, INITIALIZATIONS)


class Reported(NamedTuple):
    """What an author's own log says of one run, in percent of the 10,000 test images.

    Attributes:
      best: the best epoch's accuracy, chosen on the test images.
      best_epoch: which one that is, from 1.
      last: the last epoch's accuracy.
    """

    best: float
    best_epoch: int
    last: float


@dataclass(frozen=True)
class Entry:
    """A network of the zoo.

    Attributes:
      note: where it comes from and what a reader should know of it.
      reported: what its author's log says; None for our own.
    """

    architecture: Architecture
    recipe: Recipe
    note: str
    reported: Reported | None = None


def _relu(*layers: Conv) -> tuple[Layer, ...]:
    return tuple(layer for conv in layers for layer in (conv, ReLU()))


def _norm_relu(*layers: Conv) -> tuple[Layer, ...]:
    return tuple(layer for conv in layers for layer in (conv, BatchNorm(), ReLU()))


def _norm_channel_dropout_relu(*layers: Conv) -> tuple[Layer, ...]:
    return tuple(layer for conv in layers for layer in (conv, BatchNorm(), ChannelDropout(0.03), ReLU()))


def _norm_relu_dropout(*layers: Conv) -> tuple[Layer, ...]:
    return tuple(layer for conv in layers for layer in (conv, BatchNorm(), ReLU(), Dropout(0.1)))


def _norm_silu(*layers: Conv) -> tuple[Layer, ...]:
    return tuple(layer for conv in layers for layer in (conv, BatchNorm(), SiLU()))


def _relu_norm(*layers: Conv, dropout: float = 0.0) -> tuple[Layer, ...]:
    after = (BatchNorm(), Dropout(dropout)) if dropout else (BatchNorm(),)
    return tuple(layer for conv in layers for layer in (conv, ReLU(), *after))


def _bare(features: int, kernel: int, padding: int = 0, shares: int | None = None) -> Conv:
    return Conv(features, kernel, padding=padding, bias=False, shares=shares)


_OURS = Recipe(
    epochs=18,
    batch_size=128,
    learning_rate=0.05,
    schedule="one_cycle",
    optimizer="muon",
    momentum=0.95,
    weight_decay=0.02,
    ema_decay=0.999,
    initialization="he",
    augmentation=Distortion(10.0, 0.10, 0.10, 2.0, elastic=1.0, fade=0.6),
)


ZOO: dict[str, Entry] = {
    "plain_4k": Entry(
        Architecture(
            (
                *_relu(_bare(8, 3), _bare(8, 3), _bare(16, 3)),
                MaxPool(),
                *_relu(_bare(8, 1), _bare(8, 3), _bare(16, 3)),
                _bare(10, 1),
                AveragePool(),
            )
        ),
        Recipe(epochs=20, batch_size=64),
        note="document 000, network 1: no batch norm, no dropout",
        reported=Reported(98.16, 20, 98.16),
    ),
    "bn_4k": Entry(
        Architecture(
            (
                *_norm_relu(_bare(8, 3), _bare(8, 3), _bare(16, 3)),
                MaxPool(),
                *_norm_relu(_bare(8, 1), _bare(8, 3), _bare(16, 3)),
                _bare(10, 1),
                AveragePool(),
            )
        ),
        Recipe(epochs=20, batch_size=64),
        note="document 000, network 2: plain_4k with batch norm",
        reported=Reported(98.95, 20, 98.95),
    ),
    "bn_dropout_4k": Entry(
        Architecture(
            (
                *_norm_channel_dropout_relu(_bare(8, 3), _bare(8, 3), _bare(16, 3)),
                MaxPool(),
                *_norm_channel_dropout_relu(_bare(8, 1), _bare(8, 3), _bare(16, 3)),
                _bare(10, 1),
                AveragePool(),
            )
        ),
        Recipe(epochs=20, batch_size=128),
        note="document 000, network 3: bn_4k with dropout of whole channels, in batches of 128",
        reported=Reported(98.39, 19, 98.36),
    ),
    "bn_dropout_14k": Entry(
        Architecture(
            (
                *_norm_channel_dropout_relu(_bare(16, 3), _bare(16, 3), _bare(16, 3)),
                MaxPool(),
                *_norm_channel_dropout_relu(_bare(16, 1), _bare(24, 3), _bare(24, 3)),
                _bare(10, 1),
                AveragePool(),
            )
        ),
        Recipe(epochs=20, batch_size=64),
        note="document 000, network 4: bn_dropout_4k, wider, in batches of 64",
        reported=Reported(99.42, 20, 99.42),
    ),
    "fc_16k": Entry(
        Architecture(
            (
                *_relu_norm(Conv(16, 3), Conv(32, 3), dropout=0.05),
                Conv(8, 1),
                MaxPool(),
                *_relu_norm(Conv(16, 3), Conv(32, 3), dropout=0.05),
                Conv(16, 1),
                MaxPool(),
                *_relu(Conv(32, 3)),
                AveragePool(2),
                Dense(10),
            )
        ),
        Recipe(epochs=19, batch_size=128),
        note="document 001: a fully connected head",
        reported=Reported(99.46, 18, 99.35),
    ),
    "deep_15k": Entry(
        Architecture(
            (
                *_relu_norm(Conv(8, 3), Conv(16, 3), Conv(16, 3)),
                MaxPool(),
                Dropout(0.05),
                *_relu_norm(Conv(16, 3), Conv(16, 3), Conv(16, 3)),
                Dropout(0.05),
                *_relu_norm(Conv(32, 3)),
                Conv(10, 1),
                AveragePool(2),
            )
        ),
        Recipe(epochs=19, batch_size=128),
        note="document 002: averages the first 2x2 of its 3x3 map; its class holds one more layer, "
        "of 10x10 = 100 weights and 10 biases, which is never used and not counted here",
        reported=Reported(99.42, 12, 99.18),
    ),
    "reduced_19k": Entry(
        Architecture(
            (
                *_norm_relu_dropout(Conv(32, 3, padding=1), Conv(16, 3, padding=1)),
                MaxPool(),
                *_norm_relu_dropout(*[Conv(16, 3, padding=1)] * 2),
                MaxPool(),
                *_norm_relu_dropout(*[Conv(16, 3, padding=1)] * 2),
                MaxPool(),
                *_norm_relu_dropout(Conv(16, 3, padding=1)),
                Conv(16, 3, padding=1),
                AveragePool(),
                Dense(10),
            )
        ),
        Recipe(epochs=20, batch_size=128),
        note="document 003: as its code has it; its text is about another network",
        reported=Reported(99.47, 12, 99.25),
    ),
    "strided_18k": Entry(
        Architecture(
            (
                *_relu_norm(
                    Conv(32, 5, padding=1),
                    Conv(16, 3, padding=1),
                    Conv(16, 3, padding=1, stride=2),
                    Conv(24, 3, padding=1),
                    Conv(16, 3, padding=1),
                    Conv(16, 3, padding=1, stride=2),
                    dropout=0.10,
                ),
                Conv(10, 3),
                AveragePool(),
            )
        ),
        Recipe(epochs=20, batch_size=128),
        note="document 004: strided convolutions instead of pooling",
        reported=Reported(99.49, 19, 99.46),
    ),
    "compact_20k": Entry(
        Architecture(
            (
                *_norm_silu(_bare(15, 5)),
                MaxPool(),
                *_norm_silu(_bare(24, 3, padding=1), _bare(24, 3, padding=1)),
                MaxPool(),
                Dropout(0.05),
                *_norm_silu(_bare(24, 3, padding=1), _bare(24, 3, padding=1)),
                *_norm_silu(_bare(24, 3, padding=1, shares=3), _bare(24, 3, padding=1, shares=4)),
                ConcatPool(),
                Dropout(0.15),
                Dense(10),
            )
        ),
        _OURS,
        note="ours: the default; its last two convolutions repeat the two before them",
    ),
    "tiny_5k": Entry(
        Architecture(
            (
                *_norm_silu(_bare(12, 5, padding=2)),
                MaxPool(),
                *_norm_silu(_bare(16, 3, padding=1), _bare(16, 3, padding=1)),
                *_norm_silu(_bare(16, 3, padding=1, shares=2)),
                MaxPool(),
                *_norm_silu(*[_bare(16, 3, padding=1, shares=2)] * 3),
                ConcatPool(),
                Dense(10),
            )
        ),
        replace(_OURS, augmentation=Distortion(10.0, 0.10, 0.10, 2.0, elastic=1.0, fade=0.8)),
        note="ours: few parameters; one convolution works five times",
    ),
    "sprint_20k": Entry(
        Architecture(
            (
                Crop(2),
                *_norm_silu(_bare(16, 5)),
                MaxPool(),
                *_norm_silu(_bare(24, 3, padding=1), _bare(24, 3, padding=1)),
                MaxPool(),
                *_norm_silu(_bare(24, 3, padding=1), _bare(24, 3, padding=1)),
                *_norm_silu(_bare(24, 3, padding=1, shares=3), _bare(24, 3, padding=1, shares=4)),
                AveragePool(),
                Dense(10),
            )
        ),
        replace(
            _OURS,
            epochs=3,
            learning_rate=0.08,
            ema_decay=0.98,
            augmentation=Distortion(7.0, 0.07, 0.07, 1.0, fade=1.0),
        ),
        note="ours: three epochs, without the images' margin",
    ),
}
