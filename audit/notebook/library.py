"""PyTorch's and torchvision's names as their users write them: aliases, and arguments in their order."""

import types
from collections.abc import Mapping
from typing import Any

REQUIRED: Any = "(required)"
"""In place of a default where there is none."""

_ALIASES = {
    "torchvision.transforms.v2.": "torchvision.transforms.",
    "torchvision.transforms.transforms.": "torchvision.transforms.",
    "torchvision.datasets.mnist.": "torchvision.datasets.",
    "torch.utils.data.dataloader.": "torch.utils.data.",
    "torch.utils.data.dataset.": "torch.utils.data.",
    "torch.optim.sgd.": "torch.optim.",
    "torch.optim.adam.": "torch.optim.",
    "torch.optim.adamw.": "torch.optim.",
    "lightning.pytorch.": "lightning.",
    "pytorch_lightning.": "lightning.",
    "torch.nn.modules.": "torch.nn.",
}
_FILES_OF_NN: tuple[str, ...] = ("activation", "batchnorm", "container", "conv", "dropout", "flatten")
_FILES_OF_NN += ("linear", "loss", "module", "padding", "pooling")


def canonical(name: str) -> str:
    """The name under which a library's function is known here, whatever file it was taken from."""
    for longer, shorter in _ALIASES.items():
        if name.startswith(longer):
            name = shorter + name.removeprefix(longer)
    first, _, last = name.removeprefix("torch.nn.").partition(".")
    if name.startswith("torch.nn.") and first in _FILES_OF_NN and last:
        return f"torch.nn.{last}"
    return name


def _arguments(*required: str, **optional: Any) -> Mapping[str, Any]:
    return types.MappingProxyType({**dict.fromkeys(required, REQUIRED), **optional})


_CONV = {
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "groups": 1,
    "bias": True,
    "padding_mode": "zeros",
    "device": None,
    "dtype": None,
}
_NORM: dict[str, Any] = {
    "eps": 1e-5,
    "momentum": 0.1,
    "affine": True,
    "track_running_stats": True,
    "device": None,
    "dtype": None,
}
_MAX_POOL = {
    "stride": None,
    "padding": 0,
    "dilation": 1,
    "return_indices": False,
    "ceil_mode": False,
}
_AVERAGE_POOL = {
    "stride": None,
    "padding": 0,
    "ceil_mode": False,
    "count_include_pad": True,
    "divisor_override": None,
}
_DROPOUT = {"p": 0.5, "inplace": False}

LAYERS: Mapping[str, Mapping[str, Any]] = {
    "Conv2d": _arguments("in_channels", "out_channels", "kernel_size", **_CONV),
    "Linear": _arguments("in_features", "out_features", bias=True, device=None, dtype=None),
    "BatchNorm1d": _arguments("num_features", **_NORM),
    "BatchNorm2d": _arguments("num_features", **_NORM),
    "MaxPool2d": _arguments("kernel_size", **_MAX_POOL),
    "AvgPool2d": _arguments("kernel_size", **_AVERAGE_POOL),
    "AdaptiveAvgPool2d": _arguments("output_size"),
    "AdaptiveMaxPool2d": _arguments("output_size", return_indices=False),
    "Dropout": _arguments(**_DROPOUT),
    "Dropout1d": _arguments(**_DROPOUT),
    "Dropout2d": _arguments(**_DROPOUT),
    "AlphaDropout": _arguments(**_DROPOUT),
    "ReLU": _arguments(inplace=False),
    "ReLU6": _arguments(inplace=False),
    "LeakyReLU": _arguments(negative_slope=0.01, inplace=False),
    "GELU": _arguments(approximate="none"),
    "SiLU": _arguments(inplace=False),
    "Mish": _arguments(inplace=False),
    "ELU": _arguments(alpha=1.0, inplace=False),
    "SELU": _arguments(inplace=False),
    "Hardswish": _arguments(inplace=False),
    "Hardsigmoid": _arguments(inplace=False),
    "Sigmoid": _arguments(),
    "Tanh": _arguments(),
    "Softplus": _arguments(beta=1, threshold=20),
    "PReLU": _arguments(num_parameters=1, init=0.25),
    "LogSoftmax": _arguments(dim=None),
    "Softmax": _arguments(dim=None),
    "Flatten": _arguments(start_dim=1, end_dim=-1),
    "Identity": _arguments(),
    "ZeroPad2d": _arguments("padding"),
    "Upsample": _arguments(size=None, scale_factor=None, mode="nearest", align_corners=None),
    "LayerNorm": _arguments("normalized_shape", eps=1e-5, elementwise_affine=True, bias=True),
    "GroupNorm": _arguments("num_groups", "num_channels", eps=1e-5, affine=True),
    "InstanceNorm2d": _arguments("num_features", **(_NORM | {"affine": False, "track_running_stats": False})),
}
"""The layers of torch.nn that are known by name, with their arguments and defaults."""

CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")

FUNCTIONS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "max_pool2d": ("MaxPool2d", LAYERS["MaxPool2d"]),
    "avg_pool2d": ("AvgPool2d", LAYERS["AvgPool2d"]),
    "adaptive_avg_pool2d": ("AdaptiveAvgPool2d", LAYERS["AdaptiveAvgPool2d"]),
    "adaptive_max_pool2d": ("AdaptiveMaxPool2d", LAYERS["AdaptiveMaxPool2d"]),
    "dropout": ("Dropout", _arguments(p=0.5, training=True, inplace=False)),
    "dropout2d": ("Dropout2d", _arguments(p=0.5, training=True, inplace=False)),
    "relu": ("ReLU", LAYERS["ReLU"]),
    "relu_": ("ReLU", LAYERS["ReLU"]),
    "relu6": ("ReLU6", LAYERS["ReLU6"]),
    "leaky_relu": ("LeakyReLU", LAYERS["LeakyReLU"]),
    "gelu": ("GELU", LAYERS["GELU"]),
    "silu": ("SiLU", LAYERS["SiLU"]),
    "elu": ("ELU", LAYERS["ELU"]),
    "mish": ("Mish", LAYERS["Mish"]),
    "hardswish": ("Hardswish", LAYERS["Hardswish"]),
    "sigmoid": ("Sigmoid", LAYERS["Sigmoid"]),
    "tanh": ("Tanh", LAYERS["Tanh"]),
    "log_softmax": ("LogSoftmax", _arguments(dim=None, _stacklevel=3, dtype=None)),
    "softmax": ("Softmax", _arguments(dim=None, _stacklevel=3, dtype=None)),
    "flatten": ("Flatten", _arguments(start_dim=0, end_dim=-1)),
}
"""The functions of a tensor that are layers: which, and their arguments behind the tensor."""

