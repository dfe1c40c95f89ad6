"""Data parallel and seeds on eight virtual CPU devices; batches that do not divide among devices."""

import importlib.util
import json
import os
import subprocess
import sys
from typing import NamedTuple

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn import cores, devices, loop
from cnn.config import CnnConfig
from cnn.experiment import resolve
from harness.errors import UserError
from harness.workdir import write_config
from tests.cnn.prepare import LAYERS, some_of_mnist
from tests.cnn.test_task import ROOT, table

WITH_DROPOUT, AUGMENTED = {"model": "bn_dropout_4k"}, {"model": "compact_20k"}  # the latter with an average
SMALL = {"layers": LAYERS, "recipe": "compact_20k"}  # with dropout, distortions and an average
SEEDS = [
    *({"flags": AUGMENTED, "devices": 1, "seeds": [seed]} for seed in range(8)),
    {"flags": AUGMENTED, "devices": 8, "seeds": list(range(8))},  # a device each
    {"flags": AUGMENTED, "devices": 8, "seeds": [0, 1]},  # four devices each
    {"flags": AUGMENTED, "devices": 2, "seeds": [0, 1, 2]},  # two at once, then one on both
    {"flags": AUGMENTED, "devices": 1, "seeds": [0, 1, 2], "as_gpu": True},  # vmap on one device
    {"flags": AUGMENTED, "devices": 2, "seeds": [0, 1, 2, 3], "as_gpu": True},  # and on each of two
    {"flags": AUGMENTED, "devices": 4, "seeds": [0], "as_gpu": True},  # one dispatch
]


def computed(runs, folder):
    """Metrics and weights of each run of tests/cnn/curves.py."""
    file = folder / "curves.npz"
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # LLVM's take most of the time here
    command = [sys.executable, "-m", "tests.cnn.curves", str(file), json.dumps(runs)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=600)
    arrays = np.load(file)
    return [(arrays[f"metrics{index}"], arrays[f"weights{index}"]) for index in range(len(runs))]


def assert_same(ours, theirs):
    """Equal but for rounding in float64: a mistake in a mask, a mean or a batch differs by far more."""
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.devices
@pytest.mark.parametrize(
    ("flags", "counts", "ways"),
    [
        (SMALL, (1, 8), ("gpu",)),
        pytest.param(WITH_DROPOUT, (1, 2, 4, 8), ("cpu", "gpu"), marks=pytest.mark.slow),
        pytest.param(AUGMENTED, (1, 2, 4, 8), ("cpu", "gpu"), marks=pytest.mark.slow),
    ],
)
def test_a_curve_does_not_depend_on_the_number_of_devices(flags, counts, ways, tmp_path):
    """Nor on another learning rate beside its own: on a device each, or in one dispatch as on GPUs."""
    own = resolve(CnnConfig(**flags)).recipe.learning_rate
    runs = [{"devices": n, "seeds": [3]} for n in counts]
    sweep = {"seeds": [3], "learning_rates": [own, 4 * own]}
    sweeps = [sweep | {"devices": 2, "as_gpu": way == "gpu"} for way in ways]
    results = computed([run | {"flags": flags} for run in [*runs, *sweeps]], tmp_path)
    alone, *others = results[: len(runs)]
    assert np.ptp(alone[0][0, :, 0]) > 1e-3  # it learns
    for other in others:
        assert_same(alone, other)
    first, *others = results[len(runs) :]
    assert np.abs(first[1][1] - first[1][0]).max() > 1e-3
    assert_same(alone, [leaf[:1] for leaf in first])
    for other in others:
        assert_same(first, other)


@pytest.mark.devices
@pytest.mark.slow
def test_seeds_trained_together_are_those_trained_alone(tmp_path):
    results = computed(SEEDS, tmp_path)
    alone = [np.concatenate(each) for each in zip(*results[:8], strict=True)]
    assert all(np.abs(alone[1][seed] - alone[1][0]).max() > 1e-2 for seed in range(1, 8))
    for run, together in zip(SEEDS[8:], results[8:], strict=True):
        assert_same(together, [leaf[run["seeds"]] for leaf in alone])


