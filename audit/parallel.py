"""Many files at once, each in a process: a bad one never stops the others."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(
    audit: Callable[[Item], Result], items: Sequence[Item], dead: Callable[[Item], Result]
) -> Iterator[Result]:
    """Each item's result, in their order, as soon as it and those before it are there.

    Args:
      audit: what to do, in another process; it raises nothing.
      items: what to do it with.
      dead: the result for one whose process died.
    """
    left = list(items)
    while left:
        with _pool(len(left)) as pool:
            try:
                for result in pool.map(audit, left):
                    left.pop(0)
                    yield result
            except BrokenProcessPool:  # a process died: this item's, or another one's beside it
                yield _alone(audit, left.pop(0), dead)


def _pool(items: int) -> ProcessPoolExecutor:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # A forked process has all modules; elsewhere than on Linux, system libraries do not stand a fork.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    return ProcessPoolExecutor(min(cores, items), mp_context=context)


def _alone(audit: Callable[[Item], Result], item: Item, dead: Callable[[Item], Result]) -> Result:
    with _pool(1) as pool:
        try:
            return pool.submit(audit, item).result()
        except BrokenProcessPool:
            return dead(item)
