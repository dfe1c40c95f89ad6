"""BUILD.md explains every package that the project asks for; constraints.txt pins them and all they bring."""

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = [
    requirement
    for text in chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    if (requirement := Requirement(text)).name != PROJECT["name"]
]
PINS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
]
"""A line that names an index, an option or a file is no requirement: reading it fails."""
CUDA = ("nvidia-", "cuda-", "triton")


def names(requirements: list[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements}


def installed_tree(roots: list[Requirement]) -> set[str]:
    """The names of what is installed here because of `roots`, by the packages' own metadata."""
    found: dict[str, set[str]] = {}
    left = list(roots)
    while left:
        requirement = left.pop()
        name, extras = canonicalize_name(requirement.name), {"", *requirement.extras}
        if extras <= found.get(name, set()):
            continue
        try:
            brought = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            continue
        found.setdefault(name, set()).update(extras)
        left += [
            each
            for each in brought
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras)
        ]
    return set(found)


def test_build_md_has_a_line_for_each_direct_dependency_and_no_other():
    table = (
        (ROOT / "BUILD.md").read_text().split("## Dependencies, and why each is there")[1].split("\n## ")[0]
    )
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", table, re.MULTILINE)
    explained = [canonicalize_name(name) for row in rows for name in row.split(", ") if set(row) != {"-"}]
    explained.remove("package")
    assert sorted(explained) == sorted(names(DIRECT))


def test_what_is_pinned_is_one_version_from_the_users_own_index():
    for pin in PINS:
        assert pin.url is None
        assert [(each.operator, "*" in each.version) for each in pin.specifier] == [("==", False)], str(pin)


def test_all_that_the_project_brings_is_pinned():
    active = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate()]
    pinned = names(active)
    assert len(pinned) == len(active)
    tree = installed_tree(DIRECT)
    assert {"jax", "jaxlib", "numpy", "packaging", "pytest"} <= tree
    needed = names(DIRECT) | tree
    if sys.version_info < (3, 12):  # there, torch was tested without CUDA
        needed = {name for name in needed if not name.startswith(CUDA)}
    assert sorted(needed - pinned) == []
