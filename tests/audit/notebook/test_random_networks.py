"""Random networks, written as PyTorch's users write them, are read as what they are."""

import math
import random

import pytest

from audit.notebook import cells
from audit.notebook.interpreter import follow
from audit.notebook.network import read_network
from cnn.architecture import (
    GELU,
    Architecture,
    AveragePool,
    BatchNorm,
    ChannelDropout,
    Conv,
    Dense,
    Dropout,
    Layer,
    LeakyReLU,
    MaxPool,
    ReLU,
    Residual,
    SiLU,
    count_parameters,
    summarize,
)
from tests.audit.notebook.written import IMPORTS, write

FUNCTIONS = {
    ReLU: ("nn.ReLU()", "F.relu({})"),
    SiLU: ("nn.SiLU()", "F.silu({})"),
    GELU: ("nn.GELU()", "F.gelu({})"),
}


def random_layers(draw: random.Random) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    side, channels = 28, 1
    for _ in range(draw.randint(1, 8)):
        kind = draw.choice(["conv", "conv", "conv", "norm", "act", "drop", "pool", "residual"])
        if kind == "conv":
            kernel = draw.choice([kernel for kernel in (1, 2, 3, 5) if kernel <= side])
            conv = Conv(
                draw.randint(1, 12),
                kernel,
                draw.choice([1, 1, 2]),
                draw.choice([0, 0, 1]),
                draw.random() < 0.5,
            )
            layers.append(conv)
            side, channels = (side + 2 * conv.padding - kernel) // conv.stride + 1, conv.features
        elif kind == "norm":
            layers.append(BatchNorm())
        elif kind == "act":
            layers.append(draw.choice([ReLU(), SiLU(), GELU(), LeakyReLU(0.2)]))
        elif kind == "drop":
            layers.append(draw.choice([Dropout, ChannelDropout])(draw.choice([0.05, 0.1])))
        elif kind == "pool" and side >= 4:
            window = draw.choice([2, 3])
            layers.append(draw.choice([MaxPool, AveragePool])(window))
            side //= window
        elif kind == "residual":
            layers.append(Residual((Conv(channels, 3, padding=1), ReLU())))
    layers.append(AveragePool() if draw.random() < 0.5 else Conv(5, 1))
    return (*layers, Dense(10, draw.random() < 0.5))


def module(layer: Layer, channels: int, features: int) -> str:
    match layer:
        case Conv(out, kernel, stride, padding, bias):
            return f"nn.Conv2d({channels}, {out}, {kernel}, stride={stride}, padding={padding}, bias={bias})"
        case BatchNorm():
            return f"nn.BatchNorm2d({channels})"
        case LeakyReLU(slope):
            return f"nn.LeakyReLU({slope}, inplace=True)"
        case Dropout(rate):
            return f"nn.Dropout({rate})"
        case ChannelDropout(rate):
            return f"nn.Dropout2d(p={rate})"
        case MaxPool(window):
            return f"nn.MaxPool2d(({window}, {window}))"
        case AveragePool(None):
            return "nn.AdaptiveAvgPool2d(1)"
        case AveragePool(window):
            return f"nn.AvgPool2d(kernel_size={window})"
        case Dense(out, bias):
            return f"nn.Linear({features}, {out}, bias={bias})"
    return FUNCTIONS[type(layer)][0]


def as_pytorch(layers: tuple[Layer, ...], draw: random.Random) -> str:
    """A class: some layers alone, some in a Sequential, some as functions, sums with what came in."""
    made: list[str] = []
    used: list[str] = []
    run: list[str] = []
    shape: tuple[int, ...] = (28, 28, 1)

    def end_run() -> None:
        if run:
            made.append(f"self.part{len(made)} = nn.Sequential({', '.join(run)})")
            used.append(f"x = self.part{len(made) - 1}(x)")
            run.clear()

    for layer, row in zip(layers, summarize(Architecture(layers)), strict=True):
        channels, features = shape[-1], math.prod(shape)
        shape = row.output_shape
        if isinstance(layer, Residual):
            end_run()
            made.append(f"self.part{len(made)} = {module(layer.layers[0], channels, features)}")
            used.append(f"x = x + F.relu(self.part{len(made) - 1}(x))")
        elif isinstance(layer, Dense):
            end_run()
            made.append(f"self.part{len(made)} = {module(layer, channels, features)}")
            flat = draw.choice(["x.view(x.size(0), -1)", f"x.view(-1, {features})", "torch.flatten(x, 1)"])
            used.append(f"x = self.part{len(made) - 1}({flat})")
        elif type(layer) in FUNCTIONS and draw.random() < 0.5:
            end_run()
            used.append(f"x = {FUNCTIONS[type(layer)][1].format('x')}")
        elif draw.random() < 0.5:
            run.append(module(layer, channels, features))
        else:
            end_run()
            made.append(f"self.part{len(made)} = {module(layer, channels, features)}")
            used.append(f"x = self.part{len(made) - 1}(x)")
    head = ["class Net(nn.Module):", "    def __init__(self):", "        super().__init__()"]
    body = [f"        {line}" for line in made]
    forward = [
        "    def forward(self, x):",
        *(f"        {line}" for line in used),
        "        return F.log_softmax(x, dim=1)",
    ]
    return "\n".join([*head, *body, *forward])


@pytest.mark.parametrize("seed", range(40))
def test_a_random_network_is_read_as_it_is(seed, tmp_path):
    draw = random.Random(seed)
    layers = random_layers(draw)
    network = read_network(
        follow(cells.read(write(tmp_path, IMPORTS, as_pytorch(layers, draw), "model = Net()")))
    )
    assert network.architecture.layers == layers
    assert network.parameters == network.used_parameters == count_parameters(Architecture(layers))
