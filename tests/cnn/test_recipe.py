"""Recipes: their flags, and each part held against PyTorch's own, or torchvision's documentation."""

import dataclasses
import functools
import json
import math
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import launch
from cnn import data, optimizer, recipe, train
from cnn.augment import random_distortion
from cnn.config import CnnConfig
from cnn.experiment import describe, resolve
from cnn.recipe import Distortion, Recipe
from cnn.results import _at_target
from cnn.task import require_new_or_same
from cnn.zoo import ZOO
from harness.errors import UserError
from harness.workdir import write_config
from tests.recorded import cases
from tests.recorded.cases import STEPPED, STEPS_PER_EPOCH, setup_of

EPS = float(np.finfo(np.float32).eps)
KEY = jax.random.key(0)
FIELDS = {field.name: field for field in dataclasses.fields(Recipe)}
SETTINGS = recipe.settings()
LIMITED = {name for name, setting in SETTINGS.items() if setting.high is not None}


# The flags.


def test_every_part_is_a_flag_of_its_type_without_a_default():
    hints, flags = (
        typing.get_type_hints(Recipe),
        {field.name: field for field in dataclasses.fields(CnnConfig)},
    )
    of_flags, annotated = (
        typing.get_type_hints(CnnConfig, include_extras=extras) for extras in (False, True)
    )
    for name in FIELDS:
        assert flags[name].default is None
        several = {tuple[float, ...]} if name == "learning_rate" else set()
        assert {*typing.get_args(of_flags[name])} == {*typing.get_args(hints[name] | None), *several}
        assert SETTINGS[name].help == typing.get_args(annotated[name])[1]
    numbers = {name for name, hint in hints.items() if {int, float} & {hint, *typing.get_args(hint)}}
    assert numbers < LIMITED, "give the new number its limits"


def number(name):
    _, low, high, below, *_ = SETTINGS[name]
    return st.integers(low, high) if isinstance(low, int) else st.floats(low, high, exclude_max=below)


VALUES = st.fixed_dictionaries(
    {name: number(name) for name in LIMITED}
    | {
        "optimizer": st.sampled_from(recipe.OPTIMIZERS),
        "schedule": st.sampled_from(recipe.SCHEDULES),
        "initialization": st.sampled_from(recipe.INITIALIZATIONS),
        "nesterov": st.booleans(),
        "crop_size": st.integers(1, 28),  # MNIST's pixels
        "milestones": st.lists(st.integers(1, 60_000), min_size=1, unique=True).map(
            lambda x: tuple(sorted(x))
        ),
    }
)
GIVEN = st.sets(st.sampled_from(sorted(FIELDS)))


def parsed(*flags):
    return resolve(launch.parse(["launch.py", "--task=mnist", *flags])[1])


@settings(max_examples=40)
@given(VALUES)
def test_its_flags_are_read_back_as_the_same_recipe(values):
    used = {
        name: value
        for name, value in values.items()
        if SETTINGS[name].use is None or SETTINGS[name].use.holds(values)
    }
    right = Recipe(**used)
    experiment = parsed("--recipe=plain_4k", "--noenforce_budget", *right.flags.split())
    assert experiment.recipe == right
    assert f"recipe: {right.flags}\n" in describe(experiment)


@settings(max_examples=100)
@given(st.sampled_from(sorted(ZOO)), VALUES, GIVEN)
def test_what_is_given_is_taken_or_refused_never_dropped(name, values, names):
    given_ = {each: values[each] for each in names}
    changed, refused = None, ""
    try:
        changed = ZOO[name].recipe.with_flags(given_)
    except UserError as error:
        refused = str(error)
    if changed is None:
        assert any(f"--{each}" in refused for each in (*names, "step_size", "milestones"))
        return
    for field in FIELDS:
        now, before = getattr(changed, field), getattr(ZOO[name].recipe, field)
        assert now == given_.get(field, before) or (field not in given_ and now == FIELDS[field].default)
    assert Recipe(**vars(changed)) == changed


