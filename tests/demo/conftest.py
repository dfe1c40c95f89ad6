"""One browser, one page with a trained network, opened once on each screen, for all tests of the demo."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = Path("/usr/bin/chromium")
SWITCHES = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
SCREENS = {
    "desktop": {"viewport": {"width": 1280, "height": 800}},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}
NEVER = 600_000  # milliseconds: what has not come by then does not come, on however busy a machine


def serve(*flags):
    """The process of the page, and its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "launch.py", "--task=demo", f"--port={port}", *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    assert line == f"The page is at http://127.0.0.1:{port}/; Ctrl-C ends it.\n", process.communicate()
    return process, f"http://127.0.0.1:{port}/"


class SlowProgram:
    """A program in LibreOffice's place that says when it runs, and fails once it is released."""

    def __init__(self, folder):
        self.folder = folder
        program = folder / "soffice"
        program.write_text(
            f"#!/bin/sh\ntouch {folder}/runs\nwhile [ ! -e {folder}/released ]; do sleep 0.1; done\nexit 1\n"
        )
        program.chmod(0o755)

    def wait(self):
        while not (self.folder / "runs").exists():
            time.sleep(0.05)

    def release(self):
        (self.folder / "released").touch()


class Opened(NamedTuple):
    """A page on a screen; the addresses that were asked for there, and what went wrong."""

    page: Any
    requested: list[str]
    errors: list[str]


@pytest.fixture(scope="package")
def chromium():
    missing = [name for name in ("gradio", "playwright") if importlib.util.find_spec(name) is None]
    missing += [] if CHROMIUM.exists() else [str(CHROMIUM)]
    if missing and os.environ.get("CI"):
        pytest.fail(f"CI has no {', '.join(missing)}: .ci/run and make test install them")
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=NEVER)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def temporary(tmp_path_factory):
    """Where the page's process puts temporary files."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="package")
def slow_program(tmp_path_factory):
    return SlowProgram(tmp_path_factory.mktemp("program"))


@pytest.fixture(scope="package")
def address(chromium, default_run, temporary, slow_program):
    """A page with a network that was trained for two epochs of 4,000 images."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TMPDIR", str(temporary))
        patched.setenv("PATH", f"{slow_program.folder}:{os.environ['PATH']}")
        process, address = serve(f"--workdir={default_run / 'run'}")
    yield address
    process.kill()
    process.communicate()


@pytest.fixture(scope="package")
def pages(chromium, address) -> Iterator[dict[str, Opened]]:
    """The page on each screen. Tests share it: each looks only for what it brought about itself."""
    pages = {}
    for screen, options in SCREENS.items():
        context = chromium.new_context(**options)
        context.set_default_timeout(NEVER)
        opened = pages[screen] = Opened(context.new_page(), [], [])
        opened.page.on("request", lambda sent, to=opened.requested: to.append(sent.url))
        opened.page.on("websocket", lambda socket, to=opened.requested: to.append(socket.url))
        opened.page.on("pageerror", lambda error, to=opened.errors: to.append(str(error)))
        opened.page.goto(address)
    yield pages
    for opened in pages.values():
        opened.page.context.close()


@pytest.fixture(params=["desktop", pytest.param("phone", marks=pytest.mark.slow)])
def page(request, pages):
    """The page on one screen; after a test nothing has gone wrong there and nothing was fetched elsewhere."""
    page, requested, errors = pages[request.param]
    yield page
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert errors == []
    assert len(requested) > 10
    elsewhere = {url for url in requested if urlsplit(url).scheme not in ("data", "blob")}
    assert {urlsplit(url).hostname for url in elsewhere} == {"127.0.0.1"}


@pytest.fixture
def nothing_left(temporary):
    """The page's process keeps no file that came while the test ran."""
    before = _files(temporary)
    yield
    assert _files(temporary) == before


def _files(folder):
    return {file for file in folder.rglob("*") if file.is_file()}


def opened(page, tab):
    """The page with one of its tabs in front."""
    page.get_by_role("tab", name=tab).click()
    return page
