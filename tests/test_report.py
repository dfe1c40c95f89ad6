import base64
import json
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from matplotlib.figure import Figure

from harness.report import write_report
from harness.workdir import save_figure, write_csv, write_json

VOID = {"meta", "img", "wbr", "link", "br", "hr", "input"}
HOSTILE = "</title></td><script>alert('1')</script>\"&<img src=http://example.com/x onerror=alert(1)>"


class Page(HTMLParser):
    """A page taken apart: tags, attributes, text; every element is closed in its turn."""

    def __init__(self, file):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(file.read_text())
        self.close()
        assert self.open == []
        self.text = "".join(self.words)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def values(self, tag, name):
        return [value for *place, value in self.attributes if place == [tag, name]]


def leaves(content):
    """All plain values of a JSON value."""
    if isinstance(content, dict):
        return [leaf for value in content.values() for leaf in leaves(value)]
    if isinstance(content, list):
        return [leaf for value in content for leaf in leaves(value)]
    return [content]


def check(folder):
    """One file, nothing from elsewhere, links to files beside it, all of summary.json in it."""
    page = Page(folder / "report.html")
    assert (folder / "report.html").read_text().startswith("<!DOCTYPE html>\n")
    assert page.tags.count("h1") == page.tags.count("title") == 1
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert all(value.startswith("data:image/") for value in page.values("img", "src"))
    assert all(page.values("img", "alt"))
    assert not [
        name for _, name, _ in page.attributes if name.startswith("on") or name in ("style", "srcset")
    ]
    links = page.values("a", "href")
    assert {Path(folder, unquote(link)) for link in links} == {
        file for file in folder.iterdir() if file.is_file() and file.name not in ("report.html", ".lock")
    }
    assert not any(":" in link or "/" in link for link in links)
    style = page.text[page.text.index("body {") :]
    assert "url(" not in style.split("<h1>")[0]
    assert "@import" not in style
    numbers = [float(value) for value in page.values("data", "value")]
    for leaf in leaves(json.loads((folder / "summary.json").read_text())):
        if isinstance(leaf, float):
            assert leaf in numbers
        elif not isinstance(leaf, bool) and leaf is not None:
            assert str(leaf) in page.text
    return page


@pytest.fixture
def folder(tmp_path):
    write_json(tmp_path / "summary.json", {"accuracy": 0.123456789, "epochs": 3, "first": None, "good": True})
    starts = [{"git_commit": "abc", "versions": {"jax": "0.7.2"}}]
    write_json(tmp_path / "config.json", {"flags": {"lrs": [0.1, 2e-7], "model": "m"}, "starts": starts})
    write_csv(tmp_path / "metrics.csv", ["epoch", "loss"], [[1, 1 / 3], [2, 1e-9]])
    (tmp_path / ".lock").touch()
    figure = Figure()
    figure.subplots().plot([1, 2])
    save_figure(tmp_path, "curves", lambda: figure)
    return tmp_path


def test_a_report_is_one_page_with_everything(folder):
    write_report(folder, "A run", figures=["curves"], tables=["metrics"], labels={})
    page = check(folder)
    assert page.values("data", "value") == ["0.123456789", repr(1 / 3), "1e-09", "0.1", "2e-07"]
    for words in ("A run", "12.35 %", "0.333333", "none", "yes", "2e-07", "git_commit", "abc", "jax 0.7.2"):
        assert words in page.text
    assert page.values("meta", "name") == ["viewport"]


def test_a_person_reads_words_and_per_cent_the_important_first(folder):
    labels = {
        "final_test_accuracy": "test accuracy after the last epoch",
        "test_accuracy": "on the test images",
    }
    row = {"final_test_accuracy": 1.0, "seed": 3}
    summary = {"images_per_second": 4104.2, "final_test_accuracy": 0.9972, "accuracy_std": 0.00046}
    write_json(folder / "summary.json", summary | {"seeds": [row]})
    write_csv(folder / "metrics.csv", ["epoch", "train_loss", "test_accuracy"], [[1, 0.25, 0.98]])
    write_report(folder, "A run", figures=["curves"], tables=["metrics"], labels=labels)
    page = check(folder)
    shown = " ".join(page.text.split("Configuration")[0].split("Summary")[1].replace("\n", " ").split())
    for words in (
        "test accuracy after the last epoch99.72 % images per second4104.2 accuracy std0.046 %",
        "seeds test accuracy after the last epochseed 100.00 %3",
        "epochtrain losson the test images 10.2598.00 %",
    ):
        assert words in shown, shown
    assert "flags" in page.text
    assert "final_test_accuracy" not in page.text


def test_the_smaller_picture_is_embedded(folder):
    for large, small in (("png", "svg"), ("svg", "png")):
        (folder / f"curves.{large}").write_bytes(b"x" * 100)
        (folder / f"curves.{small}").write_bytes(b"x" * 99)
        write_report(folder, "A run", figures=["curves"], tables=[], labels={})
        (source,) = Page(folder / "report.html").values("img", "src")
        assert source.startswith(f"data:image/{small}")
        assert base64.b64decode(source.partition("base64,")[2]) == b"x" * 99


def test_nested_values_stand_under_a_heading(folder):
    summary = {
        "frontier": {"rates": 4, "outcomes": {"still falling": 0.5}},
        "claims": [{"holds": False, "why": "x"}],
    }
    write_json(folder / "summary.json", summary)
    write_report(folder, "A run", figures=[], tables=[], labels={})
    page = check(folder)
    for words in ("frontier: outcomes", "still falling", "claims", "holds", "no"):
        assert words in page.text


def test_hostile_strings_stay_text(folder):
    (folder / 'a"b<c>&:.csv').write_text("x")
    (folder / "javascript:alert(1)").write_text("x")
    content = {
        HOSTILE: HOSTILE,
        "list": [HOSTILE],
        "table": [{HOSTILE: HOSTILE}],
        "object": {HOSTILE: {HOSTILE: 1}},
    }
    write_json(folder / "summary.json", content)
    write_json(folder / "config.json", content)
    write_csv(folder / "metrics.csv", [HOSTILE], [[HOSTILE]])
    write_report(folder, HOSTILE, figures=["curves"], tables=["metrics"], labels={})
    page = check(folder)
    assert page.text.count(HOSTILE) >= 14