def test_another_networks_recipe_with_changes_drops_what_they_have_no_use_for():
    experiment = parsed(
        "--model=bn_4k", "--recipe=compact_20k", "--optimizer=adam", "--ema_decay=0", "--fade=0"
    )
    right = dataclasses.replace(
        ZOO["compact_20k"].recipe, optimizer="adam", momentum=0.9, ema_decay=0.0, fade=0.0
    )
    assert experiment.recipe == right
    assert describe(experiment).startswith("bn_4k: published: plain_4k with batch norm; trained by")


@pytest.mark.parametrize(
    "values",
    [
        {"optimizer": "adam", "nesterov": True},
        {"gamma": 0.5},
        {"schedule": "step"},
        {"schedule": "multistep", "milestones": (3, 2)},
        {"zoom": 1.1},
        {"fade": 0.5},
        {"learning_rate": math.nan},
        {"optimizer": "sdg"},
    ],
)
def test_python_is_told_the_same(values):
    with pytest.raises(UserError):
        Recipe(epochs=1, batch_size=1, **values)


PLATEAU = {"schedule": "plateau", "factor": 0.5, "patience": 3}


@pytest.mark.parametrize(
    ("run", "other"),
    [
        (STEPPED, {"step_size": 3}),
        (STEPPED, {"gamma": 0.6}),
        ({"schedule": "multistep", "milestones": (2, 4)}, {"milestones": (2, 5)}),
        (PLATEAU, {"factor": 0.6}),
        (PLATEAU, {"patience": 4}),
        ({"schedule": "OneCycleLR"}, {"warmup": 0.3}),
        ({"zoom": 0.1, "fade": 0.2}, {"crop_size": 20}),
        ({"zoom": 0.1, "fade": 0.2}, {"fade": 0.3}),
        ({"zoom": 0.1, "fade": 0.2}, {"epochs": 20}),
    ],
)
def test_a_run_does_not_go_on_by_another_recipe(tmp_path, run, other):
    write_config(tmp_path, "mnist", CnnConfig(model="bn_4k", epochs=5, **run), device="CPU")
    ((name, value),) = other.items()
    word = ",".join(map(str, value)) if isinstance(value, tuple) else value
    with pytest.raises(UserError, match=f"--{name}=.* is not what the run in .* has"):
        require_new_or_same(parsed("--resume", f"--workdir={tmp_path}", f"--{name}={word}"), tmp_path)


@pytest.mark.parametrize("run", [STEPPED, PLATEAU, {"schedule": "multistep", "milestones": (2, 4)}])
def test_a_run_whose_length_changes_nothing_before_it_may_be_longer(tmp_path, run):
    write_config(tmp_path, "mnist", CnnConfig(model="bn_4k", epochs=5, **run), device="CPU")
    require_new_or_same(parsed("--resume", f"--workdir={tmp_path}", "--epochs=9"), tmp_path)


def test_a_run_from_before_these_flags_is_read(tmp_path):
    write_config(tmp_path, "mnist", CnnConfig(model="bn_4k", learning_rate=0.02), device="CPU")
    content = json.loads((tmp_path / "config.json").read_text())
    new = {*FIELDS, "recipe", "max_parameters", "max_epochs"} - {"epochs", "batch_size", "learning_rate"}
    flags = {name: value for name, value in content.pop("flags").items() if name not in new}
    content = {name: value for name, value in content.items() if name != "sha256"} | {"flags": flags}
    from harness.workdir import _digest

    (tmp_path / "config.json").write_text(json.dumps(content | {"sha256": _digest(content)}))
    experiment = parsed("--resume", f"--workdir={tmp_path}")
    require_new_or_same(experiment, tmp_path)
    assert experiment.recipe == dataclasses.replace(ZOO["bn_4k"].recipe, learning_rate=0.02)


# Schedules: their rates at all steps, in float32, which rounds an angle and its cosine a few times.


@pytest.mark.parametrize("name", cases.SCHEDULES)
def test_rates_and_momentum_are_pytorchs(name, pytorch):
    setup = setup_of(learning_rate=0.1, **cases.SCHEDULES[name])
    theirs = pytorch("schedule", name)
    np.testing.assert_allclose(rates_of(setup), theirs["rates"], atol=16 * EPS * 0.1)
    momentum = optimizer.momentum_schedule(setup.recipe, STEPS_PER_EPOCH)
    ours = jax.vmap(lambda step: jnp.float32(momentum(step)))(jnp.arange(30))
    np.testing.assert_allclose(ours, theirs["momenta"], atol=16 * EPS)


