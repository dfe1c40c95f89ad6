"""Every flag with every wrong value we could think of: exit code 2 and one line."""

import subprocess
import sys
from pathlib import Path

import pytest

import launch
from cnn.zoo import ZOO
from errors import UserError

ROOT = Path(__file__).parents[1]

WRONG = [
    # task
    ("", "--task is missing"),
    ("--task=", "--task is missing"),
    ("--task=minst", "did you mean mnist?"),
    ("--task=MNIST", "--task=MNIST is not known"),
    ("--task=mnist --task=backprop", "already defined"),
    ("mnist", "is not a flag"),
    ("--task=mnist extra words", "'extra words' is not a flag"),
    ("--task mnist", ""),
    ("--task=mnist --modle=bn_4k", "Did you mean: model"),
    ("--task=mnist --lrs=0.1", "--lrs is not a flag of --task=mnist"),
    ("--task=mnist --precision=float32", "--precision is not a flag of --task=mnist"),
    # model
    ("--task=mnist --model=", "--model= is not known"),
    ("--task=mnist --model=bn_14k", "choose one of plain_4k, bn_4k"),
    ("--task=mnist --model=Compact_20k", "did you mean compact_20k?"),
    ("--task=mnist --model=../zoo", "is not known"),
    # whole numbers
    *(
        (f"--task=mnist --{flag}={value}", message)
        for flag in ("epochs", "batch_size")
        for value, message in (
            ("0", "give a whole number from 1 to 60000"),
            ("-1", "give a whole number from 1 to 60000"),
            ("99999999999999999999", "give a whole number from 1 to 60000"),
            ("1.5", "'1.5' is not a whole number"),
            ("nan", "'nan' is not a whole number"),
            ("inf", "'inf' is not a whole number"),
            ("", "'' is not a whole number"),
            ("ten", "'ten' is not a whole number"),
        )
    ),
    ("--task=mnist --epochs=21", "over the budget of 20: give fewer, or add --noenforce_budget"),
    ("--task=mnist --epochs=3 --epochs=4", "already defined as 3"),
    ("--task=mnist --seed=-1", "give a whole number from 0"),
    ("--task=mnist --seed=4294967296", "give a whole number from 0 to 4294967295"),
    ("--task=mnist --seed=0.5", "is not a whole number"),
    ("--task=mnist --validation_size=-1", "give 0 (none) to 59999"),
    ("--task=mnist --validation_size=60000", "give 0 (none) to 59999"),
    ("--task=mnist --validation_size=10%", "is not a whole number"),
    # numbers
    *(
        (f"--task=mnist --learning_rate={value}", message)
        for value, message in (
            ("0", "give a number above 0"),
            ("-0.1", "give a number above 0"),
            ("nan", "give a number above 0"),
            ("inf", "give a number above 0"),
            ("101", "at most 100"),
            ("", "'' is not a number"),
            ("fast", "'fast' is not a number"),
            ("0,1", "'0,1' is not a number"),
        )
    ),
    *(
        (f"--task=mnist --target_accuracy={value}", message)
        for value, message in (
            ("0", "give a fraction above 0, at most 1"),
            ("99.4", "give a fraction above 0, at most 1"),
            ("-1", "give a fraction above 0"),
            ("nan", "give a fraction above 0"),
            ("99.4%", "'99.4%' is not a number"),
        )
    ),
    # names and paths
    ("--task=mnist --dataset=", "give mnist or a tensorflow-datasets name"),
    ("--task=mnist --dataset=../mnist", "give mnist or a tensorflow-datasets name"),
    ("--task=mnist --dataset=a;b", "give mnist or a tensorflow-datasets name"),
    ("--task=mnist --data_dir=/tmp", "does not go with --dataset=mnist"),
    ("--task=mnist --dataset=kmnist --data_dir=", "--data_dir is empty"),
    # the page
    *((f"--task=demo --port={port}", "give a whole number from 1 to 65535") for port in (0, -1, 65536)),
    ("--task=demo --port=http", "'http' is not a whole number"),
    ("--task=demo --share=perhaps", "'perhaps' is not true or false"),
    ("--task=demo --epochs=3", "--epochs is not a flag of --task=demo"),
    # switches
    ("--task=mnist --resume=perhaps", "'perhaps' is not true or false"),
    ("--task=mnist --enforce_budget=2", "'2' is not true or false"),
    ("--task=mnist --describe --resume --workdir=/nowhere", "holds no run"),
    ("--task=mnist --tensorboard=perhaps", "'perhaps' is not true or false"),
    ("--task=mnist --describe --export=/tmp/export", "leave out --export and --tensorboard"),
    ("--task=mnist --describe --tensorboard", "leave out --export and --tensorboard"),
    ("--task=backprop --export=/tmp/export", "--export is not a flag of --task=backprop"),
    ("--task=backprop --tensorboard", "--tensorboard is not a flag of --task=backprop"),
    ("--task=mnist --resume", "need --workdir"),
    ("--task=mnist --eval_only", "need --workdir"),
    ("--task=mnist --resume --workdir=/nowhere/at/all", "holds no run (no config.json)"),
    ("--task=mnist --eval_only --workdir=/dev/null", "cannot be read"),
]


