"""The networks by name, each with the recipe that trains it. Nothing but data.

The layers are written in the words of cnn.text. The first eight networks are from five public solutions of
the assignment, plain_4k to bn_dropout_14k from one of them. Their recipes are SGD with learning rate 0.01
and momentum 0.9 at a constant rate, PyTorch's default initialisation, no augmentation.
"""

import functools
from dataclasses import dataclass, replace
from typing import NamedTuple

from cnn.architecture import Architecture
from cnn.recipe import Recipe
from cnn.text import parse


class Reported(NamedTuple):
    """The accuracies in an author's own log of one run, as fractions of the 10,000 test images.

    Attributes:
      best: the best epoch's accuracy, chosen on the test images.
      best_epoch: which one that is, from 1.
      last: the last epoch's accuracy.
      departures: in how many points the recipe here is not quite the author's.
    """

    best: float
    best_epoch: int
    last: float
    departures: int = 0


@dataclass(frozen=True)
class Entry:
    """A network and how it is trained.

    Attributes:
      layers: in the words of cnn.text.
      note: where it comes from and what a reader should know of it.
      reported: what its author's log says; None for our own.
    """

    layers: str
    recipe: Recipe
    note: str = ""
    reported: Reported | None = None

    @functools.cached_property
    def architecture(self) -> Architecture:
        """The layers as data.

        Raises:
          LayersError: they cannot be read.
        """
        return Architecture(parse(self.layers))


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
    rotation=10.0,
    scale=0.10,
    shear=0.10,
    shift=2.0,
    elastic=1.0,
    fade=0.6,
)
DEFAULT = "compact_20k"
"""The network that is trained where none is named; its recipe trains those that are in no zoo."""

