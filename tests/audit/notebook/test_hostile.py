"""Hostile and strange inputs: one line each, nothing executed, in bounded time and memory."""

import json
import os
from pathlib import Path

import pytest

from audit.notebook.claims import Limits
from audit.notebook.verdict import audit_notebook
from tests.audit.notebook.test_verdict import NET, submission
from tests.audit.notebook.written import IMPORTS, LOADERS, LOOPS, TRAINING, net, write

FORWARD = "return F.log_softmax(self.conv(x).mean([2, 3]), dim=1)"
CONV = "self.conv = nn.Conv2d(1, 10, 3)"


def notebook(**changed):
    cell = {"cell_type": "code", "source": IMPORTS, "outputs": [], "execution_count": 1, "metadata": {}}
    return json.dumps({"cells": [cell | changed], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


FILES = {
    "an empty file": b"",
    "no JSON": b"import torch",
    "half a notebook": notebook().encode()[:-30],
    "a list": b"[]",
    "a number": b"1",
    "cells that are a number": b'{"cells": 3}',
    "cells that are numbers": b'{"cells": [1, 2]}',
    "no cells": b'{"cells": []}',
    "no code": notebook(cell_type="markdown").encode(),
    "no network": notebook().encode(),
    "source that is a number": notebook(source=5).encode(),
    "source of dictionaries": notebook(source=[{}, {}]).encode(),
    "outputs that are text": notebook(outputs="abc").encode(),
    "outputs of numbers": notebook(outputs=[1, None, {"data": 3}, {"output_type": "stream"}]).encode(),
    "deep JSON": b'{"cells": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a pickle": b"\x80\x04\x95\x1d\x00\x00\x00cposix\nsystem\n(S'touch trace'\ntR.",
    "a zip": b"PK\x03\x04" + bytes(1000),
    "UTF-16": "\ufeff{}".encode("utf-16"),
    "null characters": bytes(1000),
    "100,000 cells": b'{"cells": [' + b",".join([b'{"cell_type": "code"}'] * 100_000) + b"]}",
}
CODE = {
    "no Python": "class Net(nn.Module:\n    pass",
    "only magics": "%matplotlib inline\n!ls\n%%bash\nls",
    "an endless loop in the constructor": net("while True:\n    pass", FORWARD),
    "an endless loop in forward": net(CONV, "while True:\n    x = self.conv(x)\nreturn x"),
    "an endless recursion": net(f"{CONV}\nself.again(1)", FORWARD)
    + "\n    def again(self, n):\n        return self.again(n + 1)",
    "a loop of 10**12": net(CONV, f"for i in range(10**12):\n    x = F.relu(x)\n{FORWARD}"),
    "a list of 10**12": net("self.conv = nn.Conv2d(1, len([0] * 10**12), 3)", FORWARD),
    "a text of 10**12": net("self.conv = nn.Conv2d(1, len('a' * 10**12), 3)", FORWARD),
    "a power tower": net("self.conv = nn.Conv2d(1, 9**9**9**9, 3)", FORWARD),
    "a layer of 10**12": net("self.conv = nn.Conv2d(1, 10**12, 3)", FORWARD),
    "a kernel of -1": net("self.conv = nn.Conv2d(1, 10, -1)", FORWARD),
    "a million layers": net(
        "self.conv = nn.Sequential(*[nn.Conv2d(1, 1, 1) for _ in range(10**6)])", FORWARD
    ),
    "10,000 brackets": net(CONV, f"return {'(' * 10_000}x{')' * 10_000}"),
    "10,000 terms": net(CONV, f"return {'+'.join(['x'] * 10_000)}"),
    "a class that inherits from itself": "class Net(Net):\n    def forward(self, x):\n        return x",
    "a metaclass": "class Net(nn.Module, metaclass=type('M', (type,), {})):\n    pass",
    "a module in itself": net(f"{CONV}\nself.me = self", "return self.me(x)"),
    "exec": net("exec('self.conv = nn.Conv2d(1, 10, 3)')", FORWARD),
    "a network from a file": net("self.conv = torch.load('net.pt')", FORWARD),
    "a network by name": net("self.conv = getattr(nn, input())(1, 10, 3)", FORWARD),
    "attributes of dunder names": net(
        "self.conv = nn.Conv2d(1, len(().__class__.__base__.__subclasses__()), 3)", FORWARD
    ),
    "a random network": net("self.conv = nn.Conv2d(1, torch.randint(9, (1,)).item(), 3)", FORWARD),
}
WRITES = "open('trace', 'w').write('ran')\n__import__('os').system('touch trace')\n"


def refusal(file, capsys):
    """What is said of a file that cannot be judged; nothing is printed and nothing is written."""
    before = sorted(os.listdir(file.parent))
    audit = audit_notebook(file, Limits())
    assert audit.verdict == "unreadable"
    assert sorted(os.listdir(file.parent)) == before
    assert capsys.readouterr() == ("", "")
    return audit.refused


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_notebook_gets_one_line(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "strange.ipynb"
    file.write_bytes(FILES[name])
    said = refusal(file, capsys)
    assert said.startswith("strange.ipynb")
    assert "\n" not in said
    assert 0 < len(said) < 1100


@pytest.mark.parametrize("name", CODE)
def test_hostile_code_gets_one_line_and_is_never_run(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    texts = [IMPORTS, WRITES + CODE[name], LOADERS, LOOPS, TRAINING]
    said = refusal(write(tmp_path, *texts), capsys)
    assert "submission.ipynb" in said
    assert "\n" not in said
    assert 0 < len(said) < 1100


def test_what_would_write_a_file_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = [IMPORTS + WRITES, NET + f"\n{WRITES}", LOADERS, LOOPS + WRITES, TRAINING + WRITES]
    (tmp_path / "torch.py").write_text("open('trace', 'w')")
    audit = audit_notebook(write(tmp_path, *texts), Limits())
    assert audit.refused is None
    assert sorted(os.listdir(tmp_path)) == ["submission.ipynb", "torch.py"]


def test_a_huge_file_is_refused_before_it_is_read(tmp_path, capsys):
    file = tmp_path / "huge.ipynb"
    with file.open("wb") as stream:
        stream.truncate(2**40)
    assert "too large" in refusal(file, capsys)


@pytest.mark.parametrize("file", ["/dev/zero.ipynb", "folder.ipynb", "missing.ipynb", "dangling.ipynb"])
def test_what_is_no_file_gets_one_line(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder.ipynb").mkdir()
    Path("dangling.ipynb").symlink_to("nowhere")
    audit = audit_notebook(Path(file), Limits())
    assert audit.verdict == "unreadable"
    assert "\n" not in audit.refused


def test_a_log_without_end_is_read_in_part(tmp_path):
    file = submission(tmp_path)
    content = json.loads(file.read_text())
    content["cells"][4]["outputs"].append({"output_type": "stream", "text": "Accuracy " * 10**6})
    file.write_text(json.dumps(content))
    assert audit_notebook(file, Limits()).refused is None


def test_names_that_would_steer_a_terminal_or_a_page_are_shown_as_they_are(tmp_path):
    name = "\x1b[2J<b>.ipynb"
    audit = audit_notebook(write(tmp_path, IMPORTS, name=name), Limits())
    assert "\x1b" not in audit.refused
