"""TrainState, train_step and evaluate: pure functions of one seed and of whole batches.

jit lays them out over the devices that a batch is sharded over (cnn/loop.py). All randomness comes from one
key: fold_in by purpose, then by epoch or step. What step n draws for the image at place i of its batch
depends on (seed, n, i) alone, so that a resumed run draws what an uninterrupted one would.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.special
from jaxtyping import Array, Bool, Float, Int32, Key, Num, UInt8, UInt32

from cnn import optimizer, xla
from cnn.augment import random_distortion
from cnn.data import Examples
from cnn.model import MOMENTUM, Network
from cnn.optimizer import Plateau
from cnn.recipe import Recipe

_STATISTICS_IMAGES = 2048  # with 512 or 8192 the held-out losses are the same but for 3 %
EVALUATION_BATCH = 125  # a TPU has 128 lanes for them, and libtpu takes twice the time for two times as many
_INITIALIZATION, _SHUFFLE, _STEP, _SAMPLES = range(4)


@dataclasses.dataclass(frozen=True)
class Config:
    """All that is constant in a training: hashable, a static argument of what is compiled.

    Attributes:
      images: number of training images.
      mean, std: of their values as fractions of 255; of several channels one for each.
    """

    network: Network
    recipe: Recipe
    images: int
    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch, the last of which may be smaller."""
        return -(-self.images // self.recipe.batch_size)

    def valid(self, step: Int32[Array, ""]) -> Bool[Array, " batch"] | None:
        """Return which images of a step's batch count: the last batch of an epoch is filled up.

        None where all batches are alike.
        """
        size = self.recipe.batch_size
        if self.images % size == 0:
            return None
        counts = jnp.arange(size) < self.images - step % self.steps_per_epoch * size
        return jax.lax.optimization_barrier(counts)  # computed once, not for each value that it masks


class Metrics(NamedTuple):
    """Sums over the steps of an epoch so far.

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
      learning_rate: the member's own, before the schedule.
      params: trainable parameters.
      batch_stats: batch norm's running statistics.
      opt_state: optax's state, with the learning rate and the momentum of the last update.
      plateau: of the schedule plateau; None for the others.
      ema: exponential moving average of params and batch_stats; None without one. After an epoch its
        batch_stats are those of the averaged params (with_statistics).
      metrics: of the epoch's steps so far; whoever begins an epoch sets it to no_metrics().
    """

    step: Int32[Array, ""]
    key: UInt32[Array, " words"]
    learning_rate: Float[Array, ""]
    params: Any
    batch_stats: Any
    opt_state: Any
    plateau: Plateau | None
    ema: optax.EmaState | None
    metrics: Metrics


class Evaluation(NamedTuple):
    """A network's mean cross-entropy on a set of images, its number of correct answers, and its logits."""

    loss: float
    correct: int
    logits: Float[np.ndarray, "count classes"]


@functools.partial(jax.jit, static_argnames="config", compiler_options=xla.RUN_ONCE)
def init_state(config: Config, key: Key[Array, ""]) -> TrainState:
    """Return the state before the first step."""
    image = jnp.zeros((1, *config.network.architecture.input_shape))
    variables = config.network.init(jax.random.fold_in(key, _INITIALIZATION), image, train=False)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    decay = config.recipe.ema_decay
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=jax.random.key_data(key),
        learning_rate=jnp.float32(config.recipe.learning_rate),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.make_optimizer(config.recipe).init(params),
        plateau=optimizer.start_plateau(config.recipe),
        ema=None if decay == 0 else optax.ema(decay).init(_variables(params, batch_stats)),  # type: ignore[arg-type]
        metrics=no_metrics(),
    )


def no_metrics() -> Metrics:
    """Return the metrics before an epoch's first step."""
    return Metrics(jnp.float32(0), jnp.int32(0), jnp.int32(0), jnp.int32(-1), jnp.float32(0))


def train_step(state: TrainState, batch: Examples, *, config: Config) -> TrainState:
    """Return the state after one update on one batch of images as bytes, with the metrics of its step added.

    An epoch's last batch is filled up with images that do not count (Config.valid).
    """
    images, labels = (jnp.asarray(leaf) for leaf in batch)
    prepared = prepare_images(images, state.step, key=jax.random.wrap_key_data(state.key), config=config)
    return update(state, prepared, labels, config=config)


