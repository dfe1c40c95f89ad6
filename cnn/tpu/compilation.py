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
from cnn.data import Examples
from cnn.devices import most
from cnn.loop import DATA, SEED, epoch_function, make_mesh
from cnn.model import Network
from cnn.tpu.config import TRAINING_IMAGES, TpuConfig
from cnn.tpu.topologies import TOPOLOGIES, Topology
from cnn.zoo import ZOO
from harness.errors import UserError

_MEAN, _STD = 0.1307, 0.3081  # of MNIST; they change no figure


class CompiledEpoch(NamedTuple):
    """What a run dispatches for an epoch.

    Attributes:
      program: of all steps of an epoch.
      step: the same for a data set of one batch: a step and hardly anything more.
      seconds: that it took to compile `program`.
    """

    program: jax.stages.Compiled
    step: jax.stages.Compiled
    config: train.Config
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


def compile_epoch(flags: TpuConfig) -> CompiledEpoch:
    """Compile what a run of --task=mnist with these flags would dispatch on the TPU.

    Raises:
      UserError: it does not fit into the TPU's memory.
    """
    recipe = flags.recipe
    network = Network(ZOO[flags.model].architecture, recipe.initialization, flags.compute_dtype)
    config = train.Config(network, recipe, images=TRAINING_IMAGES, mean=_MEAN, std=_STD)
    there = devices(TOPOLOGIES[flags.topology])
    mesh = make_mesh(there[: most(there, recipe.batch_size, flags.num_seeds)], flags.num_seeds)
    began = time.perf_counter()
    try:
        program = _compile(config, mesh, flags.num_seeds)
        seconds = time.perf_counter() - began
        step = _compile(dataclasses.replace(config, images=recipe.batch_size), mesh, flags.num_seeds)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            f"--batch_size={recipe.batch_size} does not fit into the memory of {flags.topology}: give fewer"
        ) from error
    return CompiledEpoch(program, step, config, mesh, seconds)


def _compile(config: train.Config, mesh: Mesh, num_seeds: int) -> jax.stages.Compiled:
    state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((num_seeds, *leaf.shape), leaf.dtype),
        train.init_state.eval_shape(config, jax.random.key(0)),
    )
    images = Examples(
        jax.ShapeDtypeStruct((config.images, 28, 28, 1), jnp.uint8),  # type: ignore[arg-type]
        jax.ShapeDtypeStruct((config.images,), jnp.int32),  # type: ignore[arg-type]
    )
    step = jax.ShapeDtypeStruct((), jnp.int32)
    arguments = [
        _on_mesh(mesh, axis, tree)
        for axis, tree in zip((SEED, DATA, None, None), (state, images, step, step), strict=True)
    ]
    return jax.jit(epoch_function(config, mesh), donate_argnums=0).lower(*arguments).compile()


def _on_mesh(mesh: Mesh, axis: str | None, tree: Any) -> Any:
    """Shapes of arrays whose first axis is sharded over an axis of the mesh; None: whole on each device."""
    sharding = NamedSharding(mesh, PartitionSpec(axis) if axis else PartitionSpec())
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
