"""The folder a run leaves: whole files only, and what is needed to repeat the run."""

import contextlib
import csv
import dataclasses
import datetime
import hashlib
import importlib.metadata
import io
import itertools
import json
import os
import platform
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from harness.errors import UserError, explain, one_line, require, require_folder_name
from harness.files import open_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "matplotlib")
_MATTERS = ("JAX_", "XLA_", "LIBTPU_", "CUDA_", "NVIDIA_", "OMP_")  # variables that config.json keeps
_TEMPORARY = ".partial"
OF_ONE_START = (
    *("workdir", "wait", "resume", "profile_steps"),
    *("coordinator_address", "num_processes", "process_id"),
)
"""Flags that say where and how one command runs, not which run it is."""


def open_workdir(path: str | None, task: str) -> Path:
    """Create the folder a run writes to, and try it, before any work is done.

    Args:
      path: what the user gave as --workdir; None makes runs/TASK-DATE-TIME, a new folder.
      task: the task's name.

    Raises:
      UserError: the path is a file, nothing can be written there, or a link in it leads elsewhere.
    """
    if path is None:
        now = f"runs/{task}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
        names = itertools.chain([now], (f"{now}-{count}" for count in itertools.count(2)))
        path = next(name for name in names if not os.path.lexists(name))
    folder = open_folder("workdir", path)
    for inside in folder.iterdir():
        if not inside.is_file():  # writing a file replaces a link to one
            require_no_link(inside)
    return folder


def open_folder(flag: str, path: str) -> Path:
    """Create the folder that a flag names, and try it. The folder itself may be a link: the user chose it.

    Returns:
      The folder's absolute path (Orbax takes no other).

    Raises:
      UserError: the path is empty or a file, or nothing can be written there.
    """
    require_folder_name(flag, path)
    folder = Path(path).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0")
    except OSError as error:
        refusal = explain(error)
        remedies = refusal.remedies if refusal else "give another folder"
        raise UserError(f"--{flag}={path}: cannot write there ({error.strerror}): {remedies}") from error
    return folder


def require_no_link(path: Path) -> None:
    """Raise UserError if a path in a workdir is a symbolic link: what is written there lands elsewhere."""
    advice = "a run writes nothing outside its --workdir: remove it, or give another folder"
    require(not path.is_symlink(), f"{path} is a symbolic link, and {advice}")


@contextlib.contextmanager
def lock(folder: Path, *, wait: bool) -> Iterator[None]:
    """Keep other runs out of a workdir; remove the temporary files that a killed one left there.

    The kernel keeps the lock (flock on WORKDIR/.lock) and drops it when its process ends, however it
    ends: none is ever stale. The file's text only says who holds it. Linux carries flock over NFS to
    other machines unless it is mounted with nolock. Where there is no flock (some network file systems)
    a line says so, and nothing but the user keeps a second run out.

    Args:
      folder: what open_workdir returned.
      wait: whether to wait for another run to end.

    Raises:
      UserError: another process holds the folder and wait is false.
    """
    file, opened = folder / ".lock", list[int]()
    require_no_link(file)
    require(file.is_file() or not file.exists(), f"{file} is no file: give another --workdir")
    open(file, "a").close()  # an error here is not the lock's
    held = FileLock(file, fallback_to_soft=False, on_acquired=opened.append)  # a soft lock may become stale
    try:
        held.acquire(blocking=False)
    except Timeout:
        holder = file.read_text(errors="backslashreplace")[:200] or "another process"
        require(
            wait,
            f"--workdir={folder} is in use by {holder}: add --wait to start when that ends, "
            "or give another folder",
        )
        print(one_line(f"waiting for {holder} to end in {folder}"), file=sys.stderr)
        held.acquire()
    except OSError as error:
        reason = one_line(f"{folder} cannot be locked ({error.strerror})")
        print(f"{reason}: start no second run there", file=sys.stderr)
    if held.is_locked:
        now = datetime.datetime.now().isoformat(" ", "seconds")
        os.ftruncate(opened[-1], 0)
        os.write(opened[-1], f"process {os.getpid()} on {socket.gethostname()} since {now}".encode())
        for left in folder.rglob(f".*{_TEMPORARY}"):
            left.unlink(missing_ok=True)
    try:
        yield
    finally:
        if held.is_locked:
            os.ftruncate(opened[-1], 0)
            held.release()


def write_config(
    folder: Path, task: str, config: Any, *, device: str, resumed_after: int | None = None, **more: Any
) -> None:
    """Write config.json, and flags.txt beside it.

    config.json holds every flag, a list of the run's starts and a SHA-256 of it all. A start is its time, the
    commit, the versions and the device; a resumed run adds one, with the epochs that were finished before.

    Args:
      config: the task's configuration, a dataclass instance.
      device: the device's name as a person would say it.
      resumed_after: the finished epochs of a run that goes on; None for a new one.
      more: what else the task wants kept.
    """
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    start = {
        "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "epochs_before": resumed_after or 0,
        "git_commit": _git_commit(),
        "device": device,
        "versions": {"python": platform.python_version(), **versions},
        "environment": {name: value for name, value in os.environ.items() if name.startswith(_MATTERS)},
    }
    earlier = [] if resumed_after is None else _starts(read_config(str(folder), task))
    content = {"task": task, "flags": dataclasses.asdict(config), **more, "starts": [*earlier, start]}
    write_bytes(folder / "flags.txt", flags_text(task, config).encode())
    write_json(folder / "config.json", content | {"sha256": _digest(content)})


