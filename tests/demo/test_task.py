"""What can be wrong before the page is served is said in one line."""

import importlib.util
import socket

import pytest

from demo import task
from demo.config import DemoConfig
from errors import UserError


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_without_gradio_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        task.run(DemoConfig())
    assert str(caught.value) == '--task=demo needs Gradio: pip install -e ".[demo]"'


def test_without_a_link_nothing_is_served(monkeypatch, capsys, port):
    networking = pytest.importorskip("gradio.networking", reason="the extra demo is not installed")

    def no_internet(**_):
        raise OSError("no route to host")

    monkeypatch.setattr(networking, "setup_tunnel", no_internet)
    with pytest.raises(UserError, match="--share got no link from Gradio's servers: connect"):
        task.run(DemoConfig(port=port, share=True))
    assert capsys.readouterr().out == ""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
