"""A dozen right submissions, as templates with slots that a rewrite or a mistake fills otherwise.

A slot is <name>. A line that holds nothing else is left out where the slot is empty. A place is marked by
§name§, which is taken out when the files are written.
"""

import itertools
import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

IMPORTS = """
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torchvision import datasets, transforms
from tqdm import tqdm
"""

BLOCKS = """
class Net(nn.Module):  §class§
    def __init__(self):
        super().__init__()
        <constructor>
        self.conv1 = nn.Sequential(nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())  <rf 3>
        self.drop = nn.Dropout(0.05)
        self.conv2 = nn.Sequential(nn.Conv2d(8, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU())  <rf 5>
        self.pool = nn.MaxPool2d(2, 2)  <rf 6>
        self.conv3 = nn.Sequential(nn.Conv2d(16, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU())  <rf 10>
        self.conv4 = nn.Conv2d(16, <outputs>, 1)  <rf 10>
        self.gap = nn.AvgPool2d(10)

    def forward(self, x):
        x = self.drop(self.conv1(x))
        x = self.conv2(x)
        x = self.pool(x)
        <within>
        x = self.conv3(x)
        x = self.conv4(x)
        x = self.gap(x)
        <logits>
        x = x.view(-1, <outputs>)
        <end>
"""
FUNCTIONS = """
class Net(nn.Module):  §class§
    def __init__(self):
        super().__init__()
        <constructor>
        self.conv1 = nn.Conv2d(1, 10, 3, padding=1)  <rf 3>
        self.bn1 = nn.BatchNorm2d(10)
        self.conv2 = nn.Conv2d(10, 16, 3)  <rf 8>
        self.bn2 = nn.BatchNorm2d(16)
        self.conv3 = nn.Conv2d(16, 20, 3)  <rf 12>
        self.bn3 = nn.BatchNorm2d(20)
        self.drop = nn.Dropout(0.1)
        self.conv4 = nn.Conv2d(20, <outputs>, 1)  <rf 12>

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = self.drop(F.relu(self.bn2(self.conv2(x))))
        <within>
        x = F.relu(self.bn3(self.conv3(x)))
        x = F.avg_pool2d(self.conv4(x), 10)
        <logits>
        x = x.view(-1, <outputs>)
        <end>
"""
SEQUENTIAL = """
class Net(nn.Module):  §class§
    def __init__(self):
        super().__init__()
        <constructor>
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, bias=False),  <rf 3>
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, bias=False),  <rf 5>
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),  <rf 6>
            nn.Conv2d(16, 24, 3, bias=False),  <rf 10>
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(24, 16, 3, bias=False),  <rf 14>
            nn.BatchNorm2d(16),
            nn.ReLU(),
        )
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, <outputs>, 1))

    def forward(self, x):
        x = self.features(x)
        <within>
        x = self.classifier(x)
        <logits>
        x = x.view(-1, <outputs>)
        <end>
"""
HELPER = """
def block(inputs, outputs, dropout):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Dropout(dropout),
    )


class Net(nn.Module):  §class§
    def __init__(self):
        super().__init__()
        <constructor>
        self.first = nn.Conv2d(1, 8, 5)  <rf 5>
        self.block1 = block(8, 12, 0.05)
        self.pool1 = nn.MaxPool2d(2)  <rf 8>
        self.block2 = block(12, 16, 0.05)
        self.pool2 = nn.MaxPool2d(2)  <rf 14>
        self.block3 = block(16, 16, 0.05)
        self.last = nn.Conv2d(16, <outputs>, 1)  <rf 22>
        self.gap = nn.AdaptiveAvgPool2d((1, 1))

    def forward(self, x):
        x = F.relu(self.first(x))
        x = self.pool1(self.block1(x))
        <within>
        x = self.pool2(self.block2(x))
        x = self.gap(self.last(self.block3(x)))
        <logits>
        x = x.view(-1, <outputs>)
        <end>
"""
MODULES = """
class ConvBlock(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return F.relu(self.norm(self.conv(x)))


class Net(nn.Module):  §class§
    def __init__(self):
        super().__init__()
        <constructor>
        self.first = nn.Conv2d(1, 8, 3)  <rf 3>
        self.block1 = ConvBlock(8, 16)
        self.pool = nn.MaxPool2d(2)  <rf 6>
        self.drop = nn.Dropout2d(0.05)
        self.block2 = ConvBlock(16, 16)
        self.narrow = nn.Conv2d(16, 16, 3)  <rf 14>
        self.last = nn.Conv2d(16, <outputs>, 1)  <rf 14>

    def forward(self, x):
        x = F.relu(self.first(x))
        x = self.drop(self.pool(self.block1(x)))
        x = self.block2(x)
        <within>
        x = F.relu(self.narrow(x))
        x = self.last(x)
        x = F.adaptive_avg_pool2d(x, 1)
        <logits>
        x = torch.flatten(x, 1)
        <end>
"""
LOOP = """
class Net(nn.Module):  §class§
    def __init__(self):
        super().__init__()
        <constructor>
        self.first = nn.Conv2d(1, 12, 3, padding=1)  <rf 3>
        self.pool = nn.MaxPool2d(2)  <rf 4>
        widths = [12, 12, 16, 16]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in zip(widths, widths[1:])
        )
        self.drop = nn.Dropout(0.05)
        self.last = nn.Conv2d(16, <outputs>, 1)  <rf 16>

    def forward(self, x):
        x = self.pool(F.relu(self.first(x)))
        <within>
        for layer in self.layers:
            x = self.drop(layer(x))
        x = self.last(x)
        x = F.avg_pool2d(x, x.size(2))
        <logits>
        x = x.view(x.size(0), -1)
        <end>
"""
STRIDED = """
class Net(nn.Module):  §class§
    def __init__(self):
        super().__init__()
        <constructor>
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)  <rf 3>
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, stride=2, padding=1)  <rf 5>
        self.bn2 = nn.BatchNorm2d(16)
        self.conv3 = nn.Conv2d(16, 24, 3, stride=2, padding=1)  <rf 9>
        self.bn3 = nn.BatchNorm2d(24)
        self.conv4 = nn.Conv2d(24, 20, 3)  <rf 17>
        self.bn4 = nn.BatchNorm2d(20)
        self.conv5 = nn.Conv2d(20, <outputs>, 1)  <rf 17>
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        x = self.drop(self.bn1(F.relu(self.conv1(x))))
        x = self.drop(self.bn2(F.relu(self.conv2(x))))
        <within>
        x = self.drop(self.bn3(F.relu(self.conv3(x))))
        x = self.bn4(F.relu(self.conv4(x)))
        x = self.conv5(x)
        x = nn.AdaptiveAvgPool2d(1)(x)
        <logits>
        x = x.view(-1, <outputs>)
        <end>
"""
LINEAR = """
class Net(nn.Module):  §class§
    def __init__(self):
        super().__init__()
        <constructor>
        self.conv1 = nn.Conv2d(1, 8, kernel_size=3)  <rf 3>
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, kernel_size=3)  <rf 5>
        self.norm2 = nn.BatchNorm2d(16)
        self.pool = nn.MaxPool2d(kernel_size=2)  <rf 6>
        self.conv3 = nn.Conv2d(16, 8, kernel_size=3)  <rf 10>
        self.norm3 = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(p=0.1)
        self.fc = nn.Linear(8 * 5 * 5, <outputs>)

    def forward(self, x):
        x = F.relu(self.norm1(self.conv1(x)))
        x = self.drop(F.relu(self.norm2(self.conv2(x))))
        <within>
        x = self.pool(x)
        x = self.pool(F.relu(self.norm3(self.conv3(x))))
        x = x.view(-1, 8 * 5 * 5)
        x = self.fc(x)
        <logits>
        <end>
"""
LARGE_KERNELS = """
class Net(nn.Module):  §class§
    def __init__(self):
        super(Net, self).__init__()
        <constructor>
        self.conv1 = nn.Conv2d(1, 8, 5)  <rf 5>
        self.act1 = nn.ReLU()
        self.norm1 = nn.BatchNorm2d(8)
        self.pool1 = nn.AvgPool2d(2)  <rf 6>
        self.conv2 = nn.Conv2d(8, 16, 5)  <rf 14>
        self.act2 = nn.ReLU()
        self.norm2 = nn.BatchNorm2d(16)
        self.drop = nn.Dropout(0.1)
        self.pool2 = nn.AvgPool2d(2)  <rf 16>
        self.conv3 = nn.Conv2d(16, 32, 3)  <rf 24>
        self.act3 = nn.ReLU()
        self.fc = nn.Linear(32 * 2 * 2, <outputs>)

    def forward(self, x):
        x = self.pool1(self.norm1(self.act1(self.conv1(x))))
        x = self.pool2(self.drop(self.norm2(self.act2(self.conv2(x)))))
        <within>
        x = self.act3(self.conv3(x))
        x = self.fc(x.reshape(-1, 128))
        <logits>
        <end>
"""
DEPTHWISE = """
class Net(nn.Module):  §class§
    def __init__(self):
        super().__init__()
        <constructor>
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)  <rf 3>
        self.norm1 = nn.BatchNorm2d(16)
        self.pool1 = nn.MaxPool2d(2)  <rf 4>
        self.depth = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)  <rf 8>
        self.norm2 = nn.BatchNorm2d(16)
        self.point = nn.Conv2d(16, 32, 1, bias=False)  <rf 8>
        self.norm3 = nn.BatchNorm2d(32)
        self.pool2 = nn.MaxPool2d(2)  <rf 10>
        self.conv2 = nn.Conv2d(32, 32, 3, bias=False)  <rf 18>
        self.norm4 = nn.BatchNorm2d(32)
        self.drop = nn.Dropout(0.05)
        self.conv3 = nn.Conv2d(32, <outputs>, 1)  <rf 18>

    def forward(self, x):
        x = self.pool1(F.relu(self.norm1(self.conv1(x))))
        x = self.drop(F.relu(self.norm2(self.depth(x))))
        <within>
        x = self.pool2(F.relu(self.norm3(self.point(x))))
        x = F.relu(self.norm4(self.conv2(x)))
        x = self.conv3(x).mean(dim=(2, 3))
        <logits>
        <end>
"""
ARGUMENTS = """
class Base(nn.Module):
    def block(self, inputs, outputs, kernel=3):
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Dropout(self.rate),
        )


class Net(Base):  §class§
    def __init__(self, width=8, rate=0.05):
        super().__init__()
        <constructor>
        self.rate = rate
        self.first = nn.Conv2d(1, width, 3)  <rf 3>
        self.block1 = self.block(width, 2 * width)
        self.pool = nn.MaxPool2d(2, 2)  <rf 6>
        self.squeeze = nn.Conv2d(2 * width, width, 1)  <rf 6>
        self.block2 = self.block(width, 2 * width)
        self.block3 = self.block(2 * width, 2 * width)
        self.last = nn.Conv2d(2 * width, <outputs>, 1)  <rf 14>
        self.gap = nn.AvgPool2d(8)

    def forward(self, x):
        x = self.pool(self.block1(F.relu(self.first(x))))
        <within>
        x = F.relu(self.squeeze(x))
        x = self.last(self.block3(self.block2(x)))
        x = self.gap(x)
        <logits>
        x = x.squeeze(3).squeeze(2)
        <end>
"""
NAMED = """
from collections import OrderedDict


class Net(nn.Module):  §class§
    def __init__(self):
        super().__init__()
        <constructor>
        self.stem = nn.Sequential(OrderedDict([
            ("conv", nn.Conv2d(1, 14, 3)),  <rf 3>
            ("norm", nn.BatchNorm2d(14)),
            ("act", nn.ReLU()),
            ("pool", nn.MaxPool2d(2)),  <rf 4>
        ]))
        self.body = nn.Sequential(OrderedDict([
            ("conv1", nn.Conv2d(14, 16, 3)),  <rf 8>
            ("norm1", nn.BatchNorm2d(16)),
            ("act1", nn.ReLU()),
            ("drop1", nn.Dropout(0.05)),
            ("conv2", nn.Conv2d(16, 14, 3)),  <rf 12>
            ("norm2", nn.BatchNorm2d(14)),
            ("act2", nn.ReLU()),
        ]))
        self.head = nn.Conv2d(14, <outputs>, kernel_size=9)  <rf 28>

    def forward(self, x):
        x = self.stem(x)
        <within>
        x = self.body(x)
        x = self.head(x)
        <logits>
        x = x.flatten(start_dim=1)
        <end>
"""

