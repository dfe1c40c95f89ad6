"""python -m benchmarks.tried [NAME ...]: what was tried for the default network, judged on validation images.

Each trains seed 0 (`--seed`) on the first 50,000 training images and counts the errors on the other
10,000; the test images are not looked at. Without a name it lists them all. A run takes minutes.

A network is written as its convolutions: c24p = convolution to 24 channels, 3x3, padded, then batch
norm and ReLU (SiLU, where this word is first); c16.5p has a 5x5 kernel, s2 a stride of 2, =3 the weights
of convolution 3; crop2 = two pixels less at each side of the images, M = max pooling, A = global average
pooling, X = global average and max pooling, D0.05 = dropout. A dense layer ends each of them.
"""

import argparse
import re
from typing import Any

import jax

from cnn import cpu, data, loop
from cnn.architecture import (
    Architecture,
    AveragePool,
    BatchNorm,
    ConcatPool,
    Conv,
    Crop,
    Dense,
    Dropout,
    Layer,
    MaxPool,
    ReLU,
    SiLU,
    count_parameters,
)
from cnn.config import CnnConfig
from cnn.devices import start
from cnn.recipe import Recipe

_VALIDATION = 10_000
_FIVE = "c16.5p M c24p c24p M c24 c24 A"
_SHARED = "c16.5p M c24p c24p M c24p c24p c24p=3 c24p=4 A"
_TWICE = _SHARED.replace("A", "c24p=3 c24p=4 A")
_WITH_MAX = _SHARED.replace("c16.5p", "c15.5p").replace("A", "X")
_PADDED = "SiLU c15.5p M c24p c24p M D0.05 c24p c24p c24p=3 c24p=4 X D0.15"
_CHOSEN = _PADDED.replace("c15.5p", "c15.5")
_SPRINT = "SiLU c15.5 M c24p c24p M c24p c24p c24p=3 c24p=4 X"
_CROPPED = _SPRINT.replace("SiLU", "SiLU crop2")
_SIXTEEN = _CROPPED.replace("c15", "c16").replace("X", "A")
_RECIPE = Recipe(
    epochs=8,
    batch_size=128,
    learning_rate=0.1,
    schedule="one_cycle",
    nesterov=True,
    weight_decay=1e-4,
    ema_decay=0.999,
    initialization="he",
    rotation=10.0,
    scale=0.10,
    shear=0.10,
    shift=2.0,
)
_MUON: dict[str, Any] = {"optimizer": "muon", "learning_rate": 0.05, "momentum": 0.95, "weight_decay": 0.02}


def _distorted(
    rotation: float, scale: float, shear: float, shift: float, elastic: float = 0.0, fade: float = 0.0
) -> dict[str, Any]:
    return locals()


def _bent(pixels: float, fade: float = 0.0) -> dict[str, Any]:
    return _distorted(10.0, 0.10, 0.10, 2.0, pixels, fade)


def _weak(strength: float) -> dict[str, Any]:
    """That many times 7 degrees, 7 % and 1 pixel, fading to nothing."""
    return _distorted(7.0 * strength, 0.07 * strength, 0.07 * strength, strength, fade=1.0)


