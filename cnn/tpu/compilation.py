"""An epoch of training compiled by libtpu for a TPU that is not there."""

import dataclasses
import os
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnn import train
from cnn.devices import DATA, SEED, make_mesh, most
from cnn.epoch import epoch_function
from cnn.model import Network
from cnn.tpu.config import TRAINING_IMAGES, TpuConfig
from cnn.tpu.topologies import TOPOLOGIES, Topology
from cnn.zoo import ZOO
from harness.errors import UserError

_MEAN, _DEVIATION = 0.1307, 0.3081  # of MNIST; they change no figure


class CompiledEpoch(NamedTuple):
    """What a run dispatches for an epoch.

    Attributes:
      program: of all steps of an epoch.
      step: the same for a data set of one batch: a step and hardly anything more.
      seconds: that it took to compile `program`.
    """

    program: jax.stages.Compiled
    step: jax.stages.Compiled
    setup: train.Setup
    mesh: Mesh
    seconds: float


def devices(topology: Topology) -> list[Any]:
    """The devices of a TPU as JAX would see them there; programs can be compiled for them, not run."""
    os.environ.update(
        ALLOW_MULTIPLE_LIBTPU_LOAD="1",  # a TPU belongs to one process, a description of one to all
        TPU_SKIP_MDS_QUERY="1",  # no metadata server is there to say what machine this is
        TPU_WORKER_HOSTNAMES="localhost",
        TPU_ACCELERATOR_TYPE=topology.accelerator_type,
    )
    return topologies.get_topology_desc(
        topology.libtpu_name, "tpu", chips_per_host_bounds=list(topology.chips)
    ).devices


def compile_epoch(config: TpuConfig) -> CompiledEpoch:
    """Compile what a run of --task=mnist with these flags would dispatch on the TPU.

    Raises:
      UserError: it does not fit into the TPU's memory.
    """
    setup = train.Setup(
        network=Network(ZOO[config.model].architecture, config.recipe.initialization, config.compute_dtype),
        recipe=config.recipe,
        images=TRAINING_IMAGES,
        mean=_MEAN,
        deviation=_DEVIATION,
    )
    there = devices(TOPOLOGIES[config.topology])
    used = there[: most(there, config.recipe.batch_size, config.num_seeds)]
    mesh = make_mesh(used, config.num_seeds)
    began = time.perf_counter()
    try:
        program = _compile(setup, mesh, config.num_seeds)
        seconds = time.perf_counter() - began
        step = _compile(dataclasses.replace(setup, images=config.recipe.batch_size), mesh, config.num_seeds)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            f"--batch_size={config.recipe.batch_size} does not fit into the memory of {config.topology}: "
            "give fewer"
        ) from error
    return CompiledEpoch(program, step, setup, mesh, seconds)


def _compile(setup: train.Setup, mesh: Mesh, num_seeds: int) -> jax.stages.Compiled:
    seeds = jax.ShapeDtypeStruct((num_seeds,), jnp.uint32)
    start = train.init_state.eval_shape(setup, jax.random.key(0)), jax.eval_shape(train.no_totals)
    state, totals = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((num_seeds, *leaf.shape), leaf.dtype), start
    )
    images = train.Images(
        jax.ShapeDtypeStruct((setup.images, 28, 28, 1), jnp.uint8),  # type: ignore[arg-type]
        jax.ShapeDtypeStruct((setup.images,), jnp.int32),  # type: ignore[arg-type]
    )
    step = jax.ShapeDtypeStruct((), jnp.int32)
    axes = SEED, SEED, DATA, SEED, None, None
    arguments = [
        _on_mesh(mesh, axis, tree)
        for axis, tree in zip(axes, (state, totals, images, seeds, step, step), strict=True)
    ]
    return jax.jit(epoch_function(setup, mesh), donate_argnums=0).lower(*arguments).compile()


def _on_mesh(mesh: Mesh, axis: str | None, tree: Any) -> Any:
    """Shapes of arrays whose first axis is sharded over an axis of the mesh; None: whole on each device."""
    sharding = NamedSharding(mesh, PartitionSpec(axis) if axis else PartitionSpec())
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
