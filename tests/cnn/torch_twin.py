"""Architectures built in PyTorch, with weights copied from Flax: the tests' peer."""

from collections.abc import Iterator

import jax
import numpy as np
import torch
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
from cnn.train import TrainState


class _ConcatPool(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.mean((2, 3)), nn.functional.adaptive_max_pool2d(x, 1).flatten(1)], 1)


class _Residual(nn.Module):
    def __init__(self, inside: nn.Sequential) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inside(x)


def build(architecture: Architecture) -> nn.Sequential:
    """The same layers as PyTorch's modules, for images of shape batch x 1 x 28 x 28."""
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
                case BatchNorm():
                    modules.append(nn.BatchNorm2d(channels))
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
    return nn.Sequential(*modules_of(architecture.layers, rows, architecture.input_shape[-1]), nn.Flatten())


def copy_weights(state: TrainState, twin: nn.Sequential) -> None:
    """Our params and batch_stats into the twin."""
    with torch.no_grad():
        for ours, theirs in _pairs(state, twin):
            theirs.copy_(torch.from_numpy(np.array(ours)))


def weights_by_name(state: TrainState, twin: nn.Sequential) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every tensor's name with our value and PyTorch's, in PyTorch's layout."""
    names = [name for name, _ in _tensors(twin)]
    return {
        name: (ours, theirs.detach().numpy())
        for name, (ours, theirs) in zip(names, _pairs(state, twin), strict=True)
    }


def _tensors(twin: nn.Sequential) -> list[tuple[str, torch.Tensor]]:
    return [(name, tensor) for name, tensor in twin.state_dict().items() if "num_batches" not in name]


def _in_order(modules: nn.Sequential) -> Iterator[nn.Module]:
    """Those in residuals at the residual's place; a shared one as often as it works."""
    for module in modules:
        if isinstance(module, _Residual):
            yield from _in_order(module.inside)
        else:
            yield module


def _pairs(state: TrainState, twin: nn.Sequential) -> list[tuple[np.ndarray, torch.Tensor]]:
    """Each of PyTorch's tensors after our value for it, in PyTorch's layout."""
    counts: dict[str, int] = {}
    names: dict[nn.Module, str] = {}
    pairs = []
    for module in _in_order(twin):
        kind = {nn.Conv2d: "Conv", nn.BatchNorm2d: "Normalization", nn.Linear: "Dense"}.get(type(module))
        if kind is None:
            continue
        name = names.setdefault(
            module, f"{kind}_{counts.get(kind, 0)}"
        )  # the first one's, where it is shared
        counts[kind] = counts.get(kind, 0) + 1
        params = jax.tree.map(np.asarray, state.params[name])
        if kind == "Normalization":
            statistics = jax.tree.map(np.asarray, state.batch_stats[name])
            pairs += [(params["scale"], module.weight), (params["bias"], module.bias)]
            pairs += [(statistics["mean"], module.running_mean), (statistics["var"], module.running_var)]
            continue
        axes = (3, 2, 0, 1) if kind == "Conv" else (1, 0)
        pairs.append((params["kernel"].transpose(axes), module.weight))
        if module.bias is not None:
            pairs.append((params["bias"], module.bias))
    return pairs
