"""Errors in a user's words: a mistake, or a refusal of the operating system."""

import difflib
import errno
import importlib.util
import os
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_LONGEST_LINE = 1000


class UserError(Exception):
    """A mistake that only the user can mend: launch.py prints it as one line and exits with 2.

    The message says what was given, what is allowed and what to do. What it quotes may be anything:
    it is made one line that a terminal shows as it is.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class Diverged(UserError):
    """A training run whose loss stopped being a finite number; launch.py exits with 3."""

    exit_code = 3


def one_line(text: str) -> str:
    """Return a text as one line of about 1,000 characters at most; what cannot be printed is escaped."""
    escaped = (each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    shown = "".join(escaped)
    half = _LONGEST_LINE // 2
    return shown if len(shown) <= _LONGEST_LINE else f"{shown[:half]} ... {shown[-half:]}"


def require(condition: bool, message: str) -> None:
    """Raise UserError(message) unless the condition holds."""
    if not condition:
        raise UserError(message)


def did_you_mean(given: str, names: Iterable[str], *, prefix: str = "") -> str:
    """' (did you mean NAME?)' with the nearest of the names in any case; nothing where none is near."""
    known = {name.lower(): name for name in names}
    near = difflib.get_close_matches(given[:100].lower(), known, n=1)
    return f" (did you mean {prefix}{known[near[0]]}?)" if near else ""


def require_choice(flag: str, value: str, allowed: Iterable[str]) -> None:
    """Raise UserError unless value is one of the allowed names; suggest the nearest one."""
    names = list(allowed)
    require(
        value in names,
        f"--{flag}={value} is not known{did_you_mean(value, names)}: choose one of {', '.join(names)}",
    )


def unknown(what: str, value: object, names: Iterable[str]) -> ValueError:
    """Return the error to raise where a name is none of those that the code knows."""
    return ValueError(f"{what} is {value!r}: choose one of {', '.join(names)}")


def require_folder_name(flag: str, path: str | None) -> None:
    """Raise UserError if a path was given and is empty."""
    require(path is None or path.strip() != "", f"--{flag} is empty: give a folder, such as runs/mine")


def require_installed(flag: str, packages: Iterable[str], *, extra: str) -> None:
    """Raise UserError unless all packages of an optional extra can be imported."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    require(not missing, f'--{flag} needs {", ".join(missing)}: pip install -e ".[{extra}]"')


_FOLDER = "give another folder"
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), ("make room there", "")),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), ("make it writable", _FOLDER)),
    errno.EFBIG: ("raise the limit on a file's size (ulimit -f)", ""),
    errno.ENOTDIR: ("give a folder, not a path inside a file", ""),
    errno.EEXIST: ("give a folder, not a file", ""),
    errno.ENOENT: ("put it back or mount it again", _FOLDER),
    errno.EISDIR: ("a folder stands where a file belongs: move it away", ""),
    errno.ENAMETOOLONG: ("give a shorter path", ""),
    errno.EMFILE: ("raise the limit on open files (ulimit -n)", ""),
    errno.EPIPE: ("what read the output has ended: send the output to a file", ""),
}


class Refusal(NamedTuple):
    """A refusal of the operating system.

    Attributes:
      what: in its words.
      remedy: after which the same can be tried again.
      instead: what a new run can do; empty where that helps nothing.
    """

    what: str
    remedy: str
    instead: str

    @property
    def remedies(self) -> str:
        """The remedy and the way around it, for what has not begun."""
        return f"{self.remedy}, or {self.instead}" if self.instead else self.remedy

    def of_a_run(self, resume: str) -> str:
        """Return one line for a run that can go on: the remedy and then `resume`, or a new run."""
        anew = f"; or, in a new run, {self.instead}" if self.instead else ""
        return f"{self.what}: {self.remedy}, then {resume}{anew}"


def explain(error: BaseException, less: Sequence[str] = ()) -> Refusal | None:
    """Return what the operating system refused and how to mend it; None for an error of another kind.

    TensorStore, and with it Orbax, gives the system's code as os_error_code in a message of its own.

    Args:
      less: flags with which a new run needs less memory.
    """
    wrapped = re.search(r"os_error_code='(\d+)'", str(error))
    if isinstance(error, OSError) and error.errno is not None:
        code, where = error.errno, f"{error.filename}: " if error.filename else ""
    elif wrapped:
        code = int(wrapped[1])
        quoted = re.search(r'"(/[^"]+)"', str(error))
        where = f"{quoted[1]}: " if quoted else ""
    elif isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        asked = f"ask for less at once ({', '.join(less)})" if less else ""
        return Refusal("out of memory", "close other programs", asked)
    else:
        return None
    return Refusal(f"{where}{os.strerror(code)}", *_REMEDIES.get(code, ("check the disk", _FOLDER)))
