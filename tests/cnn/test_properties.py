"""What must hold of any architecture, images, labels, seeds and decays, not only of the zoo's."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.ndimage
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from cnn import augment, data, train
from cnn.architecture import (
    GELU,
    Architecture,
    AveragePool,
    BatchNorm,
    ChannelDropout,
    ConcatPool,
    Conv,
    Crop,
    Dense,
    Dropout,
    LeakyReLU,
    MaxPool,
    ReLU,
    Residual,
    SiLU,
    summarize,
)
from cnn.model import Network, Normalization
from cnn.recipe import Distortion, Recipe
from harness.errors import UserError

EPS = float(np.finfo(np.float32).eps)
SEEDS = st.integers(0, 2**31 - 1)


# How the properties reach the code: each of these alone knows a signature.


def setup_of(*layers, **recipe):
    """What trains these layers with these settings, without augmentation unless given."""
    network = Network(Architecture(layers), "torch")
    recipe = Recipe(epochs=1, batch_size=1, **recipe)
    return train.Config(network, recipe, images=1, mean=0.1307, std=0.3081)


def images_of(images, labels):
    return data.Examples(jnp.asarray(images), jnp.asarray(labels, jnp.int32))


def start(setup, seed=0):
    return train.init_state(setup, jax.random.key(seed))


def step(setup, state, batch):
    """(state after a step, its metrics)."""
    after = train.train_step(state, batch, config=setup)
    return after, after.metrics


def evaluate(setup, state, images):
    """(mean loss, images classified correctly, logits)."""
    return train.evaluate(state, images, config=setup)


def averaged(decay, values):
    """What is evaluated of a weight that took these values, one after each step."""
    setup = setup_of(ema_decay=decay)
    ema = optax.ema(decay).init({"w": jnp.float32(0)})
    for value in values:
        _, ema = optax.ema(decay).update({"w": jnp.float32(value)}, ema)
    state = train.TrainState(jnp.int32(len(values)), None, None, {}, {}, None, None, ema, None)
    return float(train.evaluated_variables(state, setup)["w"])


def order(seed, epoch, count):
    return np.asarray(train.shuffle(jax.random.key(seed), jnp.int32(epoch), count))


def augmented(images, seed, strength):
    keys = train.image_keys(jax.random.key(seed), len(images))
    return np.asarray(augment.random_distortion(jnp.asarray(images), keys, strength))


def mapped(image, matrix, shift):
    """The image under one affine map."""
    rows, columns = augment._sources(jnp.asarray(matrix), jnp.asarray(shift), image.shape[:2])
    return np.asarray(augment.sample(jnp.asarray(image)[None], rows[None], columns[None]))[0]


@jax.jit
def normalized(x):
    """What batch norm makes of x in training, and the variance it found."""
    channels = jnp.zeros(x.shape[-1])
    variables = {
        "params": {"scale": channels + 1, "bias": channels},
        "batch_stats": {"mean": channels, "var": channels},  # 0: what is added to it keeps its digits
    }
    y, updates = Normalization().apply(variables, x, train=True, mutable=["batch_stats"])
    count = x.size // x.shape[-1]
    return y, updates["batch_stats"]["var"] / 0.1 * (count - 1) / count


# Architectures.

FLAT = (
    st.builds(BatchNorm),
    st.builds(ReLU),
    st.builds(SiLU),
    st.builds(GELU),
    st.builds(LeakyReLU, st.floats(0, 1)),
    st.builds(Dropout, rate=st.floats(0, 0.9)),
    st.builds(Dense, features=st.integers(1, 5), bias=st.booleans()),
)


def pools(side, least=1):
    windows = st.integers(least, max(least, min(side, 4)))
    return st.builds(MaxPool, windows) | st.builds(AveragePool, st.none() | windows) | st.builds(ConcatPool)


def residuals(side, channels, padded):
    """Of layers that keep the shape; side is None where there are features alone."""
    kinds = list(FLAT[:-1])
    if side is None:
        kinds.append(st.just(Dense(channels)))
    else:
        kernels = st.sampled_from([1, 3, 5] if padded else [1])
        kinds.append(kernels.map(lambda kernel: Conv(channels, kernel, padding=kernel // 2)))
    inside = st.lists(st.one_of(kinds), min_size=1, max_size=3).map(tuple)
    return st.builds(Residual, inside | inside.map(lambda layers: (Residual(layers), *layers)))


SIDES = st.integers(1, 40)


@st.composite
def architectures(draw, *, sides=SIDES, padded=True, local=False):
    """Layers that fit.

    Args:
      padded: whether convolutions may be padded, by up to half a kernel.
      local: no Dense, no crop and no global pooling, so that the image's size does not matter.
    """
    input_side, input_channels = draw(sides), draw(st.integers(1, 3))
    layers, side, channels = [], input_side, input_channels
    for _ in range(draw(st.integers(1, 6))):
        kinds = [*(FLAT[:-1] if local else FLAT), residuals(side, channels, padded)]
        if side is not None:
            kernel = draw(st.integers(1, min(side, 6)))
            padding = draw(st.integers(0, kernel // 2 if padded else 0))
            groups = draw(st.sampled_from([1, 1, channels]))
            kinds += (
                [
                    st.builds(
                        Conv,
                        st.integers(1, 4).map(groups.__mul__),
                        st.just(kernel),
                        st.integers(1, 3),
                        st.just(padding),
                        st.booleans(),
                        groups=st.just(groups),
                    )
                ]
                * 6
                + [pools(side)] * 3
                + [st.builds(ChannelDropout, st.floats(0, 0.9))]
            )
            if side > 2 and not local:
                kinds.append(st.builds(Crop, st.integers(1, (side - 1) // 2)))
        layer = draw(st.one_of(kinds))
        if local and layer in (AveragePool(None), ConcatPool()):
            layer = AveragePool(1)
        layers.append(layer)
        match layer:
            case Dense():
                side, channels = None, layer.features
            case Crop(margin):
                side -= 2 * margin
            case Conv():
                side = len(range(0, side + 2 * layer.padding - layer.kernel + 1, layer.stride))
                channels = layer.features
            case MaxPool(window) | AveragePool(window):
                side = side // (window or side)
            case ConcatPool():
                side, channels = 1, 2 * channels
    return Architecture(tuple(layers), (input_side, input_side, input_channels))


def built(architecture, *, train=False):
    """Shapes alone, nothing computed: (logits, variables with what each submodule gave)."""
    network = Network(architecture, "torch")
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    images = jax.ShapeDtypeStruct((2, *architecture.input_shape), jnp.float32)
    return jax.eval_shape(
        lambda images: network.init_with_output(keys, images, train=train, capture_intermediates=True),
        images,
    )


def one_by_one(layers, rows):
    """Each layer with its row, those in a residual at its place."""
    for layer, row in zip(layers, rows, strict=True):
        yield layer, row
        if isinstance(layer, Residual):
            yield from one_by_one(layer.layers, row.inside)


def leading(architecture, count):
    return dataclasses.replace(architecture, layers=architecture.layers[:count])


@settings(max_examples=40)
@given(architectures(), st.booleans())
def test_shapes_and_parameters_are_what_flax_builds(architecture, training):
    rows = summarize(architecture)
    for count in range(1, len(rows) + 1):
        logits, variables = built(leading(architecture, count), train=training)
        assert logits.shape == (2, int(np.prod(rows[count - 1].output_shape)))
        parameters = sum(leaf.size for leaf in jax.tree.leaves(variables.get("params", {})))
        assert parameters == sum(row.parameters for row in rows[:count])
    given_by = variables.get("intermediates", {})
    for kind, name in ((Conv, "Conv"), (Dense, "Dense"), (BatchNorm, "Normalization")):
        of_kind = [row for layer, row in one_by_one(architecture.layers, rows) if isinstance(layer, kind)]
        for number, row in enumerate(of_kind):
            assert given_by[f"{name}_{number}"]["__call__"][0].shape == (2, *row.output_shape)


def lines_seen(architecture, axis):
    """Which rows (axis 0) or columns (axis 1) of an image the middle output depends on.

    With kernels of ones and no biases, a blank image gives 0 everywhere, and ink in a line gives more
    wherever that line is seen. Unlike a gradient, this misses no pixel that a maximum or a ReLU leaves out.
    """
    side = architecture.input_shape[0]
    images = np.zeros((side, *architecture.input_shape), np.float32)
    lines = images if axis == 0 else images.swapaxes(1, 2)
    lines[np.arange(side), np.arange(side)] = 1
    network, shape = Network(architecture, "torch"), summarize(architecture)[-1].output_shape
    variables = jax.tree.map_with_path(
        lambda path, leaf: jnp.full(leaf.shape, float(path[-1].key in ("kernel", "scale", "var"))),
        {**built(architecture)[1], "intermediates": {}},
    )
    # The variables as an argument: XLA's CPU backend (JAX 0.10.2) computes nonsense with a kernel that is
    # one constant throughout and known when it compiles.
    apply = jax.jit(functools.partial(network.apply, train=False))
    logits = apply(variables, jnp.asarray(images))
    outputs = np.asarray(logits).reshape(side, *shape)
    if len(shape) == 3:
        outputs = outputs[:, shape[0] // 2, shape[1] // 2]
    return np.flatnonzero(outputs.min(axis=-1) > 0)


@settings(max_examples=12)
@given(architectures(padded=False), st.sampled_from([0, 1]))
def test_the_receptive_field_is_what_an_output_depends_on(architecture, axis):
    """Without padding, every output's window lies within the image."""
    seen = lines_seen(architecture, axis)
    assert seen[-1] - seen[0] + 1 == summarize(architecture)[-1].receptive_field


