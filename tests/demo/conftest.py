"""One browser, one page with a trained network, opened once on each screen, for all tests of the demo."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.attacks.page import served

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
def trained_page(chromium, default_run, tmp_path_factory):
    """A page with a network that was trained for two epochs of 4,000 images."""
    run = default_run / "run"
    with served(tmp_path_factory.mktemp("page"), f"--workdir={run}", run=run) as page:
        yield page


@pytest.fixture(scope="package")
def address(trained_page):
    return trained_page.address


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
def nothing_left(trained_page):
    """The page's process keeps no file that came while the test ran."""
    before = trained_page.files()
    yield
    assert trained_page.files() == before


def opened(page, tab):
    """The page with one of its tabs in front."""
    page.get_by_role("tab", name=tab).click()
    return page
