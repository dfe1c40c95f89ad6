"""Fuzz what reads other people's input: python -m tests.fuzz TARGET --minutes=10.

A target is a Hypothesis test, whose strategies turn a fuzzer's bytes into arguments. Atheris (pip install
atheris) chooses the bytes by the lines they reach; without it they are random. A finding goes into
Hypothesis's database: pytest replays it, makes it smaller and shows it.
"""

import argparse
import collections
import contextlib
import importlib
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

# name: (module, test, the modules whose lines count as new when reached)
TARGETS = {
    "flags": (
        "tests.test_flags_at_random",
        "test_any_command_line_gives_a_configuration_or_one_line",
        ["harness", "backprop.config", "cnn.config", "demo.config", "absl.flags"],
    ),
    "sheets": (
        "tests.audit.spreadsheet.test_mutation",
        "test_a_damaged_spreadsheet_is_audited_or_refused",
        ["audit.spreadsheet", "openpyxl"],
    ),
}
_LONGEST_INPUT = 4096

try:
    import atheris
except ImportError:
    atheris = None


def _counted(test: Callable[[bytes], object], minutes: float) -> Callable[[bytes], None]:
    """Run one input; when the time is over, print what was found and end the process."""
    findings: collections.Counter[str] = collections.Counter()
    start, executions, whole = time.monotonic(), 0, 0

    def one_input(data: bytes) -> None:
        nonlocal executions, whole
        executions += 1
        try:
            whole += test(data) is not None  # None: the bytes made no arguments, or not all of them
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            name = f"{type(error).__name__} at {place.filename}:{place.lineno}"
            if name not in findings:
                traceback.print_exc()
            findings[name] += 1
            whole += 1
        if time.monotonic() - start > 60 * minutes:
            engine = "atheris" if atheris else "random bytes"
            print(
                f"{executions:,} inputs in {minutes:g} minutes ({engine}), {whole:,} of them made arguments "
                f"and were executed: {len(findings)} findings"
            )
            for name, count in findings.most_common():
                print(f"{count:8,} times  {name}")
            sys.stdout.flush()
            os._exit(bool(findings))  # libFuzzer has no other end

    return one_input


def main() -> None:
    """Fuzz one target until its time is over; exit with 1 if it found something."""
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--minutes", type=float, default=10)
    arguments = parser.parse_args()
    module, test, covered = TARGETS[arguments.target]
    with atheris.instrument_imports(include=covered) if atheris else contextlib.nullcontext():
        fuzzed = getattr(importlib.import_module(module), test)
    one_input = _counted(fuzzed.hypothesis.fuzz_one_input, arguments.minutes)
    if atheris:
        corpus = Path(tempfile.mkdtemp())
        for number in range(100):  # nothing is covered from nothing
            (corpus / str(number)).write_bytes(_random_bytes())
        atheris.Setup([sys.argv[0], f"-max_len={_LONGEST_INPUT}", "-verbosity=0", str(corpus)], one_input)
        atheris.Fuzz()
    while True:
        one_input(_random_bytes())


def _random_bytes() -> bytes:
    return random.randbytes(random.randrange(_LONGEST_INPUT))


if __name__ == "__main__":
    main()
