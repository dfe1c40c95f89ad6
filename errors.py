"""What a user did wrong, in the user's words."""

import difflib
import importlib.util
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that only the user can mend: launch.py prints it as one line and exits with 2.

    The message says what was given, what is allowed and what to do.
    """

    exit_code = 2


class Diverged(UserError):
    """A training run whose loss stopped being a finite number; launch.py exits with 3."""

    exit_code = 3


def require(condition: bool, message: str) -> None:
    """Raise UserError(message) unless the condition holds."""
    if not condition:
        raise UserError(message)


def require_choice(flag: str, value: str, allowed: Iterable[str]) -> None:
    """Raise UserError unless value is one of the allowed names; suggest the nearest one."""
    names = list(allowed)
    if value in names:
        return
    near = difflib.get_close_matches(value, names, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise UserError(f"--{flag}={value} is not known{hint}: choose one of {', '.join(names)}")


def require_installed(flag: str, packages: Iterable[str], *, extra: str) -> None:
    """Raise UserError unless all packages of an optional extra can be imported."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    require(not missing, f'--{flag} needs {", ".join(missing)}: pip install -e ".[{extra}]"')
