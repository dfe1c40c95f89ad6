"""Flags from dataclasses: the command line, by absl's conventions, becomes a checked configuration.

Every field of a task's configuration is a flag of the same name; the field's default is the
flag's. Of a flag given twice the last one counts, so that a file of flags (--flagfile) can be
followed by what is to be otherwise.
"""

import dataclasses
import importlib.metadata
import itertools
import os
import re
import types
import typing
import unicodedata
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn

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
_HELP, _VERSION = ("help", "helpfull", "h"), "version"
_MEANT = {
    **dict.fromkeys(("lr", "lrs", "eta", "learning_rate", "learning_rates"), ("learning_rate", "lrs")),
    **dict.fromkeys(("bs", "batch", "batchsize"), ("batch_size",)),
    **dict.fromkeys(("wd", "decay", "l2"), ("weight_decay",)),
    **dict.fromkeys(("seeds", "runs"), ("num_seeds",)),
    **dict.fromkeys(("device", "devices", "gpus"), ("num_devices",)),
    **dict.fromkeys(("net", "network", "arch"), ("model", "hidden")),
    **dict.fromkeys(("out", "output", "output_dir", "outdir", "logdir", "log_dir"), ("workdir",)),
    **dict.fromkeys(("iterations", "num_epochs", "n_epochs", "steps"), ("epochs",)),
    **dict.fromkeys(("opt", "optim"), ("optimizer",)),
    "dropout": ("layers='..., dropout 0.1, ...'",),
}
"""What people type, and the flags that they mean, the first of which that a task has."""


class _Values(flags.FlagValues):
    def _get_flag_file_lines(self, filename: str, parsed_file_stack: list[str] | None = None) -> list[str]:
        """Return a file's lines; absl itself would wait for a pipe, and read a device without end."""
        if filename:
            try:
                open_file(Path(filename)).close()
            except OSError as error:
                raise flags.CantOpenFlagFileError(str(error)) from error
        lines: list[str] = super()._get_flag_file_lines(filename, parsed_file_stack)
        return lines


def define(config: type | None = None) -> flags.FlagValues:
    """Return --task, the flags for help and version, and one for each field of a task's configuration."""
    values = _Values()
    hints = {"task": str, **dict.fromkeys((*_HELP, _VERSION), bool)}
    if config is not None:
        of_all = typing.get_type_hints(config)
        hints |= {field.name: of_all[field.name] for field in dataclasses.fields(config)}
    for name, hint in hints.items():
        kinds = hint.__args__ if isinstance(hint, types.UnionType) else (hint,)  # int | None
        kind = next(kind for kind in kinds if kind in _PARSERS)
        flag = flags.Flag(_PARSERS[kind], None, name, None, "", boolean=kind is bool)
        flags.DEFINE_flag(flag, values)
    return values


def help_text(configs: Mapping[str, type]) -> str:
    """Return tasks with their flags, which a task's GROUPS part by the first of each, meaning and default."""
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
            if group := getattr(config, "GROUPS", {}).get(field.name):
                lines.append(f" {group}:")
            shown = "" if default in (None, False, "") else f" (default: {default})"
            lines.append(f"  --{field.name}: {typing.get_args(hints[field.name])[1]}{shown}")
    return "\n".join(lines)


def parse(
    argv: list[str],
    configs: Mapping[str, Callable[[], type]],
    completed: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = types.MappingProxyType({}),
) -> tuple[str, Any]:
    """Return the task's name and its checked configuration, or print the help and exit.

    Args:
      argv: the command line, the program's name first.
      configs: what gives each task's configuration, a dataclass whose fields are its flags. Other tasks' are
        asked for only to say more of a flag that is not known.
      completed: functions by task that make the flags that were given into those that the task gets.

    Raises:
      UserError: an unknown flag, a value that is not allowed, a flag of another task.
    """
    values = define()
    values.set_gnu_getopt()  # --epochs 3 is a word between flags, as long as the task is not known
    words, _ = _read(argv, values, expand=True)
    task: str = values.task or ""
    values = define(configs[task]() if task in configs else None)
    _, stray = _read(words, values)
    if values[_VERSION].value:
        print(f"backprop-and-cnn {importlib.metadata.version('backprop-and-cnn')}", flush=True)
        raise SystemExit(0)
    if any(values[name].value for name in _HELP):
        chosen = {task: configs[task]} if task in configs else configs
        print(help_text({name: config() for name, config in chosen.items()}), flush=True)
        raise SystemExit(0)
    if task not in configs and (not stray or stray[0].startswith("-")):
        require(task != "", f"--task is missing: choose one of {', '.join(configs)}")
        require_choice("task", task, configs)
    for word in stray:
        flags_of = {name: {*define(config())} for name, config in configs.items()}
        every = {flag for of_task in flags_of.values() for flag in of_task}
        _refuse(word, task, flags_of.get(task, every), every)
    given = {name: values[name].value for name in values if values[name].present}
    given = {name: value for name, value in given.items() if name not in ("task", _VERSION, *_HELP)}
    given = completed.get(task, dict)(given)
    config = configs[task]()
    if not (given.get("resume") or given.get("eval_only")):
        return task, config(**given)
    kept = read_flags(given.get("workdir"), task)
    anew = {*OF_ONE_START, "compilation_cache"}
    if given.get("eval_only"):
        anew |= {"export", "tensorboard"}
    kept = {name: kept[name] for name in kept.keys() - anew}  # these say what one command does
    return task, make_config(config, kept | given, str(given["workdir"]))


def _read(argv: list[str], values: flags.FlagValues, *, expand: bool = False) -> tuple[list[str], list[str]]:
    """Have absl read the command line; return its words, and those that are no flags or follow one.

    Args:
      expand: whether files of flags are read; the words returned are theirs, too.

    Raises:
      UserError: a word that absl refuses.
    """
    for word, following in itertools.pairwise([*argv, ""]):  # absl would pass over an empty name
        name, equals, value = word.lstrip("-").partition("=")
        require(
            name != "flagfile" or (value if equals else following) != "",
            "--flagfile names no file: give one with a flag in each line, such as the flags.txt of a run",
        )
    try:
        if expand:
            argv = [argv[0], *values.read_flags_from_files(argv[1:])]
        return argv, values(argv, known_only=True)[1:]  # where a long one is unknown, absl itself fails
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


def _refuse(word: str, task: str, own: Collection[str], every: Collection[str]) -> NoReturn:
    """Raise UserError about a word that is not a flag of the task; suggest one of its own flags.

    Args:
      own: the task's flags; every: all tasks'.
    """
    name = word.lstrip("-").partition("=")[0]
    if not (word.startswith("-") and name):
        raise UserError(f"{word!r} belongs to no flag: write --flag=value, see --help")
    meant = [each for each in _MEANT.get(name.lower(), ()) if each.partition("=")[0] in own]
    near = f" (did you mean --{meant[0]}?)" if meant else ""
    if name in every:
        raise UserError(f"--{name} is not a flag of --task={task}{near}: leave it out, see --help")
    near = near or did_you_mean(name, own, prefix="--")
    raise UserError(f"--{name} is not a flag{near}: see --help for all of them")
