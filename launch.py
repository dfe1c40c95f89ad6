"""python launch.py --task=NAME: flags become a checked configuration, which runs one task.

Every field of a task's configuration is a flag of the same name; the field's default is the
flag's. JAX is imported only once all flags are right.
"""

import dataclasses
import importlib
import os
import sys
import types
import typing
from typing import Any

from absl import flags, logging

from backprop.config import AuditConfig, BackpropConfig
from cnn.config import CnnConfig
from demo.config import DemoConfig
from errors import UserError, require, require_choice
from workdir import read_flags

TASKS: dict[str, tuple[type, str]] = {
    "backprop": (BackpropConfig, "backprop.task"),
    "audit": (AuditConfig, "backprop.audit.task"),
    "mnist": (CnnConfig, "cnn.task"),
    "demo": (DemoConfig, "demo.task"),
}


class _WholeNumber(flags.ArgumentParser):
    def parse(self, argument: str) -> int:
        try:
            return int(argument)
        except ValueError:
            raise ValueError(f"{argument!r} is not a whole number") from None


class _Number(flags.ArgumentParser):
    def parse(self, argument: str) -> float:
        try:
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
    str: flags.ArgumentParser(),
    tuple[float, ...]: _Numbers(),
}


def define_flags() -> flags.FlagValues:
    """One flag for each field of each task's configuration, and --task."""
    values = flags.FlagValues()
    flags.DEFINE_string("task", None, f"what to run: {', '.join(TASKS)}", values, allow_overwrite=False)
    flags.DEFINE_boolean("help", False, "print this and stop", values)
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
            flag = flags.BooleanFlag(name, None, text, allow_overwrite=False)
            flag.parser = _YesOrNo()
            flags.DEFINE_flag(flag, values)
        else:
            flags.DEFINE(_PARSERS[kind], name, None, text, values, allow_overwrite=False)
    return values


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
    try:
        rest = values(argv)
    except flags.Error as error:
        raise UserError(f"{' '.join(str(error).split())}; see --help") from error
    if values.help:
        print(help_text())
        raise SystemExit(0)
    require(len(rest) == 1, f"{' '.join(rest[1:])!r} is not a flag: write --flag=value, see --help")
    task: str = values.task or ""
    require(task != "", f"--task is missing: choose one of {', '.join(TASKS)}")
    require_choice("task", task, TASKS)
    config, _ = TASKS[task]
    given = {name: values[name].value for name in values if values[name].present and name != "task"}
    known = {field.name for field in dataclasses.fields(config)}
    for name in given:
        require(name in known, f"--{name} is not a flag of --task={task}: leave it out, see --help")
    if not (given.get("resume") or given.get("eval_only")):
        return task, config(**given)
    kept = read_flags(given.get("workdir"), task)
    if given.get("eval_only"):  # it does nothing more but what is asked for anew
        kept = {name: kept[name] for name in kept.keys() - {"export", "tensorboard"}}
    try:
        return task, config(**(kept | given))
    except TypeError as error:
        raise UserError(
            f"{given['workdir']}/config.json does not fit this version ({error}): "
            "go on with the version that wrote it, or start a new run"
        ) from error


def main(argv: list[str]) -> int:
    """Run the task; its exit code is what it returns (None is 0), 2 and one line for a user's mistake."""
    logging.set_verbosity(logging.ERROR)  # libraries warn of what a user cannot change
    try:
        task, config = parse(argv)
        return importlib.import_module(TASKS[task][1]).run(config) or 0
    except UserError as error:
        print(f"launch.py: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        print(
            f"launch.py:{where} {error.strerror or error}: make room there, or choose another --workdir",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("launch.py: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(main(sys.argv))
