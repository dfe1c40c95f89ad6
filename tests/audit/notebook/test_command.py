import functools
import shlex

import pytest

import launch
from audit.bounded import bounded
from audit.notebook import cells
from audit.notebook import command as command_module
from audit.notebook.command import command
from audit.notebook.interpreter import follow
from audit.notebook.network import read_network
from audit.notebook.recipe import read_recipe
from cnn.experiment import describe, resolve
from cnn.recipe import Recipe
from cnn.text import format_layers
from cnn.zoo import Reported
from harness.errors import UserError
from harness.workdir import flags_text, write_config
from tests.audit.notebook.written import IMPORTS, LOADERS, LOOPS, NET, TRAINING, WHOLE, log, write

ROTATED = LOADERS.replace("transforms.ToTensor()", "transforms.RandomRotation(7), transforms.ToTensor()", 1)


def parse(*flags):
    return resolve(launch.parse(["launch.py", "--task=mnist", *flags])[1])


def test_a_notebook_is_trained_by_its_own_recipe(tmp_path, capsys):
    file = write(tmp_path, IMPORTS, NET, ROTATED, LOOPS, TRAINING)
    experiment = parse(f"--model={file}", "--describe")
    assert experiment.recipe == Recipe(epochs=15, batch_size=64, rotation=7.0)
    layers = format_layers(experiment.architecture.layers)
    assert layers.startswith("conv 8 3x3, batch norm, ReLU, dropout 0.1")
    assert "13,618" in describe(experiment)
    assert capsys.readouterr().out.splitlines() == [
        "submission.ipynb: class Net (cell 2, line 1)",
        "not quite as there: RandomRotation (cell 3, line 3): "
        "pixels of the nearest place; here bilinear between four",
        "no accuracy of its own is set beside ours: there is no log of a training",
    ]


def test_flags_come_before_the_file(tmp_path):
    file = write(tmp_path, *WHOLE)
    assert parse(f"--model={file}", "--epochs=2").recipe == Recipe(epochs=2, batch_size=64)
    assert parse(f"--model={file}", "--recipe=bn_dropout_4k").recipe.batch_size == 128


def test_a_class_of_a_py_file(tmp_path):
    file = tmp_path / "models.py"
    file.write_text(IMPORTS + NET + NET.replace("Net", "Other").replace("nn.ReLU()", "nn.SiLU()"))
    experiment = parse(f"--model={file}:Other", "--recipe=plain_4k")
    assert "SiLU" in str(experiment.flags.layers)
    with pytest.raises(UserError, match=r"has the classes Net, Other: say which, models\.py:Net"):
        parse(f"--model={file}")


def test_the_command_gives_the_same_run(tmp_path):
    file = write(tmp_path, IMPORTS, NET, ROTATED, LOOPS, TRAINING)
    source = cells.read(file)
    run = follow(source)
    network = read_network(run)
    words = shlex.split(command(network, read_recipe(run, network)))
    assert words[:3] == ["python", "launch.py", "--task=mnist"]
    assert parse(*words[3:]) == parse(f"--model={file}")


LOGGED = [9700, 9920, *[9910] * 13]


def test_its_log_is_set_beside_ours(tmp_path, capsys):
    file = write(tmp_path, *WHOLE, printed=log(LOGGED))
    experiment = parse(f"--model={file}")
    assert experiment.claim == Reported(0.992, 2, 0.991)
    assert "beside" not in capsys.readouterr().out
    (tmp_path / "flags.txt").write_text(flags_text("mnist", experiment.flags))
    again = f"--flagfile={tmp_path / 'flags.txt'}"
    for free in ([], ["--num_seeds=3"], ["--target_accuracy=0.9"], ["--max_epochs=30"]):
        assert parse(f"--model={file}", *free).claim == parse(again, *free).claim == experiment.claim
    for other in ("--epochs=3", "--learning_rate=0.1", "--validation_size=100", "--compute_dtype=bfloat16"):
        assert parse(f"--model={file}", other).claim is parse(again, other).claim is None
    for other in ("--recipe=plain_4k", "--dataset=kmnist"):
        assert parse(f"--model={file}", other).claim is None
    assert parse(f"--model={file}", "--reported=0.99,15,0.99").claim == Reported(0.99, 15, 0.99)


def test_it_is_said_where_the_recipe_is_not_quite_its_own(tmp_path):
    file = write(tmp_path, IMPORTS, NET, ROTATED, LOOPS, TRAINING, printed=log(LOGGED))
    assert parse(f"--model={file}").claim == Reported(0.992, 2, 0.991, departures=1)


def test_a_run_that_goes_on_keeps_what_is_reported(tmp_path):
    file = write(tmp_path, *WHOLE, printed=log(LOGGED))
    experiment = parse(f"--model={file}")
    write_config(tmp_path, "mnist", experiment.flags, device="CPU")
    file.unlink()
    for way in ("--resume", "--eval_only"):
        assert parse(way, f"--workdir={tmp_path}").claim == experiment.claim
    assert parse("--resume", f"--workdir={tmp_path}", "--epochs=16").claim is None


def test_the_texts_beside_a_py_file_have_its_log(tmp_path):
    file = tmp_path / "train.py"
    file.write_text("".join(WHOLE))
    (tmp_path / "README.md").write_text(log(LOGGED))
    assert parse(f"--model={file}").claim == Reported(0.992, 2, 0.991)