def rates_of(setup):
    """At all steps."""
    factor, recipe = optimizer.schedule(setup.recipe, setup.steps_per_epoch), setup.recipe
    steps = jnp.arange(recipe.epochs * setup.steps_per_epoch)
    return jax.jit(jax.vmap(lambda step: jnp.float32(recipe.learning_rate * factor(step))))(steps)


@pytest.mark.parametrize("schedule", ["one_cycle", "OneCycleLR", "cosine"])
@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0.0), (1, 0.2), (1, 0.4), (1, 0.99), (20, 0.01)])
def test_rates_of_short_runs_are_finite_and_at_most_the_peak(schedule, epochs, warmup):
    more = {} if schedule == "cosine" else {"warmup": warmup}
    setup = setup_of(epochs=epochs, learning_rate=0.1, schedule=schedule, **more)
    for images in (8, 8 * STEPS_PER_EPOCH):
        one = dataclasses.replace(setup, images=images)
        rates = rates_of(one)
        assert ((rates >= 0) & (rates <= 0.1 * (1 + 8 * EPS))).all()  # false of NaN


@functools.cache
def ended(patience):
    """After an epoch with a loss: the plateau's state of a network without weights, and its factor."""
    setup = setup_of(schedule="plateau", factor=0.5, patience=patience, learning_rate=0.1)
    plateau = optimizer.start_plateau(setup.recipe)
    state = train.TrainState(jnp.int32(0), None, 0.1, {}, {}, None, plateau, None, None)
    return setup, state, jax.jit(functools.partial(train.end_epoch, config=setup))


@pytest.mark.parametrize("patience", cases.PATIENCE)
def test_plateau_is_pytorchs(patience, pytorch):
    losses, rates = cases.losses(patience), pytorch("plateau", str(patience))["rates"]
    assert {*(np.diff(rates) < 0)} == {True, False}
    reduces_as(rates, patience, losses)


@pytest.mark.torch
@settings(max_examples=25)
@given(st.sampled_from(cases.PATIENCE), st.lists(st.integers(1, 9), min_size=1, max_size=20))
def test_plateau_of_any_losses_is_pytorchs(patience, losses):
    from tests.recorded import pytorch

    reduces_as(pytorch.plateau_rates(patience, losses), patience, losses)


def plateau_rates(rate, patience, losses):
    """Before the first epoch, and after each: halved after more than `patience` without a gain."""
    rates, best, waited = [rate], math.inf, 0
    for loss in losses:
        best, waited = (loss, 0) if loss < best * (1 - 1e-4) else (best, waited + 1)
        if waited > patience:
            rate, waited = rate / 2, 0
        rates.append(rate)
    return rates


def reduces_as(rates, patience, losses):
    assert plateau_rates(0.1, patience, losses) == pytest.approx(list(rates))
    setup, state, end_epoch = ended(patience)
    for rate, loss in zip(rates[:-1], losses, strict=True):
        assert train.learning_rate(state, 3, config=setup) == pytest.approx(rate, rel=2 * EPS)
        state = end_epoch(state, jnp.float32(loss))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert train.learning_rate(state, 3, config=setup) == pytest.approx(rates[-1], rel=2 * EPS)


# Optimizers: updates of a tiny network, in float64.


def at_step(setup, opt_state, step):
    """The optimizer's state with the learning rate and the momentum of a step."""
    return optimizer.set_hyperparameters(
        opt_state,
        learning_rate=setup.recipe.learning_rate * optimizer.schedule(setup.recipe, STEPS_PER_EPOCH)(step),
        momentum=optimizer.momentum_schedule(setup.recipe, STEPS_PER_EPOCH)(step),
    )


@pytest.mark.parametrize("name", cases.UPDATES)
def test_updates_are_pytorchs(name, pytorch):
    theirs = pytorch("updates", name)
    with jax.enable_x64(True):
        updates_are(list(zip(*(theirs[f"weights_{index}"] for index in range(3)), strict=True)), name)


