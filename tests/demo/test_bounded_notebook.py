"""Whatever notebook somebody drops, it is read in a process of its own, which leaves nothing."""

import multiprocessing.util
import os
import signal
import tempfile

import pytest

from cnn.architecture import Architecture, count_parameters
from cnn.text import parse
from demo import bounded_notebook
from tests.audit.notebook.test_verdict import CASES, PARAMETERS, submission
from tests.audit.notebook.written import IMPORTS, net, write


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where temporary files go; after the test no file is left there."""
    place = tmp_path / "temporary"
    place.mkdir()
    multiprocessing.util.get_temp_dir()  # it keeps the first one, and the path of a socket must be short
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield tmp_path
    assert [file for file in place.rglob("*") if file.is_file()] == []


def test_a_notebook_is_its_network_its_recipe_and_what_the_audit_says(folder):
    file = submission(folder)
    found = bounded_notebook.read("anna's.ipynb", file.read_bytes())
    assert count_parameters(Architecture(parse(found.layers))) == PARAMETERS
    assert found.words.startswith(f"anna's.ipynb: class Net, {PARAMETERS:,} parameters; best 99.42 %")
    assert found.recipe == "--recipe=plain_4k --epochs=15 --batch_size=64"
    assert found.settings == {"recipe": "plain_4k", "epochs": 15, "batch_size": 64}
    assert found.mistakes == ()
    wrong = bounded_notebook.read("b.ipynb", submission(folder, **CASES["unused_layers"]).read_bytes())
    assert "forward never uses: fc (110)" in wrong.mistakes[0]


def test_what_cannot_be_read_is_one_line(folder):
    endless = net("self.conv = nn.Conv2d(1, 10, 3)", "while True:\n    x = self.conv(x)")
    for name, content in (
        ("a.ipynb", b"{"),
        ("a.txt", b"hello"),
        ("../../etc/a.ipynb", b""),
        ("a.ipynb", write(folder, IMPORTS, endless).read_bytes()),
    ):
        found = bounded_notebook.read(name, content)
        assert found.layers == ""
        assert found.words.count("\n") == 0
        assert found.words


def test_a_notebook_is_not_waited_for_without_end(folder):
    found = bounded_notebook.read("a.ipynb", submission(folder).read_bytes(), seconds=0)
    assert found.words == "a.ipynb takes more than 0 seconds: give a smaller file"


def _killed(file):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_dies_takes_nobody_with_it(folder, monkeypatch):
    monkeypatch.setattr(bounded_notebook, "read_notebook", _killed)
    assert bounded_notebook.read("a.ipynb", b"{}").words.startswith(
        "a.ipynb takes more than 1 GB of memory, or breaks this program"
    )
