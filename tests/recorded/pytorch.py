"""What PyTorch computes of cases.py. Each function takes a case, and gives named arrays."""

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import torch
from torch.nn.functional import cross_entropy, interpolate
from torch.optim import SGD, Adam, AdamW, Optimizer, lr_scheduler
from torch.optim.swa_utils import update_bn

from cnn import train
from cnn.architecture import Architecture
from tests.cnn import torch_twin
from tests.recorded import cases

torch.set_num_threads(1)  # more of them wait for each other on cores that are busy

Arrays = dict[str, np.ndarray]


def logits(name: str) -> Arrays:
    entry = cases.NETWORKS[name]
    state = cases.drawn(cases.config_of(entry.architecture, entry.recipe))
    twin = torch_twin.build(entry.architecture, cases.variables_of(state)).eval()
    with torch.no_grad():
        return {"logits": twin(_images(32)).numpy()}


def coloured_logits(_: str) -> Arrays:
    state = cases.drawn(cases.config_of(cases.COLOURS))
    twin = torch_twin.build(cases.COLOURS, cases.variables_of(state)).eval()
    normalised = (cases.coloured_images() / 255 - cases.COLOURS_MEAN) / cases.COLOURS_DEVIATION
    with torch.no_grad():
        return {"logits": twin(_channels_first(normalised).float()).numpy()}


def statistics(_: str) -> Arrays:
    """Batch norm's, of averaged weights, from two batches without dropout."""
    config, state = cases.averaged()
    twin = torch_twin.build(config.network.architecture, train.evaluated_variables(state, config))
    for module in twin:
        if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
            module.p = 0.0
    update_bn(_images(32).split(16), twin)
    return _numpy({n: t for n, t in torch_twin.tensors(twin).items() if n.startswith("batch_stats")})


def two_steps(name: str) -> Arrays:
    """The losses of two steps of 8 and 5 images, and by how much they change each value, all in float64.

    Without dropout. Of a change, which is small, float32 keeps what float64 keeps of the value.
    """
    recipe = cases.NETWORKS[name].recipe
    architecture = Architecture(cases.without_dropout(cases.NETWORKS[name].architecture.layers))
    state = cases.drawn(cases.config_of(architecture, recipe))
    twin = torch_twin.build(architecture, cases.variables_of(state)).double().train()
    before = {name: tensor.clone() for name, tensor in torch_twin.tensors(twin).items()}
    optimizer, losses = SGD(twin.parameters(), recipe.learning_rate, recipe.momentum), []
    for count in (8, 5):
        optimizer.zero_grad()
        loss = cross_entropy(twin(_images(count, np.float64)), _labels(count))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    changes = {name: (tensor - before[name]).float() for name, tensor in torch_twin.tensors(twin).items()}
    return {"losses": np.array(losses), **_numpy(changes)}


def whole_batch(name: str) -> Arrays:
    """Of 128 images in float64, without dropout: the loss, each weight's gradient, and the statistics."""
    architecture = Architecture(cases.without_dropout(cases.ZOO[name].architecture.layers))
    state = cases.drawn(cases.config_of(architecture))
    twin = torch_twin.build(architecture, cases.variables_of(state)).double().train()
    loss = cross_entropy(twin(_images(128, np.float64)), _labels(128))
    loss.backward()
    tensors = torch_twin.tensors(twin, lambda tensor: tensor if tensor.grad is None else tensor.grad)
    return {"loss": np.array(loss.item()), **_numpy({name: t.float() for name, t in tensors.items()})}


def dropout(name: str) -> Arrays:
    """Mean and variance over 400 draws of four images' logits, and the variance of an image's mean logit."""
    architecture = cases.ZOO[name].architecture
    state = cases.drawn(cases.config_of(architecture))
    twin = torch_twin.build(architecture, cases.variables_of(state)).train()
    images = _images(4)
    torch.manual_seed(0)
    with torch.no_grad():
        draws = np.stack([twin(images).numpy() for _ in range(400)])
    return {"mean": draws.mean(0), "var": draws.var(0), "of_images": draws.mean(-1).var(0)}


def _one_cycle(optimizer: Optimizer, **values: float) -> lr_scheduler.LRScheduler:
    config = cases.setup_of(**values)
    return lr_scheduler.OneCycleLR(
        optimizer,
        config.recipe.learning_rate,
        epochs=config.recipe.epochs,
        steps_per_epoch=config.steps_per_epoch,
        pct_start=config.recipe.warmup,
    )


_OF_EPOCHS: dict[str, Callable[[Optimizer], lr_scheduler.LRScheduler]] = {
    "step": partial(lr_scheduler.StepLR, step_size=2, gamma=0.5),
    "multistep": partial(lr_scheduler.MultiStepLR, milestones=[1, 4], gamma=0.3),
}
_OF_STEPS: dict[str, Callable[[Optimizer], lr_scheduler.LRScheduler]] = {
    "constant": partial(lr_scheduler.ConstantLR, factor=1.0),
    "cosine": partial(lr_scheduler.CosineAnnealingLR, T_max=cases.EPOCHS * cases.STEPS_PER_EPOCH),
} | {
    name: partial(_one_cycle, learning_rate=0.1, **values)
    for name, values in cases.SCHEDULES.items()
    if "OneCycleLR" in name
}


