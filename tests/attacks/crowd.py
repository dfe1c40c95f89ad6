"""python -m tests.attacks.crowd: a person steps through an update beside 30 uploads and three that mean harm.

Prints how long her answers take alone and in the crowd, the server's memory and the files that are left.
"""

import concurrent.futures
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.attacks import page as attacks
from tests.demo.conftest import CHROMIUM, SWITCHES

UPLOADS = 30
STEPS = 30


def steps(page):
    """Seconds until each step is shown."""
    times = []
    page.get_by_role("button", name="Start over").click()
    equations = page.locator("#equations")
    equations.get_by_text("Press Step").wait_for()
    for _ in range(STEPS):
        before, start = equations.inner_text(), time.monotonic()
        page.get_by_role("button", name="Step").click()
        page.wait_for_function(
            "before => document.querySelector('#equations').innerText !== before", arg=before, polling=10
        )
        times.append(time.monotonic() - start)
        time.sleep(0.1)
    return times


def said(times):
    return f"{statistics.median(times):.2f} s, at most {max(times):.2f} s"


def crowd(served):
    """Everybody's answers, in the order in which they asked."""
    right = (attacks.WORKBOOKS / "00_right.xlsx").read_bytes()
    pool = concurrent.futures.ThreadPoolExecutor(UPLOADS + 3)
    uploads = [pool.submit(_timed, served, f"{who}.xlsx", right, str(who)) for who in range(UPLOADS)]
    pool.submit(served.judge, "slow.xlsx", attacks.slow_file(), "slow")
    pool.submit(attacks.bodies_that_announce_too_much, served)
    pool.submit(attacks.bodies_without_an_end, served)
    return pool, uploads


def _timed(served, name, content, visitor):
    start = time.monotonic()
    assert f"{name}: RIGHT" in served.judge(name, content, visitor)
    return time.monotonic() - start


def megabytes(served):
    """Of the server now, and at most so far."""
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    return [int(status.split(f"{name}:")[1].split()[0]) // 1024 for name in ("VmRSS", "VmHWM")]


def main():
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        with attacks.served(folder, run=None) as served, served.programs.held():
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
            page = browser.new_page()
            page.set_default_timeout(1000 * attacks.NEVER)
            page.goto(served.address)
            steps(page)
            served.judge("first.xlsx", (attacks.WORKBOOKS / "00_right.xlsx").read_bytes())
            before = megabytes(served)
            print(f"her answers alone: {said(steps(page))}")
            pool, uploads = crowd(served)
            print(f"her answers beside {UPLOADS} uploads, a slow, large and endless one: {said(steps(page))}")
            print(f"the uploads' answers: {said([each.result() for each in uploads])}")
            served.programs.release()
            pool.shutdown()
            after = megabytes(served)
            print(f"the server's memory: {before[0]} MB before, {after[0]} MB after, at most {after[1]} MB")
            print(f"files left: {len(served.files())}")
            browser.close()


if __name__ == "__main__":
    main()