def _argv(line):
    return ["launch.py", *(line.split(" ", 1) if line.endswith("words") else line.split())]


@pytest.mark.parametrize(("line", "message"), [case for case in WRONG if case[1]])
def test_wrong_flags_are_named_in_one_line(line, message):
    with pytest.raises(UserError) as caught:
        launch.parse(_argv(line))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--task=minst", "launch.py: --task=minst is not known (did you mean mnist?)"),
        ("--task=mnist --epochs=ten", "launch.py: flag --epochs=ten: 'ten' is not a whole number"),
        ("--task=mnist --epochs=21", "launch.py: --epochs=21 is over the budget"),
        ("--task=backprop --lrs=0.1,oops", "launch.py: flag --lrs=0.1,oops: 'oops' is not a number"),
        ("--task=mnist --workdir=/dev/null/run", "launch.py: --workdir=/dev/null/run: cannot write there"),
        ("--task=backprop --workdir=/dev/null/run", "launch.py: --workdir=/dev/null/run: cannot write there"),
        ("--task=mnist --workdir=/proc", "launch.py: --workdir=/proc: cannot write there"),
        ("--task=mnist --workdir=", "launch.py: --workdir is empty"),
        ("--task=mnist --export=/dev/null/here", "launch.py: --export=/dev/null/here: cannot write there"),
        ("--task=mnist --export=", "launch.py: --export is empty"),
    ],
)
def test_the_command_ends_with_2_and_one_line(line, message):
    done = subprocess.run(
        [sys.executable, "launch.py", *line.split()], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_flags_are_checked_before_jax_is_imported():
    program = (
        "import sys, launch; code = launch.main(['launch.py', '--task=mnist', '--epochs=0']); "
        "sys.exit(100 if 'jax' in sys.modules else code)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60)
    assert done.returncode == 2


def test_flags_become_a_configuration():
    task, config = launch.parse(_argv("--task=mnist --model=bn_4k --epochs=3 --seed=7 --noenforce_budget"))
    assert task == "mnist"
    assert (config.model, config.recipe.epochs, config.seed) == ("bn_4k", 3, 7)
    assert config.recipe.batch_size == ZOO["bn_4k"].recipe.batch_size
    task, config = launch.parse(_argv("--task=backprop --lrs=0.1,2 --epochs=3"))
    assert (task, config.lrs, config.epochs) == ("backprop", (0.1, 2.0), 3)


@pytest.mark.parametrize("kept", ['{"model": "bn_4k", "colour": 3}', '{"epochs": "three"}', '{"seed": null}'])
def test_a_config_that_does_not_fit_is_named(tmp_path, kept):
    (tmp_path / "config.json").write_text(f'{{"task": "mnist", "flags": {kept}}}')
    with pytest.raises(UserError, match=r"config.json does not fit this version"):
        launch.parse(["launch.py", "--task=mnist", "--resume", f"--workdir={tmp_path}"])


def test_without_the_budget_more_epochs_are_allowed():
    _, config = launch.parse(_argv("--task=mnist --epochs=21 --noenforce_budget"))
    assert config.recipe.epochs == 21


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        launch.parse(["launch.py", "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for name in launch.define_flags():
        assert f"--{name}" in shown or name == "help"


@pytest.mark.parametrize("name", ZOO)
def test_describe_prints_the_layers_and_stops(name):
    done = subprocess.run(
        [sys.executable, "launch.py", "--task=mnist", "--describe", f"--model={name}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "receptive field" in done.stdout
    assert "compiled" not in done.stdout
    assert ("RECONSTRUCTION" in done.stdout) == (name == "reduced_19k")