_SHORT: dict[str, Any] = {
    "epochs": 2,
    **_MUON,
    "learning_rate": 0.08,
    "ema_decay": 0.98,
    **_weak(1.0),
}
_LONG: dict[str, Any] = {"epochs": 18, **_MUON, **_bent(1.0, fade=0.6)}
TRIED: dict[str, tuple[str, dict[str, Any]]] = {
    "five": (_FIVE, {}),
    "five_stronger": (_FIVE, {**_distorted(15.0, 0.15, 0.2, 2.0)}),
    "five_elastic": (_FIVE, {**_bent(2.0)}),
    "strided": ("c32.5s2p c24p c24p M c24p A", {}),
    "bottlenecks": ("c16.5p M c32p c14.1 c32p M c14.1 c32p c14.1 c32p A", {}),
    "shared": (_SHARED, {}),
    "shared_weaker": (_SHARED, {**_distorted(7.0, 0.07, 0.07, 1.5)}),
    "shared_64": (_SHARED, {"batch_size": 64, "learning_rate": 0.06, "ema_decay": 0.9995}),
    "shared_muon": (_SHARED, _MUON),
    "shared_twice": (_TWICE, {}),
    "shared_wide": ("c16.5p M c20p c20p M c28p c28p c28p=4 c28p=4 A", {}),
    "shared_muon_bent": (_SHARED, {**_MUON, **_bent(1.0)}),
    "shared_muon_bent_fading": (_SHARED, {**_MUON, **_bent(1.0, fade=0.8)}),
    "shared_muon_bent_silu": (f"SiLU {_SHARED}", {**_MUON, **_bent(1.0)}),
    "shared_muon_bent_max": (_WITH_MAX, {**_MUON, **_bent(1.0)}),
    "shared_across_scales": (
        "c16.5p M c28p c28p M c28p c28p=2 c28p=3 c28p=2 A",
        {**_MUON, **_bent(1.0)},
    ),
    "shared_18": (_SHARED, {"epochs": 18}),
    "shared_18_elastic": (_SHARED, {"epochs": 18, **_bent(2.0)}),
    "shared_18_muon": (_SHARED, {"epochs": 18, **_MUON}),
    "shared_18_muon_slow": (
        _SHARED,
        {
            "epochs": 18,
            **_MUON,
            "learning_rate": 0.03,
            "weight_decay": 0.03,
            "ema_decay": 0.9995,
            **_bent(1.0),
        },
    ),
    "shared_18_muon_bent": (_SHARED, {"epochs": 18, **_MUON, **_bent(1.0)}),
    "shared_18_muon_bent_twice": (
        _TWICE.replace("c16.5p", "c15.5p"),
        {"epochs": 18, **_MUON, **_bent(1.0)},
    ),
    "shared_18_muon_decay": (
        _SHARED,
        {"epochs": 18, **_MUON, "weight_decay": 0.05, **_bent(1.5)},
    ),
    "shared_18_muon_bent_fading": (_SHARED, {"epochs": 18, **_MUON, **_bent(1.0, fade=0.6)}),
    "silu_max_18": (f"SiLU {_WITH_MAX}", {"epochs": 18, **_MUON, **_bent(1.0)}),
    "silu_max_18_fading": (
        f"SiLU {_WITH_MAX}",
        {"epochs": 18, **_MUON, **_bent(1.0, fade=0.6)},
    ),
    "silu_max_18_stronger": (
        f"SiLU {_WITH_MAX}",
        {
            "epochs": 18,
            **_MUON,
            "weight_decay": 0.03,
            **_distorted(15.0, 0.15, 0.15, 2.0, elastic=2.0, fade=0.6),
        },
    ),
    "silu_max_18_dropout": (_PADDED, _LONG),
    "silu_max_18_dropout_steady": (_PADDED, {**_LONG, **_bent(1.0, fade=0.2)}),
    "silu_max_18_dropout_more": (_PADDED.replace("D0.05", "D0.1").replace("D0.15", "D0.3"), _LONG),
    "silu_max_14_dropout": (_PADDED, {**_LONG, "epochs": 14}),
    "silu_max_19_dropout": (_PADDED, {**_LONG, "epochs": 19}),
    "silu_max_19_dropout_64": (
        _PADDED,
        {**_LONG, "epochs": 19, "batch_size": 64, "learning_rate": 0.035, "ema_decay": 0.9995},
    ),
    "silu_max_18_unpadded": (_CHOSEN, _LONG),
    "silu_max_18_unpadded_twice": (
        _CHOSEN.replace("c15", "c14").replace("X", "c24p=3 c24p=4 X"),
        _LONG,
    ),
    "silu_max_18_unpadded_early": (
        "SiLU c14.5 M c24p c24p c24p=2 M D0.05 c24p c24p c24p=4 c24p=5 X D0.15",
        _LONG,
    ),
    "silu_max_18_unpadded_slow": (
        _CHOSEN,
        {**_LONG, "learning_rate": 0.03, "weight_decay": 0.03, "ema_decay": 0.9995},
    ),
    "silu_max_18_unpadded_slower": (
        _CHOSEN,
        {**_LONG, "learning_rate": 0.02, "weight_decay": 0.05, "ema_decay": 0.9995},
    ),
    "sprint": (_SPRINT, _SHORT),
    "sprint_narrow": (
        "SiLU c12.5 M c20p c20p M c20p c20p c20p=3 c20p=4 X",
        {**_SHORT, "epochs": 3},
    ),
    "sprint_shallow": ("SiLU c12.5 M c24p M c24p c24p c24p=2 X", {**_SHORT, "epochs": 3}),
    "sprint_weaker": (_SPRINT, {**_SHORT, **_weak(0.6)}),
    "sprint_faster": (_SPRINT, {**_SHORT, "learning_rate": 0.11}),
    "sprint_slower": (_SPRINT, {**_SHORT, "learning_rate": 0.06}),
    "sprint_longer_average": (_SPRINT, {**_SHORT, "ema_decay": 0.99}),
    "sprint_early_peak": (_SPRINT, {**_SHORT, "warmup": 0.1}),
    "sprint_cropped": (_CROPPED, _SHORT),
    "sprint_3": (_SPRINT, {**_SHORT, "epochs": 3}),
    "sprint_3_cropped": (_CROPPED, {**_SHORT, "epochs": 3}),
    "sprint_3_cropped_longer_average": (_CROPPED, {**_SHORT, "epochs": 3, "ema_decay": 0.99}),
    "sprint_3_cropped_stronger": (_CROPPED, {**_SHORT, "epochs": 3, **_weak(1.4)}),
    "sprint_3_cropped_slower": (_CROPPED, {**_SHORT, "epochs": 3, "learning_rate": 0.06}),
    "sprint_3_cropped_more": (_CROPPED.replace("crop2", "crop3"), {**_SHORT, "epochs": 3}),
    "sprint_3_cropped_256": (
        _CROPPED,
        {**_SHORT, "epochs": 3, "batch_size": 256, "learning_rate": 0.11, "ema_decay": 0.97},
    ),
    "sprint_3_cropped_16": (_SIXTEEN, {**_SHORT, "epochs": 3}),
    "sprint_3_cropped_16_relu": (_SIXTEEN.removeprefix("SiLU "), {**_SHORT, "epochs": 3}),
    "sprint_4_cropped_more": (
        _CROPPED.replace("crop2", "crop3"),
        {**_SHORT, "epochs": 4, "ema_decay": 0.99},
    ),
    "silu_max_18_unpadded_to_nothing": (_CHOSEN, {**_LONG, **_bent(1.0, fade=1.0)}),
    "silu_max_18_unpadded_cropped": (_CHOSEN.replace("SiLU", "SiLU crop2"), _LONG),
}


