"""python -m benchmarks.start: seconds from a start to its first step, with and without kept programs.

The first start fills a folder of compiled programs, the others take them from there. The line that
says how long compiling took comes right before the first step.
"""

import subprocess
import sys
import tempfile
import time

_STARTS = 4


def seconds(folder: str, number: int) -> float:
    """From the start of launch.py to the line before its first step."""
    command = [sys.executable, "-u", "launch.py", "--task=mnist", f"--compilation_cache={folder}/cache"]
    start = time.perf_counter()
    with subprocess.Popen(
        [*command, f"--workdir={folder}/run{number}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "compiled in" in line:
                break
        taken = time.perf_counter() - start
        process.kill()
    return taken


def main() -> None:
    """Print each start's seconds."""
    with tempfile.TemporaryDirectory() as folder:
        first, *others = (seconds(folder, number) for number in range(_STARTS))
    print(f"nothing kept: {first:.1f} s; programs kept: {', '.join(f'{each:.1f}' for each in others)} s")


if __name__ == "__main__":
    main()
