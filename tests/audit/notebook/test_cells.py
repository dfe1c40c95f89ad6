import json

import pytest

from audit.notebook import cells, state
from audit.notebook.interpreter import follow
from audit.notebook.network import read_network
from audit.notebook.recipe import read_recipe
from harness.errors import UserError
from tests.audit.notebook.written import IMPORTS, NET, write


def document(*written, **others):
    return json.dumps({"cells": list(written), "nbformat": 4, "nbformat_minor": 5, "metadata": {}} | others)


def code(source, outputs=(), count=1):
    return {"cell_type": "code", "source": source, "outputs": list(outputs), "execution_count": count}


def read(folder, content, name="submission.ipynb"):
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return cells.read(file)


def test_cells_with_their_numbers_texts_and_outputs(tmp_path):
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["Epoch 1\n", "99.1\n"]},
        {"output_type": "execute_result", "data": {"text/plain": ["42"], "text/html": ["<b>42</b>"]}},
        {"output_type": "stream", "name": "stderr", "text": "100%|##| 938/938"},
        {"output_type": "error", "ename": "NameError", "evalue": "x", "traceback": []},
        {"output_type": "display_data", "data": {"image/png": "AAAA"}},
    ]
    source = read(
        tmp_path,
        document(
            {"cell_type": "markdown", "source": ["# A title"]},
            code("a = 1\n", outputs, 7),
            code("b", (), None),
        ),
    )
    assert [(cell.number, cell.kind, cell.execution_count) for cell in source.cells] == [
        (1, "markdown", None),
        (2, "code", 7),
        (3, "code", None),
    ]
    assert source.cells[0].text == "# A title"
    assert source.cells[1].output == "Epoch 1\n99.1\n42\n100%|##| 938/938\nNameError: x\n"
    assert str(source.place(source.cells[1], 3)) == "cell 2, line 3"


def test_a_notebook_of_format_3(tmp_path):
    cell = {
        "cell_type": "code",
        "input": ["a = 1"],
        "prompt_number": 4,
        "outputs": [{"output_type": "pyout", "text": ["1"]}, {"output_type": "stream", "text": ["2"]}],
    }
    source = read(tmp_path, json.dumps({"worksheets": [{"cells": [cell]}], "nbformat": 3}))
    assert (source.cells[0].text, source.cells[0].execution_count) == ("a = 1", 4)
    assert source.cells[0].output == "1\n2"


def test_a_py_file_is_one_cell(tmp_path):
    source = read(tmp_path, "a = 1\r\nb = 2\r\n", "train.py")
    assert source.cells[0].code == "a = 1\nb = 2\n"
    assert str(source.place(source.cells[0], 2)) == "train.py, line 2"


MAGICS = {
    "%matplotlib inline\na = 1": "pass\na = 1",
    "if True:\n    !pip install \\\n      torch\na = 1": "if True:\n    pass\n\na = 1",
    "files = !ls\nb = 2": "pass\nb = 2",
    "%time a = f()": "a = f()",
    "model?": "pass",
    "%%time\na = 1": "\na = 1",
    "%%bash\nrm -rf /": "",
    "%%html\n<b>": "",
    "a = 5 \\\n  % 3": "a = 5 \\\n  % 3",
    'print("""\n%d\n!x\n""" % 3)': 'print("""\n%d\n!x\n""" % 3)',
}


@pytest.mark.parametrize("text", MAGICS)
def test_magics_are_no_python_and_lines_keep_their_numbers(text, tmp_path):
    cell = read(tmp_path, document(code(text))).cells[0]
    assert (cell.code, cell.error) == (MAGICS[text], "")


def test_a_cell_that_is_no_python_does_not_stop_the_others(tmp_path):
    file = write(tmp_path, "These are my thoughts: none", IMPORTS, NET, "model = Net()")
    source = cells.read(file)
    assert source.cells[0].error == "invalid syntax (line 1)"
    assert read_network(follow(source)).parameters == 13618


