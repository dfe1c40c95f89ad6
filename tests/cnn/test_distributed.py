"""Several processes on this machine that train together, as they would on several hosts; some of them die."""

import itertools
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from cnn import distributed
from cnn.config import CnnConfig
from harness.errors import UserError
from tests.cnn.prepare import LAYERS, some_of_mnist
from tests.cnn.test_task import ROOT, table

LIMIT = 600  # seconds: it hangs
MODEL = (
    "--layers=conv 6 5x5 stride 2, ReLU, conv 8 3x3, ReLU, global average pool, dense 10 bias",
    "--recipe=plain_4k",
)
METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
LOST = f"launch.py: {distributed._LOST}"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Flags that train on 512 and test on 130 images of MNIST, eight steps an epoch."""
    file = tmp_path_factory.mktemp("data") / "mnist.npz"
    some_of_mnist(file, (512, 130))
    return [f"--dataset={file}", "--batch_size=64", "--epochs=6"]


@pytest.fixture(scope="module")
def alone(small, tmp_path_factory):
    """The curve of one process with two devices."""
    workdir = tmp_path_factory.mktemp("alone")
    finish(start(*small, *MODEL, "--num_devices=2", f"--workdir={workdir}"))
    return curve(workdir)


def start(*flags, host=(), **environment):
    command = [*host, sys.executable, "-u", "launch.py", "--task=mnist", *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, **pipes)


def finish(process, code=0):
    """What the process says; its exit code has to be this one."""
    try:
        output, errors = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == code, errors
    return output, errors


def free_port():
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


def start_all(count, workdir, *flags, own_flags=(), shared=False):
    """Start the processes, each with the flags of own_flags[index].

    Each has a folder of its own, WORKDIR/INDEX, as without a shared disk; or all have WORKDIR/0.
    """
    address = f"127.0.0.1:{free_port()}"
    return [
        start(
            *flags,
            *own,
            f"--workdir={workdir / str(0 if shared else index)}",
            f"--coordinator_address={address}",
            f"--num_processes={count}",
            f"--process_id={index}",
        )
        for index, own in itertools.zip_longest(range(count), own_flags, fillvalue=())
    ]


def wait_for(process, text):
    """Read the process's output up to a line that begins so."""
    watchdog = threading.Timer(LIMIT, process.kill)
    watchdog.start()
    found = any(line.startswith(text) for line in process.stdout)
    watchdog.cancel()
    assert found, process.stderr.read()


def curve(workdir):
    return [[float(row[name]) for name in METRICS] for row in table(workdir / "metrics.csv")]


def assert_same_curve(ours, theirs):
    """Equal but for the rounding of 48 steps, each of which sums 64 images at up to 12 x 12 places.

    Such a sum is rounded by eps times the root of its terms; at this rate no step multiplies what the steps
    before left, so they add up. Two of the 130 images may lie that near to a tie of two classes.
    """
    rounding = 48 * float(np.finfo(np.float32).eps) * math.sqrt(64 * 12 * 12)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        losses, accuracies = slice(0, None, 2), slice(1, None, 2)
        assert one[losses] == pytest.approx(other[losses], rel=rounding)
        assert one[accuracies] == pytest.approx(other[accuracies], abs=2 / 130)


def assert_silent(outcomes):
    assert [outcome for outcome in outcomes if outcome != ("", "")] == []


@pytest.mark.hosts
@pytest.mark.slow
def test_two_processes_train_as_one(small, alone, tmp_path):
    """Process 0 alone writes and speaks. Two numbers have one sum: the curve is the same bit for bit."""
    first, *others = start_all(2, tmp_path, *small, *MODEL)
    output, errors = finish(first)
    assert "cpu: 2 x cpu" in output
    assert errors == ""
    assert_silent(map(finish, others))
    assert curve(tmp_path / "0") == alone
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0"]


@pytest.mark.hosts
@pytest.mark.slow
def test_four_processes_named_by_the_environment(small, alone, tmp_path):
    names = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": "4"}
    processes = [
        start(
            *small,
            *MODEL,
            f"--workdir={tmp_path / str(index)}",
            **names,
            JAX_PROCESS_ID=str(index),
        )
        for index in range(4)
    ]
    assert "cpu: 4 x cpu" in finish(processes[0])[0]
    assert_silent(map(finish, processes[1:]))
    assert_same_curve(curve(tmp_path / "0"), alone)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0"]


