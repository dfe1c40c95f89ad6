"""What the environment sets changes no result, or is named in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cnn.prepare import LAYERS
from tests.cnn.test_task import table

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "JAX_ENABLE_X64": "1",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_TRANSFER_GUARD": "disallow",
    "JAX_DEBUG_NANS": "1",
    "JAX_DISABLE_JIT": "1",
    "JAX_PLATFORMS": "foo",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_ENABLE_COMPILATION_CACHE": "0",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    "MPLBACKEND": "foo",
    "MATPLOTLIBRC": "matplotlibrc",
    "LC_ALL": "C",
    "TZ": "Mars/Phobos",
    "HOME": None,
    "TMPDIR": "/no/such/folder",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "PYTHONHASHSEED": "1",
    "OMP_NUM_THREADS": "1",
    "COLUMNS": "1",
    "TERM": "dumb",
    "http_proxy": "http://127.0.0.1:1",
}
"""Variables and what they are set to; None is not at all."""
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
REFUSED = {"JAX_DISABLE_JIT", "JAX_PLATFORMS"}


def run(small, folder, variables):
    """The exit code, what was said, and the metrics; the workdir has an umlaut."""
    environment = {k: v for k, v in (os.environ | variables).items() if v is not None}
    flags = [*small, f"--layers={LAYERS}", "--recipe=plain_4k", "--epochs=1", "--num_devices=1"]
    command = [sys.executable, "launch.py", "--task=mnist", *flags, f"--workdir={folder / 'ü'}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    metrics = table(folder / "ü" / "metrics.csv") if done.returncode == 0 else []
    return done.returncode, done.stderr, [row | {"seconds": 0} for row in metrics]


@pytest.fixture(scope="module")
def plain(small, tmp_path_factory):
    return run(small, tmp_path_factory.mktemp("plain"), {})


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_a_variable_changes_no_metric_or_is_named_in_one_line(name, plain, small, tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\naxes.facecolor: black\nfont.size: 30\n")
    variables = {name: SETTINGS[name]}
    if name == "MATPLOTLIBRC":
        variables = {name: str(tmp_path / "matplotlibrc")}
    if name == "LC_ALL":
        variables = ASCII
    code, said, metrics = run(small, tmp_path, variables)
    if name in REFUSED:
        assert (code, said.count("\n")) == (2, 1), said
        assert name in said
        return
    assert (code, said, metrics) == plain
    (start,) = json.loads((tmp_path / "ü" / "config.json").read_text())["starts"]
    kept = start["environment"]
    assert (name in kept) == name.startswith(("JAX_", "XLA_", "OMP_"))
    assert kept.get(name, SETTINGS[name]) == SETTINGS[name]
