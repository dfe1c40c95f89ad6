"""What --task=tpu takes, and how long it may take to say no: it does not import JAX for that."""

import subprocess
import sys

import pytest

from cnn.tpu.config import TpuConfig
from cnn.tpu.topologies import TOPOLOGIES
from cnn.zoo import ZOO
from harness.errors import UserError


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("model", ZOO)
def test_every_network_can_be_compiled_for_every_topology(topology, model):
    assert TpuConfig(topology=topology, model=model).recipe == ZOO[model].recipe


@pytest.mark.parametrize("flags", [{"batch_size": 63}, {"batch_size": 63, "num_seeds": 8}])
def test_a_batch_that_a_run_takes_is_taken(flags):
    """A run uses as many devices as can share it: tests/cnn/test_devices.py."""
    assert TpuConfig(**flags).recipe.batch_size == 63


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"topology": "v4-8"}, "--topology=v4-8 is not known (did you mean v3-8?): choose one of v2-8"),
        ({"model": "bn_14k"}, "--model=bn_14k is not known"),
        ({"batch_size": 0}, "--batch_size=0: give a whole number from 1 to 60000"),
        ({"batch_size": 60_001}, "--batch_size=60001: give a whole number from 1 to 60000"),
        ({"num_seeds": 0}, "--num_seeds=0: give a whole number from 1 to 1000"),
        ({"compute_dtype": "float16"}, "choose one of float32, bfloat16"),
    ],
)
def test_a_wrong_flag(flags, message):
    with pytest.raises(UserError) as error:
        TpuConfig(**flags)

    assert message in str(error.value)


def test_without_libtpu_it_says_what_to_install():
    program = (
        "import sys, importlib.util as util, launch; find = util.find_spec;"
        "util.find_spec = lambda name, *more: None if name == 'libtpu' else find(name, *more);"
        "sys.exit(launch.main(['launch.py', '--task=tpu']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.returncode == 2
    assert done.stderr == 'launch.py: --task=tpu needs libtpu: pip install -e ".[tpu-aot]"\n'