def prepare_images(
    images: UInt8[Array, "batch height width channels"],
    step: Int32[Array, ""],
    *,
    key: Key[Array, ""],
    config: Config,
) -> Float[Array, "batch height width channels"]:
    """Return a step's images under the recipe's augmentation, normalised.

    Args:
      step: number of updates made before.
      key: the run's key.
    """
    augment_key, _ = _step_keys(key, step)
    grey = images / jnp.float32(255)
    if config.recipe.distorts:
        progress = step / (config.recipe.epochs * config.steps_per_epoch)
        grey = random_distortion(grey, image_keys(augment_key, len(images)), config.recipe, progress)
    return _normalize(config, grey)


def image_keys(key: Key[Array, ""], count: int) -> Key[Array, " count"]:
    """Return a key for each image of a batch, from its place in it."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(count))


def update(
    state: TrainState,
    images: Float[Array, "batch height width channels"],
    labels: Int32[Array, " batch"],
    *,
    config: Config,
) -> TrainState:
    """Return the state after one update on images of prepare_images: the second half of train_step."""
    recipe, valid = config.recipe, config.valid(state.step)
    counts = jnp.ones_like(labels, bool) if valid is None else valid
    num_valid = counts.sum()
    _, dropout_key = _step_keys(jax.random.wrap_key_data(state.key), state.step)

    def loss_fn(params: Any) -> tuple[Array, tuple[Array, Any]]:
        logits, updates = config.network.apply(
            _variables(params, state.batch_stats),
            images,
            train=True,
            valid=valid,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key},
        )
        losses = cross_entropy(logits, labels, recipe.label_smoothing)  # type: ignore[arg-type]
        loss = jnp.where(counts, losses, 0).sum() / num_valid
        return loss, (logits, updates.get("batch_stats", {}))

    (loss, (logits, batch_stats)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    opt_state = optimizer.set_hyperparameters(
        state.opt_state,
        learning_rate=learning_rate(state, state.step, config=config),
        momentum=optimizer.momentum_schedule(recipe, config.steps_per_epoch)(state.step),
    )
    updates, opt_state = optimizer.make_optimizer(recipe).update(gradients, opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if recipe.ema_decay > 0:
        _, ema = optax.ema(recipe.ema_decay).update(_variables(params, batch_stats), ema)
    before = state.metrics
    diverged = (before.diverged_at >= 0) | ~jnp.isfinite(loss)
    metrics = Metrics(
        loss=before.loss + loss * num_valid,
        correct=before.correct + (counts & (logits.argmax(-1) == labels)).sum(dtype=jnp.int32),
        seen=before.seen + num_valid.astype(jnp.int32),
        diverged_at=jnp.where(diverged & (before.diverged_at < 0), state.step, before.diverged_at),
        gradient_norm=jnp.where(diverged, before.gradient_norm, optax.tree.norm(gradients)),
    )
    return state._replace(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        ema=ema,
        metrics=metrics,
    )


def learning_rate(state: TrainState, step: int | Int32[Array, ""], *, config: Config) -> Any:
    """Return the learning rate of a step of the epoch that the state is from."""
    factor = 1 if state.plateau is None else state.plateau.scale
    return state.learning_rate * factor * optimizer.schedule(config.recipe, config.steps_per_epoch)(step)


def end_epoch(state: TrainState, loss: Float[Array, ""], *, config: Config) -> TrainState:
    """Return the state with what the schedule plateau takes from the loss of an epoch."""
    if state.plateau is None:
        return state
    return state._replace(plateau=optimizer.after_epoch(config.recipe, state.plateau, loss))


def cross_entropy(
    logits: Float[Array, "batch classes"], labels: Int32[Array, " batch"], label_smoothing: float = 0.0
) -> Float[Array, " batch"]:
    """Return each image's loss; a share of the target may be spread over all classes."""
    if label_smoothing == 0:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def evaluate(state: TrainState, split: Examples, *, config: Config) -> Evaluation:
    """Return the loss, the number of correct answers and the logits of any number of images, on one device.

    With an average of the weights, the state must have made a step: before, there is none.
    """
    images, count = split.images, len(split.labels)
    # The first images fill up the last batch.
    rows = np.arange(-(-count // EVALUATION_BATCH) * EVALUATION_BATCH) % count
    batches = images[rows].reshape(-1, EVALUATION_BATCH, *images.shape[1:])
    logits = np.asarray(_compiled_logits(state, batches, config=config))
    return score(logits.reshape(len(rows), -1)[:count], np.asarray(split.labels))


def all_logits(
    state: TrainState, batches: UInt8[Array, "batches batch height width channels"], *, config: Config
) -> Float[Array, "batches batch classes"]:
    """Return the logits of batches of images, one batch after the other."""
    variables = evaluated_variables(state, config)
    return jax.lax.map(lambda images: predict(variables, images, config=config), batches)


_compiled_logits = jax.jit(all_logits, static_argnames="config")


def score(logits: Float[np.ndarray, "count classes"], labels: Int32[np.ndarray, " count"]) -> Evaluation:
    """Return how good logits are."""
    of_labels = np.take_along_axis(logits, labels[:, None], 1)[:, 0]
    with np.errstate(invalid="ignore"):  # of a network that diverged
        losses = scipy.special.logsumexp(logits.astype(np.float64), axis=1) - of_labels
    return Evaluation(float(losses.mean()), int((logits.argmax(-1) == labels).sum()), logits)


def evaluated_variables(state: TrainState, config: Config) -> dict[str, Any]:
    """Return the variables to evaluate: the bias-corrected average where the recipe keeps one."""
    if state.ema is None:
        return _variables(state.params, state.batch_stats)
    return optax.tree.bias_correction(state.ema.ema, config.recipe.ema_decay, state.ema.count)


def statistics_images(
    images: UInt8[Array | np.ndarray, "images height width channels"], config: Config
) -> UInt8[Array | np.ndarray, "batches batch height width channels"]:
    """Return the first training images in batches, for with_statistics: 2,048 images, or one batch."""
    size = config.recipe.batch_size
    batches = max(1, min(len(images), _STATISTICS_IMAGES) // size)
    return images[: batches * size].reshape(batches, size, *images.shape[1:])


def with_statistics(
    state: TrainState,
    images: UInt8[Array, "batches batch height width channels"],
    *,
    config: Config,
) -> TrainState:
    """Return the state with batch norm's statistics of the averaged weights themselves.

    The average of the running statistics is not that: averaged weights make activations that vary less than
    those of each of the weights (Izmailov et al. 2018; PyTorch has swa_utils.update_bn for it). Without an
    average, or without batch norm, the state comes back as it is.

    Args:
      images: of statistics_images, undistorted. The statistics are the means over the batches.
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

    # Running statistics that start at 0 hold MOMENTUM times the batch's; bias_correction divides by the rest.
    share = (1 - config.recipe.ema_decay**state.ema.count) / MOMENTUM
    statistics = jax.tree.map(lambda leaf: leaf.mean(0) * share, jax.lax.map(of_batch, images))
    return state._replace(ema=state.ema._replace(ema={**state.ema.ema, "batch_stats": statistics}))  # type: ignore[dict-item]


def predict(
    variables: Any, images: Num[Array, "batch height width channels"], *, config: Config
) -> Float[Array, "batch classes"]:
    """Return the logits of images with values from 0 to 255."""
    grey = images / jnp.float32(255)
    return config.network.apply(variables, _normalize(config, grey), train=False)  # type: ignore[return-value]


def shuffle(key: Key[Array, ""], epoch: Int32[Array, ""], count: int) -> Int32[Array, " count"]:
    """Return the order of the training images in an epoch: a permutation of 0 .. count - 1."""
    return jax.random.permutation(jax.random.fold_in(jax.random.fold_in(key, _SHUFFLE), epoch), count)


def epoch_order(
    key: Key[Array, ""], epoch: Int32[Array, ""], *, config: Config
) -> Int32[Array, "steps batch_size"]:
    """Return the images of each step of an epoch; the first ones of the order fill up the last batch."""
    return jnp.resize(shuffle(key, epoch, config.images), (config.steps_per_epoch, config.recipe.batch_size))


def sample_keys(key: Key[Array, ""], count: int) -> Key[Array, " count"]:
    """Return a key for each of the augmented images that the report shows."""
    return jax.random.split(jax.random.fold_in(key, _SAMPLES), count)


def _step_keys(key: Key[Array, ""], step: Int32[Array, ""]) -> Key[Array, "2"]:
    """Return a step's two keys: of its augmentation, and of its dropout."""
    return jax.random.split(jax.random.fold_in(jax.random.fold_in(key, _STEP), step))


def _normalize(
    config: Config, grey: Float[Array, "batch height width channels"]
) -> Float[Array, "batch height width channels"]:
    mean, std = (jnp.asarray(value, grey.dtype) for value in (config.mean, config.std))
    return (grey - mean) / std


def _variables(params: Any, batch_stats: Any) -> dict[str, Any]:
    return {"params": params, "batch_stats": batch_stats}
