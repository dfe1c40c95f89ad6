"""--task=mnist begins here: --describe needs no JAX, which takes seconds to import; cnn.task does."""

from cnn.architecture import MNIST
from cnn.config import CnnConfig
from cnn.experiment import describe, resolve


def run(flags: CnnConfig) -> None:
    """Print the network's layers, or train or evaluate it.

    Raises:
      UserError: see cnn.experiment.resolve, and cnn.task.run.
    """
    header = MNIST
    if flags.dataset != "mnist":
        from cnn import data  # with NumPy, which takes a while to import

        header = data.header(flags.dataset, flags.data_dir)
    experiment = resolve(flags, header)
    if flags.describe:
        print(describe(experiment))
        return
    from cnn import task

    task.run(experiment)