HOSTILE_FILES = {
    "empty": b"",
    "no JSON": b"{",
    "a list": b"[1, 2]",
    "no cells": b"{}",
    "cells that are none": b'{"cells": [1]}',
    "a number for cells": b'{"cells": 3}',
    "deep": b'{"cells": ' + b"[" * 200_000,
    "deep and closed": b'{"cells": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no text": b"\xff\xfe\x00",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "too many cells": b'{"cells": [' + b",".join([b"{}"] * 5_001) + b"]}",
    "too much code": document(code("a = 1\n" * 400_000)).encode(),
}


@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_a_hostile_file_is_one_line(name, tmp_path):
    with pytest.raises(UserError) as caught:
        read(tmp_path, HOSTILE_FILES[name])
    assert str(caught.value).startswith("submission.ipynb ")
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path):
    for name in ("folder.ipynb", "text.txt", "gone.py"):
        if name.startswith("folder"):
            (tmp_path / name).mkdir()
        with pytest.raises(UserError, match=name):
            cells.read(tmp_path / name)
    (tmp_path / "zero.ipynb").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="it is not a file"):
        cells.read(tmp_path / "zero.ipynb")


NEVER_ENDING = {
    "an endless loop": "while True:\n    pass",
    "endless loops in loops": "while True:\n    while True:\n        while True:\n            i = 1",
    "a long loop": "for i in range(10**12):\n    x = i",
    "endless calls": "def f():\n    return f() + f()\nf()",
    "a number that grows": "x = 10\nfor i in range(900):\n    x = x * x",
    "a power of a power": "x = 9 ** 9 ** 9 ** 9",
    "a shift": "x = 1 << 10**12",
    "a text that grows": "x = 'a'\nfor i in range(900):\n    x = x + x",
    "a text that is repeated": "x = 'a' * 10**12\ny = [0] * 10**12",
    "a list of itself": "x = []\nfor i in range(900):\n    x = [x, x]\nx == x\nstr(x)\nd = {(x, 1): 2}",
    "a tuple of itself": "x = ()\nfor i in range(900):\n    x = (x, x)\nd = {x: 1}\ny = x in [x]\nz = x < x",
    "a wide format": "x = '%1000000000d' % 3\ny = f'{3:1000000000}'\nz = '{:1000000000}'.format(3)",
    "a huge range": "x = list(range(10**12))\ny = sum(range(10**12))\nz = sorted(range(10**12))",
    "joined texts": "x = 'a' * 40000\ny = x.join([x] * 40000)\nz = x.replace('a', x)",
    "a long sum": "x = " + " + ".join(["1"] * 5_000),
    "deep brackets": "x = " + "(" * 150 + "1" + ")" * 150,
    "deep lists": "x = " + "[" * 90 + "]" * 90,
    "a deep attribute": "import a\nx = a" + ".b" * 3_000,
    "deep blocks": "\n".join("  " * i + "if True:" for i in range(90)) + "\n" + "  " * 90 + "pass",
    "many functions": "\n".join(f"def f{i}():\n    return f{i - 1}()" for i in range(1, 500)) + "\nf499()",
    "classes of themselves": "class A(A): pass\nclass A(A): pass\nA.x = A\nA().y",
    "a class in a loop": "for i in range(900):\n    class A(nn.Module):\n        pass\n    a = A()",
    "a module in itself": "m = nn.Sequential()\nm.add_module('m', m)\nm(1)",
    "names of the interpreter": "self = super()\n__import__('os').system('ls')\n().__class__.__bases__",
    "a format that reaches": "x = '{0.__class__}'.format(1)\ny = '{0[0]}'.format('a')",
    "an unpacking of everything": "a, *b, c = range(10**9)\n[*range(10**9)]\nf(*range(10**9))",
    "a nested comprehension": "x = [[i for i in range(900)] for j in range(900) for k in range(900)]",
    "a property without end": "class P:\n    @property\n    def a(self): return self.a\nP().a",
    "a getattr without end": "class P:\n    def __getattr__(self, name): return self.b\nP().a",
    "sleep and input": "import time\ntime.sleep(10**9)\ninput()\nwhile input():\n    pass",
}


def outcome(read, source):
    """What is read of the code, or the error as text."""
    try:
        return read(follow(source))
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("name", NEVER_ENDING)
def test_code_that_does_not_end_is_followed_no_further_than_it_matters(name, tmp_path, monkeypatch):
    """A network beside it is read, or one line says where it stopped; in little time and memory."""
    monkeypatch.setattr(state, "_MOST_STEPS", 20_000)
    source = cells.read(write(tmp_path, IMPORTS, NEVER_ENDING[name], NET, "model = Net()"))
    network, recipe = outcome(read_network, source), outcome(read_recipe, source)
    assert (
        "is not followed to its end" in network if isinstance(network, str) else network.parameters == 13618
    )
    assert "is not followed to its end" in recipe if isinstance(recipe, str) else recipe.recipe is None
    assert "\n" not in f"{network}"[:1000]
