"""Shapes in signatures are checked while the tests run; a program is compiled once; a disk to fill."""

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" not in os.environ:  # its workers and all their processes inherit it
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jax-cache-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import pytest
from jaxtyping import install_import_hook

SHAPES = ("arithmetic", "tables", "verdict")  # of the audit, the modules with shapes: the hook costs time
CHECKED = [
    "backprop",
    "cnn",
    "demo.trained",
    "demo.run_tab",
    *(f"audit.spreadsheet.{name}" for name in SHAPES),
]
install_import_hook(CHECKED, "beartype.beartype")

from hypothesis import settings  # noqa: E402

settings.register_profile("project", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("project")

# A shell's background job ignores Ctrl-C, and so would all processes of the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A function that mounts a disk: small_disk("2m") or, read-only, small_disk("2m,ro")."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            assert not (os.environ.get("CI") and os.geteuid() == 0), done.stderr
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
