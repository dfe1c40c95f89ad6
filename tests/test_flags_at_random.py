"""Any command line at all gives a configuration, the help or one line; tests/fuzz.py runs it for long."""

import contextlib
import dataclasses
import functools
import io
import tempfile
from pathlib import Path

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import launch
from backprop.config import BackpropConfig
from cnn.config import CnnConfig
from cnn.experiment import resolve
from harness.errors import UserError
from harness.workdir import OF_ONE_START, flags_text, write_config
from tests.test_flags import EVERY, FLAGS


@functools.cache
def runs():
    """A folder with a run of --task=mnist, one of --task=backprop and a damaged one."""
    folder = tempfile.TemporaryDirectory()
    for name, task, config in (
        ("mnist", "mnist", CnnConfig(model="bn_4k")),
        ("backprop", "backprop", BackpropConfig(lrs=(0.5,))),
    ):
        Path(folder.name, name).mkdir()
        write_config(Path(folder.name, name), task, config, device="CPU")
    Path(folder.name, "damaged").mkdir()
    Path(folder.name, "damaged", "config.json").write_bytes(b'{"task": "mnist", "flags": {"model": 3}}')
    return folder


NUMBER = st.one_of(st.floats().map(repr), st.integers().map(str))
TEXT = st.text(st.characters(exclude_categories=()), max_size=20)  # with what is no text, too
VALUE = st.one_of(
    NUMBER,
    st.lists(NUMBER, max_size=9).map(",".join),
    st.sampled_from(sorted({right for table in FLAGS.values() for right, _ in table.values()})),
    st.sampled_from(
        sorted({wrong for table in FLAGS.values() for _, more in table.values() for wrong in more})
    ),
    st.sampled_from(["mnist", "backprop", "damaged", "nothing"]).map(lambda name: f"{runs().name}/{name}"),
    TEXT,
)
NAME = st.one_of(
    st.sampled_from(sorted({"task", "help", "flagfile", "undefok", *(name for _, name in EVERY)})), TEXT
)
WORD = st.one_of(
    st.builds("{}{}={}".format, st.sampled_from(["-", "--"]), NAME, VALUE),
    NAME.map("--{}".format),
    NAME.map("-{}".format),
    NAME.map("--no{}".format),
    VALUE,
)
OF_A_TASK = st.sampled_from(sorted(FLAGS)).flatmap(
    lambda task: st.dictionaries(st.sampled_from(sorted(FLAGS[task])), VALUE, max_size=6).map(
        lambda given_: [f"--task={task}", *(f"--{name}={value}" for name, value in given_.items())]
    )
)


@given(st.one_of(st.lists(WORD, max_size=8), OF_A_TASK))
@settings(max_examples=500)
@example(["--help"])
@example(["--task=mnist"])
@example(["--task=mnist", "--resume", "--workdir=/proc/self/mem"])
def test_any_command_line_gives_a_configuration_or_one_line(argv):
    configuration_or_one_line(argv)


@given(st.one_of(st.binary(), st.lists(WORD).map(lambda words: "\n".join(words).encode(errors="replace"))))
def test_any_file_of_flags_gives_a_configuration_or_one_line(content):
    file = Path(runs().name, "flags")
    file.write_bytes(content)
    configuration_or_one_line(["--task=mnist", f"--flagfile={file}"])


def configuration_or_one_line(argv):
    shown, stop, message = io.StringIO(), None, ""
    try:
        with contextlib.redirect_stdout(shown):
            task, config = launch.parse(["launch.py", *argv])
            if task == "mnist":
                resolve(config)
    except UserError as error:
        message = str(error)
    except SystemExit as exit_:
        stop = exit_.code
    else:
        assert type(config) is launch.CONFIGS[task]()
    assert message.isprintable()
    assert shown.getvalue().startswith("usage: " if stop == 0 else "")
    assert stop in (None, 0)


RATES = st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=5, unique_by=lambda rate: f"{rate:g}")
NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2)
PATH = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1)
RIGHT = {
    "mnist": {
        "model": st.sampled_from(["bn_4k", "compact_20k"]),
        "epochs": st.integers(1, 20),
        "learning_rate": st.lists(st.floats(1e-8, 100), min_size=1, max_size=5, unique=True),
        "recipe": st.sampled_from(["bn_4k", "compact_20k"]),
        "optimizer": st.sampled_from(["sgd", "adam", "adamw", "muon"]),
        "nesterov": st.booleans(),
        "schedule": st.sampled_from(["constant", "multistep"]),
        "milestones": st.lists(st.integers(1, 20), min_size=1, unique=True).map(sorted),
        "zoom": st.floats(0, 1),
        "max_epochs": st.integers(20, 30),
        "seed": st.integers(0, 2**32 - 1),
        "target_accuracy": st.floats(0, 1, exclude_min=True),
        "reported": st.sampled_from(["0.9942,12,0.9918", "1.0,20,0.5@0a1b2c3d"]),
        "export": PATH,
        "compilation_cache": PATH,
        "num_devices": st.integers(1, 9),
        "coordinator_address": st.just("a:1"),
        **{name: st.booleans() for name in ("wait", "deterministic", "tensorboard", "enforce_budget")},
    },
    "backprop": {
        "lrs": RATES,
        "inputs": NUMBERS,
        "targets": NUMBERS,
        "epochs": st.integers(1, 100),
        "activation": st.sampled_from(["sigmoid", "tanh"]),
        "biases": st.booleans(),
        "workdir": PATH,
    },
    "audit": {
        "workbook": PATH,
        "notebook": PATH,
        "max_parameters": st.integers(1, 10**12),
        "max_epochs": st.integers(1, 60_000),
        "target_accuracy": st.floats(0, 1, exclude_min=True),
    },
}


def as_word(name, value):
    if isinstance(value, list):
        value = ",".join(map(repr, value))
    return f"--{name}={value}"


@given(
    st.sampled_from(sorted(RIGHT)).flatmap(
        lambda task: st.fixed_dictionaries({"task": st.just(task)}, optional=RIGHT[task])
    )
)
def test_flags_txt_gives_the_same_configuration(given_):
    if "coordinator_address" in given_:
        given_ |= {"num_processes": 2, "process_id": 1}
    try:
        task, config = launch.parse(["", *(as_word(*each) for each in given_.items())])
    except UserError:  # a path that is refused
        assume(False)
    file = Path(runs().name, "flags.txt")
    file.write_text(flags_text(task, config))
    of_one_start = {field.name: field.default for field in dataclasses.fields(config)}
    of_one_start = {name: of_one_start[name] for name in of_one_start.keys() & {*OF_ONE_START}}
    assert launch.parse(["", f"--flagfile={file}"]) == (task, dataclasses.replace(config, **of_one_start))
