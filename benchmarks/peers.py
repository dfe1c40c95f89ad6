"""The training step that benchmarks compare ours with: in PyTorch, and as Flax's examples write it.

Same network, recipe (common_recipe), batch and precision (float32). Each function returns one that trains
`steps` steps and returns the images a second.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training import train_state

from cnn import data
from cnn.architecture import (
    Architecture,
    AveragePool,
    BatchNorm,
    ChannelDropout,
    ConcatPool,
    Conv,
    Crop,
    Dense,
    Dropout,
    Layer,
    MaxPool,
    Residual,
)
from cnn.augment import random_distortion
from cnn.model import activation
from cnn.recipe import Distortion, Recipe
from cnn.zoo import ZOO

Measure = Callable[[], float]
_MEAN, _DEVIATION = 0.1307, 0.3081


def common_recipe(name: str, batch_size: int) -> Recipe:
    """A network's recipe in batches of this size, as all of them can do it.

    With SGD, and with images that are neither bent nor distorted less from step to step.
    """
    changes = {"batch_size": batch_size, "optimizer": "sgd", "elastic": 0.0, "fade": 0.0}
    return dataclasses.replace(ZOO[name].recipe, **changes)  # type: ignore[arg-type]


def torch_step(
    name: str, *, batch_size: int, steps: int, threads: int, channels_last: bool, compiled: bool
) -> Measure:
    """PyTorch: its modules in a Sequential, torch.optim.SGD, affine_grid and grid_sample, swa_utils."""
    import torch
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    from tests.cnn.torch_twin import build

    torch.set_num_threads(threads)
    recipe, count = common_recipe(name, batch_size), steps * batch_size
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = build(ZOO[name].architecture).train().to(memory_format=layout)
    average = recipe.ema_decay and AveragedModel(
        model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay), use_buffers=True
    )
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )
    split = data.load("mnist", None).train
    images = torch.from_numpy(split.images[:count]).permute(0, 3, 1, 2).contiguous()
    labels = torch.from_numpy(split.labels[:count]).long()

    def loss_of(inputs: Any, labels: Any) -> Any:
        return torch.nn.functional.cross_entropy(model(inputs), labels)

    forward = torch.compile(loss_of) if compiled else loss_of

    def measure() -> float:
        start = time.perf_counter()
        for rows in torch.randperm(count).split(batch_size):
            inputs = images[rows].float() / 255
            if recipe.distorts:
                inputs = _torch_affine(inputs, recipe)
            inputs = ((inputs - _MEAN) / _DEVIATION).contiguous(memory_format=layout)
            optimizer.zero_grad()
            forward(inputs, labels[rows]).backward()
            optimizer.step()
            if average:
                average.update_parameters(model)
        return count / (time.perf_counter() - start)

    return measure


def _torch_affine(images: Any, strength: Distortion) -> Any:
    """cnn.augment.random_distortion with PyTorch's own functions, a batch at once."""
    import torch

    draws = torch.rand(5, len(images)) * 2 - 1
    rotation, scale = torch.deg2rad(draws[0] * strength.rotation), 1 + draws[1] * strength.scale
    shear, shift = draws[2] * strength.shear, draws[3:] * strength.shift * 2 / images.shape[-1]
    cos, sin = torch.cos(rotation) / scale, torch.sin(rotation) / scale
    rows = (cos + shear * sin, shear * cos - sin, shift[1]), (sin, cos, shift[0])
    theta = torch.stack([torch.stack(row, -1) for row in rows], 1)
    grid = torch.nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, align_corners=False)


