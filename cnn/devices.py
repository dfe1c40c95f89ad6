"""The devices of a run: how JAX is started, and how many of them to use."""

import contextlib
import importlib.metadata
import importlib.util
import math
import os
import platform
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
from jax._src import compilation_cache

from cnn import cores, distributed, xla
from cnn.config import COMPILATION_CACHE
from cnn.experiment import Experiment
from harness.errors import UserError, require
from harness.workdir import open_folder

_SET_BY_JAX = {"TPU_LIBRARY_PATH", "TPU_SKIP_MDS_QUERY"}  # wherever libtpu is installed
_SETTINGS = {
    "jax_enable_x64": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_default_matmul_precision": None,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    "jax_debug_nans": False,  # a sweep trains on where a member diverges
    "jax_debug_infs": False,
    "jax_transfer_guard": None,
}
"""What a run's numbers, or its going through at all, depend on."""
_OF_JAX = re.compile(r".+-[0-9a-f]{64}-cache")  # a kept program: its name, a digest, and this
_SHARE = 16  # images of a batch: with fewer, a CPU's devices wait for each other more than they compute


def start(experiment: Experiment) -> None:
    """Set JAX up, before its first computation: processes, virtual CPU devices, memory, determinism, cache.

    Raises:
      UserError: the environment keeps JAX from starting or from compiling; the other processes cannot be
        reached, more devices asked for than there are, or a batch that does not divide among those asked for.
    """
    settle()
    flags, batch = experiment.flags, experiment.recipe.batch_size
    keep_compiled_programs(flags.compilation_cache)
    run, wanted = distributed.processes(flags), flags.num_devices
    _require_shares(batch, wanted, run.count)
    if flags.deterministic:  # XLA reads it when its backend starts
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true"
    if wanted is not None:
        local = wanted // run.count
    elif run.count > 1:  # on one machine, perhaps, where none may take all cores
        local = 1
    else:
        local = _virtual_devices(batch, experiment.members, cores.usable())
    xla.keep_freed_memory(one_device=local == 1)
    with contextlib.suppress(RuntimeError):  # JAX runs already, as in a notebook: with the devices it has
        jax.config.update("jax_num_cpu_devices", local)
    distributed.meet(run)
    find()
    if jax.process_count() > 1:
        # A Cloud TPU has only now said how many processes there are.
        _require_shares(batch, wanted, jax.process_count())
        distributed.require_same_flags(flags)
    require(
        (wanted or 0) <= jax.device_count(),
        f"--num_devices={wanted}: there are {jax.device_count()} ({jax.devices()[0].platform}); give fewer",
    )
    if wanted is not None:
        row = _row(experiment.members, wanted, jax.default_backend())
        sizes = "" if flags.resume or flags.eval_only else f"--batch_size={_nearest_multiple(batch, row)} or "
        require(
            batch % row == 0,
            f"--batch_size={batch} does not divide among --num_devices={wanted}: "
            f"give {sizes}--num_devices={math.gcd(batch, wanted)}",
        )


def settle() -> None:
    """Set what a run's results depend on, whatever the environment says of it.

    Raises:
      UserError: JAX_DISABLE_JIT is set.
    """
    require(
        not jax.config.jax_disable_jit,  # type: ignore[attr-defined]
        "JAX_DISABLE_JIT=1 keeps JAX from compiling, and a training would take days: unset it",
    )
    for name, value in _SETTINGS.items():
        jax.config.update(name, value)


def find(root: Path = Path("/")) -> None:
    """Have JAX find the devices, but look for a TPU only where there is one.

    Once libtpu is installed, as for --task=tpu, JAX would load it anywhere, and it prints warnings. Where
    JAX_PLATFORMS is set, or JAX has seen a TPU, it is left as it is.

    Args:
      root: the folder that holds dev; another one than / imitates a machine.
    """
    chosen: str | None = jax.config.jax_platforms  # type: ignore[attr-defined]
    if chosen:
        try:
            jax.devices()
        except (RuntimeError, AssertionError) as error:  # the latter: a name that it knows, without a plugin
            reason = str(error).partition("\n")[0] or "JAX finds no such device"
            raise UserError(
                f"JAX_PLATFORMS={chosen} does not start here ({reason}): unset it, or give cpu"
            ) from error
    if chosen or importlib.util.find_spec("libtpu") is None:
        return
    plugins = [plugin.name for plugin in importlib.metadata.entry_points(group="jax_plugins")]
    jax.config.update("jax_platforms", _platforms(root, os.environ, plugins))
    try:
        jax.devices()
    except RuntimeError:  # of platforms that are named JAX needs each one, otherwise it takes what works
        jax.config.update("jax_platforms", None)


def _platforms(root: Path, environment: Iterable[str], plugins: Sequence[str]) -> str | None:
    """Return the platforms that JAX can find but the TPU; None where there is a sign of one.

    Signs are the devices that libtpu opens, and the variables by which Google Cloud and Colab describe
    their TPUs. Of a plugin other than those for NVIDIA's and AMD's GPUs only JAX knows the platform.
    """
    nodes = [*root.glob("dev/accel[0-9]*"), *root.glob("dev/vfio/[0-9]*")]
    variables = [name for name in environment if name.startswith(("TPU_", "COLAB_TPU_"))]
    gpus = [name for name in ("cuda", "rocm") if any(name in plugin for plugin in plugins)]
    others = [plugin for plugin in plugins if not any(name in plugin for name in gpus)]
    if nodes or others or not {*variables} <= _SET_BY_JAX:
        return None
    return ",".join([*gpus, "cpu"])


