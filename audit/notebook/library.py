"""PyTorch's and torchvision's names as their users write them: aliases, and arguments in their order."""

import ast
import re
import types
from collections.abc import Mapping
from typing import Any

REQUIRED: Any = "(required)"
"""In place of a default where there is none."""

_FILES_OF_NN = "activation|batchnorm|container|conv|dropout|flatten|linear|loss|module|padding|pooling"
_ALIASES = {
    r"(?:lightning\.pytorch|pytorch_lightning)\.": "lightning.",
    r"torchvision\.(transforms|datasets)\.(?:v2|transforms|mnist)\.": r"torchvision.\1.",
    r"torch\.(utils\.data|optim)\.(?:dataloader|dataset|sgd|adamw?)\.": r"torch.\1.",
    r"torch\.nn\.modules\.": "torch.nn.",
    rf"torch\.nn\.(?:{_FILES_OF_NN})\.": "torch.nn.",
}


def canonical(name: str) -> str:
    """The name under which a library's function is known here, whatever file it was taken from."""
    for files, module in _ALIASES.items():
        name = re.sub(f"^{files}", module, name)
    return name


_SIGNATURES = ast.parse("""
with torch.nn:
    Conv2d(in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True,
        padding_mode="zeros", device=None, dtype=None)
    Linear(in_features, out_features, bias=True, device=None, dtype=None)
    BatchNorm1d(num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, device=None,
        dtype=None)
    BatchNorm2d(num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, device=None,
        dtype=None)
    MaxPool2d(kernel_size, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False)
    AvgPool2d(kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
        divisor_override=None)
    AdaptiveAvgPool2d(output_size)
    AdaptiveMaxPool2d(output_size, return_indices=False)
    Dropout(p=0.5, inplace=False), Dropout1d(p=0.5, inplace=False), Dropout2d(p=0.5, inplace=False)
    AlphaDropout(p=0.5, inplace=False)
    ReLU(inplace=False), ReLU6(inplace=False), SiLU(inplace=False), SELU(inplace=False), Mish(inplace=False)
    LeakyReLU(negative_slope=0.01, inplace=False), ELU(alpha=1.0, inplace=False), GELU(approximate="none")
    Hardswish(inplace=False), Hardsigmoid(inplace=False), Sigmoid(), Tanh(), Softplus(beta=1, threshold=20)
    PReLU(num_parameters=1, init=0.25)
    LogSoftmax(dim=None), Softmax(dim=None)
    Flatten(start_dim=1, end_dim=-1)
    Identity()
    ZeroPad2d(padding)
    Upsample(size=None, scale_factor=None, mode="nearest", align_corners=None)
    LayerNorm(normalized_shape, eps=1e-5, elementwise_affine=True, bias=True)
    GroupNorm(num_groups, num_channels, eps=1e-5, affine=True)
    InstanceNorm2d(num_features, eps=1e-5, momentum=0.1, affine=False, track_running_stats=False,
        device=None, dtype=None)
with torch.nn.functional:
    dropout(p=0.5, training=True, inplace=False)
    dropout2d(p=0.5, training=True, inplace=False)
    log_softmax(dim=None, _stacklevel=3, dtype=None)
    softmax(dim=None, _stacklevel=3, dtype=None)
    flatten(start_dim=0, end_dim=-1)
with torch.utils.data:
    DataLoader(dataset, batch_size=1, shuffle=False, sampler=None, batch_sampler=None, num_workers=0,
        collate_fn=None, pin_memory=False, drop_last=False, timeout=0, worker_init_fn=None,
        multiprocessing_context=None, generator=None, prefetch_factor=None, persistent_workers=False,
        pin_memory_device="")
    Subset(dataset, indices)
    ConcatDataset(datasets)
    random_split(dataset, lengths, generator=None)
with torch.optim:
    SGD(params, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False,
        foreach=None, capturable=False, differentiable=False, fused=None)
    Adam(params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, maximize=False,
        foreach=None, capturable=False, differentiable=False, fused=None)
    AdamW(params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, amsgrad=False, maximize=False,
        foreach=None, capturable=False, differentiable=False, fused=None)
    lr_scheduler.StepLR(optimizer, step_size, gamma=0.1, last_epoch=-1, verbose=False)
    lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1, last_epoch=-1, verbose=False)
    lr_scheduler.ExponentialLR(optimizer, gamma, last_epoch=-1, verbose=False)
    lr_scheduler.CosineAnnealingLR(optimizer, T_max, eta_min=0.0, last_epoch=-1, verbose=False)
    lr_scheduler.OneCycleLR(optimizer, max_lr, total_steps=None, epochs=None, steps_per_epoch=None,
        pct_start=0.3, anneal_strategy="cos", cycle_momentum=True, base_momentum=0.85, max_momentum=0.95,
        div_factor=25.0, final_div_factor=1e4, three_phase=False, last_epoch=-1, verbose=False)
    lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.1, patience=10, threshold=1e-4,
        threshold_mode="rel", cooldown=0, min_lr=0.0, eps=1e-8, verbose=False)
with torch:
    nn.CrossEntropyLoss(weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean",
        label_smoothing=0.0)
    nn.NLLLoss(weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean")
    nn.functional.cross_entropy(input, target, weight=None, size_average=None, ignore_index=-100,
        reduce=None, reduction="mean", label_smoothing=0.0)
    nn.functional.nll_loss(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None,
        reduction="mean")
with torchvision:
    datasets.MNIST(root, train=True, transform=None, target_transform=None, download=False)
    transforms.Compose(transforms)
    transforms.RandomApply(transforms, p=0.5)
    transforms.ToTensor()
    transforms.ToDtype(dtype, scale=False)
    transforms.Normalize(mean, std, inplace=False)
    transforms.Resize(size, interpolation=None, max_size=None, antialias=None)
    transforms.CenterCrop(size)
    transforms.RandomRotation(degrees, interpolation="nearest", expand=False, center=None, fill=0)
    transforms.RandomAffine(degrees, translate=None, scale=None, shear=None, interpolation="nearest",
        fill=0, center=None)
    transforms.ColorJitter(brightness=0, contrast=0, saturation=0, hue=0)
    transforms.RandomErasing(p=0.5, scale=(0.02, 0.33), ratio=(0.3, 3.3), value=0, inplace=False)
    transforms.RandomCrop(size, padding=None, pad_if_needed=False, fill=0, padding_mode="constant")
    transforms.RandomPerspective(distortion_scale=0.5, p=0.5, interpolation="bilinear", fill=0)
""")