def updates_are(theirs, name):
    setup = setup_of(epochs=2, learning_rate=0.05, **cases.UPDATES[name])
    loss_of = functools.partial(cases.loss_of, jnp.tanh, cases.X, cases.Y)
    made = optimizer.make_optimizer(setup.recipe)

    @jax.jit
    def update(weights, state, step):
        updates, state = made.update(jax.grad(loss_of)(weights), at_step(setup, state, step), weights)
        return jax.tree.map(jnp.add, weights, updates), state

    ours = [jnp.asarray(each) for each in cases.WEIGHTS]
    state = made.init(ours)
    for step in range(STEPS_PER_EPOCH):
        ours, state = update(ours, state, jnp.int32(step))
        for mine, other, before in zip(ours, theirs[step], cases.WEIGHTS, strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-6)
            assert not np.allclose(mine, before, atol=1e-6)


def test_muons_momentum_cycles_too():
    """After other gradients: as at a constant rate with the momentum of that step, but for the rate."""
    weights = {"kernel": jnp.ones((1, 1, 3, 2)), "bias": jnp.ones(2)}

    def direction(setup):
        made = optimizer.make_optimizer(setup.recipe)
        state = at_step(setup, made.init(weights), 4)
        update = jax.jit(made.update, compiler_options=FAST_TO_COMPILE)
        for angle in (0.0, 1.0):
            gradients = jax.tree.map(
                lambda leaf, angle=angle: np.cos(angle + np.arange(leaf.size, dtype=np.float32)).reshape(
                    leaf.shape
                ),
                weights,
            )
            updates, state = update(gradients, state, weights)
        return jax.tree.map(lambda leaf: leaf / state.hyperparams["learning_rate"], updates)

    cycled = setup_of(optimizer="muon", schedule="OneCycleLR")
    momentum = float(optimizer.momentum_schedule(cycled.recipe, STEPS_PER_EPOCH)(4))
    found, right, other = map(
        direction, (cycled, *(setup_of(optimizer="muon", momentum=each) for each in (momentum, 0.3)))
    )
    np.testing.assert_allclose(found["kernel"], right["kernel"], atol=1e-5)
    np.testing.assert_allclose(found["bias"], right["bias"], atol=1e-5)
    assert np.abs(found["kernel"] - other["kernel"]).max() > 1e-2


# The loss.


@pytest.mark.parametrize("share", cases.SMOOTHING)
def test_smoothed_labels_are_pytorchs(share, pytorch):
    smooths_as(pytorch("smoothed", str(share))["losses"], share, *cases.logits_and_labels(0))


@pytest.mark.torch
@settings(max_examples=25)
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 1000))
def test_smoothed_labels_of_any_logits_are_pytorchs(share, seed):
    from tests.recorded import pytorch

    given_ = cases.logits_and_labels(seed)
    smooths_as(pytorch.smoothed_losses(share, *given_), share, *given_)


def smooths_as(theirs, share, logits, labels):
    ours = train.cross_entropy(jnp.asarray(logits), jnp.asarray(labels), share)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


FAST_TO_COMPILE = {"xla_backend_optimization_level": 0}


@pytest.fixture(scope="module")
def images():
    """16 test images, as bytes, with their labels."""
    return data.Examples(*(jnp.asarray(array[:16]) for array in data.load("mnist", None).test))


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_step_learns_from_smoothed_labels_and_an_evaluation_does_not(images, share):
    setup = dataclasses.replace(setup_of(label_smoothing=share), images=16)
    batch = jax.tree.map(lambda leaf: leaf[:8], images)
    state = train.init_state(setup, KEY)
    step = jax.jit(functools.partial(train.train_step, config=setup), compiler_options=FAST_TO_COMPILE)
    metrics = step(state, batch).metrics
    evaluated = train.evaluate(state, batch, config=setup)
    losses = -scipy.special.log_softmax(np.asarray(evaluated.logits), axis=1)
    plain = losses[np.arange(8), batch.labels].mean()
    assert float(metrics.loss) / 8 == pytest.approx((1 - share) * plain + share * losses.mean(), rel=1e-5)
    assert float(evaluated.loss) == pytest.approx(plain, rel=1e-5)


# The distortions; what moves pixels is in test_augment.py.

EACH = {
    "rotation": 20.0,
    "scale": 0.2,
    "shear": 0.3,
    "shift": 3.0,
    "elastic": 2.0,
    "brightness": 0.5,
    "contrast": 0.5,
    "erasing": 0.5,
    "zoom": 0.5,
}


