"""Damage a checkpoint in random ways and restore it: python -m tests.damage --cases=1000.

Two checkpoints as a run keeps them; the last one is damaged. Restoring it has to name the folder, and then,
with that folder moved away, to give the one before; or to give the very content that was saved, where the
damage hit bytes that carry nothing. A worker process restores, with limits on its memory and its time.
"""

import argparse
import collections
import multiprocessing
import random
import resource
import shutil
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

import jax
import numpy as np
from absl import logging

from cnn import checkpoint, train
from cnn.model import Network
from cnn.population import Progress
from cnn.zoo import ZOO
from harness.errors import UserError

KINDS = ("flipped", "cut", "zeroed", "deleted", "swapped")
GOOD = ("named", "the same")
_MEMORY = 2 * 2**30  # bytes that restoring may take beyond what the process has
_SECONDS = 600
_BEFORE, _LAST = 10, 20


def progress(step: int) -> Progress:
    """Of a network with batch norm and an average, as it may be after some steps: random numbers."""
    entry, generator = ZOO["compact_20k"], np.random.default_rng(step)
    setup = train.Config(Network(entry.architecture, "he"), entry.recipe, 60_000, 0.1, 0.3)

    def like(leaf: jax.Array) -> np.ndarray:
        return generator.uniform(0, 1000, (1, *leaf.shape)).astype(leaf.dtype)

    state = jax.tree.map(like, train.init_state(setup, jax.random.key(0)))
    state = state._replace(step=np.array([step], np.int32), key=np.zeros((1, 2), np.uint32))
    history = [
        {"seed": 0, "epoch": epoch + 1, "test_accuracy": generator.uniform()} for epoch in range(step // 10)
    ]
    return Progress(np.zeros(1, np.uint32), state, np.array([step / 7]), history)


def save_two(folder: Path) -> None:
    """Save two checkpoints in folder/checkpoints."""
    folder.mkdir()
    with checkpoint.open_checkpoints(folder) as manager:
        for step in (_BEFORE, _LAST):
            checkpoint.save(manager, progress(step))


def damage(checkpoints: Path, kind: str, generator: random.Random) -> str:
    """Damage the last checkpoint; says how."""
    last = checkpoints / str(_LAST)
    paths = sorted(last.rglob("*"))
    file = generator.choice([path for path in paths if path.is_file() and path.stat().st_size])
    content, name = file.read_bytes(), file.relative_to(last)
    at = generator.randrange(len(content))
    match kind:
        case "flipped":
            changed = bytearray(content)
            for each in (at, *generator.choices(range(len(content)), k=generator.choice([0, 0, 1, 7]))):
                changed[each] ^= generator.randrange(1, 256)
            file.write_bytes(changed)
        case "cut":
            file.write_bytes(content[:at])
        case "zeroed":
            file.write_bytes(content[:at] + bytes(len(content) - at))
        case "deleted":
            gone = generator.choice(paths)
            name = gone.relative_to(last)
            shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        case "swapped":
            same_folder = sorted((checkpoints / str(_BEFORE) / name.parent).iterdir())
            files = [path for path in same_folder if path.is_file()]
            other = next((path for path in files if path.name == name.name), generator.choice(files))
            swapped = other.read_bytes()
            other.write_bytes(content)
            file.write_bytes(swapped)
    return f"{name} {kind} at {at} of {len(content)}"


def restore(folder: Path) -> str:
    """What restoring gives: "the same", "the one before", "other numbers", "named", or what it raised."""
    try:
        with checkpoint.open_checkpoints(folder) as manager:
            restored = checkpoint.restore(manager, like=progress(0))
    except UserError as error:
        expected = f"{folder / 'checkpoints' / str(_LAST)} cannot be restored ("
        named = str(error).startswith(expected) and "move that folder away" in str(error)
        return "named" if named else f"said: {error}"
    except Exception as error:
        return f"raised {type(error).__name__}: {str(error)[:200]}"
    if restored is None:
        return "none"
    if _equal(restored, progress(_LAST)):
        return "the same"
    return "the one before" if _equal(restored, progress(_BEFORE)) else "other numbers"


def _equal(ours: Progress, theirs: Progress) -> bool:
    def content(of: Progress) -> tuple:
        leaves = [
            (leaf.dtype, leaf.shape, leaf.tobytes()) for leaf in jax.tree.leaves(of._replace(history=[]))
        ]
        return jax.tree.structure(of.state), leaves, of.history

    return content(ours) == content(theirs)


def case(whole: Path, folder: Path, number: int) -> tuple[str, str, str]:
    """One case, by its number: the kind of damage, what was damaged, what became of it."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    kind, generator = KINDS[number % len(KINDS)], random.Random(number)
    how = damage(folder / "checkpoints", kind, generator)
    result = restore(folder)
    if result == "named" and kind != "swapped":  # there, the one before is damaged, too
        shutil.rmtree(folder / "checkpoints" / str(_LAST))
        before = restore(folder)
        result = result if before == "the one before" else f"named, and without that folder: {before}"
    return kind, how, result


def _work(pipe: Connection, whole: Path) -> None:
    logging.set_verbosity(logging.FATAL)
    with tempfile.TemporaryDirectory() as scratch:
        case(whole, Path(scratch, "run"), 0)  # all threads are there, all modules imported
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))
        while True:
            pipe.send(case(whole, Path(scratch, "run"), pipe.recv()))


def run(whole: Path, cases: range) -> dict[int, tuple[str, str, str]]:
    """The results of all cases. A worker that dies or hangs is a result, too, and replaced."""
    context, results, worker = multiprocessing.get_context("spawn"), {}, None
    for number in cases:
        if worker is None:
            pipe, its_end = context.Pipe()
            worker = context.Process(target=_work, args=(its_end, whole))
            worker.start()
            its_end.close()
        pipe.send(number)
        try:
            if not pipe.poll(_SECONDS):
                raise EOFError(f"took more than {_SECONDS} s")
            results[number] = pipe.recv()
        except (EOFError, ConnectionError) as error:
            worker.kill()
            worker.join()
            results[number] = (KINDS[number % len(KINDS)], "?", f"{error or 'died'} ({worker.exitcode})")
            worker = None
    if worker is not None:
        worker.kill()
        worker.join()
    return results


def main() -> None:
    """Print how many cases of each kind came to what; exit with 1 if one is neither named nor the same."""
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        save_two(Path(folder, "whole"))
        results = run(Path(folder, "whole"), range(arguments.first, arguments.first + arguments.cases))
    counts = collections.Counter((kind, result) for kind, _, result in results.values())
    for (kind, result), count in sorted(counts.items()):
        print(f"{count:5} {kind:8} {result}")
    bad = {number: result for number, result in results.items() if result[2] not in GOOD}
    for number, (_, how, result) in bad.items():
        print(f"case {number}: {how}: {result}")
    print(f"{len(results) - len(bad)} of {len(results)} named or the same")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
