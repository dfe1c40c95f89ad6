"""The first tab: one update of the 2-2-2 network, step by step, with the numbers filled in."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import jax
import jax.numpy as jnp
import pandas as pd

from backprop.config import BackpropConfig
from backprop.equations import STEPS, by_hand, evaluate
from backprop.network import Example, Scalar, Weights, on_cpu, total_error
from backprop.report import walk_through
from demo.network_drawing import draw

_UPDATE = len(STEPS) + 1  # the step after the last is the update
_START, _ETA = BackpropConfig(), 0.5

STYLE = """
.equations > h3 { margin: 0 0 0.6em }
.equations > p { margin: 0.35em 0; font-family: var(--font-mono); font-size: 13px; line-height: 1.5 }
.equations > p:has(b) { display: grid; grid-template-columns: 5.8em 1fr }
.equations p > span { display: flex; flex-wrap: wrap; column-gap: 0.6em; overflow-wrap: anywhere }
.equations i { font-style: normal; white-space: nowrap }
.equations span > span:last-child { font-weight: 700 }
"""


@dataclass(frozen=True)
class Walk:
    """Where a person is.

    Attributes:
      weights: before the update that is being walked through.
      shown: how many of its steps are shown; the last is the update itself.
      losses: E_total after 0, 1, 2 ... updates, the last with these weights.
    """

    weights: tuple[float, ...]
    shown: int
    losses: tuple[float, ...]


def begin(i1: float, i2: float) -> Walk:
    """Before the first step, with the assignment's weights."""
    with on_cpu(float64=True):
        loss = float(total_error(Weights(*map(jnp.asarray, _START.weights)), _example(i1, i2)))
    return Walk(_START.weights, 0, (loss,))


def step(walk: Walk, eta: float, i1: float, i2: float) -> Walk:
    """One step further; after the update, the first step of the next."""
    if walk.shown == _UPDATE:
        walk = update(walk, eta, i1, i2)
    return replace(walk, shown=walk.shown + 1)


def update(walk: Walk, eta: float, i1: float, i2: float) -> Walk:
    """One whole update further, before its first step."""
    with on_cpu(float64=True):
        example = _example(i1, i2)
        weights = _updated(Weights(*map(jnp.asarray, walk.weights)), example, eta)
        loss = float(total_error(weights, example))
    return Walk(tuple(map(float, weights)), 0, (*walk.losses, loss))


def ten_updates(walk: Walk, eta: float, i1: float, i2: float) -> Walk:
    """Ten whole updates further, after the one that is shown, if one is."""
    for _ in range(10 + (walk.shown == _UPDATE)):
        walk = update(walk, eta, i1, i2)
    return walk


def show(walk: Walk, eta: float, i1: float, i2: float) -> tuple[str, str, gr.LinePlot]:
    """The drawing, the equations of the step, and the loss of each update."""
    with on_cpu(float64=True):
        weights, example = Weights(*map(jnp.asarray, walk.weights)), _example(i1, i2)
        values: dict[str, Any] = {**weights._asdict(), **example._asdict()}
        new: set[str] = set()
        for equations in list(STEPS.values())[: walk.shown]:
            values |= evaluate(equations, values)
            new = set(equations)
        # walk_through parts the steps by empty lines.
        sections = walk_through(weights, example, eta).split("\n\n")
    losses = walk.losses
    if walk.shown == _UPDATE:
        updated = update(walk, eta, i1, i2)
        values |= dict(zip(Weights._fields, updated.weights, strict=True))
        new, losses = set(Weights._fields), updated.losses
    number = f"Update {len(walk.losses)}"
    text = _equations(number, sections[walk.shown - 1]) if walk.shown else _invitation(number)
    return draw({name: float(value) for name, value in values.items()}, new), text, _curve(losses)


def network_tab() -> None:
    """Lay out the tab in the gr.Blocks that is being built."""
    start = begin(*_START.inputs)
    drawing, text, curve = show(start, _ETA, *_START.inputs)
    walk = gr.State(start)
    with gr.Row():
        with gr.Column():
            network = gr.HTML(drawing, elem_id="network")
            with gr.Row():
                step_button = gr.Button("Step", variant="primary", size="md", min_width=80)
                ten_button = gr.Button("10 updates", size="md", min_width=80)
                start_button = gr.Button("Start over", size="md", min_width=80)
        with gr.Column():
            equations = gr.HTML(text, elem_id="equations")
    with gr.Row():
        with gr.Column():
            eta = gr.Slider(0.1, 10, value=_ETA, step=0.1, label="learning rate eta")
            i1, i2 = (
                gr.Slider(0, 1, value=value, step=0.01, label=f"input {name} (a change starts over)")
                for name, value in zip(("i1", "i2"), _START.inputs, strict=True)
            )
        with gr.Column():
            curve.render()
    settings, shown = [eta, i1, i2], [network, equations, curve]
    for button, move in ((step_button, step), (ten_button, ten_updates)):
        moved = button.click(move, [walk, *settings], walk, show_progress="hidden")
        moved.then(show, [walk, *settings], shown, show_progress="hidden")
    begun = gr.on([start_button.click, i1.change, i2.change], begin, [i1, i2], walk, show_progress="hidden")
    begun.then(show, [walk, *settings], shown, show_progress="hidden")
    eta.change(show, [walk, *settings], shown, show_progress="hidden")


def _example(i1: float, i2: float) -> Example:
    return Example(*map(jnp.asarray, (float(i1), float(i2), *_START.targets)))


@jax.jit
def _updated(weights: Weights, example: Example, eta: Scalar) -> Weights:
    return jax.tree.map(lambda w, dE_dw: w - eta * dE_dw, weights, by_hand(weights, example))


def _equations(number: str, section: str) -> str:
    """A section of walk_through as HTML: name, equation, numbers put in, result."""
    title, *lines = re.sub(r"\n {10,}=", " =", section).splitlines()
    parts = [f"<h3>{number}. {html.escape(title)}</h3>"]
    for line in lines:
        name, *sides = html.escape(line.strip()).split(" = ")
        unbroken = [re.sub(r"\([^()]*\)", r"<i>\g<0></i>", side) for side in sides]
        spans = " ".join(f"<span>= {side}</span>" for side in unbroken)
        parts.append(f"<p><b>{name.strip()}</b> <span>{spans}</span></p>" if sides else f"<p>{name}</p>")
    return f'<div class="equations">{"".join(parts)}</div>'


def _curve(losses: Sequence[float]) -> gr.LinePlot:
    return gr.LinePlot(
        pd.DataFrame({"update": range(len(losses)), "E_total": losses}),
        x="update",
        y="E_total",
        x_title="updates",
        y_title="loss E_total",
        x_lim=[0, max(10, len(losses) - 1)],
        y_lim=[0, 1.1 * max(losses)],
        x_axis_format="d",
        height=260,
        buttons=[],
        elem_id="loss",
        render=False,
    )


def _invitation(number: str) -> str:
    return (
        f'<div class="equations"><h3>{number}</h3> Press Step: first the forward pass, then the derivatives '
        "in five more steps, then the update of the weights.</div>"
    )