OF_TEST = "train=False, transform=transforms.Compose(["
NOT_BESIDE = {
    "fewer epochs": ({}, log(LOGGED[:14]), "epochs in the log: 14, in the code: 15"),
    "one under way": (
        {},
        log(LOGGED) + "EPOCH: 16\n",
        "in the log: 15 and the beginning of another, in the code: 15",
    ),
    "other batches": (
        {},
        log(LOGGED, 469),
        "the log has 469 steps an epoch, which batches of 64 do not give",
    ),
    "validation": ({}, log(LOGGED).replace("Test set", "Validation set"), "the log is of validation images"),
    "training images": ({}, log(LOGGED).replace("/10000", "/60000"), "the log is of training images"),
    "the training set": ({"train=False": "train=True"}, log(LOGGED), "what is evaluated are the training"),
    "distorted": (
        {OF_TEST: f"{OF_TEST}transforms.RandomRotation(5),"},
        log(LOGGED),
        "are distorted at random",
    ),
    "dropout in evaluation": (
        {"return F.log": "x = F.dropout(x, 0.1)\n        return F.log"},
        log(LOGGED),
        "dropout is",
    ),
}


@pytest.mark.parametrize("name", NOT_BESIDE)
def test_a_log_of_something_else_is_not_set_beside_ours(name, tmp_path, capsys):
    changed, printed, reason = NOT_BESIDE[name]
    cells = list(WHOLE)
    for before, after in changed.items():
        assert any(before in cell for cell in cells)
        cells = [cell.replace(before, after) for cell in cells]
    assert parse(f"--model={write(tmp_path, *cells, printed=printed)}").claim is None
    shown = capsys.readouterr().out
    assert "no accuracy of its own is set beside ours: " in shown
    assert reason in shown


def test_of_several_logs_a_chosen_class_has_none(tmp_path, capsys):
    file = write(tmp_path, *WHOLE, printed=2 * log(LOGGED))
    assert parse(f"--model={file}").claim == Reported(0.992, 2, 0.991)
    assert parse(f"--model={file}:Net").claim is None
    assert "the log is of 2 trainings, and which one is this class's" in capsys.readouterr().out


LARGE = NET.replace("(1, 8,", "(1, 20,").replace("(8)", "(20)").replace("8 * 13", "20 * 13")
FINE = "--recipe=plain_4k --epochs=15 --batch_size=64 --rotation=7.0 "
REFUSED = {
    "over the budget": (
        [IMPORTS, LARGE, LOADERS, LOOPS, TRAINING.replace("16", "41")],
        [],
        r"^--model=.*ipynb has 34,030 parameters and 40 epochs, and the budget is fewer than 20,000 "
        r"parameters and at most 20 epochs: give --max_parameters=34031 --max_epochs=40, or --noenforce_b",
    ),
    "over the budget by another recipe": (
        [IMPORTS, LARGE],
        ["--recipe=plain_4k"],
        r"ipynb has 34,030 parameters, and .* give --max_parameters=34031, or",
    ),
    "not ten numbers": (
        [IMPORTS, NET.replace("13, 10)", "13, 12)"), LOADERS, LOOPS, TRAINING],
        [],
        r"^--model=.*ipynb: it ends in 12 = 12 numbers, not in one a class: for 10 classes end with",
    ),
    "an unknown layer": (
        [IMPORTS, NET.replace("nn.ReLU", "nn.Tanh"), LOADERS, LOOPS, TRAINING],
        [],
        r"Tanh\(\): Tanh is no layer of our language: write the network that is to be trained as --layers$",
    ),
    "an unknown class": (
        [IMPORTS, LOADERS, LOOPS, TRAINING],
        [],
        r"Net, which nothing defines: give the file that has its class, or a class of this one, "
        r"submission\.ipynb:CLASS$",
    ),
    "a recipe that flags cannot say": (
        [IMPORTS, NET, ROTATED.replace("(7)", "(7, fill=255)"), LOOPS, TRAINING],
        [],
        rf"RandomRotation \(cell 3, line 3: corners are filled with 255.*give {FINE}to train it without that",
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


def test_what_is_over_the_budget_is_trained_with_the_flags_that_the_error_names(tmp_path):
    file = write(tmp_path, IMPORTS, LARGE, LOADERS, LOOPS, TRAINING.replace("16", "41"))
    assert parse(f"--model={file}", "--max_parameters=34031", "--max_epochs=40").recipe.epochs == 40
    assert parse(f"--model={file}", "--noenforce_budget").recipe.epochs == 40
    assert parse(f"--model={file}", "--epochs=3", "--max_parameters=34031").recipe.epochs == 3


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"no\.ipynb cannot be read \(No such file or directory\)"):
        parse(f"--model={tmp_path / 'no.ipynb'}")


def test_a_file_has_its_time_here_too(tmp_path, monkeypatch):
    file = write(tmp_path, *WHOLE)
    monkeypatch.setattr(command_module, "bounded", functools.partial(bounded, seconds=1e-6))
    with pytest.raises(UserError, match=r"takes more than 1e-06 seconds: give a smaller file$") as caught:
        parse(f"--model={file}")
    assert str(caught.value).startswith(f"--model={file} takes more than")