@pytest.mark.hosts
@pytest.mark.slow
def test_two_processes_with_two_devices_each_and_dropout(small, tmp_path):
    flags = [*small, f"--layers={LAYERS}", "--recipe=bn_4k", "--learning_rate=0.0001"]
    finish(start(*flags, "--num_devices=4", f"--workdir={tmp_path / 'alone'}"))
    processes = start_all(2, tmp_path, *flags, "--num_devices=4")
    assert "cpu: 4 x cpu" in finish(processes[0])[0]
    assert_silent(map(finish, processes[1:]))
    assert_same_curve(curve(tmp_path / "0"), curve(tmp_path / "alone"))
    first, other = start_all(2, tmp_path, "--eval_only", shared=True)
    assert "test accuracy" in finish(first)[0]
    assert_silent([finish(other)])


@pytest.mark.hosts
@pytest.mark.slow
def test_seeds_on_different_processes(small, alone, tmp_path):
    processes = start_all(2, tmp_path, *small, *MODEL, "--num_seeds=2")
    finish(processes[0])
    assert_silent(map(finish, processes[1:]))
    assert_same_curve(curve(tmp_path / "0")[:6], alone)
    finish(start(*small, *MODEL, "--seed=1", f"--workdir={tmp_path / 'second'}"))
    assert_same_curve(curve(tmp_path / "0")[6:], curve(tmp_path / "second"))


@pytest.mark.hosts
@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_where_one_is_killed_the_other_ends_and_the_run_goes_on(killed, small, alone, tmp_path):
    processes = start_all(2, tmp_path, *small, *MODEL)
    wait_for(processes[0], "epoch  2/6")
    processes[killed].kill()
    finish(processes[killed], -signal.SIGKILL)
    assert finish(processes[1 - killed], 2)[1].splitlines()[-1] == LOST
    assert not (tmp_path / "0" / "summary.json").exists()
    if killed == 0:
        output, _ = finish(start("--resume", f"--workdir={tmp_path / '0'}"))
    else:
        own = [["--resume"], *[[*small, *MODEL]] * 3]
        processes = start_all(4, tmp_path, own_flags=own)
        output, _ = finish(processes[0])
        assert_silent(map(finish, processes[1:]))
    assert re.search(r"restored the checkpoint after [1-5] epochs", output)
    assert_same_curve(curve(tmp_path / "0"), alone)


@pytest.mark.hosts
@pytest.mark.slow
def test_where_one_hangs_the_other_ends(small, tmp_path):
    """It does so once the heartbeats have been missing for 20 seconds."""
    processes = start_all(2, tmp_path, *small, *MODEL)
    wait_for(processes[0], "epoch  1/6")
    processes[1].send_signal(signal.SIGSTOP)
    assert finish(processes[0], 2)[1].splitlines()[-1] == LOST
    processes[1].kill()
    finish(processes[1], -signal.SIGKILL)


@pytest.fixture
def two_hosts():
    """Two network namespaces with a cable: how to run a command on each, and ip on the second."""

    def ip(*words):
        done = subprocess.run(["ip", *words], capture_output=True, text=True)
        if done.returncode:
            assert not (os.environ.get("CI") and os.geteuid() == 0), done.stderr
            pytest.skip(f"no network can be made here: {done.stderr.strip()}")

    names = [f"host{index}-{os.getpid()}" for index in range(2)]
    for name in names:
        ip("netns", "add", name)
    try:
        ip(
            "link",
            "add",
            "eth0",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            names[1],
        )
        for number, name in enumerate(names, start=1):
            ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield [["ip", "netns", "exec", name] for name in names], lambda *words: ip("-n", names[1], *words)
    finally:
        for name in names:
            ip("netns", "del", name)


@pytest.mark.hosts
@pytest.mark.slow
@pytest.mark.parametrize("fault", [None, "killed", "cut"])
def test_two_hosts_train_as_one_and_end_within_a_minute(fault, two_hosts, small, alone, tmp_path):
    """One is killed, or the link is cut in an epoch and mended; then a single host goes on."""
    hosts, ip = two_hosts
    flags = [*small, *MODEL, "--coordinator_address=10.77.0.1:1234", "--num_processes=2"]
    first, other = (
        start(*flags, f"--process_id={index}", f"--workdir={tmp_path / str(index)}", host=host)
        for index, host in enumerate(hosts)
    )
    if fault is None:
        assert "cpu: 2 x cpu" in finish(first)[0]
        assert_silent([finish(other)])
    else:
        wait_for(first, "epoch  2/6")
        began = time.monotonic()
        if fault == "killed":
            other.kill()
            finish(other, -signal.SIGKILL)
        else:
            ip("link", "set", "eth0", "down")
            time.sleep(25)
            ip("link", "set", "eth0", "up")
            assert finish(other, 2)[1].splitlines()[-1] == LOST
        assert finish(first, 2)[1].splitlines()[-1] == LOST
        assert time.monotonic() - began < 60
        finish(start("--resume", f"--workdir={tmp_path / '0'}"))
    assert_same_curve(curve(tmp_path / "0"), alone)


