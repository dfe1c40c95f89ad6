import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn import data, train
from cnn.architecture import (
    Architecture,
    AveragePool,
    ChannelDropout,
    ConcatPool,
    Conv,
    Dense,
    Dropout,
    ReLU,
    Residual,
    summarize,
)
from cnn.model import Network
from cnn.text import parse
from cnn.xla import dropout, global_max, step_options
from cnn.zoo import ZOO
from tests.recorded import cases
from tests.recorded.cases import NETWORKS

EPS = float(np.finfo(np.float32).eps)
QUICKLY = {"xla_backend_optimization_level": 0}
"""Without LLVM's optimisations, which take most of the time here; XLA's own, its fusions, stay."""


def some_slow(names, *, but):
    """Names to parametrize by, marked as slow but for those that have all kinds of layers between them."""
    return [name if name in but else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(scope="module")
def images():
    """The first 32 MNIST training images."""
    return cases.images(32).images


@pytest.fixture(scope="module")
def labels():
    return cases.images(32).labels


def rounding(count):
    """What a sum of so many terms is rounded by, as a share of itself, in either of two programs.

    A term's rounding, of either sign, is up to eps of the sum: sqrt(count) times that, and twice to be safe.
    """
    return 2 * EPS * np.sqrt(count)


def terms(architecture):
    """The terms of all the sums that lead to a logit; errors of layers add up as those of terms do."""

    def within(layers, rows, shape):
        count = 0
        for layer, row in zip(layers, rows, strict=True):
            match layer:
                case Conv(kernel=kernel):
                    count += kernel**2 * shape[-1]
                case Dense() | AveragePool() | ConcatPool():
                    count += int(np.prod(shape))
                case Residual(inside):
                    count += within(inside, row.inside, shape)
            shape = row.output_shape
        return count

    return within(architecture.layers, summarize(architecture), architecture.input_shape)


@pytest.mark.numeric
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_equal_pytorch(name, pytorch, images):
    setup = cases.config_of(NETWORKS[name].architecture, NETWORKS[name].recipe)
    state = cases.drawn(setup)._replace(ema=None)
    ours = train.evaluate(state, data.Examples(jnp.asarray(images), jnp.zeros(32, jnp.int32)), config=setup)
    theirs = pytorch("logits", name)["logits"]
    assert np.ptp(theirs, axis=0).min() > 1e-3
    allowed = rounding(terms(NETWORKS[name].architecture)) * np.abs(theirs).max()
    np.testing.assert_allclose(ours.logits, theirs, rtol=0, atol=allowed)


@pytest.mark.numeric
def test_averaged_weights_have_the_statistics_of_pytorchs_update_bn(pytorch, images):
    setup, state = cases.averaged()
    before = train.evaluated_variables(state, setup)
    state = train.with_statistics(state, jnp.asarray(images).reshape(2, 16, 28, 28, 1), config=setup)
    averaged = train.evaluated_variables(state, setup)
    jax.tree.map(np.testing.assert_array_equal, averaged["params"], before["params"])
    theirs, count = pytorch("statistics", "averaged"), rounding(16 * 26 * 26)
    assert averaged["batch_stats"].keys() == {"Normalization_0", "Normalization_1"}
    for name, ours in averaged["batch_stats"].items():
        mean, var = (theirs[f"batch_stats/{name}/{which}"] for which in ("mean", "var"))
        square = (var + mean**2).max()
        np.testing.assert_allclose(ours["mean"], mean, rtol=0, atol=count * square**0.5)
        # Ours is the mean of the squares less the square of the mean, and each is rounded.
        np.testing.assert_allclose(ours["var"], var, rtol=0, atol=3 * count * square)


@pytest.mark.parametrize(("layers", "decay"), [(cases.NORMALIZED, 0.0), ("conv 4 3x3, ReLU, dense 10", 0.9)])
def test_without_an_average_or_batch_norm_there_are_no_statistics_to_take(layers, decay, images):
    recipe = ZOO["bn_4k"].recipe.with_flags({"ema_decay": decay})
    setup = cases.config_of(Architecture(parse(layers)), recipe)
    state = cases.drawn(setup)
    state = cases.with_average(state, decay) if decay else state
    assert train.with_statistics(state, jnp.asarray(images).reshape(2, 16, 28, 28, 1), config=setup) is state


@pytest.mark.numeric
@pytest.mark.slow
def test_a_gradient_does_not_hang_on_how_values_are_rounded(images, labels, monkeypatch):
    """XLA computes some values anew in another fusion, rounded otherwise; float32 and float64 differ in that.

    But for a single value next to 0 or to another maximum, which may fall on either side: up to 0.2 % in
    deep_15k. Of the zoo, bn_dropout_4k is the network that lost a third.
    """

    network = Network(ZOO["bn_dropout_4k"].architecture, "torch")
    setup = train.Config(network, ZOO["bn_dropout_4k"].recipe, 1000, 0.1307, 0.3081)
    state = train.init_state(setup, jax.random.key(0))

    def gradient(dtype):
        network = setup.network.clone(dtype=dtype)
        inputs = jnp.asarray(cases.normalized(images, np.float64), dtype)

        def loss(params):
            updated = {"params": params, "batch_stats": state.batch_stats}
            rngs = {"dropout": jax.random.key(1)}
            logits, _ = network.apply(updated, inputs, train=True, mutable=["batch_stats"], rngs=rngs)
            return -jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels].mean()

        return jax.jit(jax.grad(loss), compiler_options=QUICKLY)(
            jax.tree.map(lambda leaf: leaf.astype(dtype), state.params)
        )

    narrow = gradient(np.float32)
    monkeypatch.setattr(jnp, "float32", jnp.float64)
    with jax.enable_x64(True):
        wide = gradient(np.float64)
    for ours, right in zip(jax.tree.leaves(narrow), jax.tree.leaves(wide), strict=True):
        np.testing.assert_allclose(ours, right, atol=1e-2 * np.linalg.norm(right) + 1e-7)