def _signatures(module: str) -> dict[str, Mapping[str, Any]]:
    """What a module's calls take: by name the defaults of their arguments, in their order."""
    found: dict[str, Mapping[str, Any]] = {}
    for block in _SIGNATURES.body:
        if isinstance(block, ast.With) and ast.unparse(block.items[0]) == module:
            for call in (each for each in ast.walk(block) if isinstance(each, ast.Call)):
                arguments = dict.fromkeys(map(ast.unparse, call.args), REQUIRED)
                arguments |= {each.arg: ast.literal_eval(each.value) for each in call.keywords}
                found[ast.unparse(call.func)] = types.MappingProxyType(arguments)
    return found


LAYERS = _signatures("torch.nn")
"""The layers of torch.nn that are known by name, with their arguments and defaults."""

CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")

_SAME = "max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d relu relu_ relu6 leaky_relu "
_SAME += "gelu silu elu mish hardswish sigmoid tanh"
_KINDS = {kind.lower(): kind for kind in LAYERS}
FUNCTIONS = {name: (kind, LAYERS[kind]) for name in _SAME.split() if (kind := _KINDS[name.replace("_", "")])}
FUNCTIONS |= {
    name: (_KINDS[name.replace("_", "")], arguments)
    for name, arguments in _signatures("torch.nn.functional").items()
}
"""The functions of a tensor that are layers: which, and their arguments behind the tensor."""

OBJECTS = {
    f"{module}.{name}": arguments
    for module in ("torch.utils.data", "torch.optim", "torch", "torchvision")
    for name, arguments in _signatures(module).items()
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
