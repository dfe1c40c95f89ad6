"""The text of a compiled program (HLO, scheduled for a TPU), as far as the report needs it.

The syntax is that of openxla.org/xla/operation_semantics, the layouts and tiles that of
openxla.org/xla/tiled_layout.
"""

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<result>\(.*?\)|\S+) (?P<opcode>[a-z][a-z\-]*)"
    r"\((?P<operands>[^)]*)\)(?P<attributes>.*)$"
)
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition)=%?([\w.\-]+)|branch_computations=\{([^}]*)\}")
_ARRAY = re.compile(r"\b([a-z][a-z0-9]*)\[([\d,]*)\](?:\{([\d,]*)(?::T\(([\d,]+)\))?)?")


class Instruction(NamedTuple):
    """One line of a computation.

    Attributes:
      result: the type of what it yields, with layout, as text.
      operands: names of instructions of the same computation.
      calls: names of the computations it runs.
      attributes: all that follows the operands, as text.
    """

    name: str
    opcode: str
    result: str
    operands: tuple[str, ...]
    calls: tuple[str, ...]
    attributes: str


class TiledArray(NamedTuple):
    """An array in a TPU's memory, which is laid out in tiles such as 8x128.

    Attributes:
      shape: logical axes, in the program's order.
      physical: the same from the major axis to the minor one (that of the lanes).
      tile: what the last axes of `physical` are padded to multiples of; empty for an array without tiles.
    """

    dtype: str
    shape: tuple[int, ...]
    physical: tuple[int, ...]
    tile: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """What its values take."""
        return math.prod(self.shape) * _bits(self.dtype) // 8

    @property
    def padded_bytes(self) -> int:
        """What its tiles take."""
        sizes = [1] * (len(self.tile) - len(self.physical)) + list(self.physical)
        for axis, size in enumerate(reversed(self.tile), start=1):
            sizes[-axis] = math.ceil(sizes[-axis] / size) * size
        return math.prod(sizes) * _bits(self.dtype) // 8


class Program(NamedTuple):
    """Computations by name, and the name of the one that is run."""

    computations: dict[str, tuple[Instruction, ...]]
    entry: str

    def reach(self, name: str) -> list[str]:
        """The computation itself and all that it runs, the outer ones first, each once."""
        names = [name]
        for current in names:  # grows on the way
            called = (each for instruction in self.computations[current] for each in instruction.calls)
            names += [each for each in dict.fromkeys(called) if each not in names]
        return names

    def instructions(self, names: Iterable[str]) -> list[Instruction]:
        """Those of several computations."""
        return [instruction for name in names for instruction in self.computations[name]]

    def step_loop(self) -> str:
        """The body of the loop over an epoch's steps: of the outermost loop that multiplies matrices."""
        for loop in self.instructions(self.reach(self.entry)):
            if loop.opcode == "while":
                body = loop.calls[loop.attributes.index("condition=") < loop.attributes.index("body=")]
                if any(is_product(each) for each in self.instructions(self.reach(body))):
                    return body
        raise ValueError("no loop of this program multiplies matrices")


def parse(text: str) -> Program:
    """Read the text that jax.stages.Compiled.as_text() gives."""
    computations: dict[str, list[Instruction]] = {}
    entry = name = ""
    for line in text.splitlines():
        if start := _COMPUTATION.match(line):
            name = start["name"]
            computations[name] = []
            entry = name if start["entry"] else entry
        elif found := _INSTRUCTION.match(line):
            computations[name].append(
                Instruction(
                    found["name"],
                    found["opcode"],
                    found["result"],
                    tuple(re.findall(r"%([\w.\-]+)", found["operands"])),
                    _called(found["attributes"]),
                    found["attributes"],
                )
            )
    return Program({name: tuple(lines) for name, lines in computations.items()}, entry)


def arrays(result: str) -> list[TiledArray]:
    """The arrays of an instruction's result: one, or those of a tuple."""
    found = []
    for dtype, shape, order, tile in _ARRAY.findall(re.sub(r"/\*.*?\*/", "", result)):
        sizes = _numbers(shape)
        physical = tuple(sizes[axis] for axis in reversed(_numbers(order))) if order else sizes
        found.append(TiledArray(dtype, sizes, physical, _numbers(tile)))
    return found


def is_product(instruction: Instruction) -> bool:
    """Whether the matrix unit does it."""
    return instruction.opcode in ("convolution", "dot")


def _called(attributes: str) -> tuple[str, ...]:
    return tuple(
        name
        for one, several in _CALLED.findall(attributes)
        for name in ([one] if one else re.findall(r"%?([\w.\-]+)", several))
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


def _bits(dtype: str) -> int:
    digits = re.search(r"\d+", dtype)
    return int(digits[0]) if digits else 8  # pred