def grey(images):
    return images.images / jnp.float32(255)


@functools.partial(jax.jit, static_argnames="strength", compiler_options=FAST_TO_COMPILE)
def distorted(images, seed, strength, progress=0.0):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(len(images)))
    return random_distortion(images, keys, strength, progress)


def test_every_distortion_is_tested():
    fields = {field.name for field in dataclasses.fields(Distortion)}
    assert {*EACH, "fade", "crop_size"} == fields
    assert not Distortion(fade=1.0).distorts
    assert all(Distortion(**{name: value}).distorts for name, value in EACH.items())


@pytest.mark.parametrize("name", EACH)
def test_a_distortion_keeps_range_and_form_and_fades(images, name):
    """It is of each image alone; once it has faded, and at strength 0, images are as they were."""
    before, fading = grey(images), Distortion(**{name: EACH[name]}, fade=1.0)
    after = distorted(before, 3, fading)
    assert (after.shape, after.dtype) == (before.shape, before.dtype)
    assert 0 <= after.min() < after.max() <= 1
    changed = (jnp.abs(after - before) > 1e-3).any((1, 2, 3))
    assert changed.any()
    assert changed.all() == (name not in ("erasing", "zoom"))
    np.testing.assert_allclose(distorted(before[:5], 3, fading), after[:5], atol=1e-6)
    np.testing.assert_allclose(distorted(before, 3, fading, 1.0), before, atol=1e-5)
    np.testing.assert_array_equal(distorted(before, 3, Distortion()), before)
    assert not jnp.array_equal(distorted(before, 4, fading), after)


def is_drawn_from(sample, distribution):
    """Kolmogorov's test; the seeds are fixed, so that it says the same each time."""
    return scipy.stats.kstest(np.asarray(sample, float).ravel(), distribution).pvalue > 1e-3


@pytest.mark.parametrize("strength", [0.4, 1.5])
def test_brightness_and_contrast_are_drawn_as_torchvision_documents(strength):
    """A factor uniform in [max(0, 1 - strength), 1 + strength]; two levels of grey tell which it was."""
    low, high = max(0, 1 - strength), 1 + strength
    uniform = scipy.stats.uniform(low, high - low).cdf
    levels = jnp.array([0.25, 0.35, 0.35, 0.25])  # with a mean of 0.3
    image = jnp.broadcast_to(levels.reshape(2, 2, 1), (2000, 2, 2, 1))
    bright = distorted(image, 1, Distortion(brightness=strength))
    assert is_drawn_from(bright[:, 0, 0] / 0.25, uniform)
    np.testing.assert_allclose(bright[:, 0, 1] / bright[:, 0, 0], 1.4, rtol=1e-4)
    contrast = distorted(image, 1, Distortion(contrast=strength))
    assert is_drawn_from((contrast[:, 0, 1] - contrast[:, 0, 0]) / 0.1, uniform)
    np.testing.assert_allclose(contrast.mean((1, 2, 3)), 0.3, atol=1e-6)
    both = distorted(image, 1, Distortion(brightness=strength, contrast=strength))
    assert not np.allclose(bright / 0.25, (both.max() - both.min()) / 0.1)


def test_what_leaves_the_range_of_grey_is_clipped(images):
    bright = distorted(grey(images), 0, Distortion(brightness=10.0))
    assert (bright == 1).sum() > (grey(images) == 1).sum()


@pytest.mark.parametrize("crop_size", cases.CROP_SIZES)
def test_zoom_is_a_centre_crop_resized(images, crop_size, pytorch):
    before = np.tile(np.asarray(grey(images)), (50, 1, 1, 1))
    after = distorted(jnp.asarray(before), 2, Distortion(zoom=0.1, crop_size=crop_size))
    expected = np.tile(pytorch("resized", str(crop_size))["images"], (50, 1, 1, 1))
    zoomed = np.isclose(after, expected, atol=1e-5).all((1, 2, 3))
    assert (zoomed | (np.asarray(after) == before).all((1, 2, 3))).all()
    if crop_size < 28:
        assert scipy.stats.binomtest(int(zoomed.sum()), 800, 0.1).pvalue > 1e-3


