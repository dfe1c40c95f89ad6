"""python launch.py --task=NAME: flags become a checked configuration, which runs one task.

Every field of a task's configuration is a flag of the same name; the field's default is the
flag's. JAX is imported only once all flags are right.
"""

import dataclasses
import importlib
import io
import os
import re
import sys
import types
import typing
import unicodedata
from collections.abc import Sequence
from typing import Any

from absl import flags, logging

from backprop.config import AuditConfig, BackpropConfig
from cnn.compare.config import CompareConfig
from cnn.config import CnnConfig
from cnn.tpu.config import TpuConfig
from demo.config import DemoConfig
from errors import UserError, did_you_mean, explain, one_line, require, require_choice
from workdir import make_config, read_flags

TASKS: dict[str, tuple[type, str]] = {
    "backprop": (BackpropConfig, "backprop.task"),
    "audit": (AuditConfig, "backprop.audit.task"),
    "mnist": (CnnConfig, "cnn.task"),
    "compare": (CompareConfig, "cnn.compare.task"),
    "tpu": (TpuConfig, "cnn.tpu.task"),
    "demo": (DemoConfig, "demo.task"),
}


_LONGEST_NUMBER = 100  # digits: far more than any limit has; Python refuses to read 4,300


class _Text(flags.ArgumentParser):
    def parse(self, argument: str) -> str:
        user = argument.split("/")[0]
        if user.startswith("~") and os.path.expanduser(user) == user:
            raise ValueError(f"there is no home folder {user}: write the whole path")
        return argument


class _WholeNumber(flags.ArgumentParser):
    def parse(self, argument: str) -> int:
        if re.fullmatch(r"[+-]?[0-9]+", argument) is None:
            raise ValueError(f"{argument!r} is not a whole number")
        if len(argument) > _LONGEST_NUMBER:
            raise ValueError(f"a number of {len(argument)} digits is too large")
        return int(argument)


class _Number(flags.ArgumentParser):
    def parse(self, argument: str) -> float:
        try:
            if not argument.isascii() or "_" in argument:
                raise ValueError
            return float(argument)
        except ValueError:
            raise ValueError(f"{argument!r} is not a number") from None


class _Numbers(flags.ArgumentParser):
    def parse(self, argument: str) -> tuple[float, ...]:
        try:
            return tuple(_Number().parse(text) for text in argument.split(","))
        except ValueError as error:
            raise ValueError(f"{error}: give numbers separated by commas, such as 0.1,0.2") from None


class _YesOrNo(flags.BooleanParser):
    def parse(self, argument: str | int | bool) -> bool:
        try:
            return super().parse(argument)
        except ValueError:
            raise ValueError(f"{argument!r} is not true or false") from None


_PARSERS: dict[Any, flags.ArgumentParser] = {
    int: _WholeNumber(),
    float: _Number(),
    str: _Text(),
    tuple[float, ...]: _Numbers(),
}


def define_flags() -> flags.FlagValues:
    """One flag for each field of each task's configuration, and --task."""
    values = flags.FlagValues()
    flags.DEFINE_string("task", None, f"what to run: {', '.join(TASKS)}", values)
    _define_switch("help", "print this and stop", values)
    hints = {
        name: hint
        for config, _ in TASKS.values()
        for name, hint in typing.get_type_hints(config, include_extras=True).items()
    }
    for name, hint in hints.items():
        kind, text = typing.get_args(hint)
        if isinstance(kind, types.UnionType):  # int | None
            kind = next(part for part in typing.get_args(kind) if part in _PARSERS)
        if kind is bool:
            _define_switch(name, text, values)
        else:
            flags.DEFINE(_PARSERS[kind], name, None, text, values)
    return values


def _define_switch(name: str, text: str, values: flags.FlagValues) -> None:
    flag = flags.BooleanFlag(name, None, text)
    flag.parser = _YesOrNo()
    flags.DEFINE_flag(flag, values)


