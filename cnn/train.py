"""TrainState, train_step and evaluate: pure functions.

All randomness comes from one key: fold_in by purpose, then by epoch or step, so that what step n
draws depends on (seed, n) alone, and a resumed run draws what an uninterrupted one would.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int32, Key, Num, UInt8

from cnn import cpu
from cnn.augment import random_distortion
from cnn.model import Network, image_keys, places
from cnn.recipe import OPTIMIZERS, SCHEDULES, Recipe
from harness.errors import unknown

_EVALUATION_BATCH = 250
_ADAM_SHARE = 0.1
_ADAM_BETA = 0.9
_DIV_FACTOR, _FINAL_DIV_FACTOR, _CYCLED_MOMENTUM = 25, 1e4, (0.85, 0.95)  # OneCycleLR's defaults
_INITIALIZATION, _SHUFFLE, _STEP, _SAMPLES = range(4)


@dataclasses.dataclass(frozen=True)
class Setup:
    """All that is constant in a run: hashable, a static argument of what is compiled.

    Attributes:
      images: number of training images.
      mean, deviation: of their grey values, as fractions of 255.
    """

    network: Network
    recipe: Recipe
    images: int
    mean: float
    deviation: float

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch, the last of which may be smaller."""
        return -(-self.images // self.recipe.batch_size)

    def images_in(self, step: int | Int32[Array, ""]) -> Int32[Array, ""] | None:
        """Images in the batch of a step; None where all batches are alike."""
        size = self.recipe.batch_size
        if self.images % size == 0:
            return None
        return jnp.minimum(size, self.images - step % self.steps_per_epoch * size)


class Images(NamedTuple):
    """Images on the device, as bytes, with their labels."""

    images: UInt8[Array, "count 28 28 1"]
    labels: Int32[Array, " count"]


class Batch(NamedTuple):
    """What a step learns from: augmented, normalised images with their labels.

    An epoch's last batch is filled up with images that do not count (Setup.images_in).
    """

    inputs: Float[Array, "batch 28 28 1"]
    labels: Int32[Array, " batch"]


class Totals(NamedTuple):
    """What an epoch has come to so far.

    Attributes:
      loss, correct, seen: sums over the images.
      diverged_at: the first step whose loss was not a finite number; -1 while there is none.
      gradient_norm: of the last step before it.
    """

    loss: Float[Array, ""]
    correct: Int32[Array, ""]
    seen: Int32[Array, ""]
    diverged_at: Int32[Array, ""]
    gradient_norm: Float[Array, ""]


class TrainState(NamedTuple):
    """All that changes in a run.

    Attributes:
      step: number of updates made.
      params: trainable parameters.
      batch_stats: batch norm's running statistics.
      optimizer_state: optax's state.
      ema: exponential moving average of params and batch_stats; None without one.
    """

    step: Int32[Array, ""]
    params: Any
    batch_stats: Any
    optimizer_state: Any
    ema: optax.EmaState | None


class Evaluation(NamedTuple):
    """What a network makes of a set of images: mean cross-entropy, images classified correctly, logits."""

    loss: Float[Array, ""]
    correct: Int32[Array, ""]
    logits: Float[Array, "count 10"]


def learning_rate_schedule(setup: Setup) -> optax.Schedule:
    """Learning rate as a function of the step; plateau's before its factors, which the state holds."""
    recipe, epoch = setup.recipe, setup.steps_per_epoch
    rate, steps = recipe.learning_rate, recipe.epochs * epoch
    match recipe.schedule:
        case "constant" | "plateau":
            return optax.constant_schedule(rate)
        case "one_cycle":
            return optax.cosine_onecycle_schedule(steps, rate, pct_start=recipe.warmup)
        case "OneCycleLR":
            first = rate / _DIV_FACTOR
            return _pytorchs_cycle(setup, first, rate, first / _FINAL_DIV_FACTOR)
        case "step":
            assert recipe.step_size is not None
            each = recipe.step_size * epoch
            return lambda step: rate * recipe.gamma ** (step // each)
        case "multistep":
            assert recipe.milestones is not None
            falls = {milestone * epoch: recipe.gamma for milestone in recipe.milestones}
            return optax.piecewise_constant_schedule(rate, falls)
        case "cosine":
            return optax.cosine_decay_schedule(rate, steps)
        case _:
            raise unknown("schedule", recipe.schedule, SCHEDULES)


def momentum_at(setup: Setup, step: int | Int32[Array, ""]) -> float | Float[Array, ""]:
    """SGD's and Muon's momentum, Adam's first beta, at a step."""
    if setup.recipe.schedule == "OneCycleLR":
        low, high = _CYCLED_MOMENTUM
        return _pytorchs_cycle(setup, high, low, high)(step)  # type: ignore[return-value]
    return setup.recipe.momentum if setup.recipe.optimizer in ("sgd", "muon") else _ADAM_BETA


def _pytorchs_cycle(setup: Setup, first: float, peak: float, last: float) -> optax.Schedule:
    """torch.optim.lr_scheduler.OneCycleLR's cosine from the first value to the peak and to the last.

    It reaches the peak at the step warmup * steps - 1, which need not be whole, and the last value at the
    last step.
    """
    steps = setup.recipe.epochs * setup.steps_per_epoch
    top, end = setup.recipe.warmup * steps - 1, steps - 1

    def value(step: Any) -> Any:
        up = step / top if top > 0 else 1.0
        down = (step - top) / (end - top) if end > top else 0.0
        rises = step <= top
        share, start, stop = (
            jnp.where(rises, up, down),
            jnp.where(rises, first, peak),
            jnp.where(rises, peak, last),
        )
        return stop + (start - stop) / 2 * (jnp.cos(jnp.pi * share) + 1)

    return value


def make_optimizer(setup: Setup, step: int | Int32[Array, ""] = 0) -> optax.GradientTransformation:
    """The recipe's optimizer, as PyTorch defines it, with the momentum of a step; or Muon."""
    recipe, rate, momentum = setup.recipe, learning_rate_schedule(setup), momentum_at(setup, step)
    match recipe.optimizer:
        case "sgd":
            optimizer = optax.chain(
                optax.add_decayed_weights(recipe.weight_decay),
                optax.sgd(rate, momentum=momentum, nesterov=recipe.nesterov),  # type: ignore[arg-type]
            )
        case "adam":
            optimizer = optax.chain(
                optax.add_decayed_weights(recipe.weight_decay), optax.adam(rate, b1=momentum)
            )
        case "adamw":
            optimizer = optax.adamw(rate, b1=momentum, weight_decay=recipe.weight_decay)
        case "muon":
            optimizer = optax.contrib.muon(
                rate,
                beta=momentum,
                weight_decay=recipe.weight_decay,
                adam_learning_rate=lambda step: _ADAM_SHARE * rate(step),
                adam_b2=0.99,
                muon_weight_dimension_numbers=_kernels_as_matrices,
            )
        case _:
            raise unknown("optimizer", recipe.optimizer, OPTIMIZERS)
    if recipe.schedule != "plateau":
        return optimizer
    return optax.chain(optimizer, optax.GradientTransformation(_plateau_at_first, _scaled_by_plateau))


def _plateau(recipe: Recipe) -> optax.GradientTransformationExtraArgs:
    """PyTorch's ReduceLROnPlateau, which lets `patience` epochs pass; optax's acts in the last of them."""
    return optax.contrib.reduce_on_plateau(recipe.factor, patience=recipe.patience + 1)


def _plateau_at_first(params: Any) -> optax.contrib.ReduceLROnPlateauState:
    """The best loss so far is the largest number: optax's infinity would be taken for divergence."""
    state = optax.contrib.reduce_on_plateau().init(params)
    return state._replace(best_value=jnp.full_like(state.best_value, jnp.finfo(state.best_value.dtype).max))


def _scaled_by_plateau(updates: Any, state: optax.contrib.ReduceLROnPlateauState, params: Any = None) -> Any:
    """The factors change in end_epoch alone."""
    return jax.tree.map(lambda update: state.scale * update, updates), state


def end_epoch(state: TrainState, loss: Float[Array, ""], *, setup: Setup) -> TrainState:
    """The state with what the schedule plateau takes from the loss of an epoch."""
    optimizer_state, plateau = state.optimizer_state
    _, plateau = _plateau(setup.recipe).update({}, plateau, value=loss)
    return state._replace(optimizer_state=(optimizer_state, plateau))


def learning_rate(state: TrainState, step: int, *, setup: Setup) -> float:
    """The learning rate of a step of the epoch that the state is from."""
    scale = state.optimizer_state[1].scale if setup.recipe.schedule == "plateau" else 1
    return float(scale * learning_rate_schedule(setup)(step))


def _kernels_as_matrices(params: Any) -> Any:
    """A convolution's kernel is a matrix from all values of a patch to the features."""
    kernel = optax.contrib.MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
    return jax.tree.map(lambda leaf: kernel if leaf.ndim == 4 else None, params)


@functools.partial(jax.jit, static_argnames="setup", compiler_options=cpu.RUN_ONCE)
def init_state(setup: Setup, key: Key[Array, ""]) -> TrainState:
    """The state before the first step."""
    image = jnp.zeros((1, *setup.network.architecture.input_shape))
    variables = setup.network.init(jax.random.fold_in(key, _INITIALIZATION), image, train=False)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    decay = setup.recipe.ema_decay
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        optimizer_state=make_optimizer(setup).init(params),
        ema=None if decay == 0 else optax.ema(decay).init(_variables(params, batch_stats)),  # type: ignore[arg-type]
    )


def prepare_batch(images: Images, step: Int32[Array, ""], *, key: Key[Array, ""], setup: Setup) -> Batch:
    """The images of a step under the recipe's augmentation, normalised.

    Args:
      images: this device's part of the batch.
      step: number of updates made before.
      key: the run's key.
      setup: what is constant in the run.
    """
    augment_key, _ = _step_keys(key, step)
    keys = image_keys(augment_key, len(images.labels), setup.network.axis_name)
    progress = step / (setup.recipe.epochs * setup.steps_per_epoch)
    grey = images.images / jnp.float32(255)
    if setup.recipe.distorts:
        grey = random_distortion(grey, keys, setup.recipe, progress)
    return Batch(_normalize(setup, grey), images.labels)


def train_step(
    state: TrainState, totals: Totals, batch: Batch, *, key: Key[Array, ""], setup: Setup
) -> tuple[TrainState, Totals]:
    """One update on one batch.

    Where setup.network.axis_name names a mesh axis, `batch` is this device's part of the batch,
    and the whole step needs one reduction more than its batch norms: gradients and totals together.

    Args:
      state: before the step.
      totals: of the epoch's earlier steps.
      batch: of this step, from prepare_batch.
      key: the run's key.
      setup: what is constant in the run.

    Returns:
      The state and the totals after the step.
    """
    axis, here = setup.network.axis_name, len(batch.labels)
    real = setup.images_in(state.step)
    whole = here if axis is None else here * jax.lax.axis_size(axis)
    count = jnp.int32(whole) if real is None else real
    counts = places(here, axis) < count
    _, dropout_key = _step_keys(key, state.step)

    def loss_fn(params: Any) -> tuple[Array, tuple[Array, Any]]:
        logits, updates = setup.network.apply(
            _variables(params, state.batch_stats),
            batch.inputs,
            train=True,
            real=real,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key},
        )
        losses = cross_entropy(logits, batch.labels, setup.recipe.label_smoothing)
        correct = (counts & (logits.argmax(-1) == batch.labels)).sum(dtype=jnp.float32)
        return jnp.where(counts, losses, 0).sum() / count, (correct, updates.get("batch_stats", {}))

    (loss, (correct, batch_stats)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    if axis is not None:
        flat, unflatten = ravel_pytree((loss, correct, gradients))
        loss, correct, gradients = unflatten(jax.lax.psum(flat, axis))
    optimizer = make_optimizer(setup, state.step)
    updates, optimizer_state = optimizer.update(gradients, state.optimizer_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if setup.recipe.ema_decay > 0:
        _, ema = optax.ema(setup.recipe.ema_decay).update(_variables(params, batch_stats), ema)
    diverged = (totals.diverged_at >= 0) | ~jnp.isfinite(loss)
    totals = Totals(
        loss=totals.loss + loss * count,
        correct=totals.correct + correct.astype(jnp.int32),
        seen=totals.seen + count,
        diverged_at=jnp.where(diverged & (totals.diverged_at < 0), state.step, totals.diverged_at),
        gradient_norm=jnp.where(diverged, totals.gradient_norm, optax.tree.norm(gradients)),
    )
    state = TrainState(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        optimizer_state=optimizer_state,
        ema=ema,
    )
    return state, totals


def cross_entropy(
    logits: Float[Array, "batch classes"], labels: Int32[Array, " batch"], label_smoothing: float = 0.0
) -> Float[Array, " batch"]:
    """Of each image; a share of the target may be spread over all classes."""
    if label_smoothing == 0:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def no_totals() -> Totals:
    """The totals before an epoch's first step."""
    return Totals(jnp.float32(0), jnp.int32(0), jnp.int32(0), jnp.int32(-1), jnp.float32(0))


def evaluated_variables(state: TrainState, setup: Setup) -> dict[str, Any]:
    """The variables to evaluate: the bias-corrected average where the recipe keeps one."""
    if state.ema is None:
        return _variables(state.params, state.batch_stats)
    return optax.tree.bias_correction(state.ema.ema, setup.recipe.ema_decay, state.ema.count)


def predict(
    variables: Any, images: Num[Array, "batch 28 28 1"], *, setup: Setup
) -> Float[Array, "batch classes"]:
    """Logits of images whose grey values are 0 to 255."""
    grey = images / jnp.float32(255)
    return setup.network.apply(variables, _normalize(setup, grey), train=False)  # type: ignore[return-value]


@functools.partial(jax.jit, static_argnames="setup")
def evaluate(state: TrainState, data: Images, *, setup: Setup) -> Evaluation:
    """Loss, number of correct answers and logits over all images, however many there are.

    With an average of the weights, the state must have made a step: before, there is none.
    """
    logits = all_logits(state, data.images, setup=setup)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, data.labels).mean()
    return Evaluation(loss, (logits.argmax(-1) == data.labels).sum(dtype=jnp.int32), logits)


def all_logits(
    state: TrainState, images: UInt8[Array, "count 28 28 1"], *, setup: Setup
) -> Float[Array, "count 10"]:
    """Logits of any number of images, a few at a time."""
    variables = evaluated_variables(state, setup)
    return jax.lax.map(
        lambda image: predict(variables, image[None], setup=setup)[0], images, batch_size=_EVALUATION_BATCH
    )


def shuffle(key: Key[Array, ""], epoch: Int32[Array, ""], count: int) -> Int32[Array, " count"]:
    """The order of the training images in an epoch: a permutation of 0 .. count - 1."""
    return jax.random.permutation(jax.random.fold_in(jax.random.fold_in(key, _SHUFFLE), epoch), count)


def sample_keys(key: Key[Array, ""], count: int) -> Key[Array, " count"]:
    """A key for each of the augmented images that the report shows."""
    return jax.random.split(jax.random.fold_in(key, _SAMPLES), count)


def _step_keys(key: Key[Array, ""], step: Int32[Array, ""]) -> Key[Array, "2"]:
    """Of a step's augmentation and of its dropout."""
    return jax.random.split(jax.random.fold_in(jax.random.fold_in(key, _STEP), step))


def _normalize(setup: Setup, grey: Float[Array, "batch 28 28 1"]) -> Float[Array, "batch 28 28 1"]:
    return (grey - setup.mean) / setup.deviation


def _variables(params: Any, batch_stats: Any) -> dict[str, Any]:
    return {"params": params, "batch_stats": batch_stats}
