"""The third tab: layers are typed, or read from a notebook; their shapes and parameters show at once."""

import dataclasses
import html
import inspect
import json
import shlex
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import gradio as gr

from audit.api import Notebook, printable
from audit.config import NOTEBOOKS
from cnn.architecture import Architecture, LayerSummary, format_shape, summarize
from cnn.config import CnnConfig
from cnn.experiment import resolve
from cnn.recipe import Recipe
from cnn.text import LayersError, parse
from cnn.zoo import DEFAULT, ZOO
from demo import drop
from demo.drop import drop_area
from harness.errors import UserError
from harness.workdir import flags_text

_BUDGET = CnnConfig.max_parameters
_OF_A_RECIPE = {"recipe", "validation_size", *(field.name for field in dataclasses.fields(Recipe))}
_LONGEST = 50_000  # characters of a text
_AROUND = 60  # characters of a line that are quoted on each side of a wrong word

STYLE = (
    drop.STYLE
    + """
.found { margin: 0; padding-left: 0.9em; border-left: 4px solid #009e73; overflow-wrap: anywhere }
#layers textarea, #command textarea { font-family: var(--font-mono); font-size: 13px }
.problem { margin: 0; padding-left: 0.9em; border-left: 4px solid #d55e00; overflow-wrap: anywhere }
.problem code { display: block; margin-bottom: 0.4em; white-space: pre-wrap; font-size: 13px }
.problem mark { padding: 0 0.15em; background: #d55e00; color: #fff; border-radius: 3px }
.bar { height: 0.6em; overflow: hidden; border-radius: 8px; background: var(--border-color-primary) }
.bar div { height: 100%; background: #0072b2 }
.bar div.over { background: #d55e00 }
.bar + p { margin: 0.4em 0 0.8em }
#summary table { width: 100%; margin: 0; border: none; border-collapse: collapse; font-size: 13px;
  font-variant-numeric: tabular-nums }
#summary tr { border: none }
#summary td, #summary th { padding: 3px 4px; text-align: right; border-width: 0 0 1px;
  border-style: solid; border-color: var(--border-color-primary) }
#summary td:first-child, #summary th:first-child { text-align: left }
#summary tr:last-child td { font-weight: 700 }
"""
)


def design_tab() -> None:
    """Lay out the tab in the gr.Blocks that is being built."""
    text, settings = _of_the_zoo(DEFAULT)
    problem, table, command = shown(text, settings)
    recipe = gr.State(settings)
    gr.Markdown(
        "A network as text, as --layers and --model=FILE take it: a comma or a line's end after each layer."
    )
    with gr.Row():
        with gr.Column():
            start = gr.Dropdown(list(ZOO), value=DEFAULT, label="start with a network of the zoo")
            notebook = drop_area(
                "a notebook in PyTorch",
                NOTEBOOKS,
                route="files/notebook",
                remedy="give it without its pictures, or use --task=audit",
                elem_id="notebook",
            )
            said = gr.HTML(elem_id="read")
            layers = gr.Textbox(text, lines=10, max_lines=24, label="layers", elem_id="layers")
            wrong = gr.HTML(problem, elem_id="problem")
        with gr.Column():
            summary = gr.HTML(table, elem_id="summary")
    to_copy = gr.Textbox(
        command,
        label="the command that trains it",
        buttons=["copy"],
        placeholder="nothing, as long as --task=mnist would refuse the network",
        interactive=False,
        elem_id="command",
    )
    start.input(lambda name: (*_of_the_zoo(name), ""), start, [layers, recipe, said], show_progress="hidden")
    notebook.upload(read, notebook, [layers, recipe, said, start])
    # While an answer is under way, what is typed waits; of that only the last is answered.
    gr.on(
        [layers.change, recipe.change],
        shown,
        [layers, recipe],
        [wrong, summary, to_copy],
        trigger_mode="always_last",
        show_progress="hidden",
    )


def read(sent: str) -> tuple[Any, Any, str, Any]:
    """Of a notebook that was dropped: layers, recipe, what is said of it as HTML, and the zoo's choice: none.

    One that is refused leaves all but the words as it is.

    Args:
      sent: the fields of Notebook in JSON, by way of the browser, which may have changed them.
    """
    found = Notebook(**{"layers": "", **json.loads(sent)})
    if not found.layers:
        return gr.skip(), gr.skip(), _said(found), gr.skip()
    settings = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in found.settings.items()
        if name in _OF_A_RECIPE
    }
    return found.layers.replace(", ", "\n"), settings, _said(found), None


