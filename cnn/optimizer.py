"""Optimizers and schedules: learning rate and momentum are in the optimizer's state, set at each step.

A rate is the member's own learning rate times what the schedule and the plateau make of it.
"""

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jaxtyping import Array, Float

from cnn.recipe import OPTIMIZERS, SCHEDULES, WITH_MOMENTUM, Recipe
from harness.errors import unknown

_ADAM_SHARE = 0.1  # of Muon's learning rate, for what is no convolution's kernel
_ADAM_BETA = 0.9
_DIV_FACTOR, _FINAL_DIV_FACTOR, _CYCLED_MOMENTUM = 25, 1e4, (0.85, 0.95)  # OneCycleLR's defaults
Plateau: TypeAlias = optax.contrib.ReduceLROnPlateauState


def make_optimizer(recipe: Recipe) -> optax.GradientTransformationExtraArgs:
    """Return the recipe's optimizer, whose state holds learning_rate and momentum (set_hyperparameters).

    sgd, adam and adamw are PyTorch's; lion, nadamw and muon are optax's. momentum is SGD's and Muon's, and
    the first beta of the others.
    """
    decay = recipe.weight_decay

    def sgd(learning_rate: Any, momentum: Any) -> optax.GradientTransformation:
        step = optax.sgd(learning_rate, momentum, recipe.nesterov)
        return optax.chain(optax.add_decayed_weights(decay), step)

    def adam(learning_rate: Any, momentum: Any) -> optax.GradientTransformation:
        return optax.chain(optax.add_decayed_weights(decay), optax.adam(learning_rate, momentum))

    def adamw(learning_rate: Any, momentum: Any) -> optax.GradientTransformation:
        return optax.adamw(learning_rate, momentum, weight_decay=decay)

    def nadamw(learning_rate: Any, momentum: Any) -> optax.GradientTransformation:
        return optax.nadamw(learning_rate, momentum, weight_decay=decay)

    def lion(learning_rate: Any, momentum: Any) -> optax.GradientTransformation:
        return optax.lion(learning_rate, momentum, weight_decay=decay)

    def muon(learning_rate: Any, momentum: Any) -> optax.GradientTransformation:
        return optax.contrib.muon(
            learning_rate,
            beta=momentum,
            weight_decay=decay,
            adam_learning_rate=_ADAM_SHARE * learning_rate,
            adam_b2=0.99,
            muon_weight_dimension_numbers=_kernels_as_matrices,
        )

    known = {"sgd": sgd, "adam": adam, "adamw": adamw, "nadamw": nadamw, "lion": lion, "muon": muon}
    if recipe.optimizer not in known:
        raise unknown("optimizer", recipe.optimizer, OPTIMIZERS)
    injected = optax.inject_hyperparams(known[recipe.optimizer], hyperparam_dtype=jnp.float32)
    return injected(learning_rate=0.0, momentum=0.0)


def _kernels_as_matrices(params: Any) -> Any:
    """Say that a convolution's kernel is a matrix from all values of a patch to the features."""
    kernel = optax.contrib.MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
    return jax.tree.map(lambda leaf: kernel if leaf.ndim == 4 else None, params)


def set_hyperparameters(opt_state: Any, *, learning_rate: Any, momentum: Any) -> Any:
    """Return the state of make_optimizer's optimizer with what the next update is to use."""
    values = {"learning_rate": learning_rate, "momentum": momentum}
    return opt_state._replace(
        hyperparams={name: jnp.asarray(value, jnp.float32) for name, value in values.items()}
    )


def schedule(recipe: Recipe, steps_per_epoch: int) -> optax.Schedule:
    """Return, as a function of the step, what multiplies the learning rate; plateau's factor is apart."""
    steps = recipe.epochs * steps_per_epoch
    match recipe.schedule:
        case "constant" | "plateau":
            return optax.constant_schedule(1.0)
        case "one_cycle":
            return optax.cosine_onecycle_schedule(steps, 1.0, pct_start=recipe.warmup)
        case "OneCycleLR":
            first = 1 / _DIV_FACTOR
            return _pytorchs_cycle(recipe, steps, first, 1.0, first / _FINAL_DIV_FACTOR)
        case "step":
            assert recipe.step_size is not None
            each = recipe.step_size * steps_per_epoch
            return lambda step: recipe.gamma ** (step // each)
        case "multistep":
            assert recipe.milestones is not None
            falls = {milestone * steps_per_epoch: recipe.gamma for milestone in recipe.milestones}
            return optax.piecewise_constant_schedule(1.0, falls)
        case "cosine":
            return optax.cosine_decay_schedule(1.0, steps)
        case _:
            raise unknown("schedule", recipe.schedule, SCHEDULES)


def momentum_schedule(recipe: Recipe, steps_per_epoch: int) -> optax.Schedule:
    """Return, as a function of the step, SGD's and Muon's momentum, or the first beta of the others."""
    if recipe.schedule == "OneCycleLR":
        low, high = _CYCLED_MOMENTUM
        return _pytorchs_cycle(recipe, recipe.epochs * steps_per_epoch, high, low, high)
    return optax.constant_schedule(recipe.momentum if recipe.optimizer in WITH_MOMENTUM else _ADAM_BETA)


def _pytorchs_cycle(recipe: Recipe, steps: int, first: float, peak: float, last: float) -> optax.Schedule:
    """Return torch.optim.lr_scheduler.OneCycleLR's cosine from the first value to the peak and to the last.

    It reaches the peak at the step warmup * steps - 1, which need not be whole, and the last value at the
    last step.
    """
    top, end = recipe.warmup * steps - 1, steps - 1

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


# The schedule plateau is PyTorch's, which lets `patience` epochs pass; optax's acts in the last of them.


def start_plateau(recipe: Recipe) -> Plateau | None:
    """Return the state of the schedule plateau before the first epoch; None for other schedules."""
    if recipe.schedule != "plateau":
        return None
    state = _plateau(recipe).init({})
    # The best loss so far is the largest number: optax's infinity would be taken for divergence.
    return state._replace(best_value=jnp.full_like(state.best_value, jnp.finfo(state.best_value.dtype).max))


def after_epoch(recipe: Recipe, plateau: Plateau, loss: Float[Array, ""]) -> Plateau:
    """Return the plateau's state after an epoch's loss; its `scale` is the factor so far."""
    _, state = _plateau(recipe).update({}, plateau, value=loss)
    return state  # type: ignore[return-value]


def _plateau(recipe: Recipe) -> optax.GradientTransformationExtraArgs:
    return optax.contrib.reduce_on_plateau(recipe.factor, patience=recipe.patience + 1)
