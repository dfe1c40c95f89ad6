"""What can be wrong before the page is served is said in one line."""

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from demo import task
from demo.config import DemoConfig
from harness.errors import UserError

ROOT = Path(__file__).parents[2]
OFFLINE = """
import sys, gradio.networking, launch
def no_internet(**_): raise OSError("no route to host")
gradio.networking.setup_tunnel = no_internet
sys.exit(launch.main(["launch.py", "--task=demo", "--share", "--port=" + sys.argv[1]]))
"""


def test_without_gradio_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        task.run(DemoConfig())
    assert str(caught.value) == '--task=demo needs Gradio: pip install -e ".[demo]"'


@pytest.mark.slow
def test_without_a_link_nothing_is_served():
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}  # as launch.py has it where it is the program
    command = [sys.executable, "-c", OFFLINE, port]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("launch.py: --share got no link from Gradio's servers: connect")
    assert done.stderr.count("\n") == 1