def _said(found: Notebook) -> str:
    """The line on a notebook, its recipe and its mistakes, as HTML."""
    if not found.layers:
        return f'<p class="problem">{html.escape(printable(found.words))}</p>'
    recipe = f"<br>Its recipe: <code>{html.escape(found.recipe)}</code>" if found.recipe else ""
    mistakes = "".join(f"<li>{html.escape(printable(each))}</li>" for each in found.mistakes)
    return (
        f'<div class="found">{html.escape(printable(found.words))}{recipe}'
        f"{f'<br>Mistakes:<ul>{mistakes}</ul>' if mistakes else ''}</div>"
    )


def _of_the_zoo(name: str) -> tuple[str, dict[str, Any]]:
    """A network's text, and the flags of its recipe by name."""
    return inspect.cleandoc(ZOO[name].layers), {} if name == DEFAULT else {"recipe": name}


def shown(text: str, settings: Mapping[str, Any] = MappingProxyType({})) -> tuple[str, str, str]:
    """What is wrong in a network's text, its table, both as HTML, and the command that trains it.

    Each is empty where there is none: without a network that can be read and fits there is no table, and
    without one that --task=mnist takes no command.

    Args:
      settings: flags of its recipe by name.
    """
    if len(text) > _LONGEST:
        return (
            _problem(UserError(f"{len(text):,} characters are too many: give at most {_LONGEST:,}")),
            "",
            "",
        )
    try:
        network = Architecture(parse(text))
        table = _table(network)
    except LayersError as error:
        return _problem(error, _quoted(text, error)), "", ""
    except UserError as error:
        return _problem(error), "", ""
    try:
        flags = resolve(CnnConfig(layers=text, **settings)).flags
    except UserError as error:
        return _problem(error), table, ""
    lines = (line.partition("=") for line in flags_text("mnist", flags).splitlines())
    words = (name + equals + (shlex.quote(value) if equals else "") for name, equals, value in lines)
    return "", table, " ".join(["python launch.py", *words])


def _problem(error: UserError, quoted: str = "") -> str:
    return f'<p class="problem">{quoted}{html.escape(str(error))}</p>'


def _quoted(text: str, error: LayersError) -> str:
    """The line with the wrong word in it, marked."""
    line = text.split("\n")[error.line - 1]
    start, end = error.column - 1, error.column - 1 + len(error.word.strip("\n"))
    before, after = line[max(0, start - _AROUND) : start], line[end : end + _AROUND]
    word = line[start : min(end, start + _AROUND)] or "\N{OPEN BOX}"
    return f"<code>{html.escape(before)}<mark>{html.escape(word)}</mark>{html.escape(after)}</code>"


def _table(network: Architecture) -> str:
    """What is left of the budget, and the table of layers."""
    rows, side = summarize(network), network.input_shape[0]
    count = sum(row.parameters for row in rows)
    left = _BUDGET - 1 - count
    words = f"{left:,} left" if left >= 0 else f"{-left:,} too many"
    share = min(1, count / _BUDGET)
    head = "<tr><th>layer</th><th>output shape</th><th>para&shy;meters</th><th>receptive field</th></tr>"
    wide = any(row.receptive_field > side for row in rows)
    note = f"<p>A receptive field of more than {side} is wider than the image.</p>" if wide else ""
    return (
        f'<div class="bar"><div class="{"over" if left < 0 else ""}" style="width: {share:.1%}"></div></div>'
        f"<p><b>{count:,} parameters</b> of fewer than {_BUDGET:,}: {words}</p>"
        f"<table>{head}{''.join(_cells(rows, depth=0))}"
        f"<tr><td>total</td><td></td><td>{count:,}</td><td></td></tr></table>{note}"
    )


def _cells(rows: tuple[LayerSummary, ...], depth: int) -> Iterator[str]:
    """A table row for each layer, a residual's own below those of its layers, which are indented."""
    for row in rows:
        yield from _cells(row.inside, depth + 1)
        layer, parameters = ("their sum with what came in", 0) if row.inside else (row.layer, row.parameters)
        yield (
            f'<tr><td style="padding-left: {4 + 12 * depth}px">{html.escape(layer)}</td>'
            f"<td>{format_shape(row.output_shape)}</td><td>{parameters:,}</td><td>{row.receptive_field}</td></tr>"
        )
