"""The processes of a run on several hosts: how they meet, and that none goes on without the others."""

import atexit
import contextlib
import ctypes
import functools
import hashlib
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from cnn.config import CnnConfig, require_processes
from cnn.interrupt import Interrupted
from harness.errors import Diverged, UserError, explain, require

_CONNECT_SECONDS, _HEARTBEAT_SECONDS = 120, 20
_OWN_FLAGS = ("workdir", "data_dir", "wait", "resume", "export", "tensorboard", "process_id")
_NOT_MET = (
    f"did not meet the other processes of this run within {_CONNECT_SECONDS} s: "
    "start all of them, with the same --coordinator_address and --num_processes"
)
_LOST = (
    "lost another process of this run, or the way to it (what failed is said above, or by that process): "
    "start all of them again, or as many as there are now, with --resume where there is a config.json"
)
_FAILED_REDUCTION = re.compile("Gloo|NCCL|UNAVAILABLE|DEADLINE_EXCEEDED")


@dataclass(frozen=True)
class Processes:
    """The coordinator's address, how many processes there are, which one this is.

    An address of None is one process, or what a Cloud TPU says of itself.
    """

    address: str | None
    count: int
    index: int


def processes(flags: CnnConfig) -> Processes:
    """Return what the flags say, or else JAX's environment variables.

    Raises:
      UserError: one of the variables is missing, or names no process of a run.
    """
    if flags.coordinator_address is not None:
        return Processes(flags.coordinator_address, flags.num_processes or 1, flags.process_id or 0)
    names = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
    address, *numbers = map(os.environ.get, names)
    if address is None:
        return Processes(None, 1, 0)
    require(
        all(re.fullmatch("[0-9]{1,100}", number or "") for number in numbers),
        f"{names[0]}={address} needs {names[1]} ({numbers[0]}) and {names[2]} ({numbers[1]}): "
        "set both to whole numbers",
    )
    count, index = (int(number or 0) for number in numbers)
    require_processes(address, count, index, *names)
    return Processes(address, count, index)


def meet(run: Processes) -> None:
    """Meet the run's other processes; on a Cloud TPU, JAX knows them.

    Raises:
      UserError: they did not come in time.
    """
    if run.address is None and "," not in os.environ.get("TPU_WORKER_HOSTNAMES", ""):
        return
    if run.index > 0:  # Gloo greets on standard output, past Python
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    elif run.address is not None:
        _require_free(run.address)
    if run.address is not None:
        _listen_where_others_reach(run.address)
    libc = ctypes.CDLL(None)
    libc.signal(signal.SIGABRT, _ON_ABORT_MEETING)
    try:
        jax.distributed.initialize(
            run.address,
            run.count if run.address else None,
            run.index if run.address else None,
            initialization_timeout=_CONNECT_SECONDS,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"process {run.index} of {run.count} cannot meet the others at {run.address} "
            f"({str(error).splitlines()[0]}): give all of them the address of process 0"
        ) from error
    libc.signal(signal.SIGABRT, _ON_ABORT)


def _listen_where_others_reach(address: str) -> None:
    """Have Gloo listen at this host's address on the way to process 0.

    Of itself it takes the address of this host's name, which /etc/hosts often says is 127.0.1.1. So it does
    with a JAX that has no such private function.
    """
    try:
        from jax._src.lib import _jax

        made_by_jax = _jax.make_gloo_tcp_collectives
    except (ImportError, AttributeError):
        return
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError):  # no such host: JAX says so
        family, kind, *_, place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as way:
            way.connect(place)  # sends nothing
            own = way.getsockname()[0]
        _jax.make_gloo_tcp_collectives = functools.partial(made_by_jax, hostname=own)


def _require_free(address: str) -> None:
    """Raise UserError unless process 0 can listen there; JAX 0.10 would end with a segmentation fault."""
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        socket.create_server(("", int(address.rsplit(":")[-1])), family=family, dualstack_ipv6=dual).close()
    except OSError as error:
        raise UserError(
            f"--coordinator_address={address}: process 0 cannot listen there "
            f"({os.strerror(error.errno or 0)}): give all processes another port"
        ) from error


def require_same_flags(flags: CnnConfig) -> None:
    """Raise UserError unless process 0 was given the same flags, but for those that each has its own."""
    shared = {name: value for name, value in asdict(flags).items() if name not in _OWN_FLAGS}
    digest = hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).digest()
    ours = np.frombuffer(digest, np.uint8)
    require(
        np.array_equal(multihost_utils.broadcast_one_to_all(ours), ours),
        f"process {jax.process_index()} was not given the flags of process 0: "
        f"give all processes the same, but for --{', --'.join(_OWN_FLAGS)}",
    )


def is_main() -> bool:
    """Return True in the process that writes files and speaks."""
    return jax.process_index() == 0


def broadcast(tree: Any) -> Any:
    """Return the tree with process 0's NumPy arrays; what is not an array stays each process's own."""
    if jax.process_count() == 1:
        return tree
    arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, np.ndarray)]
    shared = map(np.asarray, multihost_utils.broadcast_one_to_all(arrays))
    return jax.tree.map(lambda leaf: next(shared) if isinstance(leaf, np.ndarray) else leaf, tree)


def agree(flag: bool) -> bool:
    """Return True if the flag is set on any process; all of them have to ask."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Let an error that is this process's alone end the others, too.

    A process that ends as usual waits for the others, which would wait for it in a reduction. So it
    ends without; they see that it is gone. Where this one sees that another is gone, it ends here.
    """
    try:
        yield
    except (Diverged, Interrupted):  # every process raises them at the same step
        raise
    except Exception as error:
        if jax.distributed.is_initialized():
            if not isinstance(error, UserError) and _FAILED_REDUCTION.search(str(error)):
                _end(_LOST)
            understood = isinstance(error, UserError) or explain(error) is not None
            atexit.register(os._exit, UserError.exit_code if understood else 1)
        raise


def _end(message: str) -> None:
    """Say one last line and end at once, whatever other threads are about to say or wait for."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    error_output = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.write(error_output, f"launch.py: {message}\n".encode())
    os._exit(UserError.exit_code)


# Where JAX finds another process gone, a thread of its own logs it, with a stack trace, and calls abort().
_on_abort = ctypes.CFUNCTYPE(None, ctypes.c_int)
_ON_ABORT_MEETING, _ON_ABORT = _on_abort(lambda _: _end(_NOT_MET)), _on_abort(lambda _: _end(_LOST))
