"""TrainState, train_step and evaluate: pure functions of one seed on one device, or of its part of a batch.

All randomness comes from one key: fold_in by purpose, then by epoch or step, so that what step n
draws depends on (seed, n) alone, and a resumed run draws what an uninterrupted one would.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int32, Key, Num, UInt8, UInt32

from cnn import cpu
from cnn.augment import random_distortion
from cnn.data import Examples
from cnn.model import MOMENTUM, Network, image_keys, places
from cnn.recipe import OPTIMIZERS, SCHEDULES, Recipe
from harness.errors import unknown

_STATISTICS_IMAGES = 2048  # with 512 or 8192 the held-out losses are the same but for 3 %
_EVALUATION_BATCH = 125  # a TPU has 128 lanes for them, and libtpu takes twice the time for two times as many
_ADAM_SHARE = 0.1
_ADAM_BETA = 0.9
_DIV_FACTOR, _FINAL_DIV_FACTOR, _CYCLED_MOMENTUM = 25, 1e4, (0.85, 0.95)  # OneCycleLR's defaults
_INITIALIZATION, _SHUFFLE, _STEP, _SAMPLES = range(4)


@dataclasses.dataclass(frozen=True)
class Config:
    """All that is constant in a training: hashable, a static argument of what is compiled.

    Attributes:
      images: number of training images.
      mean, std: of their values as fractions of 255; of several channels one for each.
      sweep: whether each state has a learning rate of its own (with_learning_rates), not the recipe's.
    """

    network: Network
    recipe: Recipe
    images: int
    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]
    sweep: bool = False

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


class Metrics(NamedTuple):
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
    """All that changes in a training, and the key of its randomness.

    Attributes:
      step: number of updates made.
      key: jax.random.key_data of the key, which NumPy can hold, too.
      params: trainable parameters.
      batch_stats: batch norm's running statistics.
      opt_state: optax's state.
      ema: exponential moving average of params and batch_stats; None without one. After an epoch its
        batch_stats are those of the averaged params (with_statistics).
      metrics: of the epoch's steps so far; whoever begins an epoch sets it to no_metrics().
    """

    step: Int32[Array, ""]
    key: UInt32[Array, " words"]
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: optax.EmaState | None
    metrics: Metrics


class Evaluation(NamedTuple):
    """What a network makes of a set of images: mean cross-entropy, images classified correctly, logits."""

    loss: Float[Array, ""]
    correct: Int32[Array, ""]
    logits: Float[Array, "count classes"]


@functools.partial(jax.jit, static_argnames="config", compiler_options=cpu.RUN_ONCE)
def init_state(config: Config, key: Key[Array, ""]) -> TrainState:
    """The state before the first step."""
    image = jnp.zeros((1, *config.network.architecture.input_shape))
    variables = config.network.init(jax.random.fold_in(key, _INITIALIZATION), image, train=False)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    decay = config.recipe.ema_decay
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=jax.random.key_data(key),
        params=params,
        batch_stats=batch_stats,
        opt_state=make_optimizer(config).init(params),
        ema=None if decay == 0 else optax.ema(decay).init(_variables(params, batch_stats)),  # type: ignore[arg-type]
        metrics=no_metrics(),
    )


def no_metrics() -> Metrics:
    """The metrics before an epoch's first step."""
    return Metrics(jnp.float32(0), jnp.int32(0), jnp.int32(0), jnp.int32(-1), jnp.float32(0))


def train_step(state: TrainState, batch: Examples, *, config: Config) -> TrainState:
    """One update on one batch of images as bytes, and its metrics.

    An epoch's last batch is filled up with images that do not count (Config.images_in).
    """
    key = jax.random.wrap_key_data(state.key)
    return update(state, prepare_batch(batch, state.step, key=key, config=config), config=config)


def prepare_batch(
    batch: Examples, step: Int32[Array, ""], *, key: Key[Array, ""], config: Config
) -> Examples:
    """The images of a step under the recipe's augmentation, normalised: float32 with the same labels.

    Args:
      batch: images as bytes, this device's part of the batch.
      step: number of updates made before.
      key: the run's key.
      config: what is constant in the run.
    """
    augment_key, _ = _step_keys(key, step)
    keys = image_keys(augment_key, len(batch.labels), config.network.axis_name)
    progress = step / (config.recipe.epochs * config.steps_per_epoch)
    grey = jnp.asarray(batch.images) / jnp.float32(255)
    if config.recipe.distorts:
        grey = random_distortion(grey, keys, config.recipe, progress)
    return Examples(_normalize(config, grey), batch.labels)  # type: ignore[arg-type]