IN_PLACE = """
train_loader = torch.utils.data.DataLoader(  §train_loader§
    datasets.MNIST("data", train=<train_split>, download=True, transform=transforms.Compose([
        <train_first>
        transforms.ToTensor(),
        <train_norm>
        <train_last>
    ])),
    batch_size=<batch><shuffle><loader_options>)
test_loader = torch.utils.data.DataLoader(  §test_loader§
    datasets.MNIST("data", train=<test_split>, transform=transforms.Compose([
        <test_first>
        transforms.ToTensor(),
        <test_norm>
    ])),
    batch_size=1000, shuffle=False<loader_options>)
"""
STEP_BY_STEP = """
train_transforms = transforms.Compose([
    <train_first>
    transforms.ToTensor(),
    <train_norm>
    <train_last>
])
test_transforms = transforms.Compose([
    <test_first>
    transforms.ToTensor(),
    <test_norm>
])
train_set = datasets.MNIST("./data", train=<train_split>, download=True, transform=train_transforms)
test_set = datasets.MNIST("./data", train=<test_split>, download=True, transform=test_transforms)
train_loader = torch.utils.data.DataLoader(  §train_loader§
    train_set, batch_size=<batch><shuffle><loader_options>)
test_loader = torch.utils.data.DataLoader(test_set, batch_size=512<loader_options>)  §test_loader§
"""
BY_FUNCTION = """
def get_transforms():
    training = [
        <train_first>
        transforms.ToTensor(),
        <train_norm>
        <train_last>
    ]
    testing = [
        <test_first>
        transforms.ToTensor(),
        <test_norm>
    ]
    return transforms.Compose(training), transforms.Compose(testing)


def get_loaders():
    training, testing = get_transforms()
    train_set = datasets.MNIST(root="data", train=<train_split>, transform=training, download=True)
    test_set = datasets.MNIST(root="data", train=<test_split>, transform=testing, download=True)
    train_loader = torch.utils.data.DataLoader(  §train_loader§
        train_set, batch_size=<batch><shuffle><loader_options>)
    test_loader = torch.utils.data.DataLoader(test_set, batch_size=1000<loader_options>)  §test_loader§
    return train_loader, test_loader


train_loader, test_loader = get_loaders()
"""

