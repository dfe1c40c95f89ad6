"""python -m benchmarks.train: training images a second of ours, of PyTorch and of a plain Flax step.

All train by the network's recipe with SGD and straight images (peers.common_recipe); ours also by the
recipe itself. Each peer is a process of its own with all cores, that trains when it is its turn: the
others wait, without a thread running. One of them multiplies matrices, for the speed that the convolutions
would have at that of sgemm. `--peer_python=PYTHON` names the Python that has PyTorch, where ours has none:
with the project's packages, as `make test-torch PYTHON=python3.11` installs them. Names of networks, and
`--batch_size=128 --repeats=5 --steps=40`, change it; without names it measures the zoo.
"""

import argparse
import contextlib
import functools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp

from benchmarks import peers
from benchmarks.spread import spread
from benchmarks.training import Training
from cnn import cores, devices
from cnn.architecture import multiplications
from cnn.config import CnnConfig
from cnn.experiment import resolve
from cnn.zoo import ZOO

_CORES = cores.usable()
_SIDE = 2048


def _ours(network: str, batch_size: int, steps: int, *, own_recipe: bool = False) -> peers.Measure:
    experiment = resolve(CnnConfig(model=network, batch_size=batch_size))
    devices.start(experiment)
    recipe = experiment.recipe if own_recipe else peers.common_recipe(network, batch_size)
    usable = len(devices.available(None, batch_size, 1))
    return Training(
        network, steps=steps, num_devices=usable, batch_size=batch_size, recipe=recipe
    ).images_a_second


def _torch(*, channels_last: bool = False, compiled: bool = False) -> Callable[..., peers.Measure]:
    def start(network: str, batch_size: int, steps: int) -> peers.Measure:
        return peers.torch_step(
            network,
            batch_size=batch_size,
            steps=steps,
            threads=_CORES,
            channels_last=channels_last,
            compiled=compiled,
        )

    return start


def _products(network: str, batch_size: int, steps: int) -> peers.Measure:
    """Images a second, if the convolutions' multiplications took as long as those of large matrices."""
    matrix = jnp.ones((_SIDE, _SIDE))
    product = jax.jit(jnp.matmul)
    of_image = 3 * sum(count for _, count in multiplications(ZOO[network].architecture))

    def measure() -> float:
        start = time.perf_counter()
        jax.block_until_ready([product(matrix, matrix) for _ in range(4)])
        return 4 * _SIDE**3 / of_image / (time.perf_counter() - start)

    return measure


_PEAK = "at the peak of sgemm"
PEERS: dict[str, Callable[..., peers.Measure]] = {
    "ours": _ours,
    "ours, by its own recipe": functools.partial(_ours, own_recipe=True),
    "Flax, plain": peers.flax_step,
    "PyTorch": _torch(),
    "PyTorch, channels_last": _torch(channels_last=True),
    "PyTorch, compiled": _torch(compiled=True),
    "PyTorch, compiled, channels_last": _torch(compiled=True, channels_last=True),
    _PEAK: _products,
}


def serve(peer: str, network: str, batch_size: int, steps: int) -> None:
    """Print a speed for each line that comes in; the first one is not counted."""
    measure = PEERS[peer](network, batch_size, steps)
    measure()
    for _ in sys.stdin:
        print(measure(), flush=True)


def speeds(
    network: str,
    batch_size: int,
    steps: int,
    repeats: int,
    names: Iterable[str] = PEERS,
    peer_python: str = sys.executable,
) -> dict[str, list[float]]:
    """Images a second of each peer that works here, in turn, `repeats` times; PyTorch's in `peer_python`."""
    command = ["-m", "benchmarks.train", network]
    command += [f"--batch_size={batch_size}", f"--steps={steps}"]
    measured: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        processes = {}
        for peer in names:
            python = peer_python if peer.startswith("PyTorch") else sys.executable
            process = subprocess.Popen(
                [python, *command, f"--peer={peer}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            if _ask(process) is None:  # it does not work here: a compiler is missing, say
                reason = process.communicate()[1].strip().splitlines()
                print(f"{peer}: not measured: {reason[-1] if reason else 'no reason given'}")
            else:
                processes[peer] = process
        for _ in range(repeats):
            for peer, process in processes.items():
                speed = _ask(process)
                if speed is not None:
                    measured.setdefault(peer, []).append(speed)
    return measured


def _ask(process: "subprocess.Popen[str]") -> float | None:
    """The speed that a peer measures now; None where it ended instead."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write("\n")
        process.stdin.flush()
        return float(process.stdout.readline())
    except (BrokenPipeError, ValueError):
        return None


def show(network: str, measured: dict[str, list[float]]) -> None:
    """Print a table: each peer's speed, and ours as a multiple of it."""
    print(f"\n{network:<34}{'images/s':>26}{'ours / theirs':>24}")
    for peer, values in measured.items():
        ratios = [ours / theirs for ours, theirs in zip(measured["ours"], values, strict=True)]
        print(f"{peer:<34}{spread(values, ',.0f'):>26}{spread(ratios, '.2f'):>24}")
    theirs = [peer for peer in measured if peer.startswith("PyTorch")]
    if not theirs:
        return
    best = max(theirs, key=lambda peer: statistics.median(measured[peer]))
    ratios = [ours / theirs for ours, theirs in zip(measured["ours"], measured[best], strict=True)]
    print(f"ours against the best of PyTorch ({best}): {spread(ratios, '.2f')}")


def main() -> None:
    """Print a table for each network, or be one of the peers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__)
    parser.add_argument("networks", nargs="*", default=list(ZOO))
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer_python", default=sys.executable)
    parser.add_argument("--peer", choices=PEERS, help="measure this one whenever a line comes in")
    flags = parser.parse_args()
    if flags.peer:
        serve(flags.peer, flags.networks[0], flags.batch_size, flags.steps)
        return
    print(
        f"JAX {jax.__version__}, {_CORES} cores, float32, batch {flags.batch_size}, {flags.steps} steps; "
        f"median of {flags.repeats} alternating repeats (min to max)"
    )
    for network in flags.networks:
        numbers = flags.batch_size, flags.steps, flags.repeats
        show(network, speeds(network, *numbers, peer_python=flags.peer_python))


if __name__ == "__main__":
    main()
