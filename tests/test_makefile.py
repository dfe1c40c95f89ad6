"""Which Python the Makefile takes, and what it tells pip. The Pythons here are scripts; make is real."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FAKE = """#!/bin/sh
case "$*" in
  *ensurepip*) exit {starts} ;;
  *sys.version_info*) echo {version} ;;
  "-m venv"*) rm -rf "$4" && mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
  *) echo "$@" >> {log}; case "$*" in *{fails}*) echo "{error}" >&2; exit 1 ;; esac ;;
esac
"""
TOOLS = ("awk", "cat", "cp", "grep", "make", "mkdir", "rm", "sed", "sh", "touch")

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


class Machine:
    """A PATH, a home and a .venv of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log, self.venv = folder, folder / "pip.log", folder / "venv"
        (folder / "bin").mkdir()
        for tool in TOOLS:
            (folder / "bin" / tool).symlink_to(shutil.which(tool))

    def add(self, version, *, pyenv=False, starts=True, fails="nothing", error=""):
        minor = version.rpartition(".")[0]
        place = f".pyenv/versions/{version}/bin" if pyenv else "bin"
        file = self.folder / place / f"python{minor}"
        file.parent.mkdir(parents=True, exist_ok=True)
        settings = {"version": version, "log": self.log, "starts": 0 if starts else 127}
        file.write_text(FAKE.format(fails=fails, error=error, **settings))
        file.chmod(0o755)

    def make(self, target, *flags):
        self.log.unlink(missing_ok=True)
        environment = {"PATH": str(self.folder / "bin"), "HOME": str(self.folder)}
        command = ["make", f"VENV={self.venv}", f"{self.venv}/{target}", *flags]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)

    def version(self):
        command = [self.venv / "bin/python", "-c", "sys.version_info"]
        return subprocess.check_output(command, text=True).strip()

    def asked(self):
        return self.log.read_text().splitlines()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("here", "taken"),
    [
        ([("3.11.9", {}), ("3.14.1", {}), ("3.12.1", {}), ("3.13.0", {})], "3.13.0"),
        ([("3.11.9", {}), ("3.14.1", {}), ("3.12.1", {})], "3.12.1"),
        ([("3.11.9", {}), ("3.14.1", {})], "3.14.1"),
        ([("3.11.9", {}), ("3.13.0", {"starts": False}), ("3.12.1", {"pyenv": True})], "3.12.1"),
        ([("3.13.0", {"starts": False}), ("3.13.2", {"pyenv": True}), ("3.12.1", {})], "3.13.2"),
        ([("3.11.9", {})], "3.11.9"),
    ],
)
def test_the_best_python_that_starts_is_taken(machine, here, taken):
    for version, how in here:
        machine.add(version, **how)
    done = machine.make("python")
    assert (done.returncode, done.stderr, machine.version()) == (0, "", taken)
    told = [line for line in done.stdout.splitlines() if "JAX" in line]
    assert len(told) == (taken == "3.11.9")


def test_a_named_python_wins(machine):
    machine.add("3.11.9")
    machine.add("3.13.0")
    done = machine.make("python", "PYTHON=python3.11")
    assert (done.returncode, done.stdout, machine.version()) == (0, "", "3.11.9")


def test_an_environment_of_another_python_is_made_anew(machine):
    machine.add("3.12.1")
    assert machine.make("run").returncode == 0
    assert machine.make("run").returncode == 0
    assert not machine.log.exists()  # nothing to do
    machine.add("3.13.0")
    assert machine.make("run").returncode == 0
    assert machine.version() == "3.13.0"
    assert machine.asked()


def test_the_locks_files_are_installed_then_the_project_alone(machine):
    machine.add("3.13.0")
    assert machine.make("run").returncode == 0
    *locked, project = machine.asked()
    assert [line.rpartition("--requirement ")[2] for line in locked] == [
        f"{machine.venv}/setuptools.lock",
        "requirements.lock",
    ]
    assert all("--require-hashes --no-deps" in line for line in locked)
    assert project.endswith("install --no-deps --no-build-isolation --editable .")
    first, *hashes = (machine.venv / "setuptools.lock").read_text().splitlines()
    assert first.startswith("setuptools==")
    assert hashes
    assert all(line.startswith("    --hash=sha256:") for line in hashes)


def test_where_an_index_has_other_files_the_same_versions_are_installed(machine):
    error = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."
    machine.add("3.13.0", fails="--require-hashes", error=error)
    done = machine.make("test")
    assert (done.returncode, done.stderr) == (0, "")
    said = "this index has other files. The same versions are installed, unchecked"
    locks = ("requirements.lock", "requirements-tests.lock")
    assert [line for line in done.stdout.splitlines() if said in line] == [
        f"{lock}: {said}" for lock in locks
    ]
    of_run, of_tests = (line for line in machine.asked() if "--require-hashes" not in line)
    assert of_run.endswith(f"--constraint {machine.venv}/versions --editable .")
    assert of_tests.endswith(f"--constraint {machine.venv}/versions --editable .[tests,lint]")
    versions = (machine.venv / "versions").read_text().splitlines()
    assert "tqdm==" in "\n".join(versions)
    assert not [line for line in versions if "hash" in line or "\\" in line]


def test_another_error_of_pip_is_shown_and_ends_it(machine):
    machine.add("3.13.0", fails="--require-hashes", error="ERROR: no network")
    done = machine.make("run")
    assert done.returncode == 2
    assert done.stderr.startswith("ERROR: no network\n")
    assert not (machine.venv / "run").exists()
