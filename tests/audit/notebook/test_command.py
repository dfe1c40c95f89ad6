import shlex

import pytest

import launch
from audit.notebook import cells
from audit.notebook.command import command
from audit.notebook.network import read_network
from audit.notebook.recipe import read_recipe
from cnn.recipe import Recipe
from cnn.text import format_layers
from harness.errors import UserError
from tests.audit.notebook.written import IMPORTS, LOADERS, LOOPS, NET, TRAINING, WHOLE, write

ROTATED = LOADERS.replace("transforms.ToTensor()", "transforms.RandomRotation(7), transforms.ToTensor()", 1)


def parse(*flags):
    return launch.parse(["launch.py", "--task=mnist", *flags])[1]


def test_a_notebook_is_trained_by_its_own_recipe(tmp_path, capsys):
    file = write(tmp_path, IMPORTS, NET, ROTATED, LOOPS, TRAINING)
    config = parse(f"--model={file}", "--describe")
    assert config.resolved_recipe == Recipe(epochs=15, batch_size=64, rotation=7.0)
    layers = format_layers(config.entry.architecture.layers)
    assert layers.startswith("conv 8 3x3, batch norm, ReLU, dropout 0.1")
    assert "13,618" in config.description
    assert capsys.readouterr().out.splitlines() == [
        "submission.ipynb: class Net (cell 2, line 1)",
        "not quite as there: RandomRotation (cell 3, line 3): "
        "pixels of the nearest place; here bilinear between four",
    ]


def test_flags_come_before_the_file(tmp_path):
    file = write(tmp_path, *WHOLE)
    assert parse(f"--model={file}", "--epochs=2").resolved_recipe == Recipe(epochs=2, batch_size=64)
    assert parse(f"--model={file}", "--recipe=bn_dropout_4k").resolved_recipe.batch_size == 128


def test_a_class_of_a_py_file(tmp_path):
    file = tmp_path / "models.py"
    file.write_text(IMPORTS + NET + NET.replace("Net", "Other").replace("nn.ReLU()", "nn.SiLU()"))
    config = parse(f"--model={file}:Other", "--recipe=plain_4k")
    assert "SiLU" in str(config.layers)
    with pytest.raises(UserError, match=r"has the classes Net, Other: say which, models\.py:Net"):
        parse(f"--model={file}")


def test_the_command_gives_the_same_run(tmp_path):
    file = write(tmp_path, IMPORTS, NET, ROTATED, LOOPS, TRAINING)
    source = cells.read(file)
    network = read_network(source)
    words = shlex.split(command(network, read_recipe(source, network)))
    assert words[:3] == ["python", "launch.py", "--task=mnist"]
    assert parse(*words[3:]) == parse(f"--model={file}")


REFUSED = {
    "a recipe that flags cannot say": (
        [IMPORTS, NET, ROTATED.replace("(7)", "(7, fill=255)"), LOOPS, TRAINING],
        [],
        r"RandomRotation \(cell 3, line 3: corners are filled with 255.*give --recipe",
    ),
    "no training": ([IMPORTS, NET], [], r"epochs \(cell 1, line 1: no loop over the training images"),
    "layers, too": (list(WHOLE), ["--layers=dense 10"], "--layers exclude each other"),
    "no network": (["print(1)"], [], r"has no network: give a file with a class"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_refused(name, tmp_path):
    texts, flags, expected = REFUSED[name]
    with pytest.raises(UserError, match=expected):
        parse(f"--model={write(tmp_path, *texts)}", *flags)


def test_the_command_line_describes_it(tmp_path, capsys):
    file = write(tmp_path, *WHOLE)
    assert launch.main(["launch.py", "--task=mnist", f"--model={file}", "--describe"]) == 0
    output = capsys.readouterr().out
    assert "dense 10 bias" in output
    assert "recipe: --epochs=15 --batch_size=64" in output
    assert launch.main(["launch.py", "--task=mnist", f"--model={file}:Nett", "--describe"]) == 2
    assert capsys.readouterr().err == (
        "launch.py: submission.ipynb has no class Nett (did you mean Net?) that is a network: it has Net\n"
    )


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"no\.ipynb cannot be read \(No such file or directory\)"):
        parse(f"--model={tmp_path / 'no.ipynb'}")
