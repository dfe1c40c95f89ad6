"""Architectures built in PyTorch, with weights copied from Flax: the tests' peer."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from flax.traverse_util import flatten_dict
from torch import nn

from cnn.architecture import (
    GELU,
    Architecture,
    AveragePool,
    BatchNorm,
    ChannelDropout,
    ConcatPool,
    Conv,
    Crop,
    Dense,
    Dropout,
    Layer,
    LayerSummary,
    LeakyReLU,
    MaxPool,
    ReLU,
    Residual,
    SiLU,
    summarize,
    unknown_layer,
)


class _ConcatPool(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.mean((2, 3)), nn.functional.adaptive_max_pool2d(x, 1).flatten(1)], 1)


class _Residual(nn.Module):
    def __init__(self, inside: nn.Sequential) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inside(x)


def build(architecture: Architecture, variables: dict[str, Any] | None = None) -> nn.Sequential:
    """The same layers as PyTorch's modules, for images with channels first; with our variables, if given."""
    convolutions: list[nn.Module] = []

    def modules_of(layers: tuple[Layer, ...], rows: tuple[LayerSummary, ...], channels: int) -> nn.Sequential:
        modules: list[nn.Module] = []
        for layer, row in zip(layers, rows, strict=True):
            match layer:
                case Crop(margin):
                    modules.append(nn.ZeroPad2d(-margin))
                case Conv(features, kernel, stride, padding, bias, shares, groups):
                    new = nn.Conv2d(channels, features, kernel, stride, padding, groups=groups, bias=bias)
                    convolutions.append(new if shares is None else convolutions[shares])
                    modules.append(convolutions[-1])
                case BatchNorm(plain):
                    modules.append(nn.BatchNorm2d(channels, affine=not plain))
                case ReLU():
                    modules.append(nn.ReLU())
                case SiLU():
                    modules.append(nn.SiLU())
                case GELU():
                    modules.append(nn.GELU())
                case LeakyReLU(slope):
                    modules.append(nn.LeakyReLU(slope))
                case Dropout(rate):
                    modules.append(nn.Dropout(rate))
                case ChannelDropout(rate):
                    modules.append(nn.Dropout2d(rate))
                case MaxPool(window):
                    modules.append(nn.MaxPool2d(window))
                case AveragePool(None):
                    modules.append(nn.AdaptiveAvgPool2d(1))
                case AveragePool(window):
                    modules.append(nn.AvgPool2d(window))
                case ConcatPool():
                    modules.append(_ConcatPool())
                case Dense(features, bias):
                    modules += [nn.Flatten(), nn.Linear(channels, features, bias=bias)]
                case Residual(inside):
                    modules.append(_Residual(modules_of(inside, row.inside, channels)))
                case _:
                    raise unknown_layer(layer)
            channels = row.output_shape[-1]
        return nn.Sequential(*modules)

    rows = summarize(architecture)
    twin = nn.Sequential(*modules_of(architecture.layers, rows, architecture.input_shape[-1]), nn.Flatten())
    if variables is not None:
        ours = flatten_dict(variables, sep="/")
        for name, tensor in tensors(twin).items():
            tensor.copy_(torch.from_numpy(np.array(ours.pop(name))))  # a view, and so it sets the twin's own
        assert not ours
    return twin


def tensors(
    twin: nn.Sequential, of: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor
) -> dict[str, torch.Tensor]:
    """What `of` makes of PyTorch's tensors, each under the name and in the layout of our value."""
    counts: dict[str, int] = {}
    names: dict[nn.Module, str] = {}
    found: dict[str, torch.Tensor | None] = {}
    for _, module in twin.named_modules(remove_duplicate=False):  # in the order in which they work
        kind = {nn.Conv2d: "Conv", nn.BatchNorm2d: "Normalization", nn.Linear: "Dense"}.get(type(module))
        if kind is None:
            continue
        name = names.setdefault(module, f"{kind}_{counts.get(kind, 0)}")  # the first's, where it is shared
        counts[kind] = counts.get(kind, 0) + 1
        weight = {"Conv": "kernel", "Normalization": "scale", "Dense": "kernel"}[kind]
        found |= {f"params/{name}/{weight}": module.weight, f"params/{name}/bias": module.bias}
        if kind == "Normalization":
            found |= {f"batch_stats/{name}/mean": module.running_mean}
            found |= {f"batch_stats/{name}/var": module.running_var}
    axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
    return {
        name: of(tensor).detach().permute(axes[tensor.dim()])
        for name, tensor in found.items()
        if tensor is not None
    }
