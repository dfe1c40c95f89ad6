"""Every flag of every task with every kind of wrong value: UserError, one printable line that names it."""

import dataclasses
import json
import shlex
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import launch
from cnn.config import CnnConfig
from cnn.experiment import resolve
from harness.errors import UserError
from harness.flags import _PARSERS

ROOT = Path(__file__).parents[1]

COUNT = {"0": "give", "-1": "give", "9" * 20: "give"}
RATE = {
    "0": "give",
    "-0.1": "give",
    "nan": "give",
    "inf": "give",
    "-inf": "give",
    "1e309": "give",
    "1e-400": "give",
}


def outside(low, high):
    """Numbers below and above what is allowed, and what no limits allow."""
    return {**dict.fromkeys((low, high, "-inf", "inf", "nan", "1e309"), "give a number from")}


LIST = {"nan": "nan", "0.1,inf": "inf", "1e309": "inf", "1,2,": "'' is not a number", "1;2": "not a number"}
NAME_OF_A_HOME = {"~nobody_of_that_name/x": "there is no home folder ~nobody_of_that_name"}
FOLDER = NAME_OF_A_HOME | {"": "is empty", "  ": "is empty"}

# For each flag: a value that is right, and wrong values of its own with what the message says.
FLAGS: dict[str, dict[str, tuple[str, dict[str, str]]]] = {
    "backprop": {
        "lrs": ("0.1", LIST | {"0": "lrs has 0", "-1": "lrs has -1", "1,1.0": "twice", "1e13": "1e12"}),
        "epochs": ("3", COUNT | {"8333": "the spreadsheet holds 50000 rows"}),
        "inputs": ("0.1,0.2", LIST | {"1e7": "give numbers from -1e+06", "1,2,3,4,5,6,7,8,9": "give 1 to 8"}),
        "hidden": ("2", COUNT | {"9": "give 1 to 8 neurons"}),
        "outputs": ("2", COUNT | {"9": "give 1 to 8 neurons"}),
        "targets": (
            "0.1,0.9",
            {"0.1": "give 2", "nan,0": "nan", "0,1e309": "inf", "-1e7,0": "give numbers from -1e+06"},
        ),
        "activation": ("tanh", {"": "is not known", "rleu": "did you mean relu?", "TANH": "choose one of"}),
        "biases": ("true", {}),
        "weights": (
            "1,2,3,4,5,6,7,8",
            {"1,2": "give 8", "1,2,3,4,5,6,7,nan": "nan", "1e7,2,3,4,5,6,7,8": "give numbers from"},
        ),
        "exercise": (
            "42",
            {"-1": "give a number from 0", "1000000000001": "such as a student's", "1.5": "whole"},
        ),
        "precision": (
            "float32",
            {"": "is not known", "float46": "did you mean float64?", "64": "choose one"},
        ),
        "frontier_rates": ("8", COUNT | {"1": "give 2 to", "4194305": "give 2 to 4194304"}),
        "frontier_min": ("0.1", RATE | {"1e13": "1e12", "1e5": "is not below --frontier_max"}),
        "frontier_max": ("10", RATE | {"1e13": "1e12", "1e-4": "is not below --frontier_max"}),
        "frontier_epochs": ("3", COUNT | {"100001": "give 1 to 100000"}),
        "workdir": ("a", FOLDER),
        "wait": ("true", {}),
    },
    "audit": {
        "workbook": (
            "a.xlsx",
            NAME_OF_A_HOME | {"": "is missing", "  ": "is missing", "a --notebook=b": "exclude each other"},
        ),
        "notebook": ("a.ipynb", NAME_OF_A_HOME | {"": "is missing", "  ": "is missing"}),
        "max_parameters": ("30000", COUNT | {"9 --workbook=a": "is a limit of --notebook"}),
        "max_epochs": ("30", COUNT | {"60001": "to 60000", "9 --workbook=a": "is a limit of --notebook"}),
        "target_accuracy": (
            "0.9",
            RATE | {"99.4": "a fraction above 0", "0.9 --workbook=a": "is a limit of"},
        ),
        "workdir": ("a", NAME_OF_A_HOME | {" --workbook=a": "is empty", "  --workbook=a": "is empty"}),
    },
    "mnist": {
        "model": (
            "bn_4k",
            {"": "is not known", "bn_14k": "choose one of", "Compact_20k": "mean compact_20k?"}
            | {"nowhere.txt": "cannot be read (No such file", "/": "is a folder", "/dev/zero": "or a device"}
            | {"docs/page.png": "longer than", "cnn/mnist": "is a folder", "bn_4k --layers=ReLU": "give one"}
            | {"LICENSE": "LICENSE: 'Apache' (line"},
        ),
        "layers": (
            "dense 10 bias",
            {
                "": "comes before any layer",
                "dense 9": "ends in 9 = 9 numbers",
                "ReLU": "ends in 28x28x1 = 784",
            }
            | {"conv 16 3x3, RLU": "'RLU' (line 1, column 14) is not a layer (did you mean ReLU?)"}
            | {"conv 9 3x3, crop 13": "layer 2 (crop 13) does not fit its input 26x26x9: crop at most 12"}
            | {"dense 99, dense 10": "--layers has 78,606 parameters, the budget is"},
        ),
        "recipe": ("bn_4k", {"": "is not known", "bn_14k": "choose one of", "Tiny_5k": "mean tiny_5k?"}),
        "epochs": ("3", COUNT | {"21": "over the budget of 20"}),
        "batch_size": ("64", COUNT | {"60001": "from 1 to 60000"}),
        "optimizer": ("adam", {"": "is not known", "SGD": "did you mean sgd?", "rmsprop": "choose one of"}),
        "momentum": ("0.9", outside("-0.1", "1") | {"0.9 --optimizer=adamw": "belongs to --optimizer=sgd"}),
        "nesterov": ("true", {"true": "belongs to --optimizer=sgd", "false": "belongs to"}),
        "weight_decay": ("0.01", outside("-1", "101")),
        "learning_rate": (
            "0.1,0.2",
            RATE
            | {"101": "from 1e-08 to 100", "1e-9": "from 1e-08", "": "'' is not a number"}
            | {"0.1,0.2,0.10": "has 0.1 twice", "0.1,nan": "=nan: give", "0.1,-1": "=-1.0: give"}
            | {"0.1,": "'' is not a number", "0.1;0.2": "is not a number", "0.1,0.2,101": "to 100"}
            | {
                "0.1,0.2 --num_seeds=501": "give at most 1,",
                ",".join(map(str, range(1, 1002))): "at most 1000",
            },
        ),
        "schedule": (
            "cosine",
            {"": "is not known", "onecyclelr": "did you mean OneCycleLR?", "one-cycle": "mean one_cycle?"}
            | {"step": "needs --step_size", "multistep": "needs --milestones"},
        ),
        "warmup": (
            "0.3",
            outside("-0.1", "1") | {"0.3 --schedule=plateau": "belongs"},
        ),
        "step_size": ("6", COUNT | {"60001": "to 60000", "6": "belongs to --schedule=step"}),
        "milestones": (
            "8,12",
            {"8,12": "belongs to --schedule=multistep", "0,8": "from 1 to 60000", "-8": "from 1 to 60000"}
            | {f"{falls} --schedule=multistep": "give rising epochs" for falls in ("8,8", "12,8", "1,3,2")},
        ),
        "gamma": ("0.5", outside("0", "1.1") | {"0.5": "belongs to --schedule=step or multistep"}),
        "factor": ("0.5", outside("0", "1") | {"0.5": "belongs to --schedule=plateau"}),
        "patience": ("3", {"-1": "from 0 to 60000", "60001": "from 0", "3": "belongs to --schedule=plateau"}),
        "ema_decay": ("0", outside("-0.1", "1")),
        "initialization": (
            "torch",
            {"": "is not known", "He": "did you mean he?", "kaiming": "choose one of"},
        ),
        "label_smoothing": ("0.1", outside("-0.1", "1")),
        "rotation": ("0", outside("-1", "181")),
        "scale": ("0.2", outside("-0.1", "1")),
        "shear": ("0.2", outside("-0.1", "11")),
        "shift": ("3", outside("-1", "29")),
        "elastic": ("2", outside("-1", "29")),
        "fade": ("1", outside("-0.1", "1.1") | {"0.5 --recipe=bn_4k": "belongs to a distortion"}),
        "brightness": ("0.4", outside("-0.1", "11")),
        "contrast": ("0.4", outside("-0.1", "11")),
        "erasing": ("0.5", outside("-0.1", "1.1")),
        "zoom": ("0.1", outside("-0.1", "1.1")),
        "crop_size": ("20", COUNT | {"20": "belongs to --zoom", "29 --zoom=0.5": "more than the images' 28"}),
        "seed": ("3", {"-1": "from 0 to 4294967295", "4294967296": "from 0", "9" * 20: "from 0"}),
        "num_seeds": ("2", COUNT | {"1001": "from 1 to 1000"}),
        "compute_dtype": (
            "bfloat16",
            {"": "is not known", "bfloat61": "did you mean bfloat16?", "f32": "choose"},
        ),
        "validation_size": ("0", {"-1": "give 0 (none) to 59999", "60000": "give", "9" * 20: "give"}),
        "target_accuracy": ("0.9", RATE | {"99.4": "a fraction above 0, at most 1", "1.1": "give"}),
        "reported": (
            "0.9942,12,0.9918@0a1b2c3d",
            dict.fromkeys(("", "0.99", "0.99,1", "0.99;1;0.98", "99.42,12,99.18"), "give the")
            | dict.fromkeys(("0.98,1,0.99", "0.99,0,0.98", "0.99,60001,0.98", "0.99,1.5,0.98"), "not above")
            | dict.fromkeys(("nan,1,0.9", "inf,1,0.9", "0.1,1,-0.2", "٠,1,0", "1,1,1@0A1B2C3D"), "give the")
            | dict.fromkeys(("0.99,1,0.98,1000", "0.99,1,0.98,-1", "0.99,1,0.98,1,1"), "give the"),
        ),
        "dataset": (
            "kmnist",
            NAME_OF_A_HOME | dict.fromkeys(("", " "), "is empty: give mnist, an .npz"),
        ),
        "data_dir": (
            "a",
            NAME_OF_A_HOME
            | {" --dataset=kmnist": "is empty", "  --dataset=kmnist": "is empty", "a": "does not go with"},
        ),
        "workdir": ("a", FOLDER),
        "wait": ("true", {}),
        "describe": ("true", {}),
        "resume": ("true", {"true": "name the folder of the run"}),
        "eval_only": ("true", {"true": "name the folder of the run"}),
        "export": ("a", FOLDER),
        "checkpoint_every_steps": ("5", COUNT | {"60001": "from 1 to 60000"}),
        "num_devices": ("1", COUNT | {"10001": "from 1 to 10000"}),
        "compilation_cache": ("none", FOLDER),
        "deterministic": ("true", {}),
        "coordinator_address": (
            "a:1",
            {"a:1": "without --num_processes and --process_id"}
            | {
                f"{address} --num_processes=2 --process_id=0": "HOST:PORT"
                for address in ("", "a", "a:", ":1", "a:0", "a:65536", "a:-1", "a:x", "a:٣", "a:²", "a:b:1")
            }
            | {f"a:{'9' * 5000} --num_processes=2 --process_id=0": "HOST:PORT"}
            | {"http://a:1 --num_processes=2 --process_id=0": "HOST:PORT"},
        ),
        "num_processes": (
            "2",
            COUNT | {"2": "without --coordinator_address and --process_id", "10001": "to 10000"},
        ),
        "process_id": (
            "0",
            {"0": "without --coordinator_address and --num_processes"}
            | {
                f"{number} --coordinator_address=a:1 --num_processes=2": "give 0 to 1"
                for number in ("-1", "2", "9" * 20)
            },
        ),
        "tensorboard": ("true", {}),
        "profile_steps": ("20", COUNT | {"1001": "to 1000", "20 --describe": "leave it out, or --describe"}),
        "max_parameters": ("30000", COUNT | {"19975": "19,975 parameters, the budget is fewer than 19,975"}),
        "max_epochs": ("30", COUNT | {"17": "--epochs=18 is over the budget of 17", "60001": "to 60000"}),
        "enforce_budget": ("true", {}),
    },
    "compare": {
        "workdir": ("a", FOLDER),
        "against": ("a", NAME_OF_A_HOME | {" --workdir=a": "is empty", "  --workdir=a": "is empty"}),
    },
    "tpu": {
        "topology": ("v5e-4", {"": "is not known", "v4-8": "did you mean v3-8?", "V2-8": "mean v2-8?"}),
        "model": ("bn_4k", {"": "is not known", "bn_14k": "choose one of"}),
        "batch_size": ("64", COUNT | {"60001": "from 1 to 60000"}),
        "num_seeds": ("2", COUNT | {"1001": "from 1 to 1000"}),
        "compute_dtype": ("bfloat16", {"": "is not known", "bfloat61": "did you mean bfloat16?"}),
    },
    "demo": {
        "workdir": ("a", FOLDER),
        "port": ("7860", COUNT | {"65536": "from 1 to 65535"}),
        "host": (
            "192.168.0.5",
            {"": "is not an address", "pc12": "is not an address", "0.0.0.0": "needs --allowed_hosts"},
        ),
        "allowed_hosts": (
            "pc12",
            {"": "'' is not a host", "*": "'*' is not a host", "a:80": "'a:80' is not"},
        ),
        "share": ("true", {}),
    },
}