def _starts(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the starts of a run; config.json once kept the last one alone, without its time."""
    if "starts" in config:
        return list(config["starts"])
    return [{"time": None, **{name: config[name] for name in ("git_commit", "device", "versions")}}]


def flags_text(task: str, config: Any) -> str:
    """Return the flags that start a run like this one anew, as absl's --flagfile reads them, one a line.

    Those that differ from their defaults, but for OF_ONE_START.
    """
    lines = [f"--task={task}"]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value == field.default or field.name in OF_ONE_START:
            continue
        if isinstance(value, bool):
            lines.append(f"--{'' if value else 'no'}{field.name}")
        elif isinstance(value, tuple):
            lines.append(f"--{field.name}={','.join(map(repr, value))}")
        else:
            lines.append(f"--{field.name}={value}")
    return "".join(f"{line}\n" for line in lines)


def _digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all but the digest itself, however it is spaced and ordered."""
    rest = {name: item for name, item in content.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_flags(path: str | None, task: str) -> dict[str, Any]:
    """Return the flags of the run that a folder holds, as config.json keeps them.

    Raises:
      UserError: no folder named, no run in it, one of another task, or a damaged config.json.
    """
    flags = read_config(path, task)["flags"]
    return {name: tuple(value) if isinstance(value, list) else value for name, value in flags.items()}


def read_config(path: str | None, task: str) -> dict[str, Any]:
    """Return the content of config.json of the run that a folder holds.

    Raises:
      UserError: see read_flags.
    """
    require(bool(path), "--resume and --eval_only need --workdir: name the folder of the run")
    file = Path(str(path)).expanduser() / "config.json"
    try:
        with open_file(file) as stream:
            config = json.loads(stream.read())
        if not isinstance(config, dict) or config.get("sha256") != _digest(config):
            raise ValueError("its sha256 is missing or of another content")
    except FileNotFoundError as error:
        raise UserError(
            f"--workdir={file.parent} holds no run (no config.json): name the folder that an "
            "earlier run wrote, or start a new one"
        ) from error
    except OSError as error:
        advice = "name the folder of an earlier run"
        raise UserError(f"{file} cannot be read ({error.strerror}): {advice}") from error
    except (ValueError, RecursionError) as error:
        advice = "restore it, or start a new run"
        raise UserError(f"{file} is damaged or was edited ({error}): {advice}") from error
    require(
        config["task"] == task,
        f"--workdir={path} holds a run of --task={config['task']}, not of --task={task}",
    )
    return config


def make_config(config: type, flags: Mapping[str, Any], path: str) -> Any:
    """Return a task's configuration from the flags that a run in `path` kept.

    Raises:
      UserError: a value that is not allowed, or flags of another version.
    """
    try:
        return config(**flags)
    except (AttributeError, TypeError) as error:
        raise UserError(
            f"{path}/config.json does not fit this version ({error}): "
            "go on with the version that wrote it, or start a new run"
        ) from error


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file whole or not at all, whatever happens to process or machine.

    A temporary file, fsync, rename, fsync of the folder. A link is replaced, not followed. What a
    kill leaves, `lock` removes.
    """
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}{_TEMPORARY}")
    try:
        with open(temporary, "xb") as stream:  # unlike tempfile's, readable to whom the umask says
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename = str(file)
        temporary.unlink(missing_ok=True)
        raise
    if os.name != "nt":  # Windows opens no folder
        opened = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


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


def save_figure(folder: Path, name: str, draw: "Callable[[], Figure]") -> None:
    """Write a figure as NAME.png (for a slide: 1,600 pixels wide at 8 inches) and NAME.svg.

    Args:
      draw: makes the figure; a user's matplotlibrc changes nothing of it.
    """
    from matplotlib import rc_context, style

    for kind in ("png", "svg"):  # of an earlier run: none is better than one of other numbers
        (folder / f"{name}.{kind}").unlink(missing_ok=True)
    with style.context("default"), rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure = draw()
        if (layout := figure.get_layout_engine()) is not None:
            layout.execute(figure)  # once: savefig would draw the figure to find it, for each file
            figure.set_layout_engine("none")
        for kind, options in (("png", {"dpi": 200}), ("svg", {"metadata": {"Date": None}})):
            content = io.BytesIO()
            figure.savefig(content, format=kind, **options)  # type: ignore[arg-type]
            write_bytes(folder / f"{name}.{kind}", content.getvalue())


def write_each(folder: Path, files: Mapping[str, Callable[[], None]], again: str) -> None:
    """Write what a finished run can also do without: what fails costs itself alone.

    Args:
      files: a function for each, by its name.
      again: what writes them anew.

    Raises:
      UserError: some could not be written; it says which, and why.
    """
    failed: dict[str, list[str]] = {}
    for name, write in files.items():
        try:
            write()
        except Exception as error:
            if refusal := explain(error):
                reason = f"{refusal.what.rpartition(': ')[2]}: {refusal.remedy}"
            else:
                reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            failed.setdefault(reason, []).append(name)
    lacks = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in failed.items())
    require(not failed, f"{folder} lacks {lacks}, then {again} to have them written")


def _git_commit() -> str | None:
    """Return the commit of this code, with -dirty where files differ from it; None outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
