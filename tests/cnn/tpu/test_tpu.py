"""The real epoch, compiled by libtpu; run by `python -m pytest -m tpu`, with the extra tpu-aot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnn.tpu.compilation import compile_run, devices
from cnn.tpu.config import TpuConfig
from cnn.tpu.report import Cost, communication, cost
from cnn.tpu.topologies import TOPOLOGIES
from tests.cnn.tpu.make_program import compile_program

pytestmark = pytest.mark.tpu

TEXT = (Path(__file__).parent / "program.hlo.txt").read_text()


@pytest.mark.parametrize(
    ("model", "topology", "most"),
    [("compact_20k", "v2-8", 15), ("compact_20k", "v5e-4", 15), ("bn_dropout_14k", "v2-8", 12)],
)
def test_an_epoch_needs_no_host_and_few_collectives(model, topology, most):
    """At most 2 collectives for each batch norm and 1 for the gradients; libtpu joins some."""
    compiled = compile_run(TpuConfig(topology=topology, model=model))
    messages, memory = communication(compiled.epoch.as_text()), compiled.epoch.memory_analysis()
    step, whole = cost(compiled.step), cost(compiled.epoch)
    once = Cost(*(both - part for both, part in zip(whole, step, strict=True)))

    assert messages.host_transfers == 0
    assert 0 < messages.in_step.total() <= most
    assert messages.outside.total() <= 2
    images = 60_000 * 28 * 28
    assert images / TOPOLOGIES[topology].devices < memory.argument_size_in_bytes < images
    assert images < memory.temp_size_in_bytes < 20 * images
    assert memory.generated_code_size_in_bytes > 0
    assert step.flops > 1e8
    assert 1e7 < step.traffic < once.traffic
    assert 1e-6 < step.seconds < 0.1
    assert 0 < once.seconds < 0.1


def test_seeds_that_have_a_device_each_need_no_collectives():
    compiled = compile_run(TpuConfig(topology="v2-8", model="plain_4k", num_seeds=8))

    messages = communication(compiled.epoch.as_text())
    assert messages.in_step.total() == messages.outside.total() == 0
    assert messages.host_transfers == 0


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_libtpu_knows_the_topology(topology):
    found = devices(TOPOLOGIES[topology])

    generation = topology.split("-")[0].replace("v5e", "v5 lite").replace("v6e", "v6 lite")
    assert [device.device_kind for device in found] == [f"TPU {generation}"] * TOPOLOGIES[topology].devices


def test_the_committed_program_is_what_libtpu_makes_of_it():
    assert communication(compile_program().as_text()) == communication(TEXT)


@pytest.mark.parametrize(
    ("flags", "title"),
    [
        ([], "plain_4k on v2-8 (8 x TPU v2), 64 images a step, "),
        (["--batch_size=63"], "plain_4k on v2-8 (1 of 8 x TPU v2), 63 images a step, "),
        (
            ["--batch_size=63", "--num_seeds=8"],
            "plain_4k on v2-8 (8 x TPU v2), 63 images a step of each of 8 seeds, ",
        ),
    ],
)
def test_the_table(flags, title):
    """A batch of 63 divides among no devices; where seeds have a device each it need not."""
    command = [sys.executable, "launch.py", "--task=tpu", "--topology=v2-8", "--model=plain_4k", *flags]
    done = subprocess.run(command, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith(title)
    for name in ("compiled in", "memory traffic", "compiler's estimate", "collectives", "host transfers"):
        assert f"\n{name} " in done.stdout
    assert "none in an epoch" in done.stdout


RUNS = ["--task=backprop --epochs=5 --frontier_rates=20", "--task=mnist --model=plain_4k --epochs=1"]


@pytest.mark.parametrize("flags", RUNS)
def test_a_run_without_a_tpu_says_nothing_of_one(flags, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TPU_")}
    command = [sys.executable, "launch.py", *flags.split(), f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
