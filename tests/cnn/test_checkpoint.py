import shutil

import jax
import numpy as np
import pytest

from cnn import checkpoint, train
from cnn.model import Network
from cnn.population import Progress
from cnn.zoo import ZOO
from harness.errors import UserError

HISTORY = [{"epoch": 1, "train_loss": 0.1 + 0.2, "test_accuracy": 0.9941}]


def _result(name, seed=0, step=10):
    """Of two seeds."""
    entry = ZOO[name]
    setup = train.Config(
        Network(entry.architecture, entry.recipe.initialization), entry.recipe, 1280, 0.1, 0.3
    )
    states = [jax.device_get(train.init_state(setup, jax.random.key(seed + more))) for more in range(2)]
    state = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
    state = state._replace(step=np.array([step, 0], np.int32), key=np.zeros((2, 2), np.uint32))
    return Progress(np.arange(2, dtype=np.uint32), state, np.array([1.5, 0]), HISTORY)


def _equal(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    return all(map(np.array_equal, jax.tree.leaves(ours), jax.tree.leaves(theirs)))


@pytest.mark.parametrize("name", ["compact_20k", "plain_4k"])  # with and without batch norm and average
def test_what_is_saved_comes_back_bit_for_bit(tmp_path, name):
    result = _result(name, seed=1)
    with checkpoint.open_checkpoints(tmp_path) as manager:
        assert checkpoint.restore(manager, like=result) is None
        checkpoint.save(manager, result)
    with checkpoint.open_checkpoints(tmp_path) as manager:
        assert _equal(checkpoint.restore(manager, like=_result(name, seed=2)), result)


def test_the_last_two_are_kept_and_none_is_saved_twice(tmp_path):
    with checkpoint.open_checkpoints(tmp_path) as manager:
        for step in (10, 20, 30, 30):
            checkpoint.save(manager, _result("plain_4k", seed=step, step=step))
        restored = checkpoint.restore(manager, like=_result("plain_4k"))
    assert sorted(folder.name for folder in (tmp_path / "checkpoints").iterdir()) == ["20", "30"]
    assert _equal(restored, _result("plain_4k", seed=30, step=30))


@pytest.mark.parametrize("begun", [False, True])
def test_one_that_a_kill_left_over_is_removed(tmp_path, begun):
    """The process was killed between saving the third and removing the first, or within the removal."""
    folder = tmp_path / "checkpoints"
    with checkpoint.open_checkpoints(tmp_path) as manager:
        for step in (10, 20):
            checkpoint.save(manager, _result("plain_4k", step=step))
        shutil.copytree(folder / "10", tmp_path / "copy")
        checkpoint.save(manager, _result("plain_4k", step=30))
    (tmp_path / "copy").rename(folder / "10")
    if begun:
        (folder / "10" / "_CHECKPOINT_METADATA").unlink()
    with checkpoint.open_checkpoints(tmp_path) as manager:
        assert _equal(checkpoint.restore(manager, like=_result("plain_4k")), _result("plain_4k", step=30))
    assert sorted(step.name for step in folder.iterdir()) == ["20", "30"]


def test_a_damaged_checkpoint_is_named(tmp_path):
    with checkpoint.open_checkpoints(tmp_path) as manager:
        checkpoint.save(manager, _result("plain_4k"))
    for file in (tmp_path / "checkpoints" / "10").rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    with (
        checkpoint.open_checkpoints(tmp_path) as manager,
        pytest.raises(UserError, match=r"checkpoints/10 cannot be restored .* move that folder away"),
    ):
        checkpoint.restore(manager, like=_result("plain_4k"))


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    with checkpoint.open_checkpoints(tmp_path) as manager:
        checkpoint.save(manager, _result("plain_4k"))
        with pytest.raises(UserError, match="cannot be restored"):
            checkpoint.restore(manager, like=_result("bn_4k"))


def test_who_only_reads_leaves_what_another_process_is_writing(tmp_path):
    with checkpoint.open_checkpoints(tmp_path) as manager:
        checkpoint.save(manager, _result("plain_4k"))
    unfinished = tmp_path / "checkpoints" / "20.orbax-checkpoint-tmp"
    unfinished.mkdir()
    with checkpoint.open_checkpoints(tmp_path, read_only=True) as manager:
        assert checkpoint.restore(manager, like=_result("plain_4k")) is not None
    assert unfinished.exists()
    with checkpoint.open_checkpoints(tmp_path) as manager:
        assert checkpoint.restore(manager, like=_result("plain_4k")) is not None
    assert not unfinished.exists()


def test_a_checkpoint_of_an_earlier_layout_is_refused_and_kept(tmp_path, monkeypatch):
    with checkpoint.open_checkpoints(tmp_path) as manager:
        monkeypatch.setattr(checkpoint, "_LAYOUT", 1)
        checkpoint.save(manager, _result("plain_4k"))
        monkeypatch.undo()
        with pytest.raises(
            UserError, match=r"checkpoints/10 has layout 1 .* this one reads layout 2: go on"
        ) as caught:
            checkpoint.restore(manager, like=_result("plain_4k"))
    assert "delete" not in str(caught.value)
    assert "\n" not in str(caught.value)
