"""python -m benchmarks.peak_memory: the most memory that each task's command line holds at once.

What Linux says of the process when it ends (ru_maxrss): code and libraries count, too.
"""

import os
import subprocess
import sys
import tempfile

_COMMANDS = {
    "training, one epoch of the default network": ["--task=mnist", "--epochs=1"],
    "training, one epoch of bn_dropout_14k": ["--task=mnist", "--epochs=1", "--model=bn_dropout_14k"],
    "backprop, a frontier of a million rates x 1,000 epochs": [
        "--task=backprop",
        "--frontier_rates=1000000",
        "--frontier_epochs=1000",
    ],
}


def peak(flags: list[str]) -> float:
    """GiB that launch.py with these flags held at most."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "launch.py", *flags, f"--workdir={folder}/run"], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
    return usage.ru_maxrss / 2**20  # Linux counts in KiB


def main() -> None:
    """Print a line for each."""
    for what, flags in _COMMANDS.items():
        print(f"{what:<60}{peak(flags):6.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