LONG_EPOCH = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
from benchmarks.training import Training
Training("plain_4k", steps=200, num_devices=2).images_a_second()  # its report waits for nothing
"""


@pytest.mark.devices
@pytest.mark.slow
def test_an_epoch_needs_no_more_threads_than_devices():
    """XLA ends the process where its devices wait for each other for 40 s."""
    environment = os.environ | {"PJRT_NPROC": "1"}  # XLA takes as many as there are devices
    command = [sys.executable, "-c", LONG_EPOCH]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Flags that train on 512 and test on 130 images of MNIST, eight steps an epoch."""
    file = tmp_path_factory.mktemp("data") / "mnist.npz"
    some_of_mnist(file, (512, 130))
    return [f"--dataset={file}", "--batch_size=64"]


@pytest.mark.devices
@pytest.mark.parametrize("model", [flags["model"] for flags in (WITH_DROPOUT, AUGMENTED)])
@pytest.mark.slow
def test_the_command_line_on_one_and_on_eight_devices(small, model, tmp_path):
    """In float32; that the curves agree to 1e-9 in float64 is shown above.

    At so small a rate a step does not multiply the rounding of those before: what the sums over 64 images of
    up to 26 x 26 places are rounded by adds up over eight steps.
    """
    rounding = 8 * np.finfo(np.float32).eps * np.sqrt(64 * 26 * 26)
    curves = []
    for count in (1, 8):
        workdir = tmp_path / str(count)
        flags = [*small, f"--model={model}", "--epochs=1", f"--num_devices={count}", f"--workdir={workdir}"]
        flags.append("--learning_rate=0.0001")
        command = [sys.executable, "launch.py", "--task=mnist", *flags]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=600)
        rows = table(workdir / "metrics.csv")
        curves.append([[float(row[name]) for name in ("train_loss", "test_loss")] for row in rows])
    np.testing.assert_allclose(*curves, rtol=rounding)


@pytest.mark.devices
def test_a_batch_that_does_not_divide_is_refused(tmp_path):
    """Of one seed, of two, and of a run that goes on, in one process, which has eight devices."""
    (tmp_path / "old").mkdir()
    write_config(tmp_path / "old", "mnist", CnnConfig(batch_size=100), device="none")
    new = f"--workdir={tmp_path / 'new'}"
    starts = (
        [new, "--batch_size=100"],
        [new, "--batch_size=66", "--num_seeds=2"],
        ["--resume", f"--workdir={tmp_path / 'old'}"],
    )
    common = ["launch.py", "--task=mnist", "--num_devices=8"]
    program = "import json, sys, launch; print([launch.main(argv) for argv in json.loads(sys.argv[1])])"
    command = [sys.executable, "-c", program, json.dumps([[*common, *flags] for flags in starts])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.stdout.splitlines()[-1] == "[2, 2, 2]"
    assert done.stderr == "".join(
        f"launch.py: --batch_size={given} does not divide among --num_devices=8: give {allowed}\n"
        for given, allowed in (
            (100, "--batch_size=96 or --num_devices=4"),
            (66, "--batch_size=64 or --num_devices=2"),
            (100, "--num_devices=4"),
        )
    )
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("seeds", "count", "divisor"),
    [(1, 8, 8), (2, 8, 4), (8, 8, 1), (3, 2, 2), (3, 8, 8), (5, 4, 4), (16, 8, 1), (12, 8, 2)],
)
def test_what_a_batch_has_to_divide_by(seeds, count, divisor):
    """Two at once of three seeds on eight devices leave one for all eight; twelve go as eight and four."""
    assert devices._row(seeds, count, "cpu") == divisor


