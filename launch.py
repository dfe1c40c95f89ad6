"""python launch.py --task=NAME: flags become a checked configuration, which runs one task.

JAX is imported only once all flags are right. A Python that is too old or lacks the packages is told
what to do instead: this file keeps to the syntax of Python 3.6.
"""

# ruff: noqa: E402
import glob
import os
import sys
from typing import NoReturn

OLDEST_PYTHON = (3, 11)


def refuse(lack: str) -> NoReturn:
    """End with 2 and one line: what this Python lacks, and which one to use."""
    here = os.path.dirname(os.path.abspath(__file__))
    for python in sorted(glob.glob(os.path.join(glob.escape(here), ".venv*", "bin", "python")), key=len):
        folder = os.path.dirname(python)
        if not os.path.samefile(os.path.dirname(folder), sys.prefix):
            shown = os.path.relpath(python)
            remedy = f"use {shown} instead, or first run . {os.path.relpath(folder)}/activate"
            break
    else:
        remedy = "first run `make run`, which finds a Python that fits and installs what is needed"
    sys.stderr.write(f"launch.py: {sys.executable} {lack}: {remedy}\n")
    sys.exit(2)


if sys.version_info < OLDEST_PYTHON:
    refuse("is Python {}.{}.{}, and 3.11 or newer is needed".format(*sys.version_info))

import functools
import importlib
import importlib.util
import io
import pkgutil
import re
from typing import Any

try:
    from absl import logging
except ModuleNotFoundError:
    refuse("has no absl-py, which this project needs")

from harness import flags
from harness.errors import UserError, explain, one_line

TASKS = {
    "backprop": ("backprop.config:BackpropConfig", "backprop.task"),
    "audit": ("audit.config:AuditConfig", "audit.task"),
    "mnist": ("cnn.config:CnnConfig", "cnn.main"),
    "compare": ("cnn.compare.config:CompareConfig", "cnn.compare.task"),
    "tpu": ("cnn.tpu.config:TpuConfig", "cnn.tpu.task"),
    "demo": ("demo.config:DemoConfig", "demo.task"),
}
"""The class of a task's flags, and the module whose run(config) it is: imported when it is asked for."""
CONFIGS = {task: functools.partial(pkgutil.resolve_name, name) for task, (name, _) in TASKS.items()}


def parse(argv: list[str]) -> tuple[str, Any]:
    """Return the task's name and its checked configuration; see harness.flags.parse."""
    return flags.parse(argv, CONFIGS, {"mnist": _with_submission})


def _with_submission(given: dict[str, Any]) -> dict[str, Any]:
    """Return the flags of --task=mnist, of which --model may name a notebook or a module."""
    if re.search(r"\.(ipynb|py)(:|$)", given.get("model") or "", re.IGNORECASE) is None:
        return given
    from audit.api import with_submission  # the reader of notebooks takes as long as all else

    return with_submission(given)


def main(argv: list[str]) -> int:
    """Run the task; its exit code is what it returns (None is 0), 2 and one line for a user's mistake."""
    logging.set_verbosity(logging.FATAL)  # an error is raised, too, and said in one line below
    config = None
    try:
        task, config = parse(argv)
        code = importlib.import_module(TASKS[task][1]).run(config) or 0
        print(end="", flush=True)  # a full disk under the output is found here, not at Python's end
        return code
    except UserError as error:
        print(f"launch.py: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("launch.py: interrupted", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if importlib.util.find_spec(package) is not None:
            raise
        refuse(f"has no {package}, which this project needs")
    except Exception as error:
        refusal = explain(error, _less_memory(config))
        if refusal is None:
            raise
        print(f"launch.py: {one_line(refusal.what)}: {refusal.remedies}, then start again", file=sys.stderr)
        return 2


def _less_memory(config: Any) -> list[str]:
    """The flags of a task with which a new run needs less memory."""
    if getattr(config, "resume", False) or getattr(config, "eval_only", False):
        return []
    return [f"--{name}" for name in ("batch_size", "num_seeds", "frontier_rates") if hasattr(config, name)]


if __name__ == "__main__":
    if sys.getfilesystemencoding() == "ascii":  # LC_ALL=C, where no folder's name could hold an umlaut
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    os.environ["MPLBACKEND"] = "agg"  # no figure is shown, and matplotlib ends where it does not know a name
    # Up to JAX 0.10.1, XLA calls it an error that a kept program prefers no gather instructions (AVX-512):
    # jax-ml/jax issue 38445. What is an error is raised, too. From a notebook's process comes JAX's own 1.
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a folder's name may be any bytes
    exit_code = main(sys.argv)
    try:
        print(end="", flush=True)
    except OSError:  # said above; without this Python would say it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(exit_code)
