import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn import data, loop, optimizer, population, train
from cnn.architecture import Architecture, AveragePool, BatchNorm, Conv, Dropout, ReLU
from cnn.augment import random_distortion
from cnn.config import CnnConfig
from cnn.experiment import resolve
from cnn.model import Network
from cnn.recipe import OPTIMIZERS, SCHEDULES, Recipe
from cnn.results import _augmented_samples
from cnn.task import prepare
from harness.errors import UserError

KEY = jax.random.key(0)
EPS = float(np.finfo(np.float32).eps)
SMALL = Architecture(
    (Conv(8, 5, stride=3), BatchNorm(), Dropout(0.1), ReLU(), Conv(10, 5, stride=2), AveragePool())
)
RECIPE = Recipe(
    epochs=3,
    batch_size=32,
    learning_rate=0.1,
    schedule="one_cycle",
    nesterov=True,
    weight_decay=1e-4,
    ema_decay=0.9,
    rotation=5.0,
    scale=0.1,
    shear=0.1,
    shift=1.0,
)
SETUP = train.Config(Network(SMALL, "he"), RECIPE, images=1447, mean=0.1307, std=0.3081)


@pytest.fixture(scope="module")
def mnist():
    """1,447 training images: 45 batches of 32, and one of 7; 613 test images."""
    dataset = data.load("mnist", None)
    first = ((dataset.train, 1447), (dataset.test, 613))
    return [data.Examples(split.images[:n], split.labels[:n]) for split, n in first]


FAST_TO_COMPILE = {"xla_backend_optimization_level": 0}
COMPILED = {}
"""The compiled steps by what they were compiled from, which takes most of the time here."""


class OneDevice:
    """Training of one seed on one device."""

    def __init__(self, setup, split, *, seed=0):
        self.mesh = population.make_mesh(jax.devices()[:1], 1)
        self.setup, self.images = setup, loop.put(split, self.mesh)
        self.empty = jax.tree.map(lambda leaf: np.asarray(leaf)[None], train.no_metrics())
        state = jax.tree.map(
            lambda leaf: np.asarray(leaf)[None], train.init_state(setup, jax.random.key(seed))
        )
        self.state = loop.put(state, self.mesh, population.SEED)
        if (setup, train.update) not in COMPILED:
            compiled = loop.compile_steps(setup, self.mesh, self.images, self.state)
            COMPILED[setup, train.update] = compiled
        self.run_steps = COMPILED[setup, train.update]

    def epoch(self, number):
        """The metrics of an epoch."""
        first = number * self.setup.steps_per_epoch
        self.state = self.state._replace(metrics=loop.put(self.empty, self.mesh, population.SEED))
        *_, (self.state, metrics) = self.run_steps(self.state, first, first + self.setup.steps_per_epoch)
        return metrics


def _train(setup, split, *, epochs, seed=0):
    """The state and the metrics of each epoch."""
    run = OneDevice(setup, split, seed=seed)
    history = []
    for number in range(epochs):
        metrics = run.epoch(number)
        assert metrics.seen[0] == setup.images
        assert run.state.step[0] == (number + 1) * setup.steps_per_epoch
        history.append(jax.tree.map(lambda leaf: np.array(leaf[0]), metrics))
    return jax.tree.map(lambda leaf: leaf[0], run.state), history


def test_training_learns_and_the_seed_decides_everything(mnist):
    state, history = _train(SETUP, mnist[0], epochs=3)
    assert all(metrics.diverged_at == -1 and metrics.gradient_norm > 0 for metrics in history)
    again, _ = _train(SETUP, mnist[0], epochs=3)
    other, _ = _train(SETUP, mnist[0], epochs=3, seed=1)
    assert history[2].loss < 0.5 * history[0].loss
    accuracy = train.evaluate(state, mnist[1], config=SETUP).correct / 613
    assert accuracy > 0.6
    assert all(map(np.array_equal, jax.tree.leaves(state), jax.tree.leaves(again)))
    assert not np.array_equal(state.params["Conv_0"]["kernel"], other.params["Conv_0"]["kernel"])


