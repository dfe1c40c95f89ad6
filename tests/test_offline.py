"""Importing the project and running it opens no connection: nothing is downloaded, nothing is reported home.

Each process here ends at the first connection that Python opens. Where the machine allows it, it also runs
in a network of its own that leads nowhere, for what compiled code might open.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REFUSE = """
import os, sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo"):
        print("refused:", event, *arguments, file=sys.stderr, flush=True)
        os._exit(70)

sys.addaudithook(refuse)
"""
IMPORT_ALL = """
import importlib, pkgutil
modules = ["launch"]
for package in map(importlib.import_module, ("audit", "backprop", "cnn", "demo", "harness", "benchmarks")):
    modules += [found.name for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in modules:
    importlib.import_module(name)
print(*modules)
"""
LAUNCH = "import launch\nsys.exit(launch.main(['launch.py', *sys.argv[1:]]))"


@pytest.fixture(scope="module")
def no_network() -> list[str]:
    """What to put before a command so that it has no network; nothing where that is not allowed."""
    unshare = ["unshare", "--map-root-user", "--net"]
    allowed = (
        shutil.which("unshare") and not subprocess.run([*unshare, "true"], capture_output=True).returncode
    )
    return unshare if allowed else []


@pytest.fixture
def run(no_network):
    def run_offline(code: str, *arguments: str) -> subprocess.CompletedProcess:
        command = [*no_network, sys.executable, "-c", REFUSE + code, *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    return run_offline


@pytest.mark.parametrize(
    ("call", "event"),
    [
        ("create_connection(('127.0.0.1', 9))", "socket.getaddrinfo"),
        ("socket().connect(('127.0.0.1', 9))", "socket.connect"),
        ("socket(type=SOCK_DGRAM).sendto(b'', ('127.0.0.1', 9))", "socket.sendto"),
    ],
)
def test_a_connection_would_be_seen(run, call, event):
    done = run(f"from socket import *\ntry: {call}\nexcept BaseException: pass")
    assert (done.returncode, done.stderr[: len(f"refused: {event}")]) == (70, f"refused: {event}")


@pytest.mark.slow
def test_every_module_is_imported_without_a_connection(run):
    done = run(IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    files = [
        *ROOT.glob("*.py"),
        *(
            file
            for top in ("audit", "backprop", "cnn", "demo", "harness", "benchmarks")
            for file in (ROOT / top).rglob("*.py")
        ),
    ]
    expected = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files if file.name != "__init__.py"
    }
    assert expected <= set(done.stdout.split())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--help", "--task=mnist"),
        pytest.param(
            "--task=backprop --lrs=0.5 --epochs=5 --frontier_rates=10 --frontier_epochs=5",
            "open backprop.xlsx",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "--task=mnist --model=plain_4k --epochs=1 --validation_size=59000",
            "final test accuracy",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["help", "backprop", "mnist"],
)
def test_the_command_line_works_without_a_connection(run, tmp_path, flags, said):
    done = run(LAUNCH, *flags.split(), *([] if flags == "--help" else [f"--workdir={tmp_path}"]))
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
