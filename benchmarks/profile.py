"""python -m benchmarks.profile [NETWORK ...]: where a step on a CPU spends its time, by JAX's profiler.

On one core (taskset -c 0 python -m benchmarks.profile) every time is exact. On several, a convolution that
YNNPACK does not take runs apart, and XLA's profile shows its start alone: it counts up to the start of what
follows, and a part of it may be counted elsewhere. What waits for another device is in the reductions.
"""

import argparse
import collections
import glob
import itertools
import os
import re
import tempfile

DUMP = tempfile.TemporaryDirectory()
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={DUMP.name} --xla_dump_hlo_as_text"
)

import jax  # noqa: E402

from benchmarks.training import Training  # noqa: E402
from cnn import devices  # noqa: E402
from cnn.config import CnnConfig  # noqa: E402
from cnn.experiment import resolve  # noqa: E402
from cnn.zoo import DEFAULT, ZOO  # noqa: E402

_STEPS, _WARMUP = 24, 3
_STEP = "jit_step"
_APART = ("conv_general", "convolution", "custom-call")  # names of convolutions outside of fusions
_OTHERS = {"jit_prepare": "augmentation"}
_ONEDNN = "__onednn$convolution"  # in the names of XLA's calls, which say no more
_INSTRUCTION = re.compile(r"^ *(?:ROOT )?%([\w.-]+) = \S+ ([\w-]+)\((.*)$", re.MULTILINE)


def kinds(hlo: str) -> dict[str, str]:
    """What each instruction of a compiled step is there for."""
    bodies = dict(re.findall(r"^%([\w.-]+) \(.*?\{\n(.*?)^\}", hlo, re.MULTILINE | re.DOTALL))
    result = {}
    for name, opcode, rest in _INSTRUCTION.findall(hlo):
        called = re.search(r"calls=%([\w.-]+)", rest)
        inside = f"{opcode}(" + (bodies.get(called[1], "") if called else "")
        label = re.search(r'op_name="([^"]*)"', rest)
        where = label[1] if label else ""
        if opcode == "all-reduce":
            kind = "reductions over the devices"
        elif "convolution(" in inside or _ONEDNN in rest or ("dot(" in inside and "/Conv_" in where):
            forward = "/jvp(Network)/Conv_" in where and "transpose(" not in where
            kind = "convolutions" if forward else "gradients of convolutions"
        elif "/while/body" in where and "/Conv_" in where:
            kind = "gradients of convolutions"
        elif name.startswith(("transpose_copy", "copy")):
            kind = "values in another order"
        else:
            kind = "elementwise and all else"
        result[name] = kind
    return result


def measure(network: str) -> None:
    """Print a network's table."""
    recipe = ZOO[network].recipe
    usable = len(devices.available(None, recipe.batch_size, 1))
    training = Training(network, steps=_STEPS, num_devices=usable)
    for _ in range(_WARMUP):
        training.images_a_second()
    with tempfile.TemporaryDirectory() as folder:
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0
        with jax.profiler.trace(folder, profiler_options=options):
            speed = training.images_a_second()
        (file,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        profile = jax.profiler.ProfileData.from_file(file)
    newest = max(glob.glob(f"{DUMP.name}/*{_STEP}.cpu_after_optimizations.txt"), key=os.path.getmtime)
    with open(newest) as text:
        kind_of = kinds(text.read())
    spent: collections.Counter[str] = collections.Counter()
    for line in (line for plane in profile.planes for line in plane.lines):
        thunks = []
        for event in line.events:
            stats = dict(event.stats)
            if "hlo_op" in stats:
                thunks.append((event.start_ns, event.duration_ns, event.name, stats["hlo_module"]))
        thunks.sort()
        for (start, duration, name, module), (following, *_) in itertools.pairwise(thunks):
            kind = kind_of.get(name, "elementwise and all else") if module == _STEP else _OTHERS[module]
            if _ONEDNN in name:
                kind = "convolutions and input gradients, oneDNN's"
            spent[kind] += following - start if name.startswith(_APART) else duration
    whole = sum(spent.values())
    print(f"\n{network}, cores: {usable}, {speed:,.0f} images/s while profiled")
    for kind, nanoseconds in spent.most_common():
        print(f"{kind:<44}{nanoseconds / whole:>6.0%}")


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("networks", nargs="*", default=["bn_dropout_14k", DEFAULT])
    networks = parser.parse_args().networks
    devices.start(resolve(CnnConfig(compilation_cache="none")))  # what is only loaded leaves no text
    for network in networks:
        measure(network)


if __name__ == "__main__":
    main()