def test_no_step_of_an_epoch_waits_for_the_host(mnist):
    run = OneDevice(SETUP, mnist[0])
    with jax.transfer_guard_device_to_host("disallow"):
        metrics = run.epoch(0)
    assert int(metrics.seen[0]) == 1447


def test_an_epoch_ends_where_nobody_asks_for_more(mnist):
    """Its first report is of steps that are over, and comes with the newest state."""
    run = OneDevice(SETUP, mnist[0])
    state, metrics = next(run.run_steps(run.state, 0, 46))
    reached = int(state.step[0])
    assert reached < 45
    assert int(state.metrics.seen[0]) == reached * 32 > int(metrics.seen[0]) > 0


def test_the_first_step_without_a_finite_loss_is_named(mnist):
    run = OneDevice(SETUP, mnist[0])
    params = jax.tree.map(lambda leaf: leaf * jnp.nan, run.state.params)
    state = run.state._replace(params=params, step=run.state.step + 3)
    *_, (state, metrics) = run.run_steps(state, 3, 8)
    assert int(metrics.diverged_at[0]) == 3


def _first(split, count):
    return data.Examples(jnp.asarray(split.images[:count]), jnp.asarray(split.labels[:count]))


def test_a_step_depends_on_the_seed_and_its_number_alone(mnist):
    batch = _first(mnist[0], 32)
    state = train.init_state(SETUP, KEY)

    @jax.jit
    def loss_at(step, key):
        at = state._replace(step=step, key=jax.random.key_data(key))
        return train.train_step(at, batch, config=SETUP).metrics.loss

    def loss(step, key=KEY):
        return float(loss_at(jnp.int32(step), key))

    assert loss(5) == loss(5)
    assert len({loss(5), loss(6), loss(5, jax.random.key(1))}) == 3


def test_an_epoch_visits_each_image_once(mnist, monkeypatch):
    """Trains on images whose label is their index, and sees which labels come by."""
    visited = []

    def spy(state, images, labels, *, config):
        valid = config.valid(state.step)
        jax.debug.callback(lambda labels, valid: visited.extend(labels[valid].tolist()), labels, valid)
        return state._replace(step=state.step + 1)

    monkeypatch.setattr(train, "update", spy)
    split = data.Examples(mnist[0].images, np.arange(len(mnist[0].labels), dtype=np.int32))
    run = OneDevice(SETUP, split)
    run.epoch(0)
    jax.block_until_ready(run.state)
    jax.effects_barrier()
    assert sorted(visited) == list(range(1447)) != visited


def test_the_order_of_an_epoch_is_its_seeds_own(mnist):
    run = OneDevice(SETUP, mnist[0])
    keys = [jax.random.key(seed) for seed in (3, 4)]
    words = tuple(tuple(jax.random.key_data(key).tolist()) for key in keys)
    found = loop.put_order(SETUP, run.mesh, words, 2)
    assert found.sharding.device_set == set(run.mesh.devices.flat)
    expected = [train.epoch_order(key, jnp.int32(2), config=SETUP) for key in keys]
    np.testing.assert_array_equal(found, expected)


def test_average_is_unbiased_from_the_first_step(mnist):
    """After n steps: the weights of each step, weighted by decay ** age and normalised."""
    state = train.init_state(SETUP, KEY)
    batch = _first(mnist[0], 32)

    @jax.jit
    def step(state):
        return train.train_step(state, batch, config=SETUP)

    seen = []
    for number in range(1, 5):
        state = step(state)
        seen.append({"params": state.params, "batch_stats": state.batch_stats})
        weights = 0.9 ** np.arange(number)[::-1]
        expected = jax.tree.map(
            lambda *leaves, weights=weights: (
                sum(w * leaf for w, leaf in zip(weights, leaves, strict=True)) / weights.sum()
            ),
            *seen,
        )
        averaged = train.evaluated_variables(state, SETUP)
        for ours, theirs in zip(jax.tree.leaves(averaged), jax.tree.leaves(expected), strict=True):
            # The sums of four terms of about 1 round a few times; 1 - 0.9 ** n magnifies that by up to 10.
            np.testing.assert_allclose(ours, theirs, rtol=10 * 8 * EPS, atol=10 * 8 * EPS)


