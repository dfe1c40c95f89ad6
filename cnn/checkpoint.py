"""Checkpoints by Orbax: all that a run needs to go on, saved together, whole or not at all."""

import hashlib
import json
import logging
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from cnn.population import Progress
from cnn.train import TrainState
from harness.errors import UserError, explain, require
from harness.workdir import require_no_link

_KEPT = 2
_LAYOUT = 2
"""Version of the saved tree; layout 1 had another optimizer's state and does not name itself."""


class _Saved(NamedTuple):
    """The saved part of a state; the key follows from the seed."""

    step: Any
    learning_rate: Any
    params: Any
    batch_stats: Any
    opt_state: Any
    plateau: Any
    ema: Any


def chunk_names(count: int) -> list[str]:
    """Return the folders of the chunks in WORKDIR/checkpoints; a single chunk uses that folder itself."""
    return [""] if count == 1 else [f"chunk_{number}" for number in range(1, count + 1)]


def open_checkpoints(folder: Path, chunk: str = "", *, read_only: bool = False) -> ocp.CheckpointManager:
    """Open the checkpoints of a run, in folder/checkpoints, of which the last two are kept.

    One process alone opens them: of several, the others get what it restored.

    Args:
      chunk: of chunk_names.
      read_only: leave alone what another process may be writing.
    """
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}
    )
    options = ocp.CheckpointManagerOptions(
        max_to_keep=_KEPT,
        enable_async_checkpointing=False,
        multiprocessing_options=alone,
        cleanup_tmp_directories=not read_only,
        read_only=read_only,
        create=False,
    )
    place = folder / "checkpoints" / chunk
    if not read_only:
        for each in (folder / "checkpoints", place):
            each.mkdir(exist_ok=True)
            require_no_link(each)
    sys.unraisablehook = _drop_echoes
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    manager = ocp.CheckpointManager(place, options=options)
    if not read_only:  # a kill may have come between a save and the removal of the oldest
        for step in sorted(manager.all_steps())[:-_KEPT]:
            manager.delete(step)
    return manager


def _drop_echoes(unraisable: Any) -> None:
    """Be silent where arrays fail after the first one, whose error was raised and ended Orbax's loop."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def save(manager: ocp.CheckpointManager, result: Progress) -> None:
    """Save what a chunk has come to under the number of steps that its members have made together."""
    step = int(result.state.step.sum())
    if step == manager.latest_step():
        return
    record = {"layout": _LAYOUT, "seconds": result.seconds.tolist(), "history": result.history}
    arrays = _arrays(result.state)
    record["sha256"] = _digest(arrays, record)
    items = ocp.args.Composite(arrays=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record))
    try:
        manager.save(step, args=items)
    except OSError as error:
        error.filename = error.filename or str(manager.directory)  # a write that fails knows none
        raise


def restore(manager: ocp.CheckpointManager, like: Progress) -> Progress | None:
    """Return the last saved result; None where there is none.

    Args:
      like: of the same network, recipe and members.

    Raises:
      UserError: the checkpoint is of an earlier version, of another dtype, or damaged.
    """
    step = manager.latest_step()
    if step is None:
        return None
    place, target = manager.directory / str(step), _arrays(like.state)
    try:
        record = manager.restore(step, args=ocp.args.Composite(record=ocp.args.JsonRestore()))["record"]
        layout = record.get("layout", 1)
        require(
            layout == _LAYOUT,
            f"{place} has layout {layout} of an earlier version, this one reads layout {_LAYOUT}: "
            "go on with the version that config.json names, or start a new run in another --workdir",
        )
        arrays = manager.restore(step, args=ocp.args.Composite(arrays=ocp.args.StandardRestore(target)))[
            "arrays"
        ]
    except UserError:
        raise
    except Exception as error:  # Orbax and TensorStore raise many types for damaged files
        missing = isinstance(error, FileNotFoundError) or "NOT_FOUND" in str(error)
        if explain(error) is not None and not missing:
            raise  # what the disk or the memory refused may be whole
        raise _unreadable(place, str(error).splitlines()[0][:200]) from error
    if record.pop("sha256", None) != _digest(arrays, record):
        raise _unreadable(place, "its content is not what was saved: its SHA-256 differs")
    state = like.state._replace(**arrays["state"]._asdict(), metrics=arrays["totals"])
    return like._replace(state=state, seconds=np.array(record["seconds"]), history=record["history"])


def _unreadable(place: Any, reason: str) -> UserError:
    return UserError(
        f"{place} cannot be restored ({reason}): if it is damaged, move that folder away, "
        "and --resume goes on from the checkpoint before it"
    )


def _arrays(state: TrainState) -> dict[str, Any]:
    saved = _Saved(*(getattr(state, name) for name in _Saved._fields))
    return {"state": saved, "totals": state.metrics}


def _digest(arrays: Any, record: dict[str, Any]) -> str:
    """Return the SHA-256 of a checkpoint's record and arrays, in the order of the tree."""
    sha256 = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for leaf in jax.tree.leaves(arrays):
        sha256.update(f"{leaf.dtype}{leaf.shape}".encode())
        sha256.update(np.ascontiguousarray(leaf).tobytes())
    return sha256.hexdigest()