NO_TEXT = {"a\0b": "\\x00", "a\nb": "\\n", "a\x1b[31m": "\\x1b", "\udcff": "\\udcff", "a\u2028b": "\\u2028"}
WRONG_TYPE = {
    int: {
        text: "is not a whole number"
        for text in ("", "ten", "1.5", "1e3", "nan", "inf", "1_0", "٣", "0x1", " ")
    }
    | {"9" * 5000: "too large"},
    float: {text: "is not a number" for text in ("", "ten", "0,1", "1_0", "٣", "0x1", "5%", " ")},
    tuple[float, ...]: {text: "is not a number" for text in ("", "ten", "1,ten", "1_0", "٣", ",", "1 2")},
    tuple[int, ...]: {
        text: "is not a whole number" for text in ("", "ten", "1,ten", "1.5", "1e3", "1_0", "٣", ",", "1 2")
    }
    | {"9" * 5000: "too large"},
    bool: {text: "is not true or false" for text in ("", "perhaps", "2", "yes")},
    str: {},
}

COMBINATIONS = {
    "": "--task is missing",
    "--task=": "--task is missing",
    "--task": "Missing value for flag --task",
    "--task --resume": "no value begins with -",
    "--task=minst": "did you mean mnist?",
    "--task=MNIST": "is not known",
    "mnist": "'mnist' belongs to no flag",
    "--task=mnist 'extra words'": "'extra words' belongs to no flag",
    "--task=mnist 'extra\nwords' --epochs=3": "'extra\\nwords' belongs to no flag",
    "--task=mnist --describe true": "'true' belongs to no flag",
    "--task=mnist - ": "'-' belongs to no flag",
    "--task=mnist -- --epochs=3": "'--' belongs to no flag",
    "--task=mnist --=3": "'--=3' belongs to no flag",
    "--task=mnist --epochs = 3": "'=' is not a whole number",
    "--task=mnist --noepochs": "did you mean --epochs?",
    "--task=mnist --nodescribe=true": "--nodescribe=true does not take an argument",
    "--task=mnist --help=3": "'3' is not true or false",
    "--task=mnist --workdir 'a '": "it ends in a space",
    "--task=mnist --workdir=-resume": "no value begins with -",
    "--task=mnist --flagfile": "--flagfile names no file",
    "--task=mnist --flagfile=": "--flagfile names no file",
    "--task=mnist -flagfile '' --epochs=3": "--flagfile names no file",
    "--task=mnist --flagfile=/bin/ls": "--flagfile: what it names is no text",
    "--task=mnist --flagfile=/nowhere/at/all": "--flagfile=/nowhere/at/all cannot be read (No such file or",
    "--task=mnist --flagfile /tmp": "--flagfile=/tmp cannot be read (Is a directory)",
    "--task=mnist --flagfile='a\0b'": "embedded null",
    "--task=mnist --undefok": "Missing value for flag --undefok",
    "--task=mnist --undefok=color --colour=red": "--colour is not a flag",
    "--task=mnist --only_check_args": "--only_check_args is not a flag",
    f"--task=mnist --{'a' * 5000}": "is not a flag",
    "--task=mnist --resume --eval_only --workdir=a": "holds no run",
    "--task=mnist --describe --export=a": "leave out --export and --tensorboard",
    "--task=mnist --describe --tensorboard": "leave out --export and --tensorboard",
    "--task=mnist --resume --workdir=": "need --workdir",
    "--task=mnist --resume --workdir=/nowhere/at/all": "holds no run",
    "--task=mnist --resume --workdir=/dev/null": "cannot be read (Not a directory)",
    f"--task=mnist --resume --workdir={'a' * 300}": "cannot be read (File name too long)",
    f"--task=mnist --resume --workdir={'a/' * 3000}": "cannot be read (File name too long)",
    "--task=mnist --seed=4294967295 --num_seeds=2": "from 0 to 4294967294",
    "--task=mnist --momentum=0.9 --schedule=OneCycleLR": "and --schedule=OneCycleLR sets it itself",
    "--task=mnist --optimizer=adam --nesterov": "--nesterov belongs to --optimizer=sgd",
    "--task=mnist --optimizer=sdg --momentum=0.9": "did you mean sgd?",
    "--task=mnist --model=bn_4k --warmup=0.1": "--warmup belongs to --schedule=one_cycle or OneCycleLR",
    "--task=mnist --schedule=step --step_size=4 --milestones=8": "--milestones belongs to",
    "--task=mnist --zoom=0 --crop_size=22": "--crop_size belongs to --zoom, a probability above 0",
    "--task=mnist --model=bn_4k --rotation=0 --fade=1": "--fade belongs to a distortion",
    "--task=mnist --max_parameters=8000 --max_epochs=15": "the budget is fewer than 8,000",
    "--task=mnist --model=bn_4k --max_epochs=15": "--epochs=20 is over the budget of 15",
    "--task=mnist --layers='dense 10 bias' --recipe=bn_5k": "--recipe=bn_5k is not known",
    "--task=compare --workdir=a": "--against is missing",
    "--task=compare --against=a": "--workdir is missing",
    "--task=backprop --outputs=3": "--targets has 2 numbers: give 3",
    "--task=backprop --hidden=3 --weights=1,2,3,4,5,6,7,8": "--weights has 8 numbers: give 12",
    "--task=backprop --frontier_min=1 --frontier_max=1": "is not below",
    "--task=backprop --frontier_min=1 --frontier_max=1.0000001": "is not below --frontier_max=1 by 1 %",
    "--task=backprop --hidden=8 --biases --epochs=3000": "give 1 to 2326 epochs",
    f"--task=backprop --lrs={','.join(map(str, range(1, 102)))}": "101 learning rates: give 1 to 100",
}


