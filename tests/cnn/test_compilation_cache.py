"""Compiled programs are kept in a folder, which the user may choose, switch off, or not be able to write."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from cnn import data, devices
from cnn.config import COMPILATION_CACHE
from errors import UserError
from tests.cnn.prepare import prepare

ROOT = Path(__file__).parents[2]
VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def steps(folder):
    """The kept programs of a step. Others take about as long to compile as is worth keeping."""
    return sorted(file.name for file in folder.rglob("jit__step-*-cache"))


def test_the_second_start_compiles_nothing_of_its_step(tmp_path):
    mnist = data.load("mnist", None)
    prepare(tmp_path / "tfds", train=mnist.train, test=mnist.test, counts=(700, 300))
    flags = ["--dataset=tiny_mnist", f"--data_dir={tmp_path / 'tfds'}", "--model=bn_4k", "--epochs=1"]
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment |= {"HOME": str(tmp_path), "JAX_DEBUG_LOG_MODULES": "jax._src.compiler"}

    def start(name, *more):
        command = [sys.executable, "launch.py", "--task=mnist", *flags, f"--workdir={tmp_path / name}", *more]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stderr.count("Persistent compilation cache hit for 'jit__step'")

    cache = tmp_path / ".cache" / "backprop-and-cnn"
    start("without", "--compilation_cache=none")
    assert not cache.exists()
    assert start("first") == 0
    kept = steps(cache)
    assert len(kept) == 1
    assert start("second") == 1
    assert steps(cache) == kept
    assert (tmp_path / "first" / "confusion.csv").read_bytes() == (
        tmp_path / "second" / "confusion.csv"
    ).read_bytes()


@pytest.fixture
def no_variable(monkeypatch):
    monkeypatch.delenv(VARIABLE)
    before = jax.config.jax_compilation_cache_dir
    yield
    assert jax.config.jax_compilation_cache_dir == before


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