@settings(max_examples=10)
@given(architectures(sides=st.just(60), local=True), st.sampled_from([0, 1]))
def test_padding_leaves_the_receptive_field_as_it_is(architecture, axis):
    """Far enough from the border: half a kernel of padding leaves the middle output in the middle."""
    field = summarize(architecture)[-1].receptive_field
    assume(field <= 30)
    seen = lines_seen(architecture, axis)
    assert seen[-1] - seen[0] + 1 == field


@settings(max_examples=60)
@given(
    st.integers(1, 12),
    st.lists(
        st.one_of(
            *FLAT,
            st.builds(Conv, st.integers(0, 3), st.integers(1, 9), st.integers(1, 4), st.integers(0, 2)),
            st.builds(ChannelDropout, st.floats(0, 0.9)),
            st.builds(Crop, st.integers(0, 6)),
            st.builds(MaxPool, st.integers(1, 9)),
            st.builds(AveragePool, st.none() | st.integers(1, 9)),
            st.builds(ConcatPool),
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_refused_is_exactly_what_flax_cannot_build(side, layers):
    architecture = Architecture(tuple(layers), (side, side, 2))
    for count in range(1, len(layers) + 1):
        try:
            logits, _ = built(leading(architecture, count), train=True)
            possible = logits.size > 0
        except (ValueError, IndexError, TypeCheckError):  # a layer over sides that a Dense layer took away
            possible = False
        if not possible:
            with pytest.raises(UserError, match=r"does not fit its input|from 1 "):
                summarize(leading(architecture, count))
            return
        summarize(leading(architecture, count))


@pytest.mark.parametrize(
    "layer",
    [
        *(Conv(3, 0), Conv(3, -1), Conv(3, 3, stride=0), Conv(3, 3, stride=-1), Conv(3, 3, padding=-1)),
        *(Conv(0, 3), Conv(2, 3, groups=0), Dense(0), Dense(-2)),
        *(MaxPool(0), MaxPool(-2), AveragePool(0), AveragePool(-1)),
        *(Dropout(1.0), Dropout(-0.1), Dropout(float("nan")), Crop(0), Crop(-1)),
        *(ChannelDropout(1.0), ChannelDropout(-0.1)),
    ],
)
def test_a_layer_without_sense_is_refused(layer):
    with pytest.raises(UserError, match=r"layer 2 \(.*\) has \w+ \S+: give a .* from "):
        summarize(Architecture((ReLU(), layer)))


@pytest.mark.parametrize("shape", [(28, 20, 1), (0, 0, 1), (28, 28, 0)])
def test_an_image_without_sense_is_refused(shape):
    with pytest.raises(UserError, match="square"):
        summarize(Architecture((ReLU(),), shape))


# Augmentation.

SIZES = st.sampled_from([(5, 8, 2), (28, 28, 1)])
STRENGTHS = st.builds(
    Distortion, st.floats(0, 180), st.floats(0, 0.9), st.floats(0, 2), st.floats(0, 40), st.floats(0, 9)
)


def noise(seed, *shape, low=-1.0, high=1.0):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


@settings(max_examples=8)
@given(SIZES, SEEDS)
def test_augmentation_at_strength_zero_is_the_identity(size, seed):
    images = noise(seed, 3, *size)
    np.testing.assert_array_equal(augmented(images, seed, Distortion(0.0, 0.0, 0.0, 0.0)), images)


@settings(max_examples=8)
@given(SIZES, STRENGTHS, SEEDS, st.floats(-300, 0), st.floats(0, 300))
def test_augmentation_keeps_shape_and_range(size, strength, seed, low, high):
    """Between the image's extremes and 0, the background; a mean of four pixels rounds a few times."""
    images = noise(seed, 3, *size, low=low, high=high)
    found = augmented(images, seed, strength)
    assert (found.shape, found.dtype) == (images.shape, images.dtype)
    rounding = 8 * EPS * np.abs(images).max()
    assert min(images.min(), 0) - rounding <= found.min()
    assert found.max() <= max(images.max(), 0) + rounding


@settings(max_examples=10)
@given(STRENGTHS, SEEDS)
def test_augmentation_of_an_image_does_not_depend_on_the_others(strength, seed):
    """Its map depends on the key and its place alone; the images in the batch are mapped linearly.

    A coordinate, the sum of shifts and turns of up to 128, is rounded a few times, and a value, of up to 3,
    moves by twice as much of itself.
    """
    allowed = 3 * 2 * 4 * 128 * EPS
    images, others = noise(seed, 3, 5, 8, 2), noise(seed + 1, 3, 5, 8, 2)
    found = augmented(images, seed, strength)
    np.testing.assert_allclose(augmented(images[:2], seed, strength), found[:2], atol=allowed)
    both = augmented(images - 2 * others, seed, strength)
    np.testing.assert_allclose(both, found - 2 * augmented(others, seed, strength), atol=allowed)


@settings(max_examples=25)
@given(st.lists(st.floats(-2, 2, width=16), min_size=6, max_size=6), SEEDS)
def test_an_affine_map_is_scipys(numbers, seed):
    """Coordinates up to 40 are rounded to 4e-6 of a pixel, which moves a value by up to 2e-5."""
    image = noise(seed, 9, 12, 1)
    matrix, shift = np.reshape(numbers[:4], (2, 2)).astype(np.float32), np.float32(numbers[4:])
    centre = np.array([4.0, 5.5])
    right = scipy.ndimage.affine_transform(
        image[..., 0].astype(float), matrix, centre + shift - matrix @ centre, order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(mapped(image, matrix, shift)[..., 0], right, atol=1e-4)


# Shuffling, evaluation, totals, the average of the weights.


@settings(max_examples=15)
@given(SEEDS, st.integers(0, 2**31 - 1), st.sampled_from([1, 2, 3, 10, 255, 1000]))
def test_shuffling_visits_every_image_once(seed, epoch, count):
    np.testing.assert_array_equal(np.sort(order(seed, epoch, count)), np.arange(count))


@settings(max_examples=15)
@given(SEEDS, st.integers(0, 2**31 - 2))
def test_another_seed_or_epoch_is_another_order(seed, epoch):
    orders = {tuple(order(*each, 100)) for each in ((seed, epoch), (seed, epoch + 1), (seed + 1, epoch))}
    assert len(orders) == 3


@pytest.fixture(scope="module")
def mnist():
    """300 test images: the last batch of an evaluation is not full."""
    test = data.load("mnist", None).test
    return images_of(test.images[:300], test.labels[:300])


CONVOLUTIONAL = setup_of(Conv(4, 5, stride=3), BatchNorm(), ReLU(), Dropout(0.5), Dense(10))
LINEAR = setup_of(Dense(10))


@settings(max_examples=10)
@given(st.permutations(range(300)))
def test_evaluation_of_an_image_does_not_depend_on_the_others(mnist, places):
    """In any order and in two parts: the same logits, and totals that add up.

    Sums of 25, of 256 and of 300 terms of about 1: they round by less than 16 eps each.
    """
    state, places, first = start(CONVOLUTIONAL), np.array(places), 40
    whole = evaluate(CONVOLUTIONAL, state, mnist)
    parts = [
        evaluate(CONVOLUTIONAL, state, images_of(mnist.images[part], mnist.labels[part]))
        for part in (places[:first], places[first:])
    ]
    logits = np.concatenate([part.logits for part in parts])
    np.testing.assert_allclose(logits, whole.logits[places], atol=2 * 2 * 16 * EPS)
    assert sum(int(part.correct) for part in parts) == int(whole.correct)
    sizes = (first, 300 - first)
    total = sum(float(part.loss) * size for part, size in zip(parts, sizes, strict=True))
    assert total == pytest.approx(float(whole.loss) * 300, rel=4 * 2 * 16 * EPS)


def loss_and_correct(logits, labels):
    """The sum of the cross-entropies and the right answers, in NumPy and float64."""
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    off = logits - logits.max(axis=1, keepdims=True)
    entropies = np.log(np.exp(off).sum(axis=1)) - off[np.arange(len(labels)), labels]
    return entropies.sum(), int((logits.argmax(axis=1) == labels).sum())


_step = jax.jit(step, static_argnums=0)


@settings(max_examples=40)
@given(SEEDS, st.floats(-3, 6))
def test_loss_and_accuracy_are_those_of_the_logits(mnist, seed, power):
    """From logits near 0 to logits of a million, where all but one probability underflow.

    The sum of 300 losses rounds by sqrt(300) eps. The step computes the logits anew: of 784 terms each.
    """
    state, labels = start(LINEAR), np.random.default_rng(seed).integers(0, 10, 300)
    params = jax.tree.map(lambda leaf: 10**power * noise(seed, *leaf.shape), state.params)
    state, images = state._replace(params=params), images_of(mnist.images, labels)
    result = evaluate(LINEAR, state, images)
    loss, correct = loss_and_correct(result.logits, labels)
    assert float(result.loss) * 300 == pytest.approx(loss, rel=4 * np.sqrt(300) * EPS)
    assert int(result.correct) == correct
    totals = _step(LINEAR, state, images)[1]
    assert (int(totals.seen), int(totals.correct)) == (300, correct)
    assert float(totals.loss) == pytest.approx(loss, rel=1e-4)


def test_equal_logits_are_one_answer(mnist):
    """log(10) a label, and the first class. Equal terms may all round one way."""
    state = start(LINEAR)
    state = state._replace(params=jax.tree.map(jnp.zeros_like, state.params))
    result = evaluate(LINEAR, state, mnist)
    assert float(result.loss) == pytest.approx(np.log(10), rel=300 * EPS)
    assert int(result.correct) == int((mnist.labels == 0).sum())


@settings(max_examples=40)
@given(st.floats(0, 0.9999, exclude_min=True), st.lists(st.floats(-2, 2, width=16), min_size=1, max_size=30))
def test_the_average_of_the_weights_is_unbiased_from_step_one(decay, values):
    """The weights after each step, weighted by decay ** age and normalised.

    1 - decay ** steps in float32 is off by up to eps, which 1 - decay in the denominator magnifies.
    """
    ages = np.arange(len(values))[::-1]
    weights = decay**ages / (decay**ages).sum()
    allowed = 8 * EPS / (1 - decay) * np.abs(values).max()
    assert averaged(decay, values) == pytest.approx(float(weights @ values), rel=0, abs=allowed)


# Batch norm in one pass over the activations.


COUNT = 16 * 6 * 6
"""Activations a channel."""


@settings(max_examples=60)
@given(st.floats(-1000, 1000), st.floats(-3, 3), SEEDS)
def test_one_pass_batch_norm_is_the_two_pass_one(ratio, power, seed):
    """E[x^2] - E[x]^2 loses what mean^2 + variance is rounded to, the tolerance.

    A sum of n terms rounds n times in random directions: sqrt(n) eps, and here twice that. At a mean of
    `ratio` deviations the variance is off by ratio^2 times as much of itself: none of its digits need be
    right at 1,000 deviations.
    """
    deviation = 10**power
    x = np.random.default_rng(seed).normal(ratio * deviation, deviation, (16, 6, 6, 2)).astype(np.float32)
    y, found = (np.asarray(array, np.float64) for array in normalized(x))
    exact = x.astype(np.float64)
    mean, variance = exact.mean((0, 1, 2)), exact.var((0, 1, 2))
    rounding = 2 * np.sqrt(COUNT) * EPS
    lost = rounding * (mean**2 + variance)
    assert (np.abs(found - variance) <= lost).all()

    off_centre = rounding * (np.abs(mean) + np.sqrt(variance))
    nearest, farthest = np.abs(exact - mean) - off_centre, np.abs(exact - mean) + off_centre
    assert (np.abs(y) >= nearest / np.sqrt(variance + lost + 1e-5)).all()
    assert (np.abs(y) <= farthest / np.sqrt(np.maximum(variance - lost, 0) + 1e-5)).all()
    clear = nearest > 0
    np.testing.assert_array_equal(np.sign(y)[clear], np.sign(exact - mean)[clear])


@settings(max_examples=25)
@given(st.floats(-1e4, 1e4, width=32))
def test_batch_norm_of_a_constant_is_nearly_its_bias(constant):
    """It is 0 but for rounding: n eps, because equal terms all round one way; divided by sqrt(1e-5)."""
    y, variance = normalized(np.full((16, 6, 6, 2), constant, np.float32))
    assert (np.abs(y) <= COUNT * EPS * abs(constant) / np.sqrt(1e-5)).all()
    assert ((variance >= 0) & (variance <= 2 * COUNT * EPS * constant**2)).all()
