"""python -m tests.fuzz TARGET --minutes=10: damage inputs at random and count what should not happen."""

import argparse
import collections
import os
import random
import time
import traceback
from pathlib import Path

from tests.backprop.audit.mutation import TOKENS, audit_damaged, computed_originals, mutated


def sheets(chosen: random.Random) -> bytes:
    """A spreadsheet with a few random edits, in its XML or in the archive."""

    def edit() -> tuple[float, int, bytes]:
        if chosen.random() < 0.5:  # most of these stay readable
            return chosen.random(), 1, chosen.choice((b"0", b"1", b"7", b"9", b".", b"-", b"e"))
        new = chosen.choice((chosen.choice(TOKENS), chosen.randbytes(chosen.randrange(4))))
        return chosen.random(), chosen.choice((0, 0, 1, len(new), chosen.randrange(40))), new

    part = None if chosen.random() < 0.1 else chosen.random()
    return mutated(
        chosen.choice(computed_originals()), part, [edit() for _ in range(chosen.choice((1, 1, 2, 5)))]
    )


TARGETS = {"sheets": (sheets, audit_damaged)}
"""name -> (what makes an input, what must not raise on it)."""


def main() -> int:
    """Fuzz a target; the inputs that failed first stay in --out.

    Returns:
      1 if anything was found.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"))
    flags = parser.parse_args()
    make, check = TARGETS[flags.target]
    results: collections.Counter[str] = collections.Counter()
    found: collections.Counter[str] = collections.Counter()
    chosen = random.Random(flags.seed)
    make(chosen)  # prepares what it starts from
    start = time.monotonic()
    while time.monotonic() - start < 60 * flags.minutes:
        given = make(chosen)
        try:
            results[str(check(given))] += 1
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} in {os.path.basename(frame.filename)}:{frame.lineno}"
            found[where] += 1
            if found[where] == 1:
                flags.out.mkdir(parents=True, exist_ok=True)
                (flags.out / f"{flags.target}-{len(found)}").write_bytes(given)
                print(
                    f"{where}: {error}; the input is {flags.out / f'{flags.target}-{len(found)}'}", flush=True
                )
    print(f"{results.total() + found.total()} executions: {dict(results)}; findings: {dict(found)}")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