def test_a_fading_augmentation_is_gone_after_the_last_step(mnist):
    """Its strength at a step follows from the step alone, so that a resumed run goes on with it."""
    fading = dataclasses.replace(RECIPE, rotation=10.0, shift=2.0, elastic=1.0, fade=1.0)
    setup = dataclasses.replace(SETUP, recipe=fading)
    batch, last = _first(mnist[0], 32), fading.epochs * setup.steps_per_epoch

    @functools.partial(jax.jit, static_argnums=1)
    def inputs(step, setup):
        return train.prepare_images(batch.images, step, key=KEY, config=setup)

    off = dict.fromkeys(("rotation", "scale", "shear", "shift"), 0.0)
    plain = inputs(0, dataclasses.replace(SETUP, recipe=dataclasses.replace(RECIPE, **off)))
    moved = [float(jnp.abs(inputs(step, setup) - plain).mean()) for step in (0, last // 2, last)]
    assert moved[0] > 1.2 * moved[1] > 0
    # A coordinate up to 28 is rounded to 28 eps, which moves a value of up to 3 by as much of itself.
    np.testing.assert_allclose(inputs(last, setup), plain, atol=3 * 28 * 8 * EPS)


def test_without_an_average_the_weights_themselves_are_evaluated():
    setup = dataclasses.replace(SETUP, recipe=dataclasses.replace(RECIPE, ema_decay=0.0))
    state = train.init_state(setup, KEY)
    assert state.ema is None
    assert train.evaluated_variables(state, setup)["params"] is state.params


def test_after_an_epoch_the_average_has_statistics_of_its_own(mnist):
    """They hang on the averaged weights and the first images alone: taken again, they are the same."""
    recipe = dataclasses.replace(RECIPE, epochs=1)
    config, splits = loop.configure(SMALL, recipe, data.Dataset(*mnist, classes=10))
    (chunk,) = (chunk for _, chunk in loop.train_epochs(config, splits, (population.start(config, [0]),)))
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), chunk.state)
    images = jnp.asarray(train.statistics_images(mnist[0].images, config))
    assert images.shape == (45, 32, 28, 28, 1)
    again = train.with_statistics(state, images, config=config)
    for name, statistic in train.evaluated_variables(again, config)["batch_stats"]["Normalization_0"].items():
        found = train.evaluated_variables(state, config)["batch_stats"]["Normalization_0"][name]
        # Sums of 32 x 8 x 8 values, in one program or another.
        np.testing.assert_allclose(found, statistic, rtol=0, atol=2048 * EPS * np.abs(statistic).max())
        assert np.abs(found - state.batch_stats["Normalization_0"][name]).max() > 0.01


def test_schedules():
    rate = optimizer.schedule(RECIPE, 46)
    rates = [float(rate(step)) for step in range(3 * 46)]
    assert max(rates) == pytest.approx(1)
    assert np.argmax(rates) == int(0.2 * 3 * 46)
    assert rates[0] == pytest.approx(1 / 25)
    assert rates[-1] < 1e-2
    assert optimizer.schedule(dataclasses.replace(RECIPE, schedule="constant"), 46)(77) == 1


def update_of(recipe, gradients, params):
    """The first update of a recipe's optimizer at its own learning rate and momentum."""
    made = optimizer.make_optimizer(recipe)
    given = {"learning_rate": recipe.learning_rate, "momentum": optimizer.momentum_schedule(recipe, 46)(0)}
    return made.update(gradients, optimizer.set_hyperparameters(made.init(params), **given), params)[0]


