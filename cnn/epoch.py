"""An epoch of training on a mesh of devices: one dispatch, or a loop over the compiled step."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int32, UInt32

from cnn import cpu, devices, train
from cnn.data import Split
from cnn.devices import DATA, SEED
from cnn.train import Batch, Images, Setup, Totals, TrainState

Report = Callable[[Totals], bool]
RunSteps = Callable[[TrainState, Totals, Array, int, int, Report], tuple[TrainState, Totals, int]]

S = P(SEED)
_STEPS_A_REPORT = 5  # see _compile_loop before raising it


def compile_steps(
    setup: Setup, mesh: Mesh, images: Images, state: TrainState, totals: Totals, seeds: Array
) -> tuple[RunSteps, float]:
    """Compile the training of the steps of an epoch.

    Each epoch visits the images in a new order; its last batch is smaller where they do not divide.
    On a GPU or a TPU the steps are one dispatch. On a CPU they are a Python loop over the compiled
    step, since XLA's CPU backend runs the gradient of a convolution inside a loop 8 to 10 times
    slower (jax-ml/jax issue 12868).

    Args:
      images: the training images, from put_images.
      state, totals, seeds: with a leading axis of seeds, sharded over the mesh's axis "seed".

    Returns:
      A function, and the seconds it took to compile. From (state, totals, seeds, first, last,
      report) it trains the steps from `first` to before `last`, all of one epoch, donates the
      state, and returns state, totals and the step it reached. It calls report(totals) now and
      then, and stops where that returns False; no step waits for the host.
    """
    start, zero = time.perf_counter(), jnp.int32(0)
    if jax.default_backend() != "cpu":
        run_steps = _one_dispatch(
            jax.jit(epoch_function(setup, mesh), donate_argnums=0)
            .lower(state, totals, images, seeds, zero, zero)
            .compile(),
            images,
        )
    else:
        run_steps = _compile_loop(setup, mesh, images, state, totals, seeds)
    return run_steps, time.perf_counter() - start


def epoch_function(setup: Setup, mesh: Mesh) -> Callable[..., tuple[TrainState, Totals]]:
    """From (state, totals, images, seeds, first, last) to state and totals after those steps.

    What a GPU or a TPU runs in one dispatch; ahead-of-time compilation takes it from here.
    """
    setup, axis = _over(mesh, setup)

    def epoch(
        state: TrainState, totals: Totals, images: Images, seeds: Array, first: Array, last: Array
    ) -> tuple[TrainState, Totals]:
        batches = _arrange(images, seeds, first // setup.steps_per_epoch, setup=setup)

        def one(step: Array, carry: tuple[TrainState, Totals]) -> tuple[TrainState, Totals]:
            batch = _prepare(batches, seeds, step, setup=setup)
            return _step(*carry, batch, seeds, setup=setup)

        return jax.lax.fori_loop(first, last, one, (state, totals))

    return _on_devices(epoch, mesh, (S, S, P(axis), S, P(), P()), S)


def evaluation_function(setup: Setup, mesh: Mesh) -> Callable[[TrainState, Images], Float[Array, "..."]]:
    """From (state, images of put_images) to the logits of each seed."""
    setup, axis = _over(mesh, setup)

    def logits(state: TrainState, images: Images) -> Float[Array, "seeds count 10"]:
        return _each_seed(lambda state: train.all_logits(state, images.images, setup=setup))(state)

    return jax.jit(_on_devices(logits, mesh, (S, P(axis)), P(SEED, axis)))


def put_images(split: Split, mesh: Mesh) -> Images:
    """Images sharded over the mesh's axis "data", the first ones repeated where it does not divide."""
    count = len(split.labels)
    rows = np.arange(-(-count // mesh.shape[DATA]) * mesh.shape[DATA]) % count
    return devices.put(Images(split.images[rows], split.labels[rows]), mesh, _data_axis(mesh))


def _one_dispatch(compiled: Any, images: Images) -> RunSteps:
    def run_steps(
        state: TrainState, totals: Totals, seeds: Array, first: int, last: int, report: Report
    ) -> tuple[TrainState, Totals, int]:
        state, totals = compiled(state, totals, images, seeds, np.int32(first), np.int32(last))
        report(totals)
        return state, totals, last

    return run_steps


def _compile_loop(
    setup: Setup, mesh: Mesh, images: Images, state: TrainState, totals: Totals, seeds: Array
) -> RunSteps:
    """The loop over the compiled step.

    At most 2 x _STEPS_A_REPORT steps, of two programs each, wait on a device: where 32 do, XLA's CPU client
    holds a thread until one is done, and with a thread a device those that wait for each other in a
    reduction have none left.
    """
    zero = jnp.int32(0)
    inner, axis = _over(mesh, setup)
    options = cpu.step_options(mesh.size)

    def compiled(function: Callable[..., Any], takes: Any, gives: Any, *arguments: Any, **jit: Any) -> Any:
        on_mesh = _on_devices(functools.partial(function, setup=inner), mesh, takes, gives)
        return jax.jit(on_mesh, **jit).lower(*arguments).compile(compiler_options=options)

    batched, batch = P(SEED, None, axis), P(SEED, axis)
    arrange = compiled(_arrange, (P(axis), S, P()), batched, images, seeds, zero)
    batches = arrange(images, seeds, zero)
    # A program of its own: as a part of the step XLA fetches every pixel several times, and slowly.
    prepare = compiled(_prepare, (batched, S, P()), batch, batches, seeds, zero)
    arguments = state, totals, prepare(batches, seeds, zero), seeds
    train_step = compiled(_step, (S, S, batch, S), S, *arguments, donate_argnums=0)

    def run_steps(
        state: TrainState, totals: Totals, seeds: Array, first: int, last: int, report: Report
    ) -> tuple[TrainState, Totals, int]:
        batches = arrange(images, seeds, np.int32(first // setup.steps_per_epoch))
        earlier = None
        for step in range(first, last):
            prepared = prepare(batches, seeds, np.int32(step))
            state, totals = train_step(state, totals, prepared, seeds)
            if (step + 1 - first) % _STEPS_A_REPORT == 0:
                if earlier is not None:
                    jax.block_until_ready(earlier)
                    if not report(earlier):
                        return state, totals, step + 1
                earlier = totals
        report(totals)
        return state, totals, last

    return run_steps


def _arrange(
    images: Images, seeds: UInt32[Array, " seeds"], epoch: Int32[Array, ""], *, setup: Setup
) -> Images:
    """This device's part of every batch of an epoch: seeds x steps x images."""
    axis, size = setup.network.axis_name, setup.recipe.batch_size
    if axis is not None:
        images = jax.lax.all_gather(images, axis, tiled=True)
        size //= jax.lax.axis_size(axis)

    def batches(seed: UInt32[Array, ""]) -> Images:
        order = train.shuffle(jax.random.key(seed), epoch, setup.images)
        filled = jnp.resize(order, (setup.steps_per_epoch, setup.recipe.batch_size))  # with the first ones
        if axis is not None:
            filled = jax.lax.dynamic_slice_in_dim(filled, jax.lax.axis_index(axis) * size, size, axis=1)
        return jax.tree.map(lambda leaf: leaf[filled], images)

    return _each_seed(batches)(seeds)


def _prepare(
    batches: Images, seeds: UInt32[Array, " seeds"], step: Int32[Array, ""], *, setup: Setup
) -> Batch:
    """train.prepare_batch of each seed on its images of the step."""
    images = jax.tree.map(
        lambda leaf: jax.lax.dynamic_index_in_dim(leaf, step % setup.steps_per_epoch, 1, keepdims=False),
        batches,
    )

    def one(images: Images, seed: UInt32[Array, ""]) -> Batch:
        return train.prepare_batch(images, step, key=jax.random.key(seed), setup=setup)

    return _each_seed(one)(images, seeds)


def _step(
    state: TrainState, totals: Totals, batch: Batch, seeds: UInt32[Array, " seeds"], *, setup: Setup
) -> tuple[TrainState, Totals]:
    """train.train_step of each seed on its batch."""

    def one(
        state: TrainState, totals: Totals, batch: Batch, seed: UInt32[Array, ""]
    ) -> tuple[TrainState, Totals]:
        return train.train_step(state, totals, batch, key=jax.random.key(seed), setup=setup)

    return _each_seed(one)(state, totals, batch, seeds)


def _each_seed(function: Callable[..., Any]) -> Callable[..., Any]:
    """vmap over the leading axis; where that is 1, without the batched convolutions of a vmap."""

    def apply(*trees: Any) -> Any:
        if len(jax.tree.leaves(trees)[0]) > 1:
            return jax.vmap(function)(*trees)
        return jax.tree.map(lambda leaf: leaf[None], function(*jax.tree.map(lambda leaf: leaf[0], trees)))

    return apply


def _on_devices(function: Callable[..., Any], mesh: Mesh, takes: Any, gives: Any) -> Callable[..., Any]:
    """What each device does with its part, as a function of whole arrays.

    A gradient within it is of the device's own part (check_vma=False): train_step sums them once,
    where JAX would sum each parameter's on its own.
    """
    return jax.shard_map(function, mesh=mesh, in_specs=takes, out_specs=gives, check_vma=False)


def _data_axis(mesh: Mesh) -> str | None:
    """The axis that batches are sharded over; None where there is one device a seed."""
    return DATA if mesh.shape[DATA] > 1 else None


def _over(mesh: Mesh, setup: Setup) -> tuple[Setup, str | None]:
    """The setup of a device of the mesh, and the axis that batches are sharded over."""
    axis = _data_axis(mesh)
    return dataclasses.replace(setup, network=setup.network.clone(axis_name=axis)), axis
