"""Shapes in signatures are checked while the tests run; a program is compiled once; a disk to fill."""

import atexit
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" not in os.environ:  # its workers and all their processes inherit it
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jax-cache-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax
import jaxtyping
import numpy as np
import pytest
from filelock import FileLock

SHAPES = ("arithmetic", "tables", "verdict")  # of the audit, the modules with shapes: the hook costs time
CHECKED = [
    "backprop",
    "cnn",
    "demo.trained",
    "demo.run_tab",
    *(f"audit.spreadsheet.{name}" for name in SHAPES),
]
jaxtyping.install_import_hook(CHECKED, "beartype.beartype")

from hypothesis import settings  # noqa: E402

from audit import bounded  # noqa: E402
from tests import recorded  # noqa: E402

bounded.PROCESSES = multiprocessing.get_context("forkserver")  # a process with JAX in it must not fork
bounded.PROCESSES.set_forkserver_preload(["audit.spreadsheets", "audit.notebooks"])

jax.devices()  # one of them, whichever test comes first
del os.environ["TF_CPP_MIN_LOG_LEVEL"]  # JAX's import set it; the command line has a level of its own

settings.register_profile("project", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("project")

# A shell's background job ignores Ctrl-C, and so would all processes of the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The browser's tests first: xdist gives them to one worker then, and the page is served once."""
    items.sort(key=lambda item: item.get_closest_marker("browser") is None)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """No types are checked, as outside the tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """A function of a name and of what fills a folder: the folder, filled once for all of xdist's workers.

    Tests only read it.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def filled(name: str, fill: Callable[[Path], None]) -> Path:
        folder, done = root / name, root / f"{name}.done"
        with FileLock(root / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of an attempt that failed
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return filled


@pytest.fixture(scope="session")
def small(once: Callable) -> list[str]:
    """Flags that train on 650 and test on 250 images of MNIST: an epoch is ten steps and a smaller one."""
    from tests import crash

    return crash.flags_of_data(once("small", crash.prepare_data))


@pytest.fixture(scope="session")
def two_rates(once: Callable, small: list[str]) -> Path:
    """The run of tests.crash with two learning rates, to which nothing happened; run.log has its output."""
    from tests import crash

    flags = [*small, *crash.FLAGS["2 learning rates"]]
    return once("two_rates", lambda folder: crash.undisturbed(flags, folder / "run")) / "run"


@pytest.fixture(scope="session")
def default_run(once: Callable) -> Path:
    """Two epochs of the default network on 4,000 images of MNIST, tested on 500.

    A folder with the folders data, run and exported, and the file output: what the terminal showed.
    """
    return once("default_run", _train_the_default)


def _train_the_default(folder: Path) -> None:
    from cnn import data
    from tests.cnn.prepare import prepare

    mnist = data.load("mnist", None)
    prepare(folder / "data", train=mnist.train, test=mnist.test, counts=(4000, 500))
    folders = {"data_dir": "data", "workdir": "run", "export": "exported"}
    flags = ["--task=mnist", "--dataset=tiny_mnist", "--epochs=2", "--batch_size=64", "--tensorboard"]
    flags += [f"--{flag}={folder / name}" for flag, name in folders.items()]
    command = [sys.executable, "launch.py", *flags]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "output").write_text(done.stdout)


@pytest.fixture(scope="session")
def by_hand(once: Callable) -> Path:
    """--task=backprop with three rates: a folder with the folder run and the file output: what it printed."""
    return once("by_hand", _descend)


def _descend(folder: Path) -> None:
    flags = ["--lrs=0.5,0.1,200", "--epochs=30", "--frontier_rates=4096", "--frontier_epochs=200"]
    command = [sys.executable, "launch.py", "--task=backprop", f"--workdir={folder / 'run'}", *flags]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "output").write_text(done.stdout)


@pytest.fixture(params=["recorded", pytest.param("live", marks=pytest.mark.torch)])
def pytorch(request: pytest.FixtureRequest) -> Callable[[str, str], dict[str, np.ndarray]]:
    """What PyTorch computes, of a kind and a case: as it is kept or, with -m torch, made anew."""
    if request.param == "recorded":
        return recorded.read
    from tests.recorded import pytorch

    return pytorch.compute


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
