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

from cnn.augment import random_distortion
from cnn.model import Network, image_keys, places
from cnn.zoo import OPTIMIZERS, SCHEDULES, Recipe
from errors import unknown

_EVALUATION_BATCH = 250
_ADAM_SHARE = 0.1
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
    """Learning rate as a function of the step."""
    recipe = setup.recipe
    match recipe.schedule:
        case "constant":
            return optax.constant_schedule(recipe.learning_rate)
        case "one_cycle":
            steps = recipe.epochs * setup.steps_per_epoch
            return optax.cosine_onecycle_schedule(steps, recipe.learning_rate, pct_start=recipe.warmup)
        case _:
            raise unknown("schedule", recipe.schedule, SCHEDULES)


def make_optimizer(setup: Setup) -> optax.GradientTransformation:
    """SGD with momentum, as PyTorch defines it, weight decay added to the gradient; or Muon."""
    recipe, rate = setup.recipe, learning_rate_schedule(setup)
    match recipe.optimizer:
        case "sgd":
            return optax.chain(
                optax.add_decayed_weights(recipe.weight_decay),
                optax.sgd(rate, momentum=recipe.momentum, nesterov=recipe.nesterov),
            )
        case "muon":
            return optax.contrib.muon(
                rate,
                beta=recipe.momentum,
                weight_decay=recipe.weight_decay,
                adam_learning_rate=lambda step: _ADAM_SHARE * rate(step),
                adam_b2=0.99,
                muon_weight_dimension_numbers=_kernels_as_matrices,
            )
        case _:
            raise unknown("optimizer", recipe.optimizer, OPTIMIZERS)


def _kernels_as_matrices(params: Any) -> Any:
    """A convolution's kernel is a matrix from all values of a patch to the features."""
    kernel = optax.contrib.MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
    return jax.tree.map(lambda leaf: kernel if leaf.ndim == 4 else None, params)


@functools.partial(  # run once: what it takes is the time to compile it, most of it in LLVM's optimisations
    jax.jit, static_argnames="setup", compiler_options={"xla_backend_optimization_level": 0}
)
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
        ema=None if decay is None else optax.ema(decay).init(_variables(params, batch_stats)),  # type: ignore[arg-type]
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
    if setup.recipe.augmentation is not None:
        grey = random_distortion(grey, keys, setup.recipe.augmentation, progress)
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
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
        correct = (counts & (logits.argmax(-1) == batch.labels)).sum(dtype=jnp.float32)
        return jnp.where(counts, losses, 0).sum() / count, (correct, updates.get("batch_stats", {}))

    (loss, (correct, batch_stats)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    if axis is not None:
        flat, unflatten = ravel_pytree((loss, correct, gradients))
        loss, correct, gradients = unflatten(jax.lax.psum(flat, axis))
    updates, optimizer_state = make_optimizer(setup).update(gradients, state.optimizer_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if setup.recipe.ema_decay is not None:
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