EVERY = [(task, name) for task, table in FLAGS.items() for name in table]


def kind(task, name):
    """The type of a flag's value: int, float, str, bool or tuple[float, ...]."""
    hint = typing.get_type_hints(launch.CONFIGS[task]())[name]
    return hint if hint in WRONG_TYPE else next(each for each in typing.get_args(hint) if each in WRONG_TYPE)


def cases(task, name):
    """(task, arguments, a part of the message) for everything that can be wrong with a flag."""
    flag, (right, wrong), is_switch = f"--{name}", FLAGS[task][name], kind(task, name) is bool
    for value, message in (wrong | WRONG_TYPE[kind(task, name)] | NO_TEXT).items():
        first, *more = value.split(" --")  # a value, and flags beside it
        yield task, [f"{flag}={first}", *(f"--{other}" for other in more)], message
    yield task, [f"{flag[:4]}{flag[5:]}x={right}"], f"did you mean {flag}?"
    yield task, [f"{flag.upper()}={right}"], f"did you mean {flag}?"
    if not is_switch:
        yield task, [flag], f"Missing value for flag {flag}"
        yield task, [flag, "--help"], f"{flag}=--help: "
        yield task, [f"--no{name}"], f"--no{name} is not a flag"
    for other in FLAGS.keys() - {task}:
        if name not in FLAGS[other]:
            yield other, [f"{flag}={right}"], f"{flag} is not a flag of --task={other}"


