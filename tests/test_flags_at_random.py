"""Any command line at all gives a configuration, the help or one line; tests/fuzz.py runs it for long."""

import contextlib
import functools
import io
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

import launch
from backprop.config import BackpropConfig
from cnn.config import CnnConfig
from errors import UserError
from tests.test_flags import EVERY, FLAGS
from workdir import write_config


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
NAME = st.one_of(st.sampled_from(sorted({"task", "help", *(name for _, name in EVERY)})), TEXT)
WORD = st.one_of(
    st.builds("--{}={}".format, NAME, VALUE), NAME.map("--{}".format), NAME.map("--no{}".format), VALUE
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
    shown, stop, message = io.StringIO(), None, ""
    try:
        with contextlib.redirect_stdout(shown):
            task, config = launch.parse(["launch.py", *argv])
    except UserError as error:
        message = str(error)
    except SystemExit as exit_:
        stop = exit_.code
    else:
        assert type(config) is launch.TASKS[task][0]
    assert message.isprintable()
    assert shown.getvalue().startswith("usage: " if stop == 0 else "")
    assert stop in (None, 0)