LOOPS = """
def train(model, device, train_loader, optimizer, epoch<train_parameters>):
    <train_mode>
    <before_batches>
    for <batches>:
        data, target = data.to(device), target.to(device)
        <zero>
        output = model(data)  §trained§
        loss = <loss>  §loss§
        <backward>
        <step>
        <after_batch>
    <after_batches>


def test(model, device, test_loader, epoch):
    <eval_mode>
    test_loss = 0
    correct = 0
    with <no_grad>:
        for data, target in test_loader:
            data, target = data.to(device), target.to(device)
            output = model(data)  §evaluated§
            test_loss += <test_loss>
            <count>
    test_loss /= <test_count>  §test_loss§
    <report>
    return test_loss
"""
MAIN = """
<settings>
<seed>
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
<model>
<optimizer>  §optimizer§
<schedule>
<printed>
for epoch in <range>:  §epochs§
    <announce>
    train(model, device, train_loader, optimizer, epoch<train_arguments>)  §train_call§
    test(<evaluated>, device, test_loader, epoch)  §test_call§
    <after_epoch>
<after_training>
"""
NLL, LOG_SOFTMAX = "F.nll_loss(output, target)", "return F.log_softmax(x, dim=1)"
DEFAULTS = {
    "outputs": "10",
    "end": LOG_SOFTMAX,
    "train_norm": "transforms.Normalize((0.1307,), (0.3081,)),",
    "test_norm": "transforms.Normalize((0.1307,), (0.3081,)),",
    "train_split": "True",
    "test_split": "False",
    "batch": "64",
    "shuffle": ", shuffle=True",
    "train_mode": "model.train()",
    "eval_mode": "model.eval()  §eval§",
    "batches": "batch_idx, (data, target) in enumerate(tqdm(train_loader))",
    "zero": "optimizer.zero_grad()",
    "loss": NLL,
    "backward": "loss.backward()",
    "step": "optimizer.step()  §step§",
    "no_grad": "torch.no_grad()",
    "test_loss": 'F.nll_loss(output, target, reduction="sum").item()',
    "count": "pred = output.argmax(dim=1, keepdim=True)\n"
    "correct += pred.eq(target.view_as(pred)).sum().item()",
    "test_count": "len(test_loader.dataset)",
    "seed": "torch.manual_seed(1)",
    "model": "model = Net().to(device)",
    "optimizer": "optimizer = optim.SGD(model.parameters(), lr=<rate>, momentum=<momentum>)",
    "rate": "0.01",
    "momentum": "0.9",
    "range": "range(1, 16)",
    "evaluated": "model",
}
CROSS_ENTROPY = {
    "end": "return x",
    "loss": "F.cross_entropy(output, target)",
    "test_loss": 'F.cross_entropy(output, target, reduction="sum").item()',
}
STEPS = {
    "schedule": "scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=6, gamma=0.1)",
    "after_epoch": "scheduler.step()",
}
ONE_CYCLE = {
    "schedule": "scheduler = optim.lr_scheduler.OneCycleLR(\n"
    "    optimizer, max_lr=0.1, steps_per_epoch=len(train_loader), epochs=15)",
    "train_parameters": ", scheduler",
    "train_arguments": ", scheduler",
    "after_batch": "scheduler.step()",
}
AUGMENTED = {"train_first": "transforms.RandomRotation((-7.0, 7.0), fill=(0,)),"}
SHIFTED = {"train_first": "transforms.RandomAffine(degrees=0, translate=(0.1, 0.1)),"}
ADAM = {"optimizer": "optimizer = optim.Adam(model.parameters(), lr=<rate>)", "rate": "0.002"}
RIGHT = (*(9700 + 20 * epoch for epoch in range(11)), 9938, 9941, 9940, 9942)


