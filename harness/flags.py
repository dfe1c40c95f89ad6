"""Flags from dataclasses: the command line, by absl's conventions, becomes a checked configuration.

Every field of a task's configuration is a flag of the same name; the field's default is the
flag's. Of a flag given twice the last one counts, so that a file of flags (--flagfile) can be
followed by what is to be otherwise.
"""

import dataclasses
import itertools
import os
import re
import types
import typing
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from harness.errors import UserError, did_you_mean, require, require_choice
from harness.files import open_file
from harness.workdir import OF_ONE_START, make_config, read_flags

_LONGEST_NUMBER = 100  # digits: far more than any limit has; Python refuses to read 4,300


class _Text(flags.ArgumentParser):
    def parse(self, argument: str) -> str:
        for letter in argument:
            if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp"):
                raise ValueError(f"it holds {letter!a}: leave out characters that are no text")
        if argument.startswith("-"):  # most likely the next flag, and this one's value is missing
            raise ValueError("no value begins with -: give one, or write ./ before a file's name")
        if argument.strip() and argument != argument.rstrip():  # absl's --flagfile loses it
            raise ValueError("it ends in a space: leave that out, or write / behind a folder's name")
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


class _List(flags.ArgumentParser):
    def __init__(self, each: flags.ArgumentParser, such_as: str) -> None:
        self.each, self.such_as = each, such_as

    def parse(self, argument: str) -> tuple[Any, ...]:
        try:
            return tuple(self.each.parse(text) for text in argument.split(","))
        except ValueError as error:
            raise ValueError(f"{error}: give numbers separated by commas, such as {self.such_as}") from None


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
    tuple[float, ...]: _List(_Number(), "0.1,0.2"),
    tuple[int, ...]: _List(_WholeNumber(), "8,12"),
    bool: _YesOrNo(),
}
_HELP = ("help", "helpfull")


class _Values(flags.FlagValues):
    def _get_flag_file_lines(self, filename: str, parsed_file_stack: list[str] | None = None) -> list[str]:
        """What a file of flags holds; absl itself would wait for a pipe, and read a device without end."""
        if filename:
            try:
                open_file(Path(filename)).close()
            except OSError as error:
                raise flags.CantOpenFlagFileError(str(error)) from error
        lines: list[str] = super()._get_flag_file_lines(filename, parsed_file_stack)
        return lines


def define(configs: Mapping[str, type]) -> flags.FlagValues:
    """One flag for each field of each task's configuration, --task, and absl's two for help."""
    values = _Values()
    _define(values, "task", str, f"what to run: {', '.join(configs)}")
    for name in _HELP:
        _define(values, name, bool, "print every task's flags and stop")
    hints = {
        name: hint
        for config in configs.values()
        for name, hint in typing.get_type_hints(config, include_extras=True).items()
    }
    for name, hint in hints.items():
        kind, text = typing.get_args(hint)
        if isinstance(kind, types.UnionType):  # int | None
            kind = next(part for part in typing.get_args(kind) if part in _PARSERS)
        _define(values, name, kind, text)
    return values


def _define(values: flags.FlagValues, name: str, kind: Any, text: str) -> None:
    flags.DEFINE_flag(flags.Flag(_PARSERS[kind], None, name, None, text, boolean=kind is bool), values)


def help_text(configs: Mapping[str, type]) -> str:
    """Every task with its flags, their meaning and default."""
    lines = [
        "usage: python launch.py --task=TASK [--flag=value ...]",
        "",
        "Also --flag value, -flag, --noflag, and --flagfile=FILE, a file with a flag in each line, such as",
        "the flags.txt of a run. Of a flag given twice the last one counts.",
    ]
    for task, config in configs.items():
        lines += ["", f"--task={task}"]
        hints = typing.get_type_hints(config, include_extras=True)
        for field in dataclasses.fields(config):
            default = field.default
            if isinstance(default, tuple):
                default = ",".join(map(str, default))
            shown = "" if default is None or default is False or default == "" else f" (default: {default})"
            lines.append(f"  --{field.name}: {typing.get_args(hints[field.name])[1]}{shown}")
    return "\n".join(lines)


def parse(
    argv: list[str],
    configs: Mapping[str, type],
    completed: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = types.MappingProxyType({}),
) -> tuple[str, Any]:
    """The task's name and its checked configuration; prints the help and exits where that is asked for.

    Args:
      argv: the command line, the program's name first.
      configs: each task's configuration, a dataclass whose fields are its flags.
      completed: functions by task that make the flags that were given into those that the task gets.

    Raises:
      UserError: an unknown flag, a value that is not allowed, a flag of another task.
    """
    values = define(configs)
    _read(argv, values)
    if any(values[name].value for name in _HELP):
        print(help_text(configs), flush=True)
        raise SystemExit(0)
    task: str = values.task or ""
    require(task != "", f"--task is missing: choose one of {', '.join(configs)}")
    require_choice("task", task, configs)
    given = {
        name: values[name].value for name in values if values[name].present and name not in ("task", *_HELP)
    }
    known = {field.name for field in dataclasses.fields(configs[task])}
    for name in given:
        require(name in known, f"--{name} is not a flag of --task={task}: leave it out, see --help")
    if task in completed:
        given = completed[task](given)
    if not (given.get("resume") or given.get("eval_only")):
        return task, configs[task](**given)
    kept = read_flags(given.get("workdir"), task)
    anew = {*OF_ONE_START, "compilation_cache"}
    if given.get("eval_only"):
        anew |= {"export", "tensorboard"}
    kept = {name: kept[name] for name in kept.keys() - anew}  # these say what one command does
    return task, make_config(configs[task], kept | given, str(given["workdir"]))


def _read(argv: list[str], values: flags.FlagValues) -> None:
    """Have absl read the command line.

    Raises:
      UserError: whatever absl refuses, or a word that belongs to no flag.
    """
    for word, following in itertools.pairwise([*argv, ""]):  # absl would pass over an empty name
        name, equals, value = word.lstrip("-").partition("=")
        require(
            name != "flagfile" or (value if equals else following) != "",
            "--flagfile names no file: give one with a flag in each line, such as the flags.txt of a run",
        )
    try:
        _, *stray = values(argv, known_only=True)  # where a long one is unknown, absl itself fails
    except flags.CantOpenFlagFileError as error:
        reason = error.__context__
        assert isinstance(reason, OSError)
        raise UserError(
            f"--flagfile={reason.filename} cannot be read ({reason.strerror}): "
            "name a file with a flag in each line, such as the flags.txt of a run"
        ) from error
    except UnicodeError as error:
        raise UserError(f"--flagfile: what it names is no text ({error}): see --help") from error
    except (flags.Error, ValueError) as error:
        raise UserError(f"{error}; see --help") from error
    for word in stray:
        name = word.lstrip("-").partition("=")[0]
        require(
            not (word.startswith("-") and name),
            f"--{name} is not a flag{did_you_mean(name, values, prefix='--')}: see --help for all of them",
        )
        raise UserError(f"{word!r} belongs to no flag: write --flag=value, see --help")
