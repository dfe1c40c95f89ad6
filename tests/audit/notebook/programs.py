"""Programs that train, one for each kind that was read wrongly once: a right one, with some lines changed."""

RIGHT = """
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torchvision import datasets, transforms

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 8, 3, bias=False)
        self.b = nn.BatchNorm2d(8)
        self.c = nn.Conv2d(8, 10, 3, bias=False)
        self.d = nn.Dropout(0.05)

    def forward(self, x):
        x = self.c(self.d(F.relu(self.b(self.a(x)))))
        return F.log_softmax(F.adaptive_avg_pool2d(x, 1).flatten(1), dim=1)

torch.manual_seed(3)
plain = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
turned = transforms.Compose([transforms.RandomRotation(10), plain])
whole = datasets.MNIST("d", train=True, download=True, transform=plain)
unseen = datasets.MNIST("d", train=False, transform=plain)
loader = torch.utils.data.DataLoader(whole, batch_size=3000, shuffle=True)
held = torch.utils.data.DataLoader(unseen, batch_size=1000)

def one_epoch(net, optimizer):
    net.train()
    for images, labels in loader:
        optimizer.zero_grad()
        loss = F.nll_loss(net(images), labels)
        loss.backward()
        optimizer.step()

def evaluate(net):
    net.eval()
    right, loss = 0, 0.0
    with torch.no_grad():
        for images, labels in held:
            scores = net(images)
            loss += F.nll_loss(scores, labels, reduction="sum").item()
            right += (scores.argmax(1) == labels).sum().item()
    print(loss / 10000, right / 10000)

net = Small()
optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
for epoch in range(4):
    one_epoch(net, optimizer)
    evaluate(net)
"""
OPTIMIZER = "optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)\n"
LOADERS = "loader = torch.utils.data.DataLoader(whole,"
ZERO, STEP, EVALUATE = "        optimizer.zero_grad()\n", "        optimizer.step()\n", "    evaluate(net)\n"
TRAIN = "    one_epoch(net, optimizer)\n"
SPLIT = (
    f"ours, kept = torch.utils.data.random_split(whole, [50000, 10000])\n{LOADERS.replace('whole', 'ours')}"
)
OF_KEPT = ("DataLoader(unseen", "DataLoader(kept")


def schedule(made: str, at: str, stepped: str) -> tuple[tuple[str, str], ...]:
    """A schedule that is made behind the optimizer, and stepped behind some line, or before it with a +."""
    step = stepped.replace("step", "schedule.step()")
    after = f"{step}{at}" if step.endswith("\n+") else f"{at}{step}"
    made = f"schedule = optim.lr_scheduler.{made}\n"
    return (OPTIMIZER, OPTIMIZER + made), (at, after.replace("\n+", "\n"))