def test_muon_moves_a_kernel_by_an_orthogonal_matrix_and_the_rest_by_adam():
    """Newton and Schulz's iteration brings singular values near 1, not to it (Jordan 2024: 0.7 to 1.2)."""
    recipe = RECIPE.with_flags({"optimizer": "muon", "schedule": "constant"})
    params = {"kernel": jnp.zeros((3, 3, 4, 8)), "scale": jnp.ones(8), "dense": jnp.ones((5, 10))}
    gradients = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(0), leaf.shape), params)
    updates = update_of(recipe, gradients, params)
    singular = np.linalg.svd(updates["kernel"].reshape(36, 8), compute_uv=False) / 0.1
    assert singular.min() > 0.6
    assert singular.max() < 1.3
    for name in ("scale", "dense"):
        np.testing.assert_allclose(np.abs(updates[name]), 0.1 * 0.1, rtol=0.5)  # 1.47 times, by Nesterov
        np.testing.assert_array_equal(np.sign(updates[name]), -np.sign(gradients[name]))


def test_optimizer_decays_all_weights():
    gradients = {"w": jnp.ones(2)}
    params = {"w": jnp.array([1.0, -2.0])}
    recipe = Recipe(epochs=1, batch_size=1, learning_rate=0.5, weight_decay=0.1)
    updates = update_of(recipe, gradients, params)
    np.testing.assert_allclose(optax.apply_updates(params, updates)["w"], [1 - 0.55, -2 - 0.4])


def test_the_samples_of_the_report_have_keys_of_their_own():
    """They are not those of initialization, shuffle or step, and not those of the first step's images."""
    key, count = jax.random.key(3), 50
    samples = train.sample_keys(key, count)
    others = [jax.random.fold_in(key, purpose) for purpose in range(train._SAMPLES)]
    others += [*jax.random.split(train._step_keys(key, jnp.int32(0))[0], count)]
    words = {tuple(jax.random.key_data(each).tolist()) for each in [*samples, *others]}
    assert len(words) == count + len(others)


def test_the_report_shows_samples_by_these_keys():
    run = prepare(resolve(CnnConfig(seed=3)), Path())
    originals, *shown = _augmented_samples(run)
    keys = train.sample_keys(jax.random.key(3), 50)
    distorted = jax.jit(random_distortion, static_argnums=2, compiler_options=FAST_TO_COMPILE)
    expected = distorted(jnp.tile(originals, (5, 1, 1, 1)), keys, run.config.recipe)
    np.testing.assert_allclose(np.concatenate(shown), expected, atol=1e-4)


MADE_OF = {
    "optimizer": optimizer.make_optimizer,
    "schedule": lambda recipe: optimizer.schedule(recipe, 46),
}


@pytest.mark.parametrize(
    ("name", "known"), [("optimizer", ", ".join(OPTIMIZERS)), ("schedule", ", ".join(SCHEDULES))]
)
def test_an_unknown_name_is_said_beside_those_that_are_known(name, known):
    with pytest.raises(UserError, match=f"--{name}=other is not known: choose one of {known}"):
        dataclasses.replace(RECIPE, **{name: "other"})
    recipe = dataclasses.replace(RECIPE)
    object.__setattr__(recipe, name, "other")  # past the recipe's own check
    with pytest.raises(ValueError, match=f"{name} is 'other': choose one of {known}"):
        MADE_OF[name](recipe)


def test_an_unknown_initialization_is_said_beside_those_that_are_known():
    with pytest.raises(UserError, match="--initialization=other is not known: choose one of torch, he"):
        dataclasses.replace(RECIPE, initialization="other")
    setup = dataclasses.replace(SETUP, network=Network(SMALL, "other"))
    with pytest.raises(ValueError, match="initialization is 'other': choose one of torch, he"):
        train.init_state(setup, KEY)
