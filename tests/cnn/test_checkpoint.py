import jax
import numpy as np
import pytest

from cnn import checkpoint, train
from cnn.model import Network
from cnn.zoo import ZOO
from errors import UserError

HISTORY = [{"epoch": 1, "train_loss": 0.1 + 0.2, "test_accuracy": 0.9941}]


def _state(name, seed=0):
    entry = ZOO[name]
    setup = train.Setup(Network(entry.architecture, entry.recipe.initialization), entry.recipe, 10, 0.1, 0.3)
    return train.init_state(setup, jax.random.key(seed))


@pytest.mark.parametrize("name", ["compact_20k", "plain_4k"])  # with and without batch norm and average
def test_what_is_saved_comes_back_bit_for_bit(tmp_path, name):
    state = _state(name, seed=1)
    with checkpoint.open_checkpoints(tmp_path) as manager:
        assert checkpoint.restore(manager, like=state) is None
        checkpoint.save(manager, 1, state, HISTORY)
    with checkpoint.open_checkpoints(tmp_path) as manager:
        restored, history = checkpoint.restore(manager, like=_state(name, seed=2))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert all(map(np.array_equal, jax.tree.leaves(restored), jax.tree.leaves(state)))
    assert history == HISTORY


def test_the_last_two_epochs_are_kept(tmp_path):
    with checkpoint.open_checkpoints(tmp_path) as manager:
        for epoch in (1, 2, 3):
            checkpoint.save(manager, epoch, _state("plain_4k", seed=epoch), HISTORY * epoch)
        restored, history = checkpoint.restore(manager, like=_state("plain_4k"))
    assert sorted(folder.name for folder in (tmp_path / "checkpoints").iterdir()) == ["2", "3"]
    assert len(history) == 3
    assert np.array_equal(
        restored.params["Conv_0"]["kernel"], _state("plain_4k", seed=3).params["Conv_0"]["kernel"]
    )


def test_a_damaged_checkpoint_is_named(tmp_path):
    with checkpoint.open_checkpoints(tmp_path) as manager:
        checkpoint.save(manager, 1, _state("plain_4k"), HISTORY)
    for file in (tmp_path / "checkpoints" / "1").rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    with (
        checkpoint.open_checkpoints(tmp_path) as manager,
        pytest.raises(UserError, match=r"checkpoints/1 cannot be restored .* delete that folder"),
    ):
        checkpoint.restore(manager, like=_state("plain_4k"))


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    with checkpoint.open_checkpoints(tmp_path) as manager:
        checkpoint.save(manager, 1, _state("plain_4k"), HISTORY)
        with pytest.raises(UserError, match="cannot be restored"):
            checkpoint.restore(manager, like=_state("bn_4k"))
