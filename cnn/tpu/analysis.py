"""Figures of a compiled epoch: the compiler's own, and what the text of the program adds to them."""

import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax

from cnn.tpu import hlo
from cnn.tpu.compilation import CompiledRun
from cnn.tpu.hlo import Instruction, Program, TiledArray

_COLLECTIVES = (
    *("all-reduce", "all-gather", "all-to-all", "ragged-all-to-all"),
    *("reduce-scatter", "collective-permute", "collective-broadcast"),
)
_MAKES_NO_ARRAY = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while")


class Product(NamedTuple):
    """A convolution or a matrix product of a step.

    Attributes:
      layer: the Flax module it belongs to, such as Conv_0; none is outside the network (augmentation).
      backward: whether it is part of the gradient.
      operands: the element types of its factors.
      result: its result as it lies in memory.
    """

    layer: str
    backward: bool
    operands: tuple[str, ...]
    result: TiledArray


class ProgramFigures(NamedTuple):
    """What the text of an epoch's program says, of one device.

    Attributes:
      collectives, collectives_outside: their number by kind, in a step and outside the loop over steps.
      host_transfers: their number, in the whole epoch.
      cycles: the scheduler's estimate of a step; it has none for collectives and gathers.
      gathered: numbers that a step gathers one by one.
      values, tiles: bytes of the arrays that a step makes, without and with the padding of their tiles.
      products: in the order of the text.
    """

    collectives: Counter[str]
    collectives_outside: Counter[str]
    host_transfers: int
    cycles: int
    gathered: int
    values: int
    tiles: int
    products: tuple[Product, ...]


class Cost(NamedTuple):
    """What the compiler estimates: floating-point operations, bytes to and from memory, seconds."""

    flops: float
    traffic: float
    seconds: float


class Analysis(NamedTuple):
    """A compiled epoch in figures, of one device.

    Attributes:
      step: of a step.
      once: of what is done once an epoch, before and after the steps.
      arguments, outputs, temporaries, code: bytes of memory; outputs are those that take no argument's place.
    """

    step: Cost
    once: Cost
    arguments: int
    outputs: int
    temporaries: int
    code: int
    program: ProgramFigures


def analyze(compiled: CompiledRun) -> Analysis:
    """The figures of a run's epoch.

    The compiler's cost analysis takes the body of a loop once, however often it runs: that of an epoch of
    one batch is a step's, and the whole epoch's is what is done once more than that.
    """
    step, whole = _cost(compiled.step), _cost(compiled.epoch)
    memory: Any = compiled.epoch.memory_analysis()
    text: Any = compiled.epoch.as_text()
    return Analysis(
        step=step,
        once=Cost(*(all_ - part for all_, part in zip(whole, step, strict=True))),
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        program=read_program(hlo.parse(text)),
    )


def _cost(program: jax.stages.Compiled) -> Cost:
    cost: Any = program.cost_analysis()
    return Cost(cost["flops"], cost["bytes accessed"], cost["optimal_seconds"])


def read_program(program: Program) -> ProgramFigures:
    """The figures that stand in a program's text; an inner loop's operations are counted once."""
    body = program.step_loop()
    inside = program.reach(body)
    outside = [name for name in program.reach(program.entry) if name not in inside]
    step, rest = program.instructions(inside), program.instructions(outside)
    made = [
        array
        for each in program.computations[body]
        if each.opcode not in _MAKES_NO_ARRAY and not each.opcode.endswith("-start")  # -done has the result
        for array in hlo.arrays(each.result)
    ]
    return ProgramFigures(
        collectives=_collectives(step),
        collectives_outside=_collectives(rest),
        host_transfers=sum(_is_host_transfer(each) for each in step + rest),
        cycles=sum(_cycles(each) for each in program.computations[body]),
        gathered=sum(_gathered(each) for each in step),
        values=sum(array.bytes for array in made),
        tiles=sum(array.padded_bytes for array in made),
        products=tuple(product for name in inside for product in _products(program.computations[name])),
    )


def _collectives(instructions: Iterable[Instruction]) -> Counter[str]:
    kinds = (each.opcode.removesuffix("-start") for each in instructions)
    return Counter(kind for kind in kinds if kind in _COLLECTIVES)


def _is_host_transfer(instruction: Instruction) -> bool:
    if instruction.opcode in ("send", "recv"):  # other devices are reached so, too
        return "is_host_transfer=true" in instruction.attributes
    return instruction.opcode in ("infeed", "outfeed")


def _cycles(instruction: Instruction) -> int:
    found = re.search(r'"estimated_cycles":"(\d+)"', instruction.attributes)
    return int(found[1]) if found else 0


def _gathered(instruction: Instruction) -> int:
    """How many single numbers a gather collects; 0 of one that collects rows or images."""
    slices = re.search(r"slice_sizes=\{([\d,]*)\}", instruction.attributes)
    if instruction.opcode != "gather" or slices is None or set(slices[1].split(",")) != {"1"}:
        return 0
    return sum(math.prod(array.shape) for array in hlo.arrays(instruction.result))


def _products(computation: tuple[Instruction, ...]) -> Iterable[Product]:
    results = {each.name: each.result for each in computation}
    for each in computation:
        if hlo.is_product(each):
            (result,) = hlo.arrays(each.result)
            yield Product(
                layer=(re.findall(r"(\w+_\d+)/", each.attributes) or ["other"])[-1],
                backward="transpose(" in each.attributes,
                operands=tuple(hlo.arrays(results[name])[0].dtype for name in each.operands),
                result=result,
            )