def resolved(argv):
    task, config = launch.parse(["launch.py", *argv])
    return task, resolve(config) if task == "mnist" else config


def refused(argv):
    """The message of the UserError that a command line gives."""
    with pytest.raises(UserError) as caught:
        resolved(argv)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 1200
    assert caught.value.exit_code == 2
    return message


def test_the_table_has_every_flag_of_every_task():
    fields = {
        task: [field.name for field in dataclasses.fields(config())]
        for task, config in launch.CONFIGS.items()
    }
    assert {task: [*table] for task, table in FLAGS.items()} == fields, "write the cases of a new flag"


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_a_wrong_value_is_named_in_one_line(task, name):
    for chosen, argv, message in cases(task, name):
        said = refused([f"--task={chosen}", *argv])
        assert message in said, argv
        assert name in said, argv


@pytest.mark.parametrize(("line", "message"), COMBINATIONS.items(), ids=range(len(COMBINATIONS)))
def test_a_combination_that_makes_no_sense_is_named(line, message):
    assert message in refused(shlex.split(line))


NEEDED = {  # for a right value to be of use
    "data_dir": ["--dataset=kmnist"],
    "nesterov": ["--optimizer=sgd"],
    "step_size": ["--schedule=step"],
    "milestones": ["--schedule=multistep"],
    "gamma": ["--schedule=multistep", "--milestones=8"],
    "factor": ["--schedule=plateau"],
    "patience": ["--schedule=plateau"],
    "crop_size": ["--zoom=0.1"],
}
TOGETHER = {
    name: f"--{name}={FLAGS['mnist'][name][0]}"
    for name in ("coordinator_address", "num_processes", "process_id")
}


