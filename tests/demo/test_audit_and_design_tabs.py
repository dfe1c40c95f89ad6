"""A spreadsheet checked and a network designed in a real browser, on a desktop and on a phone."""

import base64
import inspect
import re
import shutil
from pathlib import Path

import openpyxl
import pytest

from audit.spreadsheet.verdict import audit_file
from cnn.architecture import Architecture, count_parameters
from cnn.text import parse
from cnn.zoo import ZOO
from demo.bounded import MOST_BYTES
from tests.audit.notebook.test_verdict import PARAMETERS, submission
from tests.audit.spreadsheet import hostile
from tests.demo.conftest import NEVER, opened

pytestmark = pytest.mark.browser

WORKBOOKS = Path(__file__).parents[1] / "audit" / "spreadsheet" / "workbooks"


def drop(page, file, area="#workbook"):
    """Let a file fall on the tab, as a mouse does; a phone chooses it."""
    if page.evaluate("navigator.maxTouchPoints"):
        page.locator(f"{area} input").set_input_files(file)
        return
    content = base64.b64encode(file.read_bytes()).decode()
    dropped = page.evaluate_handle(
        """([name, content]) => {
          const carried = new DataTransfer();
          carried.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name));
          return carried;
        }""",
        [file.name, content],
    )
    page.locator(f"{area} label").dispatch_event("drop", {"dataTransfer": dropped})


def test_the_heading_says_what_each_tab_is_for(page):
    from playwright.sync_api import expect

    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("Back-propagation by hand, and MNIST under a budget")
    tabs = ["By hand", "Check a spreadsheet", "Design a network", "Draw a digit", "The run"]
    expect(page.get_by_role("tab")).to_have_text(tabs)
    for tab in tabs:
        expect(page.locator("p > strong", has_text=tab)).to_be_visible()


def test_a_wrong_spreadsheet_is_dropped_and_its_marked_copy_taken_home(page, nothing_left, tmp_path):
    from playwright.sync_api import expect

    file = WORKBOOKS / "10b_times_t.xlsx"
    finding = audit_file(file).tables[0].findings[0]
    cell = finding.cells[0]
    drop(opened(page, "Check a spreadsheet"), file)
    answer = page.locator("#audit")
    expect(answer.get_by_role("heading", level=3)).to_have_text("10b_times_t.xlsx: WRONG")
    for shown in (cell.address, cell.formula, cell.should_be, cell.right_formula, finding.mistake):
        expect(answer).to_contain_text(shown)
    with page.expect_download() as download:
        answer.get_by_role("link", name="Download the marked copy").click()
    assert download.value.suggested_filename == "10b_times_t.audited.xlsx"
    download.value.save_as(tmp_path / "copy.xlsx")
    _, sheet, *_ = openpyxl.load_workbook(tmp_path / "copy.xlsx").worksheets  # after the summary
    comment = sheet[cell.address].comment
    assert comment.text.startswith("The first wrong cell. Right: ")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]

    drop(page, WORKBOOKS / "00_right.xlsx")
    expect(answer.get_by_role("heading", level=3)).to_have_text("00_right.xlsx: RIGHT")
    expect(answer.get_by_role("link")).to_have_count(0)