class _PlainNetwork(nn.Module):
    """The layers by Flax's own modules."""

    architecture: Architecture

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        convolutions: list[nn.Conv] = []

        def through(layers: tuple[Layer, ...], x: jax.Array) -> jax.Array:
            for layer in layers:
                match layer:
                    case Crop(margin):
                        x = x[:, margin:-margin, margin:-margin]
                    case Conv(features, kernel, stride, padding, bias, shares, groups):
                        new = nn.Conv(
                            features,
                            (kernel, kernel),
                            stride,
                            padding,
                            feature_group_count=groups,
                            use_bias=bias,
                        )
                        convolutions.append(new if shares is None else convolutions[shares])
                        x = convolutions[-1](x)
                    case BatchNorm(plain):
                        norm = nn.BatchNorm(not train, momentum=0.9, use_bias=not plain, use_scale=not plain)
                        x = norm(x)
                    case Dropout(rate):
                        x = nn.Dropout(rate, deterministic=not train)(x)
                    case ChannelDropout(rate):
                        x = nn.Dropout(rate, broadcast_dims=(1, 2), deterministic=not train)(x)
                    case MaxPool(window):
                        x = nn.max_pool(x, (window, window), (window, window))
                    case AveragePool(window):
                        size = (window, window) if window else x.shape[1:3]
                        x = nn.avg_pool(x, size, size)
                    case ConcatPool():
                        x = jnp.concatenate([x.mean((1, 2)), x.max((1, 2))], -1)[:, None, None]
                    case Dense(features, bias):
                        x = nn.Dense(features, use_bias=bias)(x.reshape(len(x), -1))
                    case Residual(inside):
                        x = x + through(inside, x)
                    case _:
                        x = activation(layer, x)
            return x

        return through(self.architecture.layers, x).reshape(len(x), -1)


class _PlainState(train_state.TrainState):
    """Flax's TrainState with what its example for batch norm adds, and the average."""

    batch_stats: Any
    ema: optax.EmaState


def flax_step(name: str, batch_size: int, steps: int) -> Measure:
    """Flax's modules and its TrainState, one jitted step a batch, on one device with all threads."""
    recipe, count = common_recipe(name, batch_size), steps * batch_size
    model = _PlainNetwork(ZOO[name].architecture)
    variables = jax.jit(functools.partial(model.init, train=False))(
        jax.random.key(0), jnp.zeros((1, 28, 28, 1))
    )
    optimizer = optax.chain(
        optax.add_decayed_weights(recipe.weight_decay),
        optax.sgd(recipe.learning_rate, recipe.momentum, recipe.nesterov),
    )
    state = _PlainState.create(
        apply_fn=model.apply,
        tx=optimizer,
        ema=optax.ema(recipe.ema_decay).init(variables),  # type: ignore[arg-type]
        **variables,
    )
    split = data.load("mnist", None).train
    images, labels = split.images[:count], split.labels[:count]
    key = jax.random.key(0)

    def measure() -> float:
        nonlocal state
        start = time.perf_counter()
        for rows in np.random.default_rng().permutation(count).reshape(steps, -1):
            state, loss = _flax_update(state, images[rows], labels[rows], key, recipe=recipe)
        jax.block_until_ready(loss)
        return count / (time.perf_counter() - start)

    return measure


@functools.partial(jax.jit, static_argnames="recipe")
def _flax_update(
    state: Any, images: jax.Array, labels: jax.Array, key: jax.Array, *, recipe: Recipe
) -> tuple[Any, jax.Array]:
    augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
    inputs = images / jnp.float32(255)
    if recipe.distorts:
        inputs = random_distortion(inputs, jax.random.split(augment_key, len(images)), recipe)
    inputs = (inputs - _MEAN) / _DEVIATION

    def loss_fn(params: Any) -> tuple[jax.Array, Any]:
        logits, updates = state.apply_fn(
            {"params": params, "batch_stats": state.batch_stats},
            inputs,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key},
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updates

    (loss, updates), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    state = state.apply_gradients(grads=gradients, batch_stats=updates.get("batch_stats", {}))
    if recipe.ema_decay > 0:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        _, ema = optax.ema(recipe.ema_decay).update(variables, state.ema)
        state = state.replace(ema=ema)
    return state, loss