def test_a_mesh_whose_rows_do_not_divide_a_batch_is_refused():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1] * 8).reshape(2, 4), (loop.SEED, loop.DATA))
    loop.require_divides(100, mesh)
    with pytest.raises(UserError, match=r"among the 4 devices of a seed: give --num_devices=2$"):
        loop.require_divides(66, mesh)


@pytest.mark.parametrize(
    ("size", "processes", "flag"), [(64, 3, "--batch_size=64"), (66, 4, "--batch_size=66")]
)
def test_processes_share_a_batch_alike(size, processes, flag):
    with pytest.raises(UserError, match=f"{flag} does not divide among {processes} processes: give 6[38]?"):
        devices._require_shares(size, None, processes)


@pytest.mark.parametrize(
    ("batch_size", "seeds", "cores", "count"),
    [
        (128, 1, 2, 2),
        (128, 1, 64, 8),  # 16 images each
        (64, 1, 64, 4),
        (64, 1, 6, 4),
        (64, 8, 64, 32),  # four devices a seed
        (64, 8, 8, 8),
        (63, 8, 8, 8),  # a device a seed: none shares a batch
        (63, 1, 8, 3),
        (64, 3, 3, 3),
        (8, 1, 64, 1),
        (61, 1, 64, 1),
    ],
)
def test_how_many_devices_a_cpu_is(batch_size, seeds, cores, count):
    assert devices._virtual_devices(batch_size, seeds, cores) == count


@given(st.integers(1, 200), st.integers(1, 40))
def test_chunks_are_of_one_size_but_for_what_is_left_over(members, size):
    sizes = devices.chunk_sizes(members, size)
    assert sum(sizes) == members
    assert sizes[: members // size] == [size] * (members // size)
    assert all(size % each == 0 for each in sizes)


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 80))
def test_devices_of_a_cpu_get_images_enough_of_batches_that_divide(batch_size, seeds, cores):
    count = devices._virtual_devices(batch_size, seeds, cores)
    assert 1 <= count <= cores
    assert batch_size % devices._row(seeds, count, "cpu") == 0
    rows = max(n for n in range(1, count + 1) if count % n == 0 and n <= seeds)
    assert count == 1 or batch_size * rows // count >= 16


def test_a_container_that_may_use_2_of_64_cores_starts_2_devices(monkeypatch):
    told = {}
    monkeypatch.setattr(jax.config, "update", told.__setitem__)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(cores, "_by_affinity", lambda: 64)
    monkeypatch.setattr(cores, "_quotas", lambda root: [2.0])
    devices.start(resolve(CnnConfig(model="bn_4k", compilation_cache="none")))
    assert told["jax_num_cpu_devices"] == 2
    assert devices.name(jax.devices()[:1]) == "cpu: cpu, 2 of 64 cores usable"


class _Device(NamedTuple):
    platform: str


@pytest.mark.parametrize(
    ("platform", "batch_size", "seeds", "processes", "count"),
    [
        ("tpu", 64, 1, 1, 8),
        ("tpu", 100, 1, 1, 4),
        ("tpu", 63, 1, 1, 1),
        ("tpu", 63, 8, 1, 8),  # a device a seed
        ("tpu", 62, 12, 1, 8),  # all twelve at once, four rows of two devices
        ("tpu", 64, 1, 16, 4),
        ("gpu", 60, 1, 1, 4),
        ("cpu", 63, 8, 1, 8),
        ("cpu", 63, 12, 1, 4),  # eight at once would leave four, on two devices each
    ],
)
def test_how_many_devices_are_used(platform, batch_size, seeds, processes, count):
    assert devices.most([_Device(platform)] * 8, batch_size, seeds, processes) == count


@pytest.fixture
def with_libtpu(monkeypatch):
    """As if libtpu were installed; yields what JAX's configuration is told."""
    told = []
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "libtpu" or find_spec(name))
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(type(jax.config), "jax_platforms", None)
    monkeypatch.setattr(jax.config, "update", lambda *option: told.append(option))
    return told