@pytest.mark.parametrize("name", some_slow(cases.TRAINED, but={"deep_15k", "written"}))
def test_two_training_steps_equal_pytorch(name, pytorch, images, labels, monkeypatch):
    """Two, so that momentum and moved statistics count; the second is an epoch's last, smaller batch.

    Every float32 of the code is a float64 here: a value that rounding moves past 0 would show.
    """
    theirs = pytorch("two_steps", name)
    monkeypatch.setattr(jnp, "float32", jnp.float64)
    architecture = Architecture(cases.without_dropout(NETWORKS[name].architecture.layers))
    recipe = replace(NETWORKS[name].recipe, batch_size=8)
    network = Network(architecture, recipe.initialization, jnp.float64)
    setup = train.Config(network, recipe, images=8 + 5, mean=cases.MEAN, std=cases.DEVIATION)
    with jax.enable_x64(True):
        # A second step whose state had other types than the first one's would be compiled anew.
        before = jax.tree.map(
            lambda leaf: leaf.astype(np.float64) if leaf.dtype == np.float32 else leaf, cases.drawn(setup)
        )

        @functools.partial(jax.jit, compiler_options=QUICKLY)
        def step(state, batch):
            state = state._replace(metrics=train.no_metrics())
            return train.train_step(state, batch, config=setup)

        state = before
        for count, loss in zip((8, 5), theirs.pop("losses"), strict=True):
            state = step(state, data.Examples(jnp.asarray(images[:8]), jnp.asarray(labels[:8])))
            assert state.metrics.seen == count
            np.testing.assert_allclose(state.metrics.loss / count, loss, rtol=1e-12)
        changes = jax.tree.map(np.subtract, *map(cases.variables_of, (state, before)))
    ours = flatten_dict(changes, sep="/")
    assert ours.keys() == theirs.keys()
    assert len(ours) >= 7
    for tensor, change in ours.items():
        assert change.dtype == np.float64
        # In float64 even the sums over 8 images of 26 x 26 places leave twelve digits; float32 rounds theirs.
        np.testing.assert_allclose(change, theirs[tensor], atol=1e-12, rtol=EPS / 2 + 1e-9, err_msg=tensor)


