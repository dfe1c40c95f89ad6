"""What --task=mnist begins with: --describe needs no JAX, which takes seconds to import; task.py does."""

from cnn.config import CnnConfig


def run(config: CnnConfig) -> None:
    """Print the network's layers, or train or evaluate it (cnn.task.run)."""
    config.require_network()
    if config.describe:
        print(config.description)
        return
    from cnn import task

    task.run(config)