def test_libtpu_alone_makes_no_run_look_for_a_tpu(with_libtpu, tmp_path):
    devices.find(tmp_path)
    assert with_libtpu == [("jax_platforms", "cpu")]


def test_where_a_named_platform_does_not_start_jax_takes_what_does(with_libtpu, tmp_path, monkeypatch):
    def fail():
        raise RuntimeError("Unable to initialize backend 'cuda'")

    monkeypatch.setattr(jax, "devices", fail)
    devices.find(tmp_path)
    assert with_libtpu == [("jax_platforms", "cpu"), ("jax_platforms", None)]


def test_what_the_user_or_jax_chose_stays(with_libtpu, tmp_path, monkeypatch):
    monkeypatch.setattr(type(jax.config), "jax_platforms", "cuda,cpu")
    devices.find(tmp_path)
    assert with_libtpu == []


def test_the_host_is_a_cpu_or_what_jax_has_in_its_place(monkeypatch):
    first, asked = jax.local_devices()[0], []
    assert devices.host() == jax.local_devices(backend="cpu")[0]

    def local_devices(backend=None):
        asked.append(backend)
        if backend == "cpu":
            raise RuntimeError("Unknown backend cpu")  # JAX_PLATFORMS=tpu
        return [first]

    monkeypatch.setattr(jax, "local_devices", local_devices)
    assert devices.host() == first
    assert asked == ["cpu", None]


ODD = {
    "JAX_ENABLE_X64": "1",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_DEBUG_NANS": "1",
    "JAX_DEBUG_INFS": "1",
    "JAX_TRANSFER_GUARD": "disallow",
}
DRAWN = """
import jax, jax.numpy as jnp
from cnn import devices
devices.settle()
print(jnp.arange(2.0).dtype, jax.random.key_data(jax.random.split(jax.random.key(3), 2)).tolist())
print((jnp.ones((2, 1)) + jnp.arange(2))[0] @ jnp.full(2, 1 / 3), jnp.ones(1) / 0)
"""


def test_the_environment_changes_no_number():
    def said(environment):
        command = [sys.executable, "-c", DRAWN]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert said(ODD) == said({})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        pytest.param(*each, marks=marks)
        for each, marks in (
            (("JAX_PLATFORMS", "cuda", "JAX_PLATFORMS=cuda does not start here"), ()),
            (("JAX_PLATFORMS", "foo", "JAX_PLATFORMS=foo does not start here"), pytest.mark.slow),
            (("JAX_DISABLE_JIT", "1", "JAX_DISABLE_JIT=1 keeps JAX from compiling"), pytest.mark.slow),
        )
    ],
)
def test_what_keeps_jax_from_starting_is_named_in_one_line(name, value, message, tmp_path):
    command = [sys.executable, "launch.py", "--task=mnist", f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {name: value}, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"launch.py: {message}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_without_libtpu_jax_is_left_alone(with_libtpu, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    devices.find(tmp_path)
    assert with_libtpu == []


@pytest.mark.parametrize(
    ("files", "variables", "plugins", "platforms"),
    [
        ([], ["HOME", "TPU_LIBRARY_PATH", "TPU_SKIP_MDS_QUERY"], [], "cpu"),
        (["nvidia0", "accel/accel0", "vfio/vfio"], [], [], "cpu"),  # another accelerator's nodes
        (["nvidia0"], [], ["xla_cuda13"], "cuda,cpu"),
        ([], [], ["xla_rocm60"], "rocm,cpu"),
        ([], [], ["metal"], None),
        (["accel0"], [], [], None),
        (["vfio/0"], [], ["xla_cuda13"], None),
        ([], ["TPU_ACCELERATOR_TYPE"], [], None),
        ([], ["COLAB_TPU_ADDR"], [], None),
    ],
)
def test_where_jax_looks_for_a_tpu(files, variables, plugins, platforms, tmp_path):
    for file in files:
        (tmp_path / "dev" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "dev" / file).touch()
    assert devices._platforms(tmp_path, variables, plugins) == platforms