@pytest.mark.numeric
@pytest.mark.slow
@pytest.mark.parametrize("name", cases.WHOLE_BATCH)
def test_a_whole_batch_in_float32_equals_pytorch_in_float64(name, pytorch):
    """XLA has other kernels for many values than for few, some of them wrong: jax-ml/jax issue 39103.

    Compiled as a run compiles its steps.
    """
    entry, theirs = ZOO[name], pytorch("whole_batch", name)
    layers = cases.without_dropout(entry.architecture.layers)
    straight = dict.fromkeys(("rotation", "scale", "shear", "shift", "elastic"), 0.0)
    recipe = entry.recipe.with_flags(
        {"batch_size": 128, "optimizer": "sgd", "schedule": "constant", **straight}
    )
    setup = cases.config_of(Architecture(layers), recipe)
    state = cases.drawn(setup)
    step = jax.jit(
        functools.partial(train.train_step, config=setup),
        compiler_options=step_options(1, setup.network.architecture),
    )
    after = step(state, cases.images(128))
    np.testing.assert_allclose(
        after.metrics.loss / after.metrics.seen, theirs.pop("loss"), rtol=rounding(128)
    )
    before, after = (flatten_dict(cases.variables_of(each), sep="/") for each in (state, after))
    assert after.keys() == theirs.keys()
    for tensor, ours in after.items():
        if tensor.startswith("params"):  # a value that rounding moves past 0 is in its gradient, too
            right = theirs[tensor] + recipe.weight_decay * before[tensor]
            moved = (before[tensor] - ours) / recipe.learning_rate
            tolerance = 1e-2 * np.linalg.norm(right) + 1e-5
            np.testing.assert_allclose(moved, right, atol=tolerance, err_msg=tensor)
        else:
            allowed = rounding(128 * 28 * 28)  # of statistics, which take a tenth of the batch's
            np.testing.assert_allclose(ours, theirs[tensor], rtol=allowed, atol=allowed, err_msg=tensor)


@pytest.mark.numeric
def test_a_shared_convolution_is_one_with_the_same_weights(images):
    """Values equal those of a network with a copy of the weights, and gradients are the sum of both."""
    first, own = Conv(4, 3, padding=1), Conv(4, 3, padding=1)
    shared = Network(Architecture((first, own, ReLU(), Conv(4, 3, padding=1, shares=1), Dense(10))), "he")
    copied = Network(Architecture((first, own, ReLU(), own, Dense(10))), "he")
    inputs = jnp.asarray(cases.normalized(images))
    params = shared.init(jax.random.key(0), inputs[:1], train=False)["params"]
    assert set(params) == {"Conv_0", "Conv_1", "Dense_0"}
    both = params | {"Conv_2": params["Conv_1"]}

    def loss(params, network):
        return (network.apply({"params": params}, inputs, train=False) ** 2).mean()

    value_and_gradient = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    value, gradient = value_and_gradient(params, shared)
    same, of_each = value_and_gradient(both, copied)
    np.testing.assert_allclose(value, same, rtol=rounding(inputs.size))
    total = jax.tree.map(jnp.add, of_each["Conv_1"], of_each.pop("Conv_2"))
    jax.tree.map(
        lambda one, two: np.testing.assert_allclose(
            one, two, rtol=0, atol=rounding(inputs.size) * np.abs(two).max()
        ),
        gradient,
        of_each | {"Conv_1": total},
    )


def test_one_place_of_a_map_takes_the_gradient_of_its_maximum(images):
    """Also where several hold the maximum, as in an image's background."""
    maps = jnp.concatenate([images, 255 - images], -1) / jnp.float32(255)
    value, gradient = jax.jit(jax.value_and_grad(lambda maps: global_max(maps).sum()))(maps)
    assert value == maps.max((1, 2)).sum()
    assert ((maps == maps.max((1, 2), keepdims=True)).sum((1, 2)) > 1).any()
    np.testing.assert_array_equal((gradient == 1).sum((1, 2)), 1)
    np.testing.assert_array_equal((gradient == 0).sum((1, 2)), 28 * 28 - 1)
    np.testing.assert_array_equal((gradient * maps).sum((1, 2)), maps.max((1, 2)))


def test_torch_initialisation_is_uniform_within_one_over_root_of_fan_in():
    entry = ZOO["strided_18k"]
    setup = train.Config(Network(entry.architecture, "torch"), entry.recipe, 1000, 0.1307, 0.3081)
    params = train.init_state(setup, jax.random.key(0)).params
    fan_ins = {"Conv_0": 25, "Conv_1": 32 * 9, "Conv_6": 16 * 9}
    for name, fan_in in fan_ins.items():
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        bound = fan_in**-0.5
        assert jnp.abs(kernel).max() <= bound
        assert jnp.abs(bias).max() <= bound
        assert jnp.abs(kernel).max() > 0.98 * bound
        assert abs(kernel.std() - bound / 3**0.5) < 0.05 * bound


@settings(max_examples=30)
@given(st.floats(0.01, 0.9), st.sampled_from([1, 33, 400]), st.integers(0, 2**32 - 1))
def test_dropout_zeroes_some_and_scales_the_others(rate, size, seed):
    x = np.arange(1.0, 3 * size + 1, dtype=np.float32).reshape(3, size)
    dropped = np.asarray(dropout(jnp.asarray(x), rate, jax.random.key(np.uint32(seed))))
    kept = dropped != 0
    # Either side rounds 1 - rate and the quotient, or its inverse and the product.
    np.testing.assert_allclose(dropped[kept], x[kept] / (1 - rate), rtol=4 * EPS)


