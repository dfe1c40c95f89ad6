"""The documents: every command in them parses, every file that they name is there."""

import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest

import launch
from cnn.config import CnnConfig
from harness.workdir import write_config
from tests.audit.notebook.written import WHOLE, write

ROOT = Path(__file__).parents[1]
TEXTS = {
    name: (ROOT / name).read_text()
    for name in ("README.md", "BUILD.md", "CONTRIBUTING.md", "docs/results.md")
}


def commands(program: str) -> list[str]:
    """What stands behind a program's name, up to the end of its line or of its code."""
    found = [
        command.split("#")[0].strip()
        for text in TEXTS.values()
        for command in re.findall(rf"(?:^    |[`.] *){program} ([^`\n]+)", text, re.MULTILINE)
    ]
    return sorted({*found})


@pytest.fixture
def named_files(tmp_path, monkeypatch):
    """The working folder holds what the documents name as somebody's files."""
    for folder in ("RUN", "OTHER", "DIR"):
        (tmp_path / folder).mkdir()
    write_config(tmp_path / "RUN", "mnist", CnnConfig(model="bn_4k"), device="none")
    write(tmp_path, *WHOLE).rename(tmp_path / "theirs.ipynb")
    (tmp_path / "mine.txt").write_text("conv 10 3x3, global average pool")
    images, labels = np.arange(4 * 28 * 28).reshape(4, 28, 28) % 256, np.arange(4) % 2
    np.savez(tmp_path / "mine.npz", x_train=images, y_train=labels, x_test=images[::-1], y_test=labels)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("line", commands("python launch.py"))
def test_a_command_line_is_understood(line, named_files, capsys):
    if line == "--help":
        with pytest.raises(SystemExit, match="0"):
            launch.parse(["launch.py", line])
        return
    task, config = launch.parse(["launch.py", *shlex.split(line)])
    assert isinstance(config, launch.CONFIGS[task]())


def test_a_module_that_is_run_is_there():
    modules = {line.split()[0] for line in commands("python -m")}
    assert {"benchmarks.train", "tests.crash", "pytest"} <= modules
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []


def test_a_target_of_make_is_there():
    targets = {line.split()[0] for line in commands("make")}
    assert {"run", "test", "lint"} <= targets
    makefile = (ROOT / "Makefile").read_text()
    assert [target for target in targets if f"\n{target}:" not in makefile] == []


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_that_is_named_is_there(name):
    links = re.findall(r"\]\(([^):]+)\)", TEXTS[name])
    paths = re.findall(r"\b((?:\w+/)+\w+\.(?:py|ipynb|csv|png))\b", TEXTS[name])
    assert links or paths
    missing = [link for link in links if not (ROOT / name).parent.joinpath(link).exists()]
    missing += [path for path in paths if not (ROOT / path).exists()]
    assert missing == []


def test_the_house_is_as_it_is_drawn():
    """A line at the left of BUILD.md's tree begins a package, or names files of the root."""
    tree = TEXTS["BUILD.md"].split("## The house")[1].split("\n## ")[0]
    packages = re.findall(r"^    (\w+)/(.*(?:\n     .*)*)", tree, re.MULTILINE)
    assert {package for package, _ in packages} >= {"harness", "backprop", "cnn", "audit", "demo"}
    named = [(package, name) for package, lines in packages for name in re.findall(r"\b\w+\.py\b", lines)]
    assert [(package, name) for package, name in named if not [*(ROOT / package).rglob(name)]] == []


def test_the_citation_is_of_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {project['version']}\n" in citation
    assert f"\nlicense: {project['license'].split(' AND ')[0]}\n" in citation  # the images' is another
