"""What both our code and PyTorch are given: networks, weights, images and numbers, all from seeds."""

import functools

import jax
import numpy as np
import optax

from cnn import data, train
from cnn.architecture import Architecture, ChannelDropout, Dropout, Residual, format_table
from cnn.model import Network
from cnn.text import parse
from cnn.zoo import ZOO, Entry

MEAN, DEVIATION = 0.1307, 0.3081
WRITTEN = Entry(  # with the layers that no network of the zoo has
    """
    conv 8 3x3 stride 2 bias, batch norm, leaky ReLU
    2 x (residual (conv 8 3x3 pad 1, batch norm, GELU, dropout 0.05, residual (conv 8 3x3 pad 1 as conv 1)))
    conv 8 3x3 pad 1 groups 8, batch norm, conv 16 1x1 groups 2 bias
    max pool, channel dropout 0.1, conv 12 3x3 pad 1, leaky ReLU 0.2
    global average and max pool, residual (GELU), dense 10 bias
    """,
    ZOO["bn_4k"].recipe,
    note="",
)
NETWORKS = ZOO | {"written": WRITTEN}
PUBLISHED = [name for name, entry in ZOO.items() if entry.reported is not None]
TRAINED = [*PUBLISHED, "written"]
WHOLE_BATCH = ["bn_dropout_14k", "strided_18k", "compact_20k"]
WITH_DROPOUT = [name for name in PUBLISHED if "dropout" in format_table(ZOO[name].architecture)]
NORMALIZED = """
conv 6 3x3, batch norm, dropout 0.5, ReLU, conv 8 3x3 stride 2, batch norm, channel dropout 0.5
global average pool, dense 10
"""
COLOURS_MEAN, COLOURS_DEVIATION = (0.2, 0.3, 0.4), (0.1, 0.2, 0.3)
COLOURS = Architecture(
    parse("conv 16 3x3 pad 1, conv 9 3x3 stride 2 bias, global average pool, dense 7 bias"), (32, 32, 3)
)


@functools.cache
def mnist():
    return data.load("mnist", None)


def images(count):
    """MNIST's first training images, with their labels."""
    return data.Examples(*(array[:count] for array in mnist().train))


def normalized(images, dtype=np.float32):
    return (images / dtype(255) - dtype(MEAN)) / dtype(DEVIATION)


def coloured_images():
    """Five of noise, as bytes."""
    return np.random.default_rng(0).integers(0, 256, (5, *COLOURS.input_shape), np.uint8)


def config_of(architecture, recipe=ZOO["bn_4k"].recipe, mean=MEAN, deviation=DEVIATION):
    return train.Config(Network(architecture, "torch"), recipe, 1000, mean, deviation)


def drawn(config):
    """A state before the first step: init_state, which takes seconds to compile, says the shapes alone.

    No scale, bias or statistic is trivial; kernels keep the variance of what goes through them and a ReLU.
    Where the state is of float64, it has the same numbers.
    """
    shapes, generator = train.init_state.eval_shape(config, jax.random.key(0)), np.random.default_rng(4)

    def draw(path, leaf):
        bound = (6 / np.prod(leaf.shape[:-1])) ** 0.5
        ranges = {"kernel": (-bound, bound), "scale": (0.5, 2), "var": (0.5, 2)}
        values = generator.uniform(*ranges.get(path[-1].key, (-0.3, 0.3)), leaf.shape)
        return values.astype(np.float32).astype(leaf.dtype)

    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    values = (jax.tree.map_with_path(draw, tree) for tree in (shapes.params, shapes.batch_stats))
    return zeros._replace(
        learning_rate=np.asarray(config.recipe.learning_rate, zeros.learning_rate.dtype),
        **dict(zip(("params", "batch_stats"), values, strict=True)),
    )


def variables_of(state):
    return {"params": state.params, "batch_stats": state.batch_stats}