_OPTIMIZER = {"params": REQUIRED}
_SPEED = {"maximize": False, "foreach": None, "capturable": False, "differentiable": False, "fused": None}
_SCHEDULE = {"optimizer": REQUIRED}
OBJECTS: Mapping[str, Mapping[str, Any]] = {
    "torch.utils.data.DataLoader": _arguments(
        "dataset",
        batch_size=1,
        shuffle=False,
        sampler=None,
        batch_sampler=None,
        num_workers=0,
        collate_fn=None,
        pin_memory=False,
        drop_last=False,
        timeout=0,
        worker_init_fn=None,
        multiprocessing_context=None,
        generator=None,
        prefetch_factor=None,
        persistent_workers=False,
        pin_memory_device="",
    ),
    "torchvision.datasets.MNIST": _arguments(
        "root", train=True, transform=None, target_transform=None, download=False
    ),
    "torch.utils.data.Subset": _arguments("dataset", "indices"),
    "torch.utils.data.ConcatDataset": _arguments("datasets"),
    "torch.utils.data.random_split": _arguments("dataset", "lengths", generator=None),
    "torch.optim.SGD": _OPTIMIZER
    | {
        "lr": 1e-3,
        "momentum": 0.0,
        "dampening": 0.0,
        "weight_decay": 0.0,
        "nesterov": False,
    }
    | _SPEED,
    "torch.optim.Adam": _OPTIMIZER
    | {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False}
    | _SPEED,
    "torch.optim.AdamW": _OPTIMIZER
    | {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01, "amsgrad": False}
    | _SPEED,
    "torch.optim.lr_scheduler.StepLR": _SCHEDULE
    | {"step_size": REQUIRED, "gamma": 0.1, "last_epoch": -1, "verbose": False},
    "torch.optim.lr_scheduler.MultiStepLR": _SCHEDULE
    | {"milestones": REQUIRED, "gamma": 0.1, "last_epoch": -1, "verbose": False},
    "torch.optim.lr_scheduler.ExponentialLR": _SCHEDULE
    | {"gamma": REQUIRED, "last_epoch": -1, "verbose": False},
    "torch.optim.lr_scheduler.CosineAnnealingLR": _SCHEDULE
    | {"T_max": REQUIRED, "eta_min": 0.0, "last_epoch": -1, "verbose": False},
    "torch.optim.lr_scheduler.OneCycleLR": _SCHEDULE
    | {
        "max_lr": REQUIRED,
        "total_steps": None,
        "epochs": None,
        "steps_per_epoch": None,
        "pct_start": 0.3,
        "anneal_strategy": "cos",
        "cycle_momentum": True,
        "base_momentum": 0.85,
        "max_momentum": 0.95,
        "div_factor": 25.0,
        "final_div_factor": 1e4,
        "three_phase": False,
        "last_epoch": -1,
        "verbose": False,
    },
    "torch.optim.lr_scheduler.ReduceLROnPlateau": _SCHEDULE
    | {
        "mode": "min",
        "factor": 0.1,
        "patience": 10,
        "threshold": 1e-4,
        "threshold_mode": "rel",
        "cooldown": 0,
        "min_lr": 0.0,
        "eps": 1e-8,
        "verbose": False,
    },
    "torchvision.transforms.Compose": _arguments("transforms"),
    "torchvision.transforms.RandomApply": _arguments("transforms", p=0.5),
    "torchvision.transforms.ToTensor": _arguments(),
    "torchvision.transforms.ToDtype": _arguments("dtype", scale=False),
    "torchvision.transforms.Normalize": _arguments("mean", "std", inplace=False),
    "torchvision.transforms.Resize": _arguments("size", interpolation=None, max_size=None, antialias=None),
    "torchvision.transforms.CenterCrop": _arguments("size"),
    "torchvision.transforms.RandomRotation": _arguments(
        "degrees", interpolation="nearest", expand=False, center=None, fill=0
    ),
    "torchvision.transforms.RandomAffine": _arguments(
        "degrees", translate=None, scale=None, shear=None, interpolation="nearest", fill=0, center=None
    ),
    "torchvision.transforms.ColorJitter": _arguments(brightness=0, contrast=0, saturation=0, hue=0),
    "torchvision.transforms.RandomErasing": _arguments(
        p=0.5, scale=(0.02, 0.33), ratio=(0.3, 3.3), value=0, inplace=False
    ),
    "torchvision.transforms.RandomCrop": _arguments(
        "size", padding=None, pad_if_needed=False, fill=0, padding_mode="constant"
    ),
    "torchvision.transforms.RandomPerspective": _arguments(
        distortion_scale=0.5, p=0.5, interpolation="bilinear", fill=0
    ),
    "torch.nn.CrossEntropyLoss": _arguments(
        weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean", label_smoothing=0.0
    ),
    "torch.nn.NLLLoss": _arguments(
        weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"
    ),
    "torch.nn.functional.cross_entropy": _arguments(
        "input",
        "target",
        weight=None,
        size_average=None,
        ignore_index=-100,
        reduce=None,
        reduction="mean",
        label_smoothing=0.0,
    ),
    "torch.nn.functional.nll_loss": _arguments(
        "input", "target", weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"
    ),
}
"""What a recipe is made of, by dotted names, with their arguments and defaults."""


def bind(
    signature: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any] | str:
    """A call's arguments by name, those given alone; or what is wrong with them."""
    if len(args) > len(signature):
        return f"it takes at most {len(signature)} arguments"
    given = dict(zip(signature, args, strict=False))
    for name, value in kwargs.items():
        if name not in signature:
            return f"it has no argument {name}"
        if name in given:
            return f"it is given {name} twice"
        given[name] = value
    missing = [name for name, default in signature.items() if default is REQUIRED and name not in given]
    if missing:
        return f"it lacks {', '.join(missing)}"
    return given
