"""BUILD.md explains every package that the project asks for; the locks pin them and all they bring."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = [
    requirement
    for text in chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    if (requirement := Requirement(text)).name != PROJECT["name"]
]
LOCKS = {
    name: {
        Requirement(pin.strip()): hashes.split()
        for pin, hashes in re.findall(
            r"^(\S.*?)((?: \\\n    .*)*)\n", (ROOT / name).read_text(), re.MULTILINE
        )
    }
    for name in ("requirements.lock", "requirements-tests.lock")
}
"""A line that names an index, an option or a file is no requirement: reading it fails."""
NOT_LOCKED = {"torch", "libtpu"}  # which no command of the Makefile but test-torch installs


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


@pytest.mark.parametrize("lock", LOCKS)
def test_what_is_locked_is_one_version_with_hashes_from_the_users_own_index(lock):
    for pin, hashes in LOCKS[lock].items():
        assert pin.url is None
        assert [(each.operator, "*" in each.version) for each in pin.specifier] == [("==", False)], str(pin)
        found = [each for each in hashes if each != "\\"]
        assert found, str(pin)
        assert all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", each) for each in found), str(pin)


def test_both_locks_agree():
    run, tests = LOCKS.values()
    assert run.items() <= tests.items()


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize(
    ("platform", "machine"), [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")]
)
def test_all_that_the_project_asks_for_is_locked_on_each_python_and_machine(version, platform, machine):
    place = {"python_version": version, "python_full_version": f"{version}.1"}
    place |= {"sys_platform": platform, "platform_machine": machine}
    active = [
        pin for pin in LOCKS["requirements-tests.lock"] if pin.marker is None or pin.marker.evaluate(place)
    ]
    assert len(names(active)) == len(active)
    assert names(DIRECT) - names(active) == NOT_LOCKED
    for package in active:
        assert package.name != "jax" or package.specifier.contains("0.10.1") == (version == "3.11")


@pytest.mark.parametrize("lock", LOCKS)
def test_all_that_this_brings_here_is_locked(lock):
    roots = DIRECT if lock == "requirements-tests.lock" else list(map(Requirement, PROJECT["dependencies"]))
    tree = installed_tree([root for root in roots if root.name not in NOT_LOCKED])
    assert {"jax", "jaxlib", "numpy"} <= tree
    assert (
        sorted(tree - names([pin for pin in LOCKS[lock] if pin.marker is None or pin.marker.evaluate()]))
        == []
    )