def averaged():
    """Of NORMALIZED: a configuration, and a state with the average of two drawn ones."""
    config = config_of(Architecture(parse(NORMALIZED)), ZOO["bn_4k"].recipe.with_flags({"ema_decay": 0.9}))
    return config, with_average(drawn(config), 0.9)


def with_average(state, decay):
    ema = optax.ema(decay).init(variables_of(state))
    for factor in (1.0, 3.0):
        params = jax.tree.map(lambda leaf, factor=factor: factor * leaf, state.params)
        _, ema = optax.ema(decay).update({"params": params, "batch_stats": state.batch_stats}, ema)
    return state._replace(ema=ema)


def without_dropout(layers):
    """The same layers, in residuals, too, but for what draws at random."""
    left = [layer for layer in layers if not isinstance(layer, Dropout | ChannelDropout)]
    return tuple(
        Residual(without_dropout(layer.layers)) if isinstance(layer, Residual) else layer for layer in left
    )


# Schedules and optimizers: the flags of a recipe, by the name of a case.

EPOCHS, STEPS_PER_EPOCH = 6, 5
STEPPED = {"schedule": "step", "step_size": 2, "gamma": 0.5}
SCHEDULES = {
    "constant": {},
    "OneCycleLR": {"schedule": "OneCycleLR"},
    "OneCycleLR-0.3": {"schedule": "OneCycleLR", "warmup": 0.3},
    "OneCycleLR-0.25": {"schedule": "OneCycleLR", "warmup": 0.25},
    "OneCycleLR-0": {"schedule": "OneCycleLR", "warmup": 0.0},
    "step": STEPPED,
    "multistep": {"schedule": "multistep", "milestones": (1, 4), "gamma": 0.3},
    "cosine": {"schedule": "cosine"},
}
UPDATES = {
    "sgd-decay": {"weight_decay": 0.1},
    "sgd-plain": {"momentum": 0.0},
    "sgd-nesterov": {"nesterov": True, "weight_decay": 0.01},
    "sgd-cycle": {"schedule": "OneCycleLR"},
    "adam-decay": {"optimizer": "adam", "weight_decay": 0.1},
    "adam-cycle": {"optimizer": "adam", "schedule": "OneCycleLR"},
    "adamw-decay": {"optimizer": "adamw", "weight_decay": 0.1},
}
X, Y = (np.random.default_rng(0).normal(size=size) for size in ((16, 4), (16, 2)))
WEIGHTS = [np.random.default_rng(1).normal(size=size) for size in ((4, 3), (3,), (3, 2))]


def setup_of(epochs=EPOCHS, **values):
    """What trains one layer with these settings, on images for `STEPS_PER_EPOCH` batches of 8."""
    recipe = train.Recipe(epochs=epochs, batch_size=8, **values)
    network = Network(Architecture(parse("conv 10 28x28 bias, global average pool")), "torch")
    return train.Config(network, recipe, images=8 * STEPS_PER_EPOCH - 3, mean=0.1, std=0.3)


def loss_of(tanh, x, y, weights):
    """The loss of a tiny network, by any library's arrays and its tanh."""
    first, bias, second = weights
    return ((tanh(x @ first + bias) @ second - y) ** 2).mean()


PATIENCE = 0, 1, 2
SMOOTHING = 0.0, 0.1, 0.5, 0.9
CROP_SIZES = 28, 22, 21, 1


def losses(patience):
    """Of 20 epochs: whole numbers, so that some equal the best."""
    return np.random.default_rng(patience).integers(1, 10, 20)


def logits_and_labels(seed):
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (7, 10)).astype(np.float32)
    return logits, random.integers(0, 10, 7).astype(np.int32)


def centre(crop_size):
    """What is cut out of 16 test images, as shares of 255; the crop is at round((28 - size) / 2)."""
    first = round((28 - crop_size) / 2)
    inside = slice(first, first + crop_size)
    return mnist().test.images[:16, inside, inside] / np.float32(255)
