"""The two ways to drive an epoch of training: one dispatch, or a loop over the compiled step."""

import ctypes
import functools
import platform
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int32, Key

from cnn import train
from cnn.train import Images, Setup, Totals, TrainState

Report = Callable[[int, Totals], None]
RunEpoch = Callable[[TrainState, Report], tuple[TrainState, Totals]]

_STEPS_A_REPORT = 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)


def compile_epoch(
    setup: Setup, state: TrainState, data: Images, key: Key[Array, ""], *, scan: bool
) -> tuple[RunEpoch, float]:
    """Compile the training of one epoch.

    Each epoch visits the images in a new order, and leaves out the few that do not fill a batch.

    Args:
      scan: the whole epoch in one dispatch, the fastest on GPU and TPU; otherwise a Python loop
        over the compiled step, since XLA's CPU backend runs the gradient of a convolution inside
        a scan 8 to 10 times slower (jax-ml/jax issue 12868).

    Returns:
      A function from (state, report) to the state after the epoch and its totals, which donates
      the state, and the seconds it took to compile. It calls report(steps, totals) now and then
      with the number of steps since the last call; no step waits for the host.
    """
    start = time.perf_counter()
    order = (
        jax.jit(train.shuffle, static_argnames="count")
        .lower(key, state.step, count=len(data.labels))
        .compile()
    )
    compiled = (
        jax.jit(functools.partial(_epoch if scan else _step, setup=setup), donate_argnums=0)
        .lower(state, _no_totals(), data, order(key, state.step), key)
        .compile()
    )
    seconds = time.perf_counter() - start

    def run_epoch(state: TrainState, report: Report) -> tuple[TrainState, Totals]:
        visit = order(key, state.step // setup.steps_per_epoch)
        if scan:
            state, totals = compiled(state, _no_totals(), data, visit, key)
            report(setup.steps_per_epoch, totals)
            return state, totals
        totals, earlier = _no_totals(), None
        for step in range(1, setup.steps_per_epoch + 1):
            state, totals = compiled(state, totals, data, visit, key)
            if step % _STEPS_A_REPORT == 0:
                if earlier is not None:  # computed long ago: the device is not kept waiting
                    report(_STEPS_A_REPORT, earlier)
                earlier = totals
        report(setup.steps_per_epoch % _STEPS_A_REPORT + _STEPS_A_REPORT * (earlier is not None), totals)
        return state, totals

    return run_epoch, seconds


def keep_freed_memory() -> None:
    """Have glibc keep the memory that a step frees for the next step.

    By default it goes back to Linux and comes again page by page, which costs a CPU much of
    its time (benchmarks/memory.py). Does nothing where the C library is another.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)


def _epoch(
    state: TrainState,
    totals: Totals,
    data: Images,
    order: Int32[Array, " count"],
    key: Key[Array, ""],
    *,
    setup: Setup,
) -> tuple[TrainState, Totals]:
    def body(carry: tuple[TrainState, Totals], _: None) -> tuple[tuple[TrainState, Totals], None]:
        return _step(*carry, data, order, key, setup=setup), None

    return jax.lax.scan(body, (state, totals), length=setup.steps_per_epoch)[0]


def _step(
    state: TrainState,
    totals: Totals,
    data: Images,
    order: Int32[Array, " count"],
    key: Key[Array, ""],
    *,
    setup: Setup,
) -> tuple[TrainState, Totals]:
    """train.train_step on the next batch of the epoch's order."""
    size = setup.recipe.batch_size
    chosen = jax.lax.dynamic_slice(order, (state.step % setup.steps_per_epoch * size,), (size,))
    batch = Images(data.images[chosen], data.labels[chosen])
    state, step_totals = train.train_step(state, batch, key=key, setup=setup)
    return state, jax.tree.map(jnp.add, totals, step_totals)


def _no_totals() -> Totals:
    return Totals(jnp.float32(0), jnp.int32(0), jnp.int32(0))