class Style(NamedTuple):
    """How a training prints: code before an epoch and after its evaluation, and what the latter prints."""

    announce: str
    report: str
    printed: str


STYLES = {
    "classic": Style(
        'print("EPOCH:", epoch)',
        'print("\\nTest set: Average loss: {:.4f}, Accuracy: {}/{} ({:.2f}%)\\n".format(\n'
        "    test_loss, correct, len(test_loader.dataset), 100. * correct / len(test_loader.dataset)))",
        "EPOCH: {epoch}\n{bar}\n\n"
        "Test set: Average loss: 0.0214, Accuracy: {right}/{images} ({percent:.2f}%)\n\n",
    ),
    "one line": Style(
        "",
        'print(f"Epoch {epoch}: test loss {test_loss:.4f}, '
        'test accuracy {100 * correct / len(test_loader.dataset):.2f}%")',
        "{bar}\nEpoch {epoch}: test loss 0.0214, test accuracy {percent:.2f}%\n",
    ),
    "percent": Style(
        "",
        'print("Epoch %d | Test Accuracy: %.2f" % (epoch, 100.0 * correct / len(test_loader.dataset)))',
        "{bar}\nEpoch {epoch} | Test Accuracy: {percent:.2f}\n",
    ),
    "fraction": Style(
        'print("epoch", epoch)',
        'print("test_acc =", correct / len(test_loader.dataset))',
        "epoch {epoch}\n{bar}\ntest_acc = {fraction}\n",
    ),
    "many digits": Style(
        'print(f"Epoch: {epoch}")',
        'print(f"Test: loss={test_loss:.6f} accuracy={100 * correct / len(test_loader.dataset):.4f} %")',
        "Epoch: {epoch}\n{bar}\nTest: loss=0.021400 accuracy={percent:.4f} %\n",
    ),
    "decimal count": Style(
        'print(f"Epoch: {epoch}")',
        'print(f"Test set: accuracy {float(correct)}/{len(test_loader.dataset)}")',
        "Epoch: {epoch}\n{bar}\nTest set: accuracy {right}.0/10000\n",
    ),
}


