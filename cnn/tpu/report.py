"""A compiled run in words: what --task=tpu prints."""

from collections import Counter
from importlib.metadata import version

from cnn.tpu.analysis import Analysis, Product
from cnn.tpu.compilation import CompiledRun
from cnn.tpu.config import TpuConfig
from cnn.tpu.topologies import TOPOLOGIES

_LANES = 128  # of a TPU's registers and matrix units: what the last axis of an array's tiles is padded to


def report(config: TpuConfig, compiled: CompiledRun, figures: Analysis) -> str:
    """One figure a line, with what it means; then every convolution of a step."""
    topology, program = TOPOLOGIES[config.topology], figures.program
    step, once = figures.step, figures.once
    batch, steps = compiled.config.recipe.batch_size, compiled.config.steps_per_epoch
    share = step.flops / step.seconds / topology.peak_flops
    rows = {
        "compiled in": f"{_compile_time(compiled.seconds)}, by libtpu {version('libtpu')}",
        "operations": f"{step.flops / 1e6:,.1f} million FLOPs a step",
        "memory traffic": f"{_megabytes(step.traffic)} a step, {_megabytes(once.traffic)} once an epoch",
        "compiler's estimate": f"{step.seconds * 1e3:.3f} ms a step, {once.seconds * 1e3:.1f} ms once: "
        f"{once.seconds + steps * step.seconds:.2f} s an epoch (no waiting for collectives in it)",
        "scheduler's estimate": f"{program.cycles:,} cycles a step (no gathers and collectives in it)",
        "memory": f"{_megabytes(figures.arguments)} of arguments, {_megabytes(figures.outputs)} of outputs "
        f"beside them, {_megabytes(figures.temporaries)} of temporaries, {_megabytes(figures.code)} of code",
        "collectives": f"{_count(program.collectives)} a step, "
        f"{_count(program.collectives_outside)} outside the loop over steps",
        "host transfers": f"{program.host_transfers or 'none'} in an epoch",
        "gathered one by one": f"{program.gathered:,} numbers a step (slow on a TPU)",
        "matrix units": f"factors are {_factors(program.products)}; at the compiler's estimate "
        f"{share:.1%} of their peak is used",
        "padding": f"{1 - program.values / program.tiles:.0%} of what a step's arrays take: "
        f"{_megabytes(program.values)} of values lie in {_megabytes(program.tiles)} of tiles",
    }
    width = max(map(len, rows))
    seeds = f" of each of {config.num_seeds} seeds" if config.num_seeds > 1 else ""
    kind, used = compiled.mesh.devices.flat[0].device_kind, compiled.mesh.size
    found = f"{topology.devices} x {kind}"
    if used < topology.devices:
        found = f"{used} of {found}"
    title = (
        f"{config.model} on {config.topology} ({found}), {batch} images a step{seeds}, "
        f"{steps} steps an epoch; all figures are of one device"
    )
    return "\n".join(
        [
            title,
            "",
            *(f"{name:<{width}}  {text}" for name, text in rows.items()),
            "",
            *_products(program.products),
        ]
    )


def _products(products: tuple[Product, ...]) -> list[str]:
    lines = []
    for each in products:
        where = f"{each.layer} {'backward' if each.backward else 'forward'}"
        lanes = each.result.physical[-1]
        tiles = -(-lanes // _LANES) * _LANES
        filled = each.result.bytes / each.result.padded_bytes
        lines.append(
            f"{where:<17}  {'x'.join(each.operands):<9}  {'x'.join(map(str, each.result.shape)):<17}  "
            f"{lanes:>4} of {tiles:<6}  {filled:>8.0%}"
        )
    heading = "matrix product     factors    result             lanes filled    values in its tiles"
    return [heading, *(line + f": {n} times" * (n > 1) for line, n in Counter(lines).items())]


def _compile_time(seconds: dict[str, float]) -> str:
    """The parts that a run compiles add up to the first number."""
    parts = {name: each for name, each in seconds.items() if name != "step"}
    each = ", ".join(f"{name} {part:.1f}" for name, part in parts.items())
    return f"{sum(parts.values()):.1f} s of CPU time: {each} (a step alone {seconds['step']:.1f})"


def _factors(products: tuple[Product, ...]) -> str:
    """The element types; the matrix units multiply float32 as bfloat16 unless a precision is asked for."""
    kinds = Counter("bfloat16" if set(each.operands) == {"bf16"} else "float32" for each in products)
    rounded = ", which they round to bfloat16"
    return " and ".join(f"{kind} in {n}{rounded * (kind == 'float32')}" for kind, n in kinds.items())


def _count(collectives: Counter[str]) -> str:
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(collectives.items()))
    return f"{collectives.total()}{f' ({kinds})' * bool(kinds)}"


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"
