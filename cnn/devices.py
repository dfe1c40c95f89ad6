"""The devices of a run: how JAX is started, the mesh over them, arrays to it and back."""

import math
import os
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnn.config import CnnConfig
from errors import UserError, require

SEED, DATA = "seed", "data"
_CONNECT_SECONDS, _HEARTBEAT_SECONDS = 120, 20


def start(config: CnnConfig) -> None:
    """Set JAX up, before its first computation: processes, virtual CPU devices, determinism.

    Raises:
      UserError: the other processes cannot be reached, more devices asked for than there are, or
        a batch that does not divide among those asked for.
    """
    address, processes, index = _processes(config)
    batch, wanted = config.recipe.batch_size, config.num_devices
    for flag, value in (("batch_size", batch), ("num_devices", wanted or processes)):
        require(
            value % processes == 0,
            f"--{flag}={value} does not divide among {processes} processes: "
            f"give {_nearest_multiple(value, processes)}",
        )
    if config.deterministic:  # XLA reads it when its backend starts
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true"
    if wanted is not None:
        local = wanted // processes
    else:  # of several processes on one machine none may take all cores
        local = math.gcd(batch, os.cpu_count() or 1) if processes == 1 else 1
    jax.config.update("jax_num_cpu_devices", local)
    # A device that waits in a reduction holds a thread: with a thread a core, all could wait for one.
    os.environ.setdefault("PJRT_NPROC", str(2 * local + (os.cpu_count() or 1)))
    if address is not None or "," in os.environ.get("TPU_WORKER_HOSTNAMES", ""):
        _meet(address, processes, index)
    count = wanted or jax.device_count()
    require(
        count <= jax.device_count(),
        f"--num_devices={wanted}: there are {jax.device_count()} ({jax.devices()[0].platform}); give fewer",
    )
    require(
        wanted is None or config.num_seeds > 1 or batch % count == 0,
        f"--batch_size={batch} does not divide among --num_devices={wanted}: "
        f"give {_nearest_multiple(batch, count)}",
    )


def _processes(config: CnnConfig) -> tuple[str | None, int, int]:
    """The coordinator's address, how many processes there are, which one this is.

    From the flags, or from JAX's environment variables; an address of None is one process, or
    what a Cloud TPU says of itself.
    """
    if config.coordinator_address is not None:
        return config.coordinator_address, config.num_processes or 1, config.process_id or 0
    names = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
    address, count, index = map(os.environ.get, names)
    if address is None:
        return None, 1, 0
    require(
        count is not None and index is not None and count.isdecimal() and index.isdecimal(),
        f"JAX_COORDINATOR_ADDRESS={address} needs JAX_NUM_PROCESSES ({count}) and JAX_PROCESS_ID ({index}): "
        "set both to whole numbers",
    )
    return address, int(count or 1), int(index or 0)


def _meet(address: str | None, count: int, index: int) -> None:
    """Meet the run's other processes; on a Cloud TPU, JAX knows them."""
    try:
        jax.distributed.initialize(
            address,
            None if address is None else count,
            None if address is None else index,
            initialization_timeout=_CONNECT_SECONDS,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"process {index} of {count} did not meet the others at {address} within {_CONNECT_SECONDS} s "
            f"({str(error).splitlines()[0]}): start all of them, with the same address"
        ) from error


def _nearest_multiple(number: int, divisor: int) -> int:
    return max(divisor, round(number / divisor) * divisor)


def is_main() -> bool:
    """Whether this is the process that writes files and speaks."""
    return jax.process_index() == 0


def available(num_devices: int | None, batch_size: int) -> list[jax.Device]:
    """The devices to use: as many as asked for, or as many as divide the batch."""
    devices = jax.devices()
    return devices[: num_devices or math.gcd(batch_size, len(devices))]


def seeds_at_once(pending: int, count: int) -> int:
    """How many of the pending seeds to train in one program on `count` devices.

    All of them on a GPU or a TPU; on a CPU as many as have devices of their own, because it gains
    nothing from more.
    """
    if jax.default_backend() != "cpu":
        return pending
    return max(n for n in range(1, count + 1) if count % n == 0 and n <= pending)


def make_mesh(devices: list[jax.Device], seeds: int) -> Mesh:
    """The devices as rows of seeds, each row sharing the batches of its seeds."""
    rows = math.gcd(seeds, len(devices))
    return Mesh(np.array(devices).reshape(rows, -1), (SEED, DATA))


def put(tree: Any, mesh: Mesh, *axes: str | None) -> Any:
    """Arrays of the host on the mesh, their first axes sharded as named.

    Each process provides the parts of its own devices and no more.
    """
    sharding = NamedSharding(mesh, PartitionSpec(*axes))
    return jax.tree.map(
        lambda leaf: jax.make_array_from_callback(np.shape(leaf), sharding, leaf.__getitem__), tree
    )


def fetch(tree: Any) -> Any:
    """Arrays of the mesh on the host of every process."""
    if jax.process_count() > 1:
        return multihost_utils.process_allgather(tree, tiled=True)
    return jax.tree.map(np.array, tree)  # a copy: the state's memory is donated to the next step


def share(tree: Any) -> Any:
    """Process 0's arrays of the host, for every process; what is not an array stays each one's own."""
    if jax.process_count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    arrays = [leaf for leaf in leaves if isinstance(leaf, np.ndarray)]
    shared = iter(multihost_utils.broadcast_one_to_all(arrays))
    return jax.tree.unflatten(
        structure,
        [np.asarray(next(shared)) if isinstance(leaf, np.ndarray) else leaf for leaf in leaves],
    )


def agree(flag: bool) -> bool:
    """Whether the flag is set on any process; all of them have to ask."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def name(devices: list[jax.Device]) -> str:
    """Devices as a person would say it."""
    first, count = devices[0], len(devices)
    many = f"{count} x " if count > 1 else ""
    cores = f" with {os.cpu_count()} cores" if first.platform == "cpu" else ""
    return f"{first.platform}: {many}{first.device_kind}{cores}"
