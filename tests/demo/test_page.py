"""The page in a real browser, as a person uses it, on a desktop and on a phone."""

import itertools
import re
import signal
from urllib.parse import urlsplit

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import launch
from backprop.config import BackpropConfig
from backprop.network import Example, Weights, total_error
from cnn import data
from tests.attacks.page import served
from tests.demo.conftest import NEVER, opened

pytestmark = pytest.mark.browser

SEVEN = [(0.28, 0.24), (0.72, 0.24), (0.45, 0.82)]  # corners, as fractions of the paper


def test_a_person_steps_through_an_update(page):
    from playwright.sync_api import expect

    opened(page, "By hand")
    step = page.get_by_role("button", name="Step")
    equations, network = page.locator("#equations"), page.locator("#network")
    for number in range(1, 7):
        step.click()
        expect(equations).to_contain_text(f"Update 1. Step {number}.")
        assert overlapping(network) == []
    step.click()
    expect(equations).to_contain_text("Update 1. The update: w <- w - eta * dE/dw, with eta = 0.5")

    config = BackpropConfig()
    with jax.enable_x64(True):
        weights = Weights(*map(jnp.asarray, config.weights))
        example = Example(*map(jnp.asarray, (*config.inputs, *config.targets)))
        gradient = jax.grad(total_error)(weights, example)
        updated = jax.tree.map(lambda w, slope: w - 0.5 * slope, weights, gradient)
        before, after = total_error(weights, example), total_error(updated, example)
    for name, w in updated._asdict().items():
        expect(equations).to_contain_text(f"= {w:.6g}")
        expect(network).to_contain_text(f"{name} {w:.4g}")
    expect(equations).to_contain_text(f"E_total was {before:.6g} and is now {after:.6g}.")
    expect(page.locator("#loss")).to_contain_text("loss E_total")
    assert len(points_of_curve(page)) == 2

    page.get_by_role("button", name="10 updates").click()
    expect(equations).to_contain_text("Update 12")
    heights = points_of_curve(page, at_least=12)
    assert heights == sorted(heights), "on a screen a falling loss has growing heights"

    page.get_by_label(re.compile("^number input for input i1")).fill("1")
    expect(equations).to_contain_text("Update 1 Press Step")
    step.click()
    expect(equations).to_contain_text("= w1*i1 + w2*i2 = 0.15*1 + 0.2*0.1")


def overlapping(network):
    """The pairs of labels in the drawing that lie on each other."""
    return network.evaluate(
        """(network) => {
          const labels = [...network.querySelectorAll("text")].filter((label) => label.textContent);
          const boxes = labels.map((label) => label.getBoundingClientRect());
          const on = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 0
            && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 0.3 * a.height;
          return labels.flatMap((label, i) => labels.slice(i + 1)
            .filter((_, j) => on(boxes[i], boxes[i + 1 + j]))
            .map((other) => [label.textContent, other.textContent]));
        }"""
    )


def points_of_curve(page, at_least=2):
    """The heights of the loss curve's points on the screen, 0 at the top."""
    line = page.locator("#loss .mark-line path")
    page.wait_for_function(
        "n => (document.querySelector('#loss .mark-line path')?.getAttribute('d') || '')"
        ".split(/[ML]/).length > n",
        arg=at_least,
    )
    return [float(point.split(",")[1]) for point in re.split("[ML]", line.get_attribute("d"))[1:]]


def test_a_person_draws_a_seven(page, nothing_left):
    from playwright.sync_api import expect

    opened(page, "Draw a digit")
    paper, answer = page.locator("#paper canvas"), page.locator("#answer")
    draw(page, paper, SEVEN)
    expect(answer.get_by_role("heading")).to_have_text("7")
    expect(answer).to_contain_text(re.compile(r"(\d+%[^%]*){10}"))
    shares = [int(text.removesuffix("%")) for text in re.findall(r"\d+%", answer.inner_text())]
    assert len(shares) == 10
    assert shares[0] > 50
    assert abs(sum(shares) - 100) <= 5
    expect(page.locator("#seen img")).to_be_visible()
    page.get_by_role("button", name="Clear").click()
    expect(answer).not_to_contain_text("%")


def draw(page, paper, corners):
    """A line through the corners, by finger on a phone, by mouse elsewhere."""
    paper.scroll_into_view_if_needed()
    box = paper.bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    if not page.evaluate("navigator.maxTouchPoints"):
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=10)
        page.mouse.up()
        return
    finger = page.context.new_cdp_session(page)

    def touch(kind, *points):
        finger.send(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]}
        )

    touch("touchStart", places[0])
    for (x1, y1), (x2, y2) in itertools.pairwise(places):
        for part in range(1, 11):
            touch("touchMove", (x1 + (x2 - x1) * part / 10, y1 + (y2 - y1) * part / 10))
    touch("touchEnd")


def test_a_person_looks_at_the_run(page, default_run):
    from playwright.sync_api import expect

    labels = data.load("tiny_mnist", str(default_run / "data")).test.labels
    opened(page, "The run")
    title = page.get_by_role("heading", name=re.compile("of the test images correct"))
    accuracy = float(re.search(r"([\d.]+)%", title.inner_text()).group(1)) / 100
    assert accuracy > 0.8
    rows = page.locator("#confusion tr")
    expect(rows).to_have_count(11)
    expect(rows.locator("td")).to_have_count(100)
    cells = [[int(cell or 0) for cell in row.locator("td").all_inner_texts()] for row in rows.all()[1:]]
    assert [sum(row) for row in cells] == np.bincount(labels).tolist()
    right = sum(cells[digit][digit] for digit in range(10))
    assert right == round(500 * accuracy)
    captions = page.locator("#misclassified figcaption")
    expect(captions).to_have_count(min(100, 500 - right))
    for caption in captions.all_inner_texts():
        assert re.fullmatch(r"(\d) → (?!\1)\d", caption)
    expect(page.locator(".mark-line path").first).to_be_attached()


@pytest.mark.slow
def test_without_a_run_the_page_says_how_to_make_one_and_ctrl_c_ends_it(chromium, tmp_path, capsys):
    from playwright.sync_api import expect

    with served(tmp_path, run=None) as demo:
        page = chromium.new_page()
        page.set_default_timeout(NEVER)
        page.goto(demo.address)
        for tab in ("Draw a digit", "The run"):
            opened(page, tab).get_by_text("python launch.py --task=mnist --workdir=runs/mine").locator(
                "visible=true"
            ).wait_for()
        expect(opened(page, "Design a network").locator("#summary")).to_contain_text("24 left")
        assert launch.main(["launch.py", "--task=demo", f"--port={urlsplit(demo.address).port}"]) == 2
        said = capsys.readouterr().err
        assert re.fullmatch(r"launch.py: --port=\d+ cannot be used \(.*\): give another one\n", said)
        page.close()
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.communicate(timeout=NEVER / 1000) == ("", "launch.py: interrupted\n")
        assert demo.process.returncode == 130
