"""What can be wrong before the page is served is said in one line."""

import importlib.util
import socket

import pytest

import launch
from demo import task
from demo.config import DemoConfig
from errors import UserError


def test_without_gradio_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        task.run(DemoConfig())
    assert str(caught.value) == '--task=demo needs Gradio: pip install -e ".[demo]"'


def test_without_a_link_nothing_is_served(monkeypatch, capsys):
    networking = pytest.importorskip("gradio.networking", reason="the extra demo is not installed")

    def no_internet(**_):
        raise OSError("no route to host")

    monkeypatch.setattr(networking, "setup_tunnel", no_internet)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    assert launch.main(["launch.py", "--task=demo", "--share", f"--port={port}"]) == 2
    shown, said = capsys.readouterr()
    assert shown == ""
    assert said.startswith("launch.py: --share got no link from Gradio's servers: connect")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", int(port)))
