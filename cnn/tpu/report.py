"""A compiled run in figures and words: what --task=tpu prints."""

import re
from collections import Counter
from importlib.metadata import version
from typing import Any, NamedTuple

import jax

from cnn.tpu.compilation import CompiledRun
from cnn.tpu.config import TpuConfig
from cnn.tpu.topologies import TOPOLOGIES

_COLLECTIVES = (
    *("all-reduce", "all-gather", "all-to-all", "ragged-all-to-all"),
    *("reduce-scatter", "collective-permute", "collective-broadcast"),
)
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \([^\n]*\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_INSTRUCTION = re.compile(r"^ +(?:ROOT )?%?[\w.-]+ = (?:\(.*?\)|\S+) ([a-z-]+)\((.*)$", re.MULTILINE)
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition)=%?([\w.-]+)|branch_computations=\{([^}]*)\}")


class Communication(NamedTuple):
    """The messages in an epoch's program.

    Attributes:
      in_step, outside: the number of collectives by kind, in the loop over the steps and outside of it.
      host_transfers: the number of transfers between a device and its host.
    """

    in_step: Counter[str]
    outside: Counter[str]
    host_transfers: int


class Cost(NamedTuple):
    """The compiler's estimate: floating-point operations, bytes to and from memory, seconds."""

    flops: float
    traffic: float
    seconds: float


def communication(text: str) -> Communication:
    """Return the messages in an epoch's program, by its text (HLO, openxla.org/xla/operation_semantics)."""
    computations = dict(_COMPUTATION.findall(text))
    inside = re.findall(r"body=%?([\w.-]+)", text)  # all else that is in a loop hangs on these
    for name in inside:  # grows on the way
        called = re.findall(r"[\w.-]+", str(_CALLED.findall(computations[name])))
        inside += [each for each in called if each not in inside]
    in_step, outside, host_transfers = Counter[str](), Counter[str](), 0
    for name, instructions in computations.items():
        for operation, rest in _INSTRUCTION.findall(instructions):
            if (kind := operation.removesuffix("-start")) in _COLLECTIVES:
                (in_step if name in inside else outside)[kind] += 1
            elif operation in ("send", "recv"):  # other devices are reached so, too
                host_transfers += "is_host_transfer=true" in rest
            elif operation in ("infeed", "outfeed"):
                host_transfers += 1
    return Communication(in_step, outside, host_transfers)


def cost(program: jax.stages.Compiled) -> Cost:
    """Return what the compiler estimates of a program; it takes the body of a loop once."""
    found: Any = program.cost_analysis()
    return Cost(found["flops"], found["bytes accessed"], found["optimal_seconds"])


def report(config: TpuConfig, compiled: CompiledRun) -> str:
    """Return the compiled run's figures with what they mean, a line each."""
    topology, recipe = TOPOLOGIES[config.topology], config.recipe
    step, whole, steps = cost(compiled.step), cost(compiled.epoch), compiled.steps
    once = Cost(*(both - part for both, part in zip(whole, step, strict=True)))
    memory: Any = compiled.epoch.memory_analysis()
    messages = communication(str(compiled.epoch.as_text()))
    beside = memory.output_size_in_bytes - memory.alias_size_in_bytes
    rows = {
        "compiled in": f"{compile_time(compiled.seconds)}, by libtpu {version('libtpu')}",
        "operations": f"{step.flops / 1e6:,.1f} million FLOPs a step: "
        f"{step.flops / step.seconds / topology.peak_flops:.1%} of the peak, at the estimate",
        "memory traffic": f"{_megabytes(step.traffic)} a step, {_megabytes(once.traffic)} once an epoch",
        "compiler's estimate": f"{step.seconds * 1e3:.3f} ms a step, {once.seconds * 1e3:.1f} ms once: "
        f"{once.seconds + steps * step.seconds:.2f} s an epoch (no waiting for collectives in it)",
        "memory": f"{_megabytes(memory.argument_size_in_bytes)} of arguments, {_megabytes(beside)} of "
        f"outputs beside them, {_megabytes(memory.temp_size_in_bytes)} of temporaries, "
        f"{_megabytes(memory.generated_code_size_in_bytes)} of code",
        "collectives": f"{_count(messages.in_step)} a step, "
        f"{_count(messages.outside)} outside the loop over steps",
        "host transfers": f"{messages.host_transfers or 'none'} in an epoch",
    }
    seeds = f" of each of {config.num_seeds} seeds" if config.num_seeds > 1 else ""
    found = f"{topology.devices} x {compiled.devices[0].device_kind}"
    if len(compiled.devices) < topology.devices:
        found = f"{len(compiled.devices)} of {found}"
    title = (
        f"{config.model} on {config.topology} ({found}), {recipe.batch_size} images a step{seeds}, "
        f"{steps} steps an epoch; all figures are of one device"
    )
    width = max(map(len, rows))
    return "\n".join([title, "", *(f"{name:<{width}}  {text}" for name, text in rows.items())])


def compile_time(seconds: dict[str, float]) -> str:
    """Return the CPU time of what a run compiles, in all and by part; it compiles no step alone."""
    parts = {name: each for name, each in seconds.items() if name != "step"}
    each = ", ".join(f"{name} {part:.1f}" for name, part in parts.items())
    return f"{sum(parts.values()):.1f} s of CPU time: {each} (a step alone {seconds['step']:.1f})"


def _count(collectives: Counter[str]) -> str:
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(collectives.items()))
    return f"{collectives.total()}{f' ({kinds})' * bool(kinds)}"


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"
