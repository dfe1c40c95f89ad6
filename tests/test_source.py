"""Nothing in the project's code can run what it reads."""

import ast
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


def sources():
    folders = ("audit", "backprop", "cnn", "demo", "harness", "benchmarks")
    files = [*ROOT.glob("*.py"), *(file for folder in folders for file in (ROOT / folder).rglob("*.py"))]
    return [file.relative_to(ROOT).as_posix() for file in files]


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
