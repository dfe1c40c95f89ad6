"""Compiled programs are kept in a folder, which the user may choose, switch off, or not be able to write."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from cnn import devices
from cnn.config import COMPILATION_CACHE
from harness.errors import UserError
from tests.cnn.prepare import LAYERS

ROOT = Path(__file__).parents[2]
VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def programs(folder):
    """The kept programs, as NAME-HASH-cache."""
    return {file.name for file in folder.rglob("*-cache")}


@pytest.mark.slow
def test_the_second_start_takes_every_program_that_the_first_one_kept(tmp_path, small):
    """It may keep more of them: some take about as long to compile as is worth keeping."""
    flags = [*small, f"--layers={LAYERS}", "--recipe=plain_4k", "--rotation=5", "--epochs=1"]
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment |= {"HOME": str(tmp_path), "JAX_DEBUG_LOG_MODULES": "jax._src.compiler"}

    def start(name):
        command = [sys.executable, "launch.py", "--task=mnist", *flags, f"--workdir={tmp_path / name}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return re.findall(r"Persistent compilation cache hit for '(\w+)'", done.stderr)

    cache = tmp_path / ".cache" / "backprop-and-cnn"
    assert start("first") == []
    kept = programs(cache)
    taken = start("second")
    assert {"jit__update"} <= {*taken} >= {name.rsplit("-", 2)[0] for name in kept}
    assert len(taken) == len(kept)
    assert programs(cache) >= kept
    steps = [name for name in programs(cache) if name.startswith("jit__update-")]
    assert len(steps) == 1
    assert (tmp_path / "first" / "confusion.csv").read_bytes() == (
        tmp_path / "second" / "confusion.csv"
    ).read_bytes()


@pytest.fixture
def no_variable(monkeypatch):
    monkeypatch.delenv(VARIABLE)
    before = jax.config.jax_compilation_cache_dir
    yield
    assert jax.config.jax_compilation_cache_dir == before


def test_none_keeps_nothing(tmp_path, monkeypatch, no_variable):
    """What was set before the test is set after it, too: no_variable looks."""
    monkeypatch.setenv("HOME", str(tmp_path))
    devices.keep_compiled_programs("none")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path, no_variable):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--compilation_cache=.*file.*: cannot write there"):
        devices.keep_compiled_programs(str(tmp_path / "file"))


def test_a_home_that_cannot_be_written_costs_the_cache_and_no_more(
    tmp_path, monkeypatch, no_variable, capsys
):
    (tmp_path / "home").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    devices.keep_compiled_programs(COMPILATION_CACHE)
    said = capsys.readouterr().err
    assert said.startswith("compiled programs are not kept: --compilation_cache=~/.cache/backprop-and-cnn")
    assert said.count("\n") == 1


@pytest.mark.parametrize("chosen", ["", "."])
def test_files_that_are_not_jaxs_are_left_alone(tmp_path, monkeypatch, no_variable, chosen):
    (tmp_path / "notes-cache").write_text("no program")
    (tmp_path / f"{'0' * 64}-cache").write_text("no program's name")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", chosen)
    before = {file.name: file.read_text() for file in tmp_path.iterdir()}
    devices.keep_compiled_programs("none")
    assert {file.name: file.read_text() for file in tmp_path.glob("*-cache")} == before


COMPILED = """
import sys
from pathlib import Path
import jax
from cnn import devices
for _ in sys.stdin:
    jax.clear_caches()
    devices.keep_compiled_programs(sys.argv[1])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.jit(lambda x: x + 1)(1.0)
    print(*Path(sys.argv[1]).rglob("*lambda*-cache"), flush=True)
"""


def test_a_program_that_was_cut_short_is_replaced(tmp_path, no_variable):
    """As by a disk that was full for a moment: JAX alone would warn of it at every start."""
    command = [sys.executable, "-W", "error", "-c", COMPILED, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, bufsize=1, **pipes) as started:

        def kept():
            started.stdin.write("\n")
            return Path(started.stdout.readline().strip())

        whole = kept().read_bytes()
        for size in (0, 100, len(whole) - 1):
            kept().write_bytes(whole[:size])
            assert kept().stat().st_size > 0.9 * len(whole)
        started.stdin.close()
    assert started.returncode == 0