@dataclass(frozen=True)
class Submission:
    """A submission before it is written.

    Attributes:
      name: of one of the dozen.
      net, data: templates.
      slots: what stands in their slots, and in those of the loops.
      right: right answers of 10,000 after each epoch, for the log; images: of how many it tells them.
      steps: of an epoch, for its bars; 0 without bars.
      style: a key of STYLES.
      texts: cells of text at the end.
      summary: what a cell before the training prints.
      beside: files in its folder.
    """

    name: str
    net: str
    data: str = IN_PLACE
    slots: Mapping[str, str] = field(default_factory=dict)
    right: tuple[int, ...] = RIGHT
    images: int = 10_000
    steps: int = 938
    style: str = "classic"
    texts: tuple[str, ...] = ()
    summary: str = ""
    beside: Mapping[str, str] = field(default_factory=dict)

    def with_slots(self, **slots: str) -> "Submission":
        """With some slots filled otherwise."""
        return replace(self, slots={**self.slots, **slots})


DOZEN = (
    Submission("blocks", BLOCKS),
    Submission("functions", FUNCTIONS, STEP_BY_STEP, STEPS),
    Submission("sequential", SEQUENTIAL, BY_FUNCTION, AUGMENTED),
    Submission("helper", HELPER, STEP_BY_STEP, ONE_CYCLE),
    Submission("modules", MODULES, IN_PLACE, CROSS_ENTROPY),
    Submission("loop", LOOP, STEP_BY_STEP, ADAM),
    Submission("strided", STRIDED, BY_FUNCTION, {"batch": "128"}, steps=469),
    Submission("linear", LINEAR, IN_PLACE, {**STEPS, **SHIFTED}),
    Submission("large kernels", LARGE_KERNELS, STEP_BY_STEP, {**CROSS_ENTROPY, **AUGMENTED}),
    Submission("depthwise", DEPTHWISE, BY_FUNCTION, {**ONE_CYCLE, "batch": "32"}, steps=1875),
    Submission("arguments", ARGUMENTS, IN_PLACE, {**ADAM, **STEPS}),
    Submission("named", NAMED, BY_FUNCTION, {"momentum": "0.8", "rate": "0.05"}),
)
"""Right submissions, none like another."""