def update(state: TrainState, batch: Examples, *, config: Config) -> TrainState:
    """The second half of train_step: one update on a batch of prepare_batch.

    Where config.network.axis_name names a mesh axis, `batch` is this device's part of the batch,
    and the whole step needs one reduction more than its batch norms: gradients and metrics together.
    """
    axis, here = config.network.axis_name, len(batch.labels)
    real = config.images_in(state.step)
    whole = here if axis is None else here * jax.lax.axis_size(axis)
    count = jnp.int32(whole) if real is None else real
    counts = places(here, axis) < count
    _, dropout_key = _step_keys(jax.random.wrap_key_data(state.key), state.step)

    def loss_fn(params: Any) -> tuple[Array, tuple[Array, Any]]:
        logits, updates = config.network.apply(
            _variables(params, state.batch_stats),
            batch.images,
            train=True,
            real=real,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key},
        )
        losses = cross_entropy(logits, batch.labels, config.recipe.label_smoothing)  # type: ignore[arg-type]
        correct = (counts & (logits.argmax(-1) == batch.labels)).sum(dtype=jnp.float32)
        return jnp.where(counts, losses, 0).sum() / count, (correct, updates.get("batch_stats", {}))

    (loss, (correct, batch_stats)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    if axis is not None:
        flat, unflatten = ravel_pytree((loss, correct, gradients))
        loss, correct, gradients = unflatten(jax.lax.psum(flat, axis))
    optimizer = make_optimizer(config, state.step)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if config.recipe.ema_decay > 0:
        _, ema = optax.ema(config.recipe.ema_decay).update(_variables(params, batch_stats), ema)
    before = state.metrics
    diverged = (before.diverged_at >= 0) | ~jnp.isfinite(loss)
    metrics = Metrics(
        loss=before.loss + loss * count,
        correct=before.correct + correct.astype(jnp.int32),
        seen=before.seen + count,
        diverged_at=jnp.where(diverged & (before.diverged_at < 0), state.step, before.diverged_at),
        gradient_norm=jnp.where(diverged, before.gradient_norm, optax.tree.norm(gradients)),
    )
    return TrainState(state.step + 1, state.key, params, batch_stats, opt_state, ema, metrics)


def cross_entropy(
    logits: Float[Array, "batch classes"], labels: Int32[Array, " batch"], label_smoothing: float = 0.0
) -> Float[Array, " batch"]:
    """Of each image; a share of the target may be spread over all classes."""
    if label_smoothing == 0:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def evaluate(state: TrainState, split: Examples, *, config: Config) -> Evaluation:
    """Loss, number of correct answers and logits over all images, however many there are.

    With an average of the weights, the state must have made a step: before, there is none.
    """
    return score(_compiled_logits(state, split.images, config=config), split.labels)


def all_logits(
    state: TrainState, images: UInt8[Array, "count height width channels"], *, config: Config
) -> Float[Array, "count classes"]:
    """Logits of any number of images, a few at a time."""
    variables = evaluated_variables(state, config)
    return jax.lax.map(
        lambda image: predict(variables, image[None], config=config)[0], images, batch_size=_EVALUATION_BATCH
    )


_compiled_logits = jax.jit(all_logits, static_argnames="config")


@jax.jit  # one program, where each operation would be compiled alone
def score(logits: Float[Array, "count classes"], labels: Int32[Array, " count"]) -> Evaluation:
    """How good logits are."""
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return Evaluation(loss, (logits.argmax(-1) == labels).sum(dtype=jnp.int32), logits)


def evaluated_variables(state: TrainState, config: Config) -> dict[str, Any]:
    """The variables to evaluate: the bias-corrected average where the recipe keeps one."""
    if state.ema is None:
        return _variables(state.params, state.batch_stats)
    return optax.tree.bias_correction(state.ema.ema, config.recipe.ema_decay, state.ema.count)


def statistics_images(
    images: UInt8[Array | np.ndarray, "images height width channels"], config: Config
) -> UInt8[Array | np.ndarray, "batches batch height width channels"]:
    """The first training images in batches, for with_statistics: as many batches as make 2,048, or one."""
    size = config.recipe.batch_size
    batches = max(1, min(len(images), _STATISTICS_IMAGES) // size)
    return images[: batches * size].reshape(batches, size, *images.shape[1:])


def with_statistics(
    state: TrainState,
    images: UInt8[Array, "batches batch height width channels"],
    *,
    config: Config,
) -> TrainState:
    """The state whose averaged weights have batch norm's statistics of their own.

    The average of the running statistics is not that: averaged weights make activations that vary less than
    those of each of the weights (Izmailov et al. 2018; PyTorch has swa_utils.update_bn for it). Without an
    average, or without batch norm, the state comes back as it is.

    Args:
      images: of statistics_images, undistorted; where config.network.axis_name names a mesh axis, this
        device's part of each batch. The statistics are the means over the batches.
    """
    if state.ema is None or not state.batch_stats:
        return state
    averaged = evaluated_variables(state, config)
    from_zero = jax.tree.map(jnp.zeros_like, averaged["batch_stats"])

    def of_batch(images: Array) -> Any:
        grey = _normalize(config, images / jnp.float32(255))
        variables = _variables(averaged["params"], from_zero)
        _, found = config.network.apply(variables, grey, train=True, drop=False, mutable=["batch_stats"])
        return found["batch_stats"]  # type: ignore[index]

    share = (1 - config.recipe.ema_decay**state.ema.count) / MOMENTUM  # what bias_correction divides by
    statistics = jax.tree.map(lambda leaf: leaf.mean(0) * share, jax.lax.map(of_batch, images))
    return state._replace(ema=state.ema._replace(ema={**state.ema.ema, "batch_stats": statistics}))  # type: ignore[dict-item]


def predict(
    variables: Any, images: Num[Array, "batch height width channels"], *, config: Config
) -> Float[Array, "batch classes"]:
    """Logits of images whose grey values are 0 to 255."""
    grey = images / jnp.float32(255)
    return config.network.apply(variables, _normalize(config, grey), train=False)  # type: ignore[return-value]


def shuffle(key: Key[Array, ""], epoch: Int32[Array, ""], count: int) -> Int32[Array, " count"]:
    """The order of the training images in an epoch: a permutation of 0 .. count - 1."""
    return jax.random.permutation(jax.random.fold_in(jax.random.fold_in(key, _SHUFFLE), epoch), count)


def epoch_order(
    key: Key[Array, ""], epoch: Int32[Array, ""], *, config: Config
) -> Int32[Array, "steps batch_size"]:
    """The images of each step of an epoch; the last batch is filled up with the first ones of the order."""
    return jnp.resize(shuffle(key, epoch, config.images), (config.steps_per_epoch, config.recipe.batch_size))


def sample_keys(key: Key[Array, ""], count: int) -> Key[Array, " count"]:
    """A key for each of the augmented images that the report shows."""
    return jax.random.split(jax.random.fold_in(key, _SAMPLES), count)


def _step_keys(key: Key[Array, ""], step: Int32[Array, ""]) -> Key[Array, "2"]:
    """Of a step's augmentation and of its dropout."""
    return jax.random.split(jax.random.fold_in(jax.random.fold_in(key, _STEP), step))


def _normalize(
    config: Config, grey: Float[Array, "batch height width channels"]
) -> Float[Array, "batch height width channels"]:
    mean, std = (jnp.asarray(value, grey.dtype) for value in (config.mean, config.std))
    return (grey - mean) / std


def _variables(params: Any, batch_stats: Any) -> dict[str, Any]:
    return {"params": params, "batch_stats": batch_stats}


def learning_rate_schedule(config: Config) -> optax.Schedule:
    """Learning rate as a function of the step; plateau's before its factors, which the state holds.

    In a sweep as a multiple of the state's own: each schedule is linear in the recipe's learning rate.
    """
    recipe, epoch = config.recipe, config.steps_per_epoch
    learning_rate, steps = 1.0 if config.sweep else recipe.learning_rate, recipe.epochs * epoch
    match recipe.schedule:
        case "constant" | "plateau":
            return optax.constant_schedule(learning_rate)
        case "one_cycle":
            return optax.cosine_onecycle_schedule(steps, learning_rate, pct_start=recipe.warmup)
        case "OneCycleLR":
            first = learning_rate / _DIV_FACTOR
            return _pytorchs_cycle(config, first, learning_rate, first / _FINAL_DIV_FACTOR)
        case "step":
            assert recipe.step_size is not None
            each = recipe.step_size * epoch
            return lambda step: learning_rate * recipe.gamma ** (step // each)
        case "multistep":
            assert recipe.milestones is not None
            falls = {milestone * epoch: recipe.gamma for milestone in recipe.milestones}
            return optax.piecewise_constant_schedule(learning_rate, falls)
        case "cosine":
            return optax.cosine_decay_schedule(learning_rate, steps)
        case _:
            raise unknown("schedule", recipe.schedule, SCHEDULES)


def momentum_at(config: Config, step: int | Int32[Array, ""]) -> float | Float[Array, ""]:
    """SGD's and Muon's momentum, Adam's first beta, at a step."""
    if config.recipe.schedule == "OneCycleLR":
        low, high = _CYCLED_MOMENTUM
        return _pytorchs_cycle(config, high, low, high)(step)  # type: ignore[return-value]
    return config.recipe.momentum if config.recipe.optimizer in ("sgd", "muon") else _ADAM_BETA


def _pytorchs_cycle(config: Config, first: float, peak: float, last: float) -> optax.Schedule:
    """torch.optim.lr_scheduler.OneCycleLR's cosine from the first value to the peak and to the last.

    It reaches the peak at the step warmup * steps - 1, which need not be whole, and the last value at the
    last step.
    """
    steps = config.recipe.epochs * config.steps_per_epoch
    top, end = config.recipe.warmup * steps - 1, steps - 1

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


def make_optimizer(config: Config, step: int | Int32[Array, ""] = 0) -> optax.GradientTransformation:
    """The recipe's optimizer, as PyTorch defines it, with the momentum of a step; or Muon."""
    recipe, schedule, momentum = config.recipe, learning_rate_schedule(config), momentum_at(config, step)
    match recipe.optimizer:
        case "sgd":
            optimizer = optax.chain(
                optax.add_decayed_weights(recipe.weight_decay),
                optax.sgd(schedule, momentum=momentum, nesterov=recipe.nesterov),  # type: ignore[arg-type]
            )
        case "adam":
            optimizer = optax.chain(
                optax.add_decayed_weights(recipe.weight_decay), optax.adam(schedule, b1=momentum)
            )
        case "adamw":
            optimizer = optax.adamw(schedule, b1=momentum, weight_decay=recipe.weight_decay)
        case "muon":
            optimizer = optax.contrib.muon(
                schedule,
                beta=momentum,
                weight_decay=recipe.weight_decay,
                adam_learning_rate=lambda step: _ADAM_SHARE * schedule(step),
                adam_b2=0.99,
                muon_weight_dimension_numbers=_kernels_as_matrices,
            )
        case _:
            raise unknown("optimizer", recipe.optimizer, OPTIMIZERS)
    if config.sweep:  # each optimizer's update is linear in the learning rate
        rate = optax.inject_hyperparams(optax.scale, hyperparam_dtype=jnp.float32)(step_size=1.0)
        optimizer = optax.chain(optimizer, rate)
    if recipe.schedule != "plateau":
        return optimizer
    return optax.chain(optimizer, optax.GradientTransformation(_plateau_at_first, _scaled_by_plateau))


def with_learning_rates(state: TrainState, rates: Float[np.ndarray, " members"]) -> TrainState:
    """States of a sweep, stacked, each with its own learning rate in place of the recipe's."""
    dtype = optax.tree.get(state.opt_state, "step_size").dtype
    return state._replace(opt_state=optax.tree.set(state.opt_state, step_size=rates.astype(dtype)))


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


def end_epoch(state: TrainState, loss: Float[Array, ""], *, config: Config) -> TrainState:
    """The state with what the schedule plateau takes from the loss of an epoch."""
    opt_state, plateau = state.opt_state
    _, plateau = _plateau(config.recipe).update({}, plateau, value=loss)
    return state._replace(opt_state=(opt_state, plateau))


def learning_rate(state: TrainState, step: int, *, config: Config) -> float:
    """The learning rate of a step of the epoch that the state is from."""
    scale = state.opt_state[1].scale if config.recipe.schedule == "plateau" else 1
    return float(scale * learning_rate_schedule(config)(step))


def _kernels_as_matrices(params: Any) -> Any:
    """A convolution's kernel is a matrix from all values of a patch to the features."""
    kernel = optax.contrib.MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
    return jax.tree.map(lambda leaf: kernel if leaf.ndim == 4 else None, params)
