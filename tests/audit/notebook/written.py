"""Notebooks for the tests, written from the text of their cells."""

import json
import textwrap
from collections.abc import Iterable
from pathlib import Path

IMPORTS = """
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torchvision import datasets, transforms
from collections import OrderedDict
"""

LOADERS = """
train_loader = torch.utils.data.DataLoader(
    datasets.MNIST("data", train=True, download=True, transform=transforms.Compose([
        transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])),
    batch_size=64, shuffle=True)
test_loader = torch.utils.data.DataLoader(
    datasets.MNIST("data", train=False, transform=transforms.Compose([
        transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])),
    batch_size=1000, shuffle=True)
"""

NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1), nn.MaxPool2d(2, 2))
        self.head = nn.Linear(8 * 13 * 13, 10)

    def forward(self, x):
        x = self.body(x)
        x = x.view(-1, 8 * 13 * 13)
        return F.log_softmax(self.head(x), dim=1)
"""

LOOPS = """
def train(model, device, train_loader, optimizer, epoch):
    model.train()
    for batch_idx, (data, target) in enumerate(train_loader):
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        output = model(data)
        loss = F.nll_loss(output, target)
        loss.backward()
        optimizer.step()

def test(model, device, test_loader):
    model.eval()
    test_loss = 0
    correct = 0
    with torch.no_grad():
        for data, target in test_loader:
            data, target = data.to(device), target.to(device)
            output = model(data)
            test_loss += F.nll_loss(output, target, reduction="sum").item()
            correct += output.argmax(dim=1, keepdim=True).eq(target.view_as(output)).sum().item()
    test_loss /= len(test_loader.dataset)
    print("accuracy", 100. * correct / len(test_loader.dataset))
    return test_loss
"""

TRAINING = """
torch.manual_seed(1)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
model = Net().to(device)
optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
for epoch in range(1, 16):
    train(model, device, train_loader, optimizer, epoch)
    test(model, device, test_loader)
"""

WHOLE = (IMPORTS, NET, LOADERS, LOOPS, TRAINING)


RIGHT = [9700 + 20 * epoch for epoch in range(11)] + [9938, 9941, 9940, 9942]
"""Right answers of 10,000 after each epoch."""


def log(right: Iterable[int] = RIGHT, steps: int = 938) -> str:
    """What a training prints: for each epoch its bar, and the right answers of 10,000 test images."""
    return "".join(
        f"EPOCH: {epoch}\nloss=0.02: 100%|███| {steps}/{steps} [00:20<00:00, 46.9it/s]\n"
        f"\nTest set: Average loss: 0.0214, Accuracy: {count}/10000 ({count / 100:.2f}%)\n"
        for epoch, count in enumerate(right, 1)
    )


def write(
    folder: Path, *cells: str, name: str = "submission.ipynb", printed: str = "", **others: str
) -> Path:
    """A notebook with these cells in a folder, the last of which printed; others are .py files beside it."""
    for stem, text in others.items():
        (folder / f"{stem}.py").write_text(textwrap.dedent(text))
    written = [
        {
            "cell_type": "code",
            "execution_count": number,
            "metadata": {},
            "outputs": [],
            "source": textwrap.dedent(text).strip("\n").splitlines(keepends=True),
        }
        for number, text in enumerate(cells, 1)
    ]
    written[-1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": printed}]
    file = folder / name
    file.write_text(json.dumps({"cells": written, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return file


def net(constructor: str, forward: str, before: str = "") -> str:
    """A cell with a class Net, from the bodies of its two methods and what stands before it."""
    lines = [
        *textwrap.dedent(before).strip("\n").splitlines(),
        "class Net(nn.Module):",
        "    def __init__(self):",
        "        super(Net, self).__init__()",
        *textwrap.indent(textwrap.dedent(constructor).strip("\n"), " " * 8).splitlines(),
        "    def forward(self, x):",
        *textwrap.indent(textwrap.dedent(forward).strip("\n"), " " * 8).splitlines(),
    ]
    return "\n".join(lines)