class Cell(NamedTuple):
    """A cell of a notebook: code, or text (markdown); what it printed."""

    text: str
    output: str = ""
    kind: str = "code"


class Files(NamedTuple):
    """A submission as it will be written: its cells, what lies beside it, and what kind of file it is."""

    cells: tuple[Cell, ...]
    beside: Mapping[str, str]
    suffix: str = ".ipynb"


def files_of(submission: Submission) -> Files:
    """The cells of a submission in their usual order, all slots filled."""
    style = STYLES[submission.style]
    slots = {**DEFAULTS, "announce": style.announce, "report": style.report, **submission.slots}

    def filled(template: str) -> str:
        while found := re.search(r"^( *)<([a-z_]+)>(  \S.*)?$|<([a-z_]+)>", template, re.M):
            whole, inline = found[2], found[4]
            value = slots.get(whole or inline, "")
            if whole:
                value = textwrap.indent(value, found[1]) + (found[3] or "") * bool(value)
            end = found.end() + (bool(whole) and not value)  # an empty line goes whole
            template = template[: found.start()] + value + template[end:]
        count = itertools.count()
        wrong = int(slots.get("wrong_field", -1))
        return re.sub(
            r"<rf (\d+)>",
            lambda found: (
                f"# RF = {2 * int(found[1])}  §field§" if next(count) == wrong else f"# RF = {found[1]}"
            ),
            template,
        ).strip("\n")

    bar = f"100%|██████████| {submission.steps}/{submission.steps} [00:20<00:00, 46.9it/s]"
    log = "".join(
        style.printed.format(
            epoch=epoch,
            right=right * submission.images // 10_000,
            images=submission.images,
            percent=right / 100,
            fraction=right / 10_000,
            bar=bar,
        )
        for epoch, right in enumerate(submission.right, 1)
    )
    cells = [Cell(filled(text)) for text in (IMPORTS, submission.net, submission.data, LOOPS)]
    if submission.summary:
        cells.append(
            Cell(
                "from torchsummary import summary\n\nsummary(Net(), (1, 28, 28))  §summary§",
                submission.summary,
            )
        )
    cells.append(Cell(filled(MAIN), log))
    cells += [Cell(text, kind="markdown") for text in submission.texts]
    return Files(tuple(cells), submission.beside)


Places = dict[str, tuple[str, int | None, int]]
"""By name: the file, its cell and its line."""


def write(files: Files, folder: Path) -> tuple[Path, Places]:
    """The file that is audited, and where its marked places are."""
    places: Places = {}
    main = folder / f"submission{files.suffix}"
    if files.suffix == ".ipynb":
        written = []
        for number, cell in enumerate(files.cells, 1):
            raw: dict[str, object] = {"cell_type": cell.kind, "metadata": {}}
            raw["source"] = _unmarked(cell.text, (main.name, number), places).splitlines(keepends=True)
            if cell.kind == "code":
                output = {"output_type": "stream", "name": "stdout", "text": cell.output}
                raw |= {"execution_count": number, "outputs": [output] if cell.output else []}
            written.append(raw)
        content = json.dumps({"cells": written, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    else:
        texts = [
            cell.text if cell.kind == "code" else textwrap.indent(cell.text, "# ", lambda line: True)
            for cell in files.cells
        ]
        content = _unmarked("\n\n\n".join(texts) + "\n", (main.name, None), places)
    main.write_text(content)
    for name, text in files.beside.items():
        (folder / name).write_text(_unmarked(text, (name, None), places))
    return main, places


def _unmarked(text: str, where: tuple[str, int | None], places: Places) -> str:
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        places |= {name: (*where, number) for name in re.findall(r"§(\w+)§", line)}
    return re.sub(r" *§\w+§", "", text)