def test_what_cannot_be_audited_gets_one_line(page, tmp_path):
    from playwright.sync_api import expect

    opened(page, "Check a spreadsheet")
    line = page.locator("#audit .refused")
    macros = tmp_path / "macros.xlsx"
    macros.write_bytes(hostile.of_macro_type())
    drop(page, macros)
    expect(line).to_have_text(audit_file(macros).refused)

    huge = tmp_path / "huge.csv"
    huge.write_bytes(b"1,2\n" * (MOST_BYTES // 4 + 1))
    drop(page, huge)
    expect(line).to_contain_text("huge.csv is too large (5.0 MB): give a file of at most 5 MB")

    name = "<img src=x onerror=alert(1)> {{value}} ${1 + 1} {{#if value}}.csv"
    odd = tmp_path / name
    odd.write_bytes(b"a,b\n1,2\n")
    drop(page, odd)
    expect(line).to_contain_text(f"{name} holds no back-propagation table")
    assert page.locator("#audit img").count() == 0


def test_a_file_cannot_be_left_with_the_page(chromium, address, nothing_left):
    context = chromium.new_context()
    file = {"name": "a.xlsx", "mimeType": "application/octet-stream", "buffer": b"1,2"}
    answer = context.request.post(f"{address}gradio_api/upload", multipart={"files": file}, timeout=NEVER)
    assert answer.status == 404
    context.close()


def test_a_slow_file_keeps_nobody_waiting(pages, trained_page, tmp_path):
    from playwright.sync_api import expect

    book = openpyxl.Workbook()
    book.active["A1"] = "=1+1"  # without its value, which LibreOffice would compute
    book.save(tmp_path / "slow.xlsx")
    shutil.copy(WORKBOOKS / "00_right.xlsx", tmp_path / "quick.xlsx")
    patient, quick = (opened(pages[screen].page, "Check a spreadsheet") for screen in ("phone", "desktop"))
    with trained_page.programs.held():
        drop(patient, tmp_path / "slow.xlsx")
        trained_page.programs.wait()
        drop(quick, tmp_path / "quick.xlsx")
        expect(quick.locator("#audit h3")).to_have_text("quick.xlsx: RIGHT")
        expect(patient.locator("#workbook b")).to_have_text("slow.xlsx is being read")
    expect(patient.locator("#audit .refused")).to_contain_text("slow.xlsx")
    expect(patient.locator("#audit .refused")).to_contain_text("LibreOffice could not compute it")
    expect(patient.locator("#workbook b")).to_have_text("Drop a spreadsheet here, or press to choose one")


def test_a_network_is_designed(page):
    """Before a notebook is dropped: the text is the one that the page begins with."""
    from playwright.sync_api import expect

    opened(page, "Design a network")
    layers, problem = page.locator("#layers textarea"), page.locator("#problem")
    summary, command = page.locator("#summary"), page.locator("#command textarea")
    expect(layers).to_have_value(inspect.cleandoc(ZOO["compact_20k"].layers))
    expect(summary).to_contain_text("19,975 parameters of fewer than 20,000: 24 left")

    layers.fill("conv 16 3x3, ReLU\nbach norm\ndense 10")
    expect(problem).to_contain_text("'bach' (line 2, column 1) is not a layer (did you mean batch norm?)")
    expect(problem.locator("mark")).to_have_text("bach")
    assert problem.bounding_box()["y"] >= layers.bounding_box()["y"] + layers.bounding_box()["height"]
    expect(summary.locator("table")).to_have_count(0)
    expect(command).to_have_value("")

    right = "conv 16 5x5, ReLU, max pool, conv 12 3x3, global average pool, dense 10 bias"
    layers.fill("")
    layers.press_sequentially(right)
    count = count_parameters(Architecture(parse(right)))
    expect(summary).to_contain_text(f"{count:,} parameters of fewer than 20,000: {19_999 - count:,} left")
    row = summary.locator("tr", has_text="conv 12 3x3")
    expect(row.locator("td")).to_have_text(["conv 12 3x3", "10x10x12", "1,728", "10"])
    expect(command).to_have_value(f"python launch.py --task=mnist --layers='{right}'")
    expect(problem.locator("p")).to_have_count(0)

    layers.fill("dense 100, dense 10")
    expect(problem).to_contain_text("79,400 parameters, the budget is fewer than 20,000")
    expect(summary).to_contain_text("59,401 too many")
    expect(command).to_have_value("")

    page.get_by_label("start with a network of the zoo").click()
    page.get_by_role("option", name="deep_15k").click()
    expect(layers).to_have_value(inspect.cleandoc(ZOO["deep_15k"].layers))
    expect(summary).to_contain_text("15,738 parameters")
    expect(command).to_have_value(re.compile("' --recipe=deep_15k$"))


def test_a_notebook_is_dropped_and_its_network_appears(page, nothing_left, tmp_path):
    from playwright.sync_api import expect

    opened(page, "Design a network")
    layers, read = page.locator("#layers textarea"), page.locator("#read")
    summary, command = page.locator("#summary"), page.locator("#command textarea")
    drop(page, submission(tmp_path), "#notebook")
    expect(read).to_contain_text(f"submission.ipynb: class Net, {PARAMETERS:,} parameters")
    expect(read).to_contain_text("best 99.42 %, last 99.42 %")
    recipe = "--recipe=plain_4k --epochs=15 --batch_size=64"
    expect(read.locator("code")).to_have_text(recipe)
    text = "conv 8 3x3, batch norm, ReLU, dropout 0.05, conv 16 3x3, batch norm, ReLU, max pool 2x2, "
    text += "conv 16 3x3, batch norm, ReLU, conv 10 1x1 bias, global average pool"
    expect(layers).to_have_value(text.replace(", ", "\n"))
    expect(summary).to_contain_text(f"{PARAMETERS:,} parameters of fewer than 20,000")
    expect(summary.locator("tr", has_text="max pool").locator("td")).to_have_text(
        ["max pool 2x2", "12x12x16", "0", "6"]
    )
    expect(command).to_have_value(f"python launch.py --task=mnist --layers='{text}' {recipe}")
    expect(page.get_by_label("start with a network of the zoo")).to_have_value("")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]

    strange = tmp_path / "<img src=x onerror=alert(1)>.ipynb"
    strange.write_text("{")
    drop(page, strange, "#notebook")
    expect(read.locator(".problem")).to_contain_text(f"{strange.name} is damaged or no notebook")
    expect(read.locator("img")).to_have_count(0)
    expect(layers).to_have_value(text.replace(", ", "\n"))

    huge = tmp_path / "huge.ipynb"
    huge.write_bytes(bytes(MOST_BYTES + 1))
    drop(page, huge, "#notebook")
    expect(read).to_contain_text("huge.ipynb is too large (5.0 MB): give a file of at most 5 MB")