def keep_compiled_programs(folder: str) -> None:
    """Have JAX keep what it compiles in a folder, and take it from there the next time.

    JAX_COMPILATION_CACHE_DIR, where it is set, names the folder instead. Each machine has a folder of
    its own in it, because a program may hold instructions that another's processor lacks.

    Args:
      folder: as --compilation_cache has it; none keeps nothing.

    Raises:
      UserError: nothing can be written to a folder that is not the default.
    """
    if (chosen := os.environ.get("JAX_COMPILATION_CACHE_DIR")) is not None:
        if chosen:  # otherwise JAX keeps nothing
            _remove_damaged(Path(chosen))
        return
    if folder == "none":
        return
    try:
        path = open_folder("compilation_cache", os.path.join(folder, platform.node() or "machine"))
    except UserError as error:
        if folder != COMPILATION_CACHE:
            raise
        print(f"compiled programs are not kept: {error}", file=sys.stderr)
        return
    _remove_damaged(path)
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def _remove_damaged(folder: Path) -> None:
    """Remove programs that a full disk or a kill cut short: JAX can read none of them, and replaces none.

    It writes them in place. Each is read once, by the first start after it was written. Files with names
    that JAX does not give are left alone.
    """
    looked, looking = folder / ".looked", folder / ".looking"
    with contextlib.suppress(OSError):
        looking.touch()  # now, by the clock that gives the programs their times
        before = looked.stat().st_mtime if looked.exists() else 0
        for file in folder.glob("*-cache"):
            if _OF_JAX.fullmatch(file.name) and file.stat().st_mtime >= before:
                try:
                    compilation_cache.decompress_executable(file.read_bytes())
                except Exception:  # zlib's or zstd's
                    file.unlink(missing_ok=True)
        looking.replace(looked)


def _require_shares(batch_size: int, num_devices: int | None, processes: int) -> None:
    """Raise UserError unless every process has as many images of a batch and as many devices."""
    for flag, value in (("batch_size", batch_size), ("num_devices", num_devices)):
        require(
            value is None or value % processes == 0,
            f"--{flag}={value} does not divide among {processes} processes: "
            f"give {_nearest_multiple(value or 0, processes)}",
        )


def _virtual_devices(batch_size: int, members: int, most: int) -> int:
    """Return how many devices to split a CPU into, so that each gets 16 images of a batch or more.

    Members that are left over, and so are trained on more devices each, may get fewer.
    """

    def allowed(count: int) -> bool:
        enough = count == 1 or batch_size * _at_once(members, count, "cpu") >= _SHARE * count
        return enough and batch_size % _row(members, count, "cpu") == 0

    return max(filter(allowed, range(1, most + 1)))


def _row(members: int, count: int, platform: str, size: int | None = None) -> int:
    """Return the number that the batch size must be a multiple of, whichever chunk `count` devices train."""
    sizes = chunk_sizes(members, size or _at_once(members, count, platform))
    return math.lcm(*(count // math.gcd(together, count) for together in sizes))


def _nearest_multiple(number: int, divisor: int) -> int:
    return max(divisor, round(number / divisor) * divisor)


def available(
    num_devices: int | None, batch_size: int, members: int, size: int | None = None
) -> list[jax.Device]:
    """Return the devices to use, as many of each process: those asked for, or all that can share a batch.

    Args:
      size: of the chunks, where a run has one already.
    """
    count = jax.process_count()
    local = jax.local_devices()
    each = num_devices // count if num_devices else most(local, batch_size, members, count, size)
    return [device for process in range(count) for device in jax.local_devices(process)[:each]]


def most(
    devices: Sequence[Any], batch_size: int, members: int, processes: int = 1, size: int | None = None
) -> int:
    """Return how many of a process's devices to use: the largest part of them that can share the batches."""
    platform = devices[0].platform
    return max(
        each
        for each in range(1, len(devices) + 1)
        if len(devices) % each == 0 and batch_size % _row(members, processes * each, platform, size) == 0
    )


def chunk_size(num_devices: int | None, batch_size: int, members: int) -> int:
    """Return how many of a run's members to train at once, in one program.

    All of them on a GPU or a TPU; on a CPU as many as have devices of their own, because it gains
    nothing from more.
    """
    count = len(available(num_devices, batch_size, members))
    return _at_once(members, count, jax.default_backend())


def chunk_sizes(members: int, size: int) -> list[int]:
    """Return the number of members of each chunk: `size`, and a divisor of it where fewer are left.

    So the devices that have as many members each in a whole chunk share the batches in the others.
    """
    sizes = []
    while members:
        sizes.append(max(n for n in range(1, size + 1) if size % n == 0 and n <= members))
        members -= sizes[-1]
    return sizes


def _at_once(members: int, count: int, platform: str) -> int:
    if platform != "cpu":
        return members
    return max(n for n in range(1, count + 1) if count % n == 0 and n <= members)


def host() -> jax.Device:
    """Return this process's CPU; its first device where JAX_PLATFORMS names a GPU or a TPU alone."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


def name(devices: list[jax.Device]) -> str:
    """Return the devices in words, such as cpu: 2 x cpu, 2 of 64 cores usable."""
    first, count = devices[0], len(devices)
    many = f"{count} x " if count > 1 else ""
    found = f", {cores.described()}" if first.platform == "cpu" else ""
    return f"{first.platform}: {many}{first.device_kind}{found}"