def help_text() -> str:
    """Every task with its flags, their meaning and default."""
    lines = ["usage: python launch.py --task=TASK [--flag=value ...]"]
    for task, (config, _) in TASKS.items():
        lines += ["", f"--task={task}"]
        hints = typing.get_type_hints(config, include_extras=True)
        for field in dataclasses.fields(config):
            default = field.default
            if isinstance(default, tuple):
                default = ",".join(map(str, default))
            shown = "" if default is None or default is False or default == "" else f" (default: {default})"
            lines.append(f"  --{field.name}: {typing.get_args(hints[field.name])[1]}{shown}")
    return "\n".join(lines)


def parse(argv: list[str]) -> tuple[str, Any]:
    """The task's name and its checked configuration.

    Args:
      argv: the command line, the program's name first.

    Raises:
      UserError: an unknown flag, a value that is not allowed, a flag of another task.
    """
    values = define_flags()
    _require_flags(argv[1:], values)
    try:
        values(argv)
    except flags.Error as error:
        raise UserError(f"{error}; see --help") from error
    if values.help:
        print(help_text(), flush=True)
        raise SystemExit(0)
    task: str = values.task or ""
    require(task != "", f"--task is missing: choose one of {', '.join(TASKS)}")
    require_choice("task", task, TASKS)
    config, _ = TASKS[task]
    given = {
        name: values[name].value for name in values if values[name].present and name not in ("task", "help")
    }
    known = {field.name for field in dataclasses.fields(config)}
    for name in given:
        require(name in known, f"--{name} is not a flag of --task={task}: leave it out, see --help")
    if not (given.get("resume") or given.get("eval_only")):
        return task, config(**given)
    kept = read_flags(given.get("workdir"), task)
    anew = {"wait", "coordinator_address", "num_processes", "process_id", "compilation_cache"}
    if given.get("eval_only"):
        anew |= {"export", "tensorboard"}
    kept = {name: kept[name] for name in kept.keys() - anew}  # these say what one command does
    return task, make_config(config, kept | given, str(given["workdir"]))


def _require_flags(arguments: Sequence[str], values: flags.FlagValues) -> None:
    """Refuse all but --name=value, --name value, --name and --noname with names of ours.

    absl would take more: files of flags, unknown flags that another flag allows, and a flag as the
    value of the one before it.

    Raises:
      UserError: anything else, a name given twice, or a value that a file's name or a terminal cannot hold.
    """
    switches = {name for name in values if values[name].boolean}
    words, seen = iter(arguments), set()
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        known = name if name in values else name.removeprefix("no")
        is_flag = known in values if known == name else known in switches
        require(
            word.startswith("--") and name != "", f"{word!r} is not a flag: write --flag=value, see --help"
        )
        require(
            is_flag,
            f"--{name} is not a flag{did_you_mean(name, values, prefix='--')}: see --help for all of them",
        )
        require(known == name or not equals, f"--{name}={value}: write --{name}, or --{known}={value}")
        if known not in switches and not equals:
            value = next(words, "--")
            require(not value.startswith("--"), f"--{name} has no value: write --{name}=value")
        require(known not in seen, f"--{known} is given twice: give it once")
        seen.add(known)
        for letter in value:
            require(
                unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp"),
                f"--{name}={value} holds {letter!a}: leave out characters that are no text",
            )


def main(argv: list[str]) -> int:
    """Run the task; its exit code is what it returns (None is 0), 2 and one line for a user's mistake."""
    logging.set_verbosity(logging.FATAL)  # an error is raised, too, and said in one line below
    task = None
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
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        again = "add --resume" if task == "mnist" else "start again"
        print(f"launch.py: {one_line(explained[0])}: {explained[1]}, then {again}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA logs as errors what are none: openxla/xla 44565
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a folder's name may be any bytes
    exit_code = main(sys.argv)
    try:
        print(end="", flush=True)
    except OSError:  # said above; without this Python would say it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(exit_code)