def schedule(name: str) -> Arrays:
    """The rate and the momentum of every step."""
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
    scheduler, rows = (_OF_EPOCHS | _OF_STEPS)[name](optimizer), []
    for step in range(cases.EPOCHS * cases.STEPS_PER_EPOCH):
        rows.append([optimizer.param_groups[0][each] for each in ("lr", "momentum")])
        optimizer.step()
        if name in _OF_STEPS or (step + 1) % cases.STEPS_PER_EPOCH == 0:
            scheduler.step()
    return dict(zip(("rates", "momenta"), np.array(rows).T, strict=True))


def plateau(patience: str) -> Arrays:
    return {"rates": plateau_rates(int(patience), cases.losses(int(patience)))}


def plateau_rates(patience: int, losses: Iterable[float]) -> np.ndarray:
    """Before the first epoch, and after each with its loss."""
    optimizer = SGD([torch.zeros(1)], lr=0.1)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience)
    rates = [0.1]
    for loss in losses:
        scheduler.step(float(loss))
        rates.append(optimizer.param_groups[0]["lr"])
    return np.array(rates)


def updates(name: str) -> Arrays:
    """The weights of a tiny network after each of an epoch's steps."""
    recipe = cases.setup_of(epochs=2, learning_rate=0.05, **cases.UPDATES[name]).recipe
    weights = [torch.from_numpy(each.copy()).requires_grad_() for each in cases.WEIGHTS]
    optimizer: Optimizer
    match recipe.optimizer:
        case "sgd":
            rest = {"weight_decay": recipe.weight_decay, "nesterov": recipe.nesterov}
            optimizer = SGD(weights, recipe.learning_rate, recipe.momentum, **rest)
        case "adam":
            optimizer = Adam(weights, recipe.learning_rate, weight_decay=recipe.weight_decay)
        case "adamw":
            optimizer = AdamW(weights, recipe.learning_rate, weight_decay=recipe.weight_decay)
    cycled = recipe.schedule == "OneCycleLR"
    scheduler = _one_cycle(optimizer, epochs=2, learning_rate=0.05, schedule="OneCycleLR") if cycled else None
    x, y = torch.from_numpy(cases.X), torch.from_numpy(cases.Y)
    after = []
    for _ in range(cases.STEPS_PER_EPOCH):
        optimizer.zero_grad()
        cases.loss_of(torch.tanh, x, y, weights).backward()
        optimizer.step()
        if scheduler:
            scheduler.step()
        after.append([each.detach().numpy().copy() for each in weights])
    return {f"weights_{index}": np.stack(steps) for index, steps in enumerate(zip(*after, strict=True))}


def smoothed(share: str) -> Arrays:
    return {"losses": smoothed_losses(float(share), *cases.logits_and_labels(0))}


def smoothed_losses(share: float, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of each row: cross entropy with smoothed labels."""
    given = torch.from_numpy(logits), torch.from_numpy(labels).long()
    return cross_entropy(*given, label_smoothing=share, reduction="none").numpy()


def resized(crop_size: str) -> Arrays:
    """The middle of 16 test images at the images' own size, as torchvision's Resize does it."""
    large = interpolate(_channels_first(cases.centre(int(crop_size))), (28, 28), mode="bilinear")
    return {"images": large.numpy().transpose(0, 2, 3, 1)}


def _channels_first(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images.transpose(0, 3, 1, 2))


def _images(count: int, dtype: type = np.float32) -> torch.Tensor:
    return _channels_first(cases.normalized(cases.images(count).images, dtype))


def _labels(count: int) -> torch.Tensor:
    return torch.from_numpy(cases.images(count).labels).long()


def _numpy(tensors: dict[str, torch.Tensor]) -> Arrays:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


CASES: dict[str, tuple[Callable[[str], Arrays], list[str]]] = {
    function.__name__: (function, list(map(str, names)))
    for function, names in {
        logits: cases.NETWORKS,
        coloured_logits: ["noise"],
        statistics: ["averaged"],
        two_steps: cases.TRAINED,
        whole_batch: cases.WHOLE_BATCH,
        dropout: cases.WITH_DROPOUT,
        schedule: cases.SCHEDULES,
        plateau: cases.PATIENCE,
        updates: cases.UPDATES,
        smoothed: cases.SMOOTHING,
        resized: cases.CROP_SIZES,
    }.items()
}


def compute(kind: str, case: str) -> Arrays:
    function, _ = CASES[kind]
    return function(case)


def compute_all(kind: str) -> Arrays:
    """Of all its cases, each name after the case's."""
    function, names = CASES[kind]
    return {f"{case}/{name}": array for case in names for name, array in function(case).items()}
