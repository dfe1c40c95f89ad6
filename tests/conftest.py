"""Shapes and types in signatures are checked while the tests run; a disk to fill."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

install_import_hook(["backprop", "cnn", "demo.trained", "demo.run_tab"], "beartype.beartype")

from hypothesis import settings  # noqa: E402

settings.register_profile("project", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("project")


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