def documented_rectangle(random, height, width):
    """torchvision's RandomErasing.get_params: its first row and column, rows and columns; None after ten."""
    for _ in range(10):
        area = height * width * random.uniform(0.02, 0.33)
        ratio = math.exp(random.uniform(math.log(0.3), math.log(3.3)))
        rows, columns = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if rows < height and columns < width:
            return (
                random.integers(0, height - rows + 1),
                random.integers(0, width - columns + 1),
                rows,
                columns,
            )
    return None


def test_erasing_draws_its_rectangles_as_torchvision_documents():
    """Of images wider than high, so that a rectangle that is too high is drawn anew."""
    count, height, width = 3000, 12, 40
    erased = (
        np.asarray(distorted(jnp.ones((count, height, width, 1)), 5, Distortion(erasing=0.6)))[..., 0] == 0
    )
    chosen = erased.any((1, 2))
    assert scipy.stats.binomtest(int(chosen.sum()), count, 0.6).pvalue > 1e-3
    rows, columns = erased.any(2), erased.any(1)
    np.testing.assert_array_equal(
        erased, rows[:, :, None] & columns[:, None, :]
    )  # rectangles, and whole ones
    assert (np.abs(np.diff(rows, axis=1)).sum(1) <= 2).all()
    ours = np.stack([rows.argmax(1), columns.argmax(1), rows.sum(1), columns.sum(1)], 1)[chosen]
    random = np.random.default_rng(0)
    theirs = np.array([documented_rectangle(random, height, width) for _ in range(count)])
    for mine, other in zip(ours.T, theirs.T, strict=True):
        assert scipy.stats.ks_2samp(mine, other).pvalue > 1e-3
    assert ours[:, 2].max() < height


# What a run says and keeps.


@given(st.lists(st.sampled_from([0.98, 0.99, 0.994, 0.995]), min_size=1, max_size=8))
def test_the_target_is_held_from_the_first_epoch_after_which_none_misses_it(accuracies):
    rows = [{"epoch": epoch, "test_accuracy": each} for epoch, each in enumerate(accuracies, 1)]
    held = [epoch for epoch in range(1, len(rows) + 1) if min(accuracies[epoch - 1 :]) >= 0.994]
    reached = [row["epoch"] for row in rows if row["test_accuracy"] >= 0.994]
    assert _at_target(rows, 0.994) == {
        "first_epoch_at_target": reached[0] if reached else None,
        "target_held_from_epoch": held[0] if held else None,
    }


@pytest.mark.slow
def test_a_plateaus_learning_rate_follows_the_validation_loss_and_goes_on_after_a_resume(
    small, tmp_path, capsys
):
    """Two seeds of a linear network, at a rate at which the loss goes up and down."""
    flags = ["--task=mnist", "--layers=max pool 4x4, dense 10 bias", "--recipe=bn_4k", "--learning_rate=20"]
    flags += ["--schedule=plateau", "--factor=0.5", "--patience=0", "--num_seeds=2", "--zoom=0.5"]
    flags += [*small, "--validation_size=200"]
    flags += ["--target_accuracy=0.1"]

    def rows(folder, *more):
        assert launch.main(["launch.py", *more, f"--workdir={tmp_path / folder}"]) == 0
        names, *lines = (
            line.split(",") for line in (tmp_path / folder / "metrics.csv").read_text().splitlines()
        )
        return [
            {name: float(text) for name, text in zip(names, line, strict=True) if name != "seconds"}
            for line in lines
        ]

    whole = rows("whole", *flags, "--epochs=6")
    assert "target 10.00% first reached in epoch 1, held to the end from epoch" in capsys.readouterr().out
    assert json.loads((tmp_path / "whole" / "summary.json").read_text())["target_held_from_epoch"] >= 1
    for seed in (0, 1):
        of_seed = [row for row in whole if row["seed"] == seed]
        rates = plateau_rates(20.0, 0, [row["validation_loss"] for row in of_seed])
        assert [row["learning_rate"] for row in of_seed] == rates[:-1]
        assert rates[-1] < 20
    rows("resumed", *flags, "--epochs=3")
    assert rows("resumed", "--task=mnist", "--resume", "--epochs=6") == whole
