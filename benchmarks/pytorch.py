"""python -m benchmarks.pytorch NAME [--seed=N]: a published network trained whole in PyTorch, on one thread.

By its author's recipe, with PyTorch's own layers, optimizer and order of images. Prints the accuracy of each
epoch, in training and on the test images: where ours is not what an author reports, it says whether PyTorch's
is.
"""

import argparse

import torch
from torch.nn.functional import cross_entropy

from benchmarks.reproduction import PUBLISHED
from cnn import data
from cnn.recipe import Recipe
from cnn.zoo import ZOO
from tests.cnn.torch_twin import build

_MEAN, _DEVIATION = 0.1307, 0.3081
_PLAIN = {"epochs", "batch_size"}  # all else of the published recipes is the default: SGD at a constant rate


def main() -> None:
    """Train; print a line an epoch."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pytorch", description=__doc__)
    parser.add_argument("name", choices=list(PUBLISHED))
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(flags.seed)
    architecture, recipe = ZOO[flags.name].architecture, ZOO[flags.name].recipe
    if not {*recipe.changed} <= _PLAIN:
        parser.error(f"{flags.name} is not trained by SGD at a constant rate: {recipe.flags}")
    mnist = data.load("mnist", None)
    images, labels = _tensors(mnist.train)
    test_images, test_labels = _tensors(mnist.test)
    model = build(architecture)
    optimizer = torch.optim.SGD(model.parameters(), Recipe.learning_rate, Recipe.momentum)
    for epoch in range(1, recipe.epochs + 1):
        model.train()
        correct = 0
        for rows in torch.randperm(len(images)).split(recipe.batch_size):
            optimizer.zero_grad()
            logits = model(images[rows]).flatten(1)
            loss = cross_entropy(logits, labels[rows])
            correct += int((logits.argmax(1) == labels[rows]).sum())
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            logits = torch.cat([model(part).flatten(1) for part in test_images.split(1000)])
        accuracy = (logits.argmax(1) == test_labels).float().mean()
        print(
            f"epoch {epoch:2d}/{recipe.epochs}  train {correct / len(images):.2%}  "
            f"test {cross_entropy(logits, test_labels):.4f} {accuracy:.2%}",
            flush=True,
        )


def _tensors(split: data.Examples) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.tensor(split.images.reshape(-1, 1, 28, 28)).float() / 255
    return (images - _MEAN) / _DEVIATION, torch.tensor(split.labels).long()


if __name__ == "__main__":
    main()
