"""Checkpoints by Orbax: the state and the epochs' metrics, saved together, whole or not at all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from cnn.train import TrainState
from errors import UserError


def open_checkpoints(folder: Path) -> ocp.CheckpointManager:
    """The checkpoints of a run, in folder/checkpoints; the last two are kept."""
    options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
    return ocp.CheckpointManager(folder / "checkpoints", options=options)


def save(
    manager: ocp.CheckpointManager, epoch: int, state: TrainState, history: Sequence[dict[str, Any]]
) -> None:
    """Save the state after an epoch, with the metrics of all epochs so far."""
    manager.save(
        epoch,
        args=ocp.args.Composite(state=ocp.args.StandardSave(state), history=ocp.args.JsonSave(list(history))),
    )


def restore(
    manager: ocp.CheckpointManager, like: TrainState
) -> tuple[TrainState, list[dict[str, Any]]] | None:
    """The last saved state and metrics; None where there is none.

    Args:
      like: a state of the same network and recipe.

    Raises:
      UserError: the checkpoint is damaged or of another network.
    """
    epoch = manager.latest_step()
    if epoch is None:
        return None
    target = jax.tree.map(ocp.tree.to_shape_dtype_struct, like)
    items = {"state": ocp.args.StandardRestore(target), "history": ocp.args.JsonRestore()}
    try:
        restored = manager.restore(epoch, args=ocp.args.Composite(**items))
    except Exception as error:  # Orbax and TensorStore raise many types for damaged files
        raise UserError(
            f"{manager.directory / str(epoch)} cannot be restored ({str(error).splitlines()[0][:200]}): "
            "delete that folder to go on from the checkpoint before it"
        ) from error
    return restored["state"], restored["history"]
