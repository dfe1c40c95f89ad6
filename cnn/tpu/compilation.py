"""The programs of a run, compiled by libtpu for a TPU that is not there."""

import dataclasses
import os
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import ShapeDtypeStruct
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnn import train
from cnn.data import Examples
from cnn.devices import most
from cnn.loop import epoch_function, evaluation_program
from cnn.model import Network
from cnn.population import DATA, SEED, make_mesh
from cnn.tpu.config import TEST_IMAGES, TRAINING_IMAGES, TpuConfig
from cnn.tpu.topologies import TOPOLOGIES, Topology
from cnn.zoo import ZOO
from harness.errors import UserError

_MEAN, _STD = 0.1307, 0.3081  # of MNIST; they change no figure


class CompiledRun(NamedTuple):
    """The programs that a run dispatches.

    Attributes:
      epoch: all steps of an epoch.
      step: the same for a data set of one batch: a step and hardly anything more.
      steps: how many an epoch has.
      devices: those that the run uses.
      seconds: of CPU time that compiling took, by part. A run has no step by itself, only in its epoch.
    """

    epoch: jax.stages.Compiled
    step: jax.stages.Compiled
    steps: int
    devices: list[Any]
    seconds: dict[str, float]


def devices(topology: Topology) -> list[Any]:
    """Return a TPU's devices as JAX would see them there; programs can be compiled for them, not run."""
    os.environ.update(
        ALLOW_MULTIPLE_LIBTPU_LOAD="1",  # a TPU belongs to one process, a description of one to all
        TPU_SKIP_MDS_QUERY="1",  # no metadata server is there to say what machine this is
        TPU_WORKER_HOSTNAMES="localhost",
        TPU_ACCELERATOR_TYPE=topology.accelerator_type,
    )
    return topologies.get_topology_desc(
        topology.libtpu_name, "tpu", chips_per_host_bounds=list(topology.chips)
    ).devices


def compile_run(flags: TpuConfig) -> CompiledRun:
    """Compile what a run of --task=mnist with these flags would dispatch on the TPU.

    Raises:
      UserError: it does not fit into the TPU's memory.
    """
    recipe, seeds = flags.recipe, flags.num_seeds
    network = Network(ZOO[flags.model].architecture, recipe.initialization, flags.compute_dtype)
    config = train.Config(network, recipe, images=TRAINING_IMAGES, mean=_MEAN, std=_STD)
    one_batch = dataclasses.replace(config, images=recipe.batch_size)
    there = devices(TOPOLOGIES[flags.topology])
    mesh = make_mesh(there[: most(there, recipe.batch_size, seeds)], seeds)
    seconds: dict[str, float] = {}

    def on_mesh(tree: Any, *axes: str | None, mesh: Mesh = mesh) -> Any:
        """Return the shapes of arrays whose first axes are sharded over these axes, as loop.put does it."""
        sharding = NamedSharding(mesh, PartitionSpec(*axes))
        return jax.tree.map(lambda leaf: ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)

    def bytes_of(*shape: int) -> ShapeDtypeStruct:
        return ShapeDtypeStruct((*shape, 28, 28, 1), jnp.uint8)

    def compiled(part: str, function: Any, *arguments: Any) -> jax.stages.Compiled:
        began = time.process_time()
        program = function.lower(*arguments).compile()
        seconds[part] = time.process_time() - began
        return program

    def epoch(part: str, config: train.Config) -> jax.stages.Compiled:
        function = jax.jit(epoch_function(config, mesh), donate_argnums=0)
        order = ShapeDtypeStruct((seeds, config.steps_per_epoch, recipe.batch_size), jnp.int32)
        labels = ShapeDtypeStruct((config.images,), jnp.int32)
        images = on_mesh(Examples(bytes_of(config.images), labels))  # type: ignore[arg-type]
        step = on_mesh(ShapeDtypeStruct((), jnp.int32))
        return compiled(part, function, state, on_mesh(order, SEED, None, DATA), images, step, step)

    key = jax.eval_shape(lambda: jax.random.key(0))
    one = train.init_state.eval_shape(config, key)
    state = on_mesh(jax.tree.map(lambda leaf: ShapeDtypeStruct((seeds, *leaf.shape), leaf.dtype), one), SEED)
    first = Mesh(mesh.devices.flat[:1], (DATA,))
    few = jax.eval_shape(lambda images: train.statistics_images(images, config), bytes_of(TRAINING_IMAGES))
    size = train.EVALUATION_BATCH * mesh.shape[DATA]
    test = {"test": bytes_of(-(-TEST_IMAGES // size), size)}
    evaluation = evaluation_program(config, mesh)
    try:
        compiled("initialisation", train.init_state, config, on_mesh(key, mesh=first))
        programs = epoch("epoch", config), epoch("step", one_batch)
        compiled("evaluation", evaluation, state, on_mesh(few, None, DATA), on_mesh(test, None, DATA))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            f"--batch_size={recipe.batch_size} does not fit into the memory of {flags.topology}: give fewer"
        ) from error
    return CompiledRun(*programs, config.steps_per_epoch, [*mesh.devices.flat], seconds)