ZOO: dict[str, Entry] = {
    "plain_4k": Entry(
        """
        conv 8 3x3, ReLU, conv 8 3x3, ReLU, conv 16 3x3, ReLU
        max pool 2x2
        conv 8 1x1, ReLU, conv 8 3x3, ReLU, conv 16 3x3, ReLU
        conv 10 1x1, global average pool
        """,
        Recipe(epochs=20, batch_size=64),
        note="published: no batch norm, no dropout",
        reported=Reported(0.9816, 20, 0.9816),
    ),
    "bn_4k": Entry(
        """
        2 x (conv 8 3x3, batch norm, ReLU), conv 16 3x3, batch norm, ReLU
        max pool 2x2
        conv 8 1x1, batch norm, ReLU, conv 8 3x3, batch norm, ReLU, conv 16 3x3, batch norm, ReLU
        conv 10 1x1, global average pool
        """,
        Recipe(epochs=20, batch_size=64),
        note="published: plain_4k with batch norm",
        reported=Reported(0.9895, 20, 0.9895),
    ),
    "bn_dropout_4k": Entry(
        """
        2 x (conv 8 3x3, batch norm, channel dropout 0.03, ReLU)
        conv 16 3x3, batch norm, channel dropout 0.03, ReLU
        max pool 2x2
        conv 8 1x1, batch norm, channel dropout 0.03, ReLU
        conv 8 3x3, batch norm, channel dropout 0.03, ReLU
        conv 16 3x3, batch norm, channel dropout 0.03, ReLU
        conv 10 1x1, global average pool
        """,
        Recipe(epochs=20, batch_size=128),
        note="published: bn_4k with dropout of whole channels, in batches of 128",
        reported=Reported(0.9839, 19, 0.9836),
    ),
    "bn_dropout_14k": Entry(
        """
        3 x (conv 16 3x3, batch norm, channel dropout 0.03, ReLU)
        max pool 2x2
        conv 16 1x1, batch norm, channel dropout 0.03, ReLU
        2 x (conv 24 3x3, batch norm, channel dropout 0.03, ReLU)
        conv 10 1x1, global average pool
        """,
        Recipe(epochs=20, batch_size=64),
        note="published: bn_dropout_4k, wider, in batches of 64",
        reported=Reported(0.9942, 20, 0.9942),
    ),
    "fc_16k": Entry(
        """
        conv 16 3x3 bias, ReLU, batch norm, dropout 0.05
        conv 32 3x3 bias, ReLU, batch norm, dropout 0.05
        conv 8 1x1 bias, max pool 2x2
        conv 16 3x3 bias, ReLU, batch norm, dropout 0.05
        conv 32 3x3 bias, ReLU, batch norm, dropout 0.05
        conv 16 1x1 bias, max pool 2x2
        conv 32 3x3 bias, ReLU
        average pool 2x2, dense 10 bias
        """,
        Recipe(epochs=19, batch_size=128),
        note="published: a fully connected head",
        reported=Reported(0.9946, 18, 0.9935),
    ),
    "deep_15k": Entry(
        """
        conv 8 3x3 bias, ReLU, batch norm, 2 x (conv 16 3x3 bias, ReLU, batch norm)
        max pool 2x2, dropout 0.05
        3 x (conv 16 3x3 bias, ReLU, batch norm), dropout 0.05
        conv 32 3x3 bias, ReLU, batch norm
        conv 10 1x1 bias, average pool 2x2
        """,
        Recipe(epochs=19, batch_size=128),
        note="published: averages the first 2x2 of its 3x3 map; its class holds one more layer, "
        "of 10x10 = 100 weights and 10 biases, which is never used and not counted here",
        reported=Reported(0.9942, 12, 0.9918),
    ),
    "reduced_19k": Entry(
        """
        conv 32 3x3 pad 1 bias, batch norm, ReLU, dropout 0.1
        conv 16 3x3 pad 1 bias, batch norm, ReLU, dropout 0.1
        max pool 2x2
        2 x (conv 16 3x3 pad 1 bias, batch norm, ReLU, dropout 0.1)
        max pool 2x2
        2 x (conv 16 3x3 pad 1 bias, batch norm, ReLU, dropout 0.1)
        max pool 2x2
        conv 16 3x3 pad 1 bias, batch norm, ReLU, dropout 0.1
        conv 16 3x3 pad 1 bias
        global average pool, dense 10 bias
        """,
        Recipe(epochs=20, batch_size=128),
        note="published: as its code has it; its text is about another network",
        reported=Reported(0.9947, 12, 0.9925),
    ),
    "strided_18k": Entry(
        """
        conv 32 5x5 pad 1 bias, ReLU, batch norm, dropout 0.1
        conv 16 3x3 pad 1 bias, ReLU, batch norm, dropout 0.1
        conv 16 3x3 stride 2 pad 1 bias, ReLU, batch norm, dropout 0.1
        conv 24 3x3 pad 1 bias, ReLU, batch norm, dropout 0.1
        conv 16 3x3 pad 1 bias, ReLU, batch norm, dropout 0.1
        conv 16 3x3 stride 2 pad 1 bias, ReLU, batch norm, dropout 0.1
        conv 10 3x3 bias, global average pool
        """,
        Recipe(epochs=20, batch_size=128),
        note="published: strided convolutions instead of pooling",
        reported=Reported(0.9949, 19, 0.9946),
    ),
    DEFAULT: Entry(
        """
        conv 15 5x5, batch norm, SiLU
        max pool 2x2
        2 x (conv 24 3x3 pad 1, batch norm, SiLU)
        max pool 2x2, dropout 0.05
        2 x (conv 24 3x3 pad 1, batch norm, SiLU)
        conv 24 3x3 pad 1 as conv 3, batch norm, SiLU
        conv 24 3x3 pad 1 as conv 4, batch norm, SiLU
        global average and max pool, dropout 0.15, dense 10 bias
        """,
        _OURS,
        note="ours: the default; its last two convolutions repeat the two before them",
    ),
    "small_10k": Entry(
        """
        crop 2
        conv 30 5x5, batch norm, SiLU
        max pool 2x2
        conv 30 3x3 pad 1, batch norm, SiLU
        2 x (conv 30 3x3 pad 1 as conv 1, batch norm, SiLU)
        max pool 2x2, dropout 0.05
        3 x (conv 30 3x3 pad 1 as conv 1, batch norm, SiLU)
        global average and max pool, dropout 0.15, dense 10 bias
        """,
        _OURS,
        note="ours: half the parameters; one convolution of 30 channels works six times",
    ),
    "tiny_5k": Entry(
        """
        crop 2
        conv 20 5x5, batch norm, SiLU
        max pool 2x2
        conv 20 3x3 pad 1, batch norm, SiLU
        2 x (conv 20 3x3 pad 1 as conv 1, batch norm, SiLU)
        max pool 2x2
        3 x (conv 20 3x3 pad 1 as conv 1, batch norm, SiLU)
        global average and max pool, dense 10 bias
        """,
        replace(_OURS, fade=0.8),
        note="ours: small_10k, narrower, without dropout",
    ),
    "tiny_2k": Entry(
        """
        crop 2
        conv 32 3x3, batch norm, SiLU
        max pool 2x2
        conv 32 3x3 pad 1 groups 32, conv 32 1x1, batch norm, SiLU
        3 x (conv 32 3x3 pad 1 groups 32 as conv 1, conv 32 1x1 as conv 2, batch norm, SiLU)
        max pool 2x2
        3 x (conv 32 3x3 pad 1 groups 32 as conv 1, conv 32 1x1 as conv 2, batch norm, SiLU)
        global average pool, dense 10 bias
        """,
        replace(_OURS, fade=0.8),
        note="ours: one depthwise separable convolution of 32 channels works seven times",
    ),
    "tiny_1k": Entry(
        """
        crop 2
        conv 18 3x3, batch norm, SiLU
        max pool 2x2
        conv 18 3x3 pad 1 groups 18, conv 18 1x1, batch norm, SiLU
        3 x (conv 18 3x3 pad 1 groups 18 as conv 1, conv 18 1x1 as conv 2, batch norm, SiLU)
        max pool 2x2
        3 x (conv 18 3x3 pad 1 groups 18 as conv 1, conv 18 1x1 as conv 2, batch norm, SiLU)
        global average pool, dense 10 bias
        """,
        replace(
            _OURS,
            batch_size=32,
            ema_decay=0.9995,
            rotation=5.0,
            scale=0.05,
            shear=0.05,
            shift=1.0,
            elastic=0.0,
            fade=1.0,
        ),
        note="ours: tiny_2k, narrower",
    ),
    "sprint_20k": Entry(
        """
        crop 2
        conv 16 5x5, batch norm, SiLU
        max pool 2x2
        2 x (conv 24 3x3 pad 1, batch norm, SiLU)
        max pool 2x2
        2 x (conv 24 3x3 pad 1, batch norm, SiLU)
        conv 24 3x3 pad 1 as conv 3, batch norm, SiLU
        conv 24 3x3 pad 1 as conv 4, batch norm, SiLU
        global average pool, dense 10 bias
        """,
        replace(
            _OURS,
            epochs=3,
            learning_rate=0.08,
            ema_decay=0.98,
            rotation=7.0,
            scale=0.07,
            shear=0.07,
            shift=1.0,
            elastic=0.0,
            fade=1.0,
        ),
        note="ours: three epochs, without the images' margin",
    ),
}