@pytest.mark.parametrize("rate", [0.03, 0.05, 0.10, 0.5])
def test_dropout_rate_is_what_was_asked_for(rate):
    dropped = dropout(jnp.ones((1001, 999)), rate, jax.random.key(0)) == 0
    assert abs(dropped.mean() - rate) < 5 * (rate * (1 - rate) / dropped.size) ** 0.5
    # The hash of a place next to another, or of another image's, must say nothing about it.
    for one, other in ((dropped[:, :-1], dropped[:, 1:]), (dropped[:-1], dropped[1:])):
        assert abs((one & other).mean() - rate**2) < 5 * (rate**2 / dropped.size) ** 0.5
    for axis in (0, 1):
        count = dropped.shape[axis]
        deviations = (dropped.sum(axis) - rate * count) / (rate * (1 - rate) * count) ** 0.5
        assert abs(deviations).max() < 6
        assert 0.85 < deviations.var() < 1.15


@pytest.mark.parametrize("axes", [(28, 28, 5), (1, 1, 3)])
@pytest.mark.parametrize("rate", [0.03, 0.5])
def test_channel_dropout_drops_a_channel_of_an_image_as_one(rate, axes):
    """With PyTorch's expectation and variance: 1 and rate / (1 - rate) for ones."""
    network = Network(Architecture((ChannelDropout(rate),), axes), "torch")
    count = 20_000 // axes[-1]
    ones, rngs = jnp.ones((count, *axes)), {"dropout": jax.random.key(2)}
    maps = network.apply({}, ones, train=True, rngs=rngs).reshape(count, *axes)
    assert (maps == maps[:, :1, :1]).all()
    values = maps[:, 0, 0]
    np.testing.assert_allclose(jnp.unique(values), [0, 1 / (1 - rate)], rtol=1e-6)
    error = (rate / (1 - rate) / values.size) ** 0.5  # of the mean, for independent channels
    assert abs(values.mean() - 1) < 4 * error
    assert abs((values == 0).sum(1).var() / (axes[-1] * rate * (1 - rate)) - 1) < 0.1
    assert not (values[0] == values).all()


@pytest.mark.parametrize("name", some_slow(cases.WITH_DROPOUT, but={"bn_dropout_4k"}))
def test_what_dropout_does_to_logits_is_distributed_as_in_pytorch(name, pytorch, images):
    """While training: mean and variance of every logit over 400 draws, and what two logits have in common."""
    draws, theirs = 400, pytorch("dropout", name)
    setup = cases.config_of(ZOO[name].architecture)
    variables = jax.tree.map(jnp.asarray, cases.variables_of(cases.drawn(setup)))
    few = jnp.asarray(cases.normalized(images[:4]))

    def logits(key):
        rngs = {"dropout": key}
        return setup.network.apply(variables, few, train=True, mutable=["batch_stats"], rngs=rngs)[0]

    all_logits = jax.jit(lambda keys: jax.lax.map(logits, keys), compiler_options=QUICKLY)
    ours = np.asarray(all_logits(jax.random.split(jax.random.key(0), draws)))
    error = np.sqrt((ours.var(0) + theirs["var"]) / draws)
    assert (np.abs(ours.mean(0) - theirs["mean"]) < 5 * error).all()
    # The variance of a variance from 400 draws: a tenth for normal ones, and more for rare large drops.
    assert 0.8 < (ours.var(0) / theirs["var"]).mean() < 1.25
    assert 0.7 < ours.mean(-1).var(0).mean() / theirs["of_images"].mean() < 1.4


def test_training_drops_and_evaluation_does_not(images):
    layers = (Conv(4, 5, stride=3), ChannelDropout(0.3), ReLU(), Dense(6), Dropout(0.3), Dense(10))
    network = Network(Architecture(layers), "torch")
    inputs = jnp.asarray(cases.normalized(images))
    variables = network.init(jax.random.key(0), inputs[:1], train=False)

    @functools.partial(jax.jit, static_argnames="train")
    def logits(seed, train):
        rngs = {"dropout": jax.random.key(seed)}
        return network.apply(variables, inputs, train=train, mutable=["batch_stats"], rngs=rngs)[0]

    assert jnp.array_equal(logits(0, train=True), logits(0, train=True))
    assert not jnp.array_equal(logits(0, train=True), logits(1, train=True))
    assert jnp.array_equal(logits(0, train=False), logits(1, train=False))
