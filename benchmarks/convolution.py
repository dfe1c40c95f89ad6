"""python -m benchmarks.convolution [NETWORK ...]: a network's convolutions by jax.lax's function and by ours.

A network is a name of the zoo, or layers as --layers takes them.

Milliseconds on one core for 64 images: the values and both gradients (of the first convolution the
kernel's alone).
"""

import argparse
import functools
import time
from collections.abc import Callable

import jax
from jax.typing import ArrayLike

from benchmarks.spread import spread
from cnn import cpu
from cnn.architecture import Architecture, Conv, summarize
from cnn.config import CnnConfig
from cnn.text import parse
from cnn.zoo import ZOO

_IMAGES, _REPEATS, _CALLS = 64, 7, 4
_OPTIONS = {"xla_cpu_multi_thread_eigen": False, "xla_backend_optimization_level": 1}
Convolve = Callable[..., jax.Array]


def milliseconds(convolve: Convolve, layer: Conv, shape: tuple[int, ...]) -> Callable[[], float]:
    """A function that measures the layer on images of this shape."""
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (_IMAGES, *shape))
    kernel = jax.random.normal(
        keys[1], (layer.kernel, layer.kernel, shape[-1] // layer.groups, layer.features)
    )
    apply = functools.partial(
        convolve,
        window_strides=(layer.stride, layer.stride),
        padding=[(layer.padding, layer.padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=layer.groups,
    )

    @functools.partial(jax.jit, compiler_options=_OPTIONS)
    def step(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> tuple[ArrayLike, ...]:
        if shape[-1] == 1:
            value, transpose = jax.vjp(lambda kernel: apply(x, kernel), kernel)
        else:
            value, transpose = jax.vjp(apply, x, kernel)
        return value, *transpose(gradient)

    gradient = jax.random.normal(keys[2], jax.eval_shape(apply, x, kernel).shape)
    jax.block_until_ready(step(x, kernel, gradient))

    def measure() -> float:
        start = time.perf_counter()
        for _ in range(_CALLS):
            result = step(x, kernel, gradient)
        jax.block_until_ready(result)
        return 1000 * (time.perf_counter() - start) / _CALLS

    return measure


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convolution", description=__doc__)
    parser.add_argument("networks", nargs="*", default=["bn_dropout_14k", CnnConfig().model])
    cpu.keep_freed_memory()
    print(f"{_IMAGES} images, median of {_REPEATS} alternating repeats (min to max)")
    for network in parser.parse_args().networks:
        named = network in ZOO
        title = network if named else "layers"
        print(f"\n{title:<38}{'jax.lax, ms':>26}{'ours, ms':>26}{'jax.lax / ours':>26}")
        architecture = ZOO[network].architecture if named else Architecture(parse(network))
        shape: tuple[int, ...] = architecture.input_shape
        for layer, row in zip(architecture.layers, summarize(architecture), strict=True):
            if isinstance(layer, Conv):
                functions: tuple[Convolve, ...] = jax.lax.conv_general_dilated, cpu.convolution
                measures = [milliseconds(function, layer, shape) for function in functions]
                times = [[measure() for measure in measures] for _ in range(_REPEATS)]
                theirs, ours = (spread(each, ".2f") for each in zip(*times, strict=True))
                ratio = spread([one / other for one, other in times], ".2f")
                name = f"{'x'.join(map(str, shape))} {row.layer}"
                print(f"{name:<38}{theirs:>26}{ours:>26}{ratio:>26}")
            shape = row.output_shape


if __name__ == "__main__":
    main()
