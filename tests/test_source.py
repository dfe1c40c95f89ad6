"""Nothing in the project's code can run what it reads."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "yaml.load",
    "torch.load",
}
ALLOWED = {
    ("backprop/equations.py", "eval"),  # of arithmetic alone, checked node by node
    ("backprop/equations.py", "compile"),
}


def dangers(source):
    """The calls and imports through which text or bytes become running code."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from {name.name.split(".")[0] for name in names} & FORBIDDEN_MODULES
            case ast.ImportFrom(module=str(module)):
                yield from {module.split(".")[0]} & FORBIDDEN_MODULES
            case ast.Call(func=func, keywords=keywords):
                if ast.unparse(func) in FORBIDDEN_CALLS:
                    yield ast.unparse(func)
                for keyword in keywords:
                    if keyword.arg in ("allow_pickle", "shell") and ast.unparse(keyword.value) != "False":
                        yield keyword.arg


PACKAGES = {
    file.parent.relative_to(ROOT).as_posix().replace("/", ".")
    for file in ROOT.glob("*/**/__init__.py")
    if not any(part.startswith(".") for part in file.relative_to(ROOT).parts)
}
"""Every package beside launch.py, with what is in it."""
OF_THE_PROJECT = {name for name in PACKAGES if name.split(".")[0] not in ("tests", "benchmarks")}


def sources():
    folders = {name.split(".")[0] for name in PACKAGES} - {"tests"}
    files = [*ROOT.glob("*.py"), *(file for folder in folders for file in (ROOT / folder).rglob("*.py"))]
    return [file.relative_to(ROOT).as_posix() for file in files]


def test_every_package_is_installed_typed_and_held_to_contracts():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    outermost = {name for name in OF_THE_PROJECT if "." not in name}
    assert {"audit", "backprop", "cnn", "demo", "harness"} <= outermost
    assert set(project["setuptools"]["packages"]) == OF_THE_PROJECT
    assert set(project["mypy"]["packages"]) == outermost | {"benchmarks"}
    contracts = project["importlinter"]
    assert set(contracts["root_packages"]) == outermost
    exhaustive = {
        name for each in contracts["contracts"] if each.get("exhaustive") for name in each["containers"]
    }
    assert exhaustive >= OF_THE_PROJECT - {"harness"}, "a package's layers have no contract"


def test_no_file_of_the_project_runs_what_it_reads():
    names = sources()
    assert "audit/spreadsheet/reading.py" in names
    found = {(name, danger) for name in names for danger in dangers((ROOT / name).read_text())}
    assert found == ALLOWED


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from shelve import open",
        "import marshal as m",
        "eval(text)",
        "os.system(text)",
        "np.load(file, allow_pickle=True)",
        "subprocess.run(text, shell=True)",
        "subprocess.run(text, shell=flag)",
        "yaml.load(text)",
    ],
)
def test_each_danger_is_found(text):
    assert list(dangers(text))