@pytest.mark.parametrize(("task", "name"), [each for each in EVERY if each[1] not in ("resume", "eval_only")])
def test_a_right_value_is_taken_in_each_of_absls_ways(task, name):
    right = FLAGS[task][name][0]
    beside = [f"--task={task}"]
    if task == "audit" and name not in ("workbook", "notebook"):
        beside.append("--notebook=b")
    if task == "compare":
        beside += [f"--{other}=b" for other in FLAGS[task] if other != name]
    beside += NEEDED.get(name, [])
    beside += [flag for other, flag in TOGETHER.items() if name in TOGETHER and other != name]
    parser = _PARSERS[kind(task, name)]
    switch = right == "true"
    for given_ in (
        [f"--{name}={right}"],
        [f"-{name}={right}"],
        [f"--{name}"] if switch else [f"--{name}", right],
        [f"-{name}"] if switch else [f"-{name}", right],
        [f"--no{name}", f"--{name}"] if switch else [f"--{name}={right}", f"--{name}={right}"],
    ):
        found, config = launch.parse(["launch.py", *beside, *given_])
        assert (found, getattr(config, name)) == (task, parser.parse(right))


def test_of_two_the_last_counts():
    argv = ["", "--task=tpu", "--seed=1", "--task=mnist", "--seed=2", "--describe", "--nodescribe"]
    assert launch.parse(argv) == ("mnist", CnnConfig(seed=2))


