"""What the page says of a network's text."""

import html
import json
import re
import shlex

import pytest

import launch
from cnn.architecture import Architecture, count_parameters, format_table
from cnn.experiment import resolve
from cnn.text import parse
from cnn.zoo import ZOO

pytest.importorskip("gradio", reason="the extra demo is not installed")

from demo import design_tab
from demo.design_tab import shown

RESIDUAL = "residual (conv 16 3x3 pad 1, residual (batch norm), SiLU)"


def rows(table):
    """The cells of a table's rows as text."""
    return [
        [html.unescape(re.sub("<.*?>", "", cell)) for cell in re.findall("<td.*?</td>", row)]
        for row in re.findall("<tr>(?!<th>).*?</tr>", table)
    ]


@pytest.mark.parametrize("name", ZOO)
def test_a_network_of_the_zoo_has_its_table_and_a_command_that_names_it(name):
    problem, table, command = shown(ZOO[name].layers)
    assert problem == ""
    network = ZOO[name].architecture
    count = count_parameters(network)
    assert f"<b>{count:,} parameters</b> of fewer than 20,000: {19_999 - count:,} left" in table
    *cells, total = rows(table)
    assert total == ["total", "", f"{count:,}", ""]
    printed = format_table(network).splitlines()[1:-1]
    assert [re.split(" {2,}", line)[:4] for line in printed] == cells
    _, config = launch.parse(shlex.split(command)[1:])
    assert resolve(config).architecture == network


def test_a_residuals_layers_are_indented_and_counted_once():
    text = f"conv 16 3x3, {RESIDUAL}, global average pool, dense 10 bias"
    problem, table, _ = shown(text)
    assert problem == ""
    cells = rows(table)
    count = count_parameters(Architecture(parse(text)))
    assert sum(int(parameters.replace(",", "")) for _, _, parameters, _ in cells[:-1]) == count
    assert cells[-1][2] == f"{count:,}"
    assert [layer for layer, *_ in cells].count("their sum with what came in") == 2
    assert re.findall(r"padding-left: (\d+)px", table) == ["4", "16", "28", "16", "16", "4", "4", "4"]


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (
            '# it\'s "$HOME"\n\tglobal average pool,\n\n ,dense 10  bias  # `10` digits\n',
            "--layers='global average pool, dense 10 bias'",
        ),
        (
            "2 x (\n  residual (  # twice\n    batch norm\n  )\n)\nglobal average pool\ndense 10",
            "--layers='2 x (residual (batch norm)), global average pool, dense 10'",
        ),
    ],
)
def test_the_command_is_one_line_of_the_same_layers(text, command):
    shell = shown(text)[2]
    assert shell == f"python launch.py --task=mnist {command}"
    _, config = launch.parse(shlex.split(shell)[1:])
    assert resolve(config).architecture == Architecture(parse(text))


@pytest.mark.parametrize(
    ("text", "marked", "said"),
    [
        ("conv 16 3x3, bach norm", "conv 16 3x3, <mark>bach</mark> norm", "did you mean batch norm?"),
        ("conv 16 3x3\n\tdense 10 bias,2 x", "\tdense 10 bias,2 x<mark>␣</mark>", "(line 2, column 19)"),
        ("", "<mark>␣</mark>", "(line 1, column 1) comes before any layer"),
        ("relu\n\n<b>", "<mark>&lt;b&gt;</mark>", "'<b>' (line 3, column 1) is not a layer"),
        ("ReLU, " * 50 + "y" * 500, f"<mark>{'y' * 60}</mark></code>", "is not a layer"),
    ],
)
def test_a_wrong_word_is_marked_in_its_line_above_the_parsers_words(text, marked, said):
    problem, table, command = shown(text)
    assert marked in problem
    assert said in html.unescape(problem)
    assert (table, command) == ("", "")


@pytest.mark.parametrize(
    ("text", "has_table", "said"),
    [
        ("conv 8 30x30", False, "layer 1 (conv 8 30x30) does not fit its input 28x28x1"),
        ("conv 8 3x3", True, "ends in 26x26x8 = 5,408 numbers, not in one a class"),
        ("dense 100, dense 10", True, "has 79,400 parameters, the budget is fewer than 20,000"),
    ],
)
def test_what_the_task_would_refuse_is_said_and_has_no_command(text, has_table, said):
    problem, table, command = shown(text)
    assert said in html.unescape(problem)
    assert (table != "") == has_table
    assert command == ""


@pytest.mark.parametrize(
    ("settings", "words", "said"),
    [
        ({"recipe": "bn_4k", "epochs": 15, "nesterov": True}, "--recipe=bn_4k --nesterov --epochs=15", ""),
        (
            {"recipe": "plain_4k", "schedule": "multistep", "milestones": (8, 12), "gamma": 0.1},
            "--recipe=plain_4k --schedule=multistep --milestones=8,12 --gamma=0.1",
            "",
        ),
        ({"recipe": "plain_4k", "epochs": 40}, "", "--epochs=40 is over the budget of 20"),
    ],
)
def test_the_command_has_the_recipe_that_came_with_the_layers(settings, words, said):
    problem, _, command = shown("conv 10 3x3, global average pool", settings)
    assert said in problem
    if said:
        assert command == ""
        return
    _, _, shown_words = command.partition("pool' ")
    assert sorted(shown_words.split()) == sorted(words.split())
    _, config = launch.parse(shlex.split(command)[1:])
    assert {name: getattr(config, name) for name in settings} == settings


def test_the_budget_is_fewer_than_20000():
    table = shown("dense 100, dense 10")[1]
    assert "<b>79,400 parameters</b> of fewer than 20,000: 59,401 too many" in table


def test_what_the_browser_brings_back_sets_nothing_but_a_recipe():
    """It is what the route for notebooks answered, unless somebody changed it on the way."""
    sent = {"layers": "dense 10", "words": "", "settings": {"recipe": "bn_4k", "milestones": [8, 12]}}
    sent["settings"] |= {"workdir": "/", "model": "/etc/passwd", "dataset": "/dev/zero", "resume": True}
    layers, settings, *_ = design_tab.read(json.dumps(sent))
    assert (layers, settings) == ("dense 10", {"recipe": "bn_4k", "milestones": (8, 12)})
    _, _, said, _ = design_tab.read(json.dumps({"words": "<b>no</b>"}))
    assert said == '<p class="problem">&lt;b&gt;no&lt;/b&gt;</p>'


def test_a_text_of_any_length_is_answered_at_once():
    assert (
        shown("\n" * 500_000)[0]
        == '<p class="problem">500,000 characters are too many: give at most 50,000</p>'
    )