def parse(text: str) -> Architecture:
    """The network of a text as the module's docstring describes it."""
    layers: list[Layer] = []
    activation: Layer = SiLU() if text.startswith("SiLU ") else ReLU()
    one_layer: dict[str, Layer] = {"M": MaxPool(), "A": AveragePool(), "X": ConcatPool()}
    for word in text.removeprefix("SiLU ").split():
        if word in one_layer:
            layers.append(one_layer[word])
            continue
        if word.startswith("crop"):
            layers.append(Crop(int(word[4:])))
            continue
        if word.startswith("D"):
            layers.append(Dropout(float(word[1:])))
            continue
        match = re.fullmatch(r"c(\d+)(?:\.(\d))?(s2)?(p)?(?:=(\d))?", word)
        assert match is not None, word
        kernel = int(match[2] or 3)
        layers += [
            Conv(
                int(match[1]),
                kernel,
                stride=2 if match[3] else 1,
                padding=kernel // 2 if match[4] else 0,
                bias=False,
                shares=int(match[5]) if match[5] else None,
            ),
            BatchNorm(),
            activation,
        ]
    return Architecture((*layers, Dense(10)))


def measure(name: str, seed: int) -> None:
    """Train one of them; print its row."""
    text, changes = TRIED[name]
    recipe, architecture = _RECIPE.with_flags(changes), parse(text)
    start(CnnConfig(validation_size=_VALIDATION, batch_size=recipe.batch_size))
    cpu.keep_freed_memory()
    dataset = data.load("mnist", None)
    config, splits = loop.configure(architecture, recipe, dataset, validation_size=_VALIDATION)
    del splits["test"]
    *_, result = loop.train_epochs(config, splits, loop.start(config, [seed]))
    last = result.history[-1]
    errors = round((1 - last["validation_accuracy"]) * _VALIDATION)
    print(
        f"{name:<32}{count_parameters(architecture):>8,}{recipe.epochs:>4} epochs, seed {seed}: "
        f"{errors} errors of {_VALIDATION:,}, loss {last['validation_loss']:.4f}"
    )


def main() -> None:
    """Train those that are named, or list them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tried", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    for name in flags.names:
        measure(name, flags.seed)
        jax.clear_caches()
    if not flags.names:
        for name, (text, changes) in TRIED.items():
            print(f"{name:<32}{text}  {' '.join(f'{key}={value}' for key, value in changes.items())}")


if __name__ == "__main__":
    main()