def test_undefok_allows_what_it_names():
    assert launch.parse(["", "--task=mnist", "--undefok=colour", "--colour=red"])[1] == CnnConfig()


AT_ONCE = [
    [],
    ["--task=minst"],
    ["--task=mnist", "--epochs=0"],
    ["--task=mnist", "--learning_rate=nan"],
    ["--task=mnist", "--epoch=3"],
    ["--task=mnist", "--model=Compact_20k"],
    ["--task=mnist", "--seed=1e3"],
    ["--task=mnist", "--workdir=a\nb"],
    ["--task=mnist", "--workdir=\udcff"],
    ["--task=mnist", "--resume", "--workdir=/dev/null"],
    ["--task=mnist", "--coordinator_address=a:1"],
    ["--task=backprop", "--lrs=1e309"],
    ["--task=backprop", "--lrs="],
    ["--task=backprop", "--hidden=" + "9" * 5000],
    ["--task=audit"],
    ["--task=audit", "--workbook=~nobody_of_that_name/x.csv"],
    ["--task=demo", "--port=0"],
]


def test_the_command_answers_without_jax():
    program = (
        "import json, sys, launch; codes = [launch.main(['', *argv]) for argv in json.loads(sys.argv[1])]; "
        "print(codes); sys.exit(100 if {'jax', 'numpy'} & sys.modules.keys() else 0)"
    )
    command = [sys.executable, "-c", program, json.dumps(AT_ONCE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{[2] * len(AT_ONCE)}\n")
    lines = done.stderr.splitlines()
    assert len(lines) == len(AT_ONCE)
    for line in lines:
        assert line.startswith("launch.py: ")
        assert line.isprintable()


def test_a_word_that_is_no_text_is_one_line():
    command = [sys.executable, "launch.py", "--task=mnist", b"--workdir=\xff"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("launch.py: flag --workdir=\\udcff: it holds '\\udcff'")