@pytest.mark.hosts
@pytest.mark.slow
@pytest.mark.parametrize(("number", "to"), [(signal.SIGTERM, [1]), (signal.SIGINT, [0, 1])])
def test_a_signal_to_one_or_all_saves_and_ends_all(number, to, small, alone, tmp_path):
    processes = start_all(2, tmp_path, *small, *MODEL)
    wait_for(processes[0], "epoch  1/6")
    for index in to:
        processes[index].send_signal(number)
    where = tmp_path / "0", "FOLDER, the one that process 0 names"
    for process, folder in zip(processes, where, strict=True):
        errors = finish(process, 128 + number)[1]
        assert errors == f"launch.py: {number.name}: saved; go on with --resume --workdir={folder}\n"
    if len(to) == 2:
        finish(start("--resume", f"--workdir={tmp_path / '0'}"))
        assert_same_curve(curve(tmp_path / "0"), alone)


@pytest.mark.hosts
def test_a_mistake_of_process_0_ends_the_others(small, tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "config.json").write_text("{}")
    first, other = start_all(2, tmp_path, *small)
    assert re.fullmatch(r"launch.py: --workdir=.* holds a run already: .*\n", finish(first, 2)[1])
    assert finish(other, 2)[1].splitlines()[-1] == LOST


@pytest.mark.hosts
@pytest.mark.slow
def test_other_flags_than_process_0_are_refused(small, tmp_path):
    first, other = start_all(2, tmp_path, *small, own_flags=((), ("--seed=1",)))
    assert "launch.py: process 1 was not given the flags of process 0" in finish(other, 2)[1]
    assert finish(first, 2)[1].splitlines()[-1] == LOST


@pytest.mark.hosts
@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_a_process_whose_peers_never_come_says_so(index, tmp_path):
    code = "import sys, launch; from cnn import distributed; distributed._CONNECT_SECONDS = 1; "
    code += "sys.exit(launch.main(sys.argv))"
    flags = [f"--coordinator_address=127.0.0.1:{free_port()}", "--num_processes=2", f"--process_id={index}"]
    command = [sys.executable, "-c", code, "--task=mnist", f"--workdir={tmp_path / 'new'}", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"launch.py: {distributed._NOT_MET}"
    assert not (tmp_path / "new").exists()


def test_a_port_in_use_is_refused():
    with socket.create_server(("", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UserError, match=f"{address}: process 0 cannot listen there .* in use"):
            distributed.meet(distributed.Processes(address, 2, 0))


def test_processes_of_the_environment(monkeypatch):
    for name, value in (("COORDINATOR_ADDRESS", "host:1"), ("NUM_PROCESSES", "4"), ("PROCESS_ID", "3")):
        monkeypatch.setenv(f"JAX_{name}", value)
    assert distributed.processes(CnnConfig()) == distributed.Processes("host:1", 4, 3)
    flags = CnnConfig(coordinator_address="other:1", num_processes=2, process_id=1)
    assert distributed.processes(flags) == distributed.Processes("other:1", 2, 1)
    for wrong in ("two", "-1", "", "٣", "9" * 5000):
        monkeypatch.setenv("JAX_PROCESS_ID", wrong)
        with pytest.raises(UserError, match=rf"JAX_PROCESS_ID \({wrong[:9]}.*\): set both to whole numbers"):
            distributed.processes(CnnConfig())


@pytest.mark.parametrize(
    ("address", "count", "index", "message"),
    [
        *(
            (address, "2", "0", f"JAX_COORDINATOR_ADDRESS={address}: give process 0's HOST:PORT")
            for address in ("", "host", "host:", "host:0", "host:65536", "host:x", "http://host:1")
        ),
        ("host:1", "0", "0", "JAX_NUM_PROCESSES=0: give a whole number from 1 to 10000"),
        ("host:1", "10001", "0", "JAX_NUM_PROCESSES=10001: give a whole number from 1 to 10000"),
        ("host:1", "2", "2", "JAX_PROCESS_ID=2: give 0 to 1, one for each of the 2 processes"),
    ],
)
def test_the_environment_is_checked_as_the_flags_are(address, count, index, message, monkeypatch):
    for name, value in (("COORDINATOR_ADDRESS", address), ("NUM_PROCESSES", count), ("PROCESS_ID", index)):
        monkeypatch.setenv(f"JAX_{name}", value)
    with pytest.raises(UserError) as error:
        distributed.processes(CnnConfig())
    assert str(error.value).startswith(message)


def test_without_jaxs_private_function_gloo_chooses_its_address(monkeypatch):
    from jax._src.lib import _jax

    monkeypatch.delattr(_jax, "make_gloo_tcp_collectives")
    distributed._listen_where_others_reach("127.0.0.1:1")
    assert not hasattr(_jax, "make_gloo_tcp_collectives")