PROGRAMS: dict[str, tuple[tuple[str, str], ...]] = {
    "right": (),
    "groups": (
        (
            "(net.parameters(), lr",
            '([{"params": net.a.parameters(), "lr": 0.01}, {"params": net.b.parameters()}, '
            '{"params": net.c.parameters()}], lr',
        ),
    ),
    "a group of all": (("(net.parameters(), lr", '([{"params": net.parameters()}], lr'),),
    "a group added": (
        ("(net.parameters(), lr", "([*net.a.parameters(), *net.b.parameters()], lr"),
        ("for epoch", 'optimizer.add_param_group({"params": net.c.parameters(), "lr": 0.01})\nfor epoch'),
    ),
    "weights without an optimizer": (("(net.parameters(), lr", "(net.c.parameters(), lr"),),
    "a split's data set distorted": (
        (LOADERS, SPLIT.replace("loader", "ours.dataset.transform = turned\nloader", 1)),
        OF_KEPT,
    ),
    "a subset's data set distorted": (
        (
            LOADERS,
            "ours = torch.utils.data.Subset(whole, range(54000))\n"
            "kept = torch.utils.data.Subset(whole, range(54000, 60000))\n"
            f"kept.dataset.transform = turned\n{LOADERS.replace('whole', 'ours')}",
        ),
        OF_KEPT,
    ),
    "a split in fractions": ((LOADERS, SPLIT.replace("50000, 10000", "0.75, 0.25")), OF_KEPT),
    "distorted while it trains": (
        (TRAIN, f"    whole.transform = turned\n{TRAIN}    whole.transform = plain\n"),
    ),
    "stepped after": schedule("StepLR(optimizer, 2)", EVALUATE, "    step\n"),
    "stepped before": schedule("StepLR(optimizer, 2)", TRAIN, "    step\n+"),
    "stepped twice": schedule("StepLR(optimizer, 4, gamma=0.5)", EVALUATE, "    step\n    step\n"),
    "halved twice": schedule("ExponentialLR(optimizer, 0.5)", EVALUATE, "    step\n    step\n"),
    "stepped before the training": schedule(
        "MultiStepLR(optimizer, [2, 4])", "for epoch in range(4):\n", "step\nstep\n+"
    ),
    "stepped in some epochs": schedule(
        "ExponentialLR(optimizer, 0.1)", EVALUATE, "    if epoch % 2:\n        step\n"
    ),
    "stepped by batch": schedule("StepLR(optimizer, 2)", STEP, "        step\n"),
    "milestones of batches": schedule("MultiStepLR(optimizer, [1, 3])", STEP, "        step\n"),
    "epochs in batches": schedule("StepLR(optimizer, 2 * len(loader))", STEP, "        step\n"),
    "one cycle": schedule(
        "OneCycleLR(optimizer, 0.1, epochs=4, steps_per_epoch=len(loader))", STEP, "        step\n"
    ),
    "one cycle of a split": (
        (LOADERS, SPLIT),
        OF_KEPT,
        *schedule("OneCycleLR(optimizer, 0.1, total_steps=4 * len(loader))", STEP, "        step\n"),
    ),
    "cosine by batch": schedule("CosineAnnealingLR(optimizer, 4 * len(loader))", STEP, "        step\n"),
    "never stepped": ((OPTIMIZER, f"{OPTIMIZER}schedule = optim.lr_scheduler.StepLR(optimizer, 2)\n"),),
    "no evaluation mode": (("    net.eval()\n", ""),),
    "evaluation mode by train": (("    net.eval()\n", "    net.train(False)\n"),),
    "no training mode": (("    net.train()\n", ""),),
    "gradients never zeroed": ((ZERO, ""),),
    "gradients zeroed once an epoch": (
        (ZERO, ""),
        ("    net.train()\n", "    net.train()\n    net.zero_grad()\n"),
    ),
    "gradients zeroed by hand": ((ZERO, "        for p in net.parameters():\n            p.grad = None\n"),),
    "gradients zeroed after the step": ((ZERO, ""), (STEP, STEP + ZERO)),
    "gradients zeroed before the step": ((ZERO, ""), (STEP, ZERO + STEP)),
    "trained on test images": (
        ("download=True, transform", "transform"),
        ('"d", train=True,', '"d", train=False,'),
    ),
    "trained on both": ((LOADERS, LOADERS.replace("whole", "whole + unseen")),),
    "evaluated on training images": (("DataLoader(unseen", "DataLoader(whole"),),
    "another network evaluated": (
        (OPTIMIZER, f"{OPTIMIZER}other = Small()\n"),
        (EVALUATE, "    evaluate(other)\n"),
    ),
    "a copy evaluated": (
        ("import torch\n", "import copy\nimport torch\n"),
        (EVALUATE, "    evaluate(copy.deepcopy(net))\n"),
    ),
    "an old network's optimizer": ((OPTIMIZER, f"{OPTIMIZER}net = Small()\n"),),
    "test images not normalised": (
        ("train=False, transform=plain", "train=False, transform=transforms.ToTensor()"),
    ),
    "mean losses times images": ((', reduction="sum").item()', ").item() * len(images)"),),
    "mean losses summed": ((', reduction="sum").item()', ").item()"),),
    "lazy layers": (
        ("nn.Conv2d(1, 8,", "nn.LazyConv2d(8,"),
        ("nn.BatchNorm2d(8)", "nn.LazyBatchNorm2d()"),
        ("nn.Conv2d(8, 10,", "nn.LazyConv2d(10,"),
    ),
    "a norm without weights": (("nn.BatchNorm2d(8)", "nn.BatchNorm2d(8, affine=False)"),),
    "an accelerator": (
        ("batch_size=3000, shuffle=True", "shuffle=True, **how"),
        ("plain =", 'how = {"batch_size": 2000 if torch.accelerator.is_available() else 3000}\nplain ='),
    ),
    "known arguments": (
        (
            "class Small",
            "import argparse\np = argparse.ArgumentParser()\n"
            'p.add_argument("--batch-size", type=int, default="2000")\np.add_argument("--lr", default=0.02)\n'
            'p.set_defaults(lr=0.03)\nargs, _ = p.parse_known_args(["--lr", "0.04"])\nclass Small',
        ),
        ("batch_size=3000", 'batch_size=vars(args)["batch_size"]'),
        ("lr=0.05", "lr=float(args.lr)"),
    ),
    "transforms of version 2": (
        (
            "from torchvision import datasets, transforms",
            "from torchvision import datasets, transforms\nfrom torchvision.transforms import v2",
        ),
        (
            "transforms.Compose([transforms.ToTensor(), transforms.",
            "v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.",
        ),
    ),
    "weights by class name": (
        (
            OPTIMIZER,
            "def start(m):\n    if m.__class__.__name__.find('Conv') != -1:\n"
            "        nn.init.normal_(m.weight, 0.0, 0.02)\n"
            f"net.apply(start)\n{OPTIMIZER}",
        ),
        ("self.a = nn.Conv2d(1, 8, 3, bias=False)", "self.a = nn.Sequential(nn.Conv2d(1, 8, 3, bias=False))"),
    ),
    "a break": ((STEP, f"{STEP}        if loss.item() < 0.01:\n            break\n"),),
    "other labels": (("F.nll_loss(net(images), labels)\n", "F.nll_loss(net(images), labels.roll(1))\n"),),
    "other settings printed": (
        (OPTIMIZER, f'LR = 0.01\n{OPTIMIZER}print(f"learning rate: {{LR}}, momentum: 0.9")\n'),
    ),
    "the same settings printed": (
        (
            OPTIMIZER,
            f'{OPTIMIZER}print({{"lr": 0.05, "momentum": 0.9}}, "batch size:", 3000, "epochs = 4")\n',
        ),
    ),
    "fields doubled": (
        (
            OPTIMIZER,
            f"{OPTIMIZER}rf, jump = 1, 1\nfor kernel, stride in ((3, 1), (3, 1)):\n"
            "    rf = rf * 2 if rf > 1 else rf + kernel - 1\nprint(rf)\n",
        ),
    ),
    "fields wrong from the start": (
        (
            OPTIMIZER,
            f"{OPTIMIZER}rf, jump = 1, 1\nfor kernel, stride in ((3, 1), (3, 1)):\n"
            "    rf, jump = rf + kernel * jump, jump * stride\n",
        ),
    ),
    "a turn that ends after its step": (
        (STEP, f"{STEP}        if loss.item() > 0.5:\n            continue\n        print(loss.item())\n"),
    ),
    "fields computed": (
        (
            OPTIMIZER,
            f"{OPTIMIZER}def receptive_field(layers):\n    field, jump = 1, 1\n"
            "    for kernel, stride in layers:\n"
            "        field, jump = field + (kernel - 1) * jump, jump * stride\n    return field\n"
            'print("receptive field:", receptive_field([(3, 1), (3, 1)]))\n',
        ),
    ),
}
"""By name, pairs of a text in RIGHT and what stands in its place."""


def program(name: str) -> str:
    """The text of a program."""
    text = RIGHT
    for before, after in PROGRAMS[name]:
        assert before in text, (name, before)
        text = text.replace(before, after)
    return text
