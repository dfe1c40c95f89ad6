"""The folder a run leaves: whole files only, and what is needed to repeat the run."""

import csv
import dataclasses
import datetime
import importlib.metadata
import io
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errors import UserError, require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "matplotlib")


def open_workdir(path: str | None, task: str) -> Path:
    """Create the folder a run writes to, and try it, before any work is done.

    Args:
      path: what the user gave as --workdir; None makes runs/TASK-DATE-TIME.
      task: the task's name.

    Raises:
      UserError: the path is a file, or nothing can be written there.
    """
    default = f"runs/{task}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    return open_folder("workdir", default if path is None else path)


def open_folder(flag: str, path: str) -> Path:
    """Create the folder that a flag names, and try it.

    Returns:
      The folder's absolute path (Orbax takes no other).

    Raises:
      UserError: the path is empty or a file, or nothing can be written there.
    """
    require(path.strip() != "", f"--{flag} is empty: give a folder, such as runs/mine")
    folder = Path(path).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0")
    except OSError as error:
        raise UserError(
            f"--{flag}={path}: cannot write there ({error.strerror}): give a folder that you may write to"
        ) from error
    return folder


def write_config(folder: Path, task: str, config: Any, *, device: str, **more: Any) -> None:
    """Write config.json: every flag, the versions, the device and the commit of a run.

    Args:
      config: the task's configuration, a dataclass instance.
      device: the device's name as a person would say it.
      more: what else the task wants kept.
    """
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in _PACKAGES}
    write_json(
        folder / "config.json",
        {
            "task": task,
            "flags": dataclasses.asdict(config),
            **more,
            "versions": versions,
            "device": device,
            "git_commit": _git_commit(),
        },
    )


def read_flags(path: str | None, task: str) -> dict[str, Any]:
    """The flags of the run that a folder holds, as config.json keeps them.

    Raises:
      UserError: no folder named, no run in it, one of another task, or a damaged config.json.
    """
    require(path is not None, "--resume and --eval_only need --workdir: name the folder of the run")
    file = Path(str(path)).expanduser() / "config.json"
    try:
        config = json.loads(file.read_text())
        found, flags = config["task"], dict(config["flags"])
    except FileNotFoundError as error:
        raise UserError(
            f"--workdir={path} holds no run (no config.json): name the folder that an earlier run wrote"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} cannot be read ({error}): restore it, or start a new run") from error
    require(found == task, f"--workdir={path} holds a run of --task={found}, not of --task={task}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in flags.items()}


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file whole or not at all: a temporary file, fsync, rename."""
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping as indented JSON; a number that is not finite is an error, not a NaN."""
    write_bytes(file, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def write_csv(file: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table with a heading; floats keep the digits that read back as the same number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_bytes(file, text.getvalue().encode())


def save_figure(folder: Path, name: str, figure: "Figure") -> None:
    """Write a figure as NAME.png (for a slide: 1,600 pixels wide at 8 inches) and NAME.svg."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        for kind, options in (("png", {"dpi": 200}), ("svg", {"metadata": {"Date": None}})):
            content = io.BytesIO()
            figure.savefig(content, format=kind, **options)  # type: ignore[arg-type]
            write_bytes(folder / f"{name}.{kind}", content.getvalue())


def _git_commit() -> str | None:
    """The commit of this code, with -dirty where files differ from it; None outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
