"""What strangers send to the page: every attack of tests/attacks/page.py, and how the page ends."""

import asyncio
import concurrent.futures
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from demo.config import DemoConfig
from harness.errors import UserError
from tests.attacks import page
from tests.attacks.page import served

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("attack", page.ATTACKS, ids=lambda attack: attack.__name__)
def test_the_page_withstands(attack, trained_page):
    attack(trained_page)


def is_alive(process_id):
    """False of one that has ended and waits for whoever reaps it, too."""
    command = ["ps", "-o", "stat=", "-p", process_id]
    state = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return not state.startswith("Z") and state != ""


def test_whatever_ends_the_page_nothing_is_left_and_a_proxy_in_the_environment_is_not_asked(
    chromium,
):
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    with (
        tempfile.TemporaryDirectory() as folder,  # a socket's name in pytest's own would be too long
        concurrent.futures.ThreadPoolExecutor() as people,
        served(Path(folder), run=None, **proxies) as demo,
        demo.programs.held(),
    ):
        people.submit(demo.judge, "slow.xlsx", page.slow_file())
        demo.programs.wait()
        demo.process.send_signal(signal.SIGTERM)
        assert demo.process.communicate(timeout=page.NEVER) == ("", "")
        assert demo.process.returncode == 128 + signal.SIGTERM
        assert [*demo.temporary.iterdir()] == []
        deadline = time.monotonic() + page.NEVER
        while is_alive((demo.programs.folder / "runs").read_text().strip()):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_body_that_does_not_arrive_is_not_waited_for(monkeypatch):
    server = pytest.importorskip("demo.server")
    monkeypatch.setattr(server, "_SECONDS_TO_SEND", 0.05)

    async def read(scope, receive, send):
        await receive()

    async def never():
        await asyncio.Event().wait()

    headers = [(b"content-length", b"9"), (b"host", b"a")]
    scope = {"type": "http", "path": "/", "headers": headers}
    with (
        concurrent.futures.ThreadPoolExecutor() as another,  # thread: in this one the browser's loop runs
        pytest.raises(server.HTTPException) as caught,
    ):
        another.submit(asyncio.run, server._Guard(read)(scope, never, None)).result()
    assert (caught.value.status_code, caught.value.detail) == (408, "it did not arrive within 0.05 seconds")


@pytest.mark.parametrize(
    ("flags", "hosts", "address"),
    [
        ({}, ["127.0.0.1", "localhost"], "http://127.0.0.1:7860/"),
        ({"host": "192.168.0.5"}, ["127.0.0.1", "localhost", "192.168.0.5"], "http://192.168.0.5:7860/"),
        ({"host": "::1"}, ["127.0.0.1", "localhost", "[::1]"], "http://[::1]:7860/"),
        (
            {"host": "0.0.0.0", "allowed_hosts": "pc12,*.school.example"},
            ["127.0.0.1", "localhost", "0.0.0.0", "pc12", "*.school.example"],
            "http://pc12:7860/",
        ),
    ],
)
def test_the_page_answers_to_its_own_names(flags, hosts, address):
    config = DemoConfig(**flags)
    assert (config.hosts, config.address) == (hosts, address)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"host": "pc12"}, "--host=pc12 is not an address: give one of this machine's, such as"),
        ({"host": "0.0.0.0"}, "--host=0.0.0.0 needs --allowed_hosts: the names and addresses that visitors"),
        ({"host": "::"}, "--host=:: needs --allowed_hosts"),
        ({"allowed_hosts": "*"}, "--allowed_hosts: '*' is not a host: give names or addresses without ports"),
        ({"allowed_hosts": "pc12:80"}, "--allowed_hosts: 'pc12:80' is not a host"),
        ({"allowed_hosts": "http://pc12"}, "--allowed_hosts: 'http://pc12' is not a host"),
        ({"allowed_hosts": "a,,b"}, "--allowed_hosts: '' is not a host"),
    ],
)
def test_what_is_no_host_is_said(flags, words):
    with pytest.raises(UserError) as caught:
        DemoConfig(**flags)
    assert str(caught.value).startswith(words)


def test_a_folder_whose_name_is_too_long_for_a_socket_is_named(tmp_path):
    long = tmp_path / ("a" * 100)
    long.mkdir()
    done = subprocess.run(
        [sys.executable, "launch.py", "--task=demo"],
        cwd=page.ROOT,
        env=os.environ | {"TMPDIR": str(long)},
        capture_output=True,
        text=True,
        timeout=page.NEVER,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"launch.py: TMPDIR={long}")
    assert done.stderr.endswith(" is too long: give the page a shorter one\n")
