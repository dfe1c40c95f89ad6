"""colab.ipynb, run top to bottom as Colab's "Run all" does."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parents[1]
NOTEBOOK = nbformat.read(ROOT / "colab.ipynb", as_version=4)
SHORT = {
    "BACKPROP_FLAGS": "--lrs=0.5,2.0 --epochs=20 --frontier_rates=100 --frontier_epochs=50",
    "MNIST_FLAGS": "--model=plain_4k --epochs=1 --validation_size=59000",
}
# From Colab's own list of what its runtimes bring: googlecolab/backend-info, pip-freeze.gpu.txt, June 2026.
COLAB = (
    "absl-py==1.4.0 ipykernel==6.17.1 ipython==7.34.0 jax==0.7.2 jaxlib==0.7.2 numpy==2.0.2 matplotlib==3.10"
)
COLAB_FLAX = "flax==0.11.2 optax==0.2.8 orbax-checkpoint==0.12.0 protobuf==5.29.6 tensorflow-datasets==4.9.10"


def run_all(settings: dict[str, str], folder: Path, kernel: str = "python3", skip: str = "none") -> list:
    """Every output of the notebook, run in `folder`; a command that fails is an error, too."""
    notebook = nbformat.from_dict(NOTEBOOK)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags:
            for name, value in settings.items():
                pattern = rf'^{name} = "[^"]*"'
                cell.source, found = re.subn(pattern, f'{name} = "{value}"', cell.source, flags=re.MULTILINE)
                assert found == 1, name
        if cell.cell_type == "code":
            cell.source = "" if skip in tags else f"{cell.source}\nassert globals().get('_exit_code', 0) == 0"
    NotebookClient(
        notebook, kernel_name=kernel, timeout=600, resources={"metadata": {"path": str(folder)}}
    ).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def text(outputs: list) -> str:
    return "".join(
        output.get("text", "") + output.get("data", {}).get("text/markdown", "") for output in outputs
    )


def shows_both_runs(outputs: list, runs: Path) -> None:
    """The figures in the notebook are the files of the runs; so are the words."""
    pictures = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    files = ["backprop/loss_all", "backprop/frontier"]
    files += ["mnist/curves", "mnist/confusion", "mnist/misclassified"]
    assert list(map(base64.b64decode, pictures)) == [(runs / f"{file}.png").read_bytes() for file in files]
    summary = json.loads((runs / "mnist/summary.json").read_text())
    (page,) = (output.data["text/html"] for output in outputs if "text/html" in output.get("data", {}))
    accuracy = f"{summary['final_test_accuracy']:.2%}".removesuffix("%")
    assert re.search(f"test accuracy after the last epoch</th><td><data [^>]*>{accuracy} %<", page)
    assert "<h2>Figures" not in page
    for claim in json.loads((runs / "backprop/summary.json").read_text())["claims"]:
        assert f"**{claim['claim']}**" in text(outputs)


@pytest.fixture
def this_python_first(monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)


def test_it_is_kept_without_outputs():
    nbformat.validate(NOTEBOOK)
    code = [cell for cell in NOTEBOOK.cells if cell.cell_type == "code"]
    assert code
    for cell in code:
        assert (cell.outputs, cell.execution_count) == ([], None)


def test_it_says_no_time_that_another_document_says():
    words = "\n".join(cell.source for cell in NOTEBOOK.cells if cell.cell_type == "markdown")
    assert re.findall(r"\d+ (?:s|seconds|min|minutes|h|hours)\b", words) == []


@pytest.mark.slow
def test_run_all_beside_launch_py(small, tmp_path, this_python_first):
    """Without the cell that installs: that is for the next test but one, which needs a package index."""
    few = {"MNIST_FLAGS": " ".join(["--model=plain_4k", "--epochs=1", *small]), "RUNS": str(tmp_path)}
    outputs = run_all(SHORT | few, ROOT, skip="install")
    shows_both_runs(outputs, tmp_path)
    assert "CpuDevice(id=0)" in text(outputs)


def test_without_the_project_it_asks_for_its_address(tmp_path):
    with pytest.raises(CellExecutionError, match="Fill in REPOSITORY above"):
        run_all({}, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("flax", [COLAB_FLAX, ""], ids=["with_flax", "newest_flax_wants_a_newer_jax"])
def test_run_all_on_colabs_packages_changes_none_of_them(flax, tmp_path, monkeypatch):
    """From an empty folder: it clones, installs, runs, and the second time resumes."""
    origin, content, environment = (tmp_path / name for name in ("origin", "content", "environment"))
    content.mkdir()
    tracked = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")[:-1]
    for file in tracked:
        (origin / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, origin / file)
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
        subprocess.run(["git", *who, *command], cwd=origin, check=True)
    find = [
        "make",
        "--silent",
        "which",
        "VERSIONS=3.12 3.11",
    ]  # Colab's; its NumPy has no wheel for newer ones
    base = subprocess.check_output(find, cwd=ROOT, text=True).strip()
    subprocess.run([base, "-m", "venv", environment], check=True)
    python = environment / "bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", *COLAB.split(), *flax.split()], check=True)
    before = installed(python)

    kernel = tmp_path / "jupyter/kernels/colab/kernel.json"
    kernel.parent.mkdir(parents=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": argv, "display_name": "Colab", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("PATH", str(python.parent), prepend=os.pathsep)
    settings = SHORT | {"REPOSITORY": origin.as_uri()}
    shows_both_runs(run_all(settings, content, kernel="colab"), content / "project/runs")
    after = installed(python)
    assert before < after
    assert any(package.startswith("jaxtyping==") for package in after - before)
    again = run_all(settings, content, kernel="colab")
    assert "restored the checkpoint after epoch 1" in text(again)
    assert installed(python) == after


def installed(python: Path) -> set[str]:
    command = [python, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"]
    return set(subprocess.check_output(command, text=True).split())
