"""The 2-2-2 network as SVG: values in the neurons, weights and derivatives on the edges."""

from collections.abc import Collection, Mapping

_WIDTH, _HEIGHT, _RADIUS = 360, 342, 27
_COLUMNS, _ROWS = {"i": 42, "h": 180, "o": 318}, {"1": 77, "2": 265}
_EDGES = {
    "w1": ("i1", "h1"),
    "w2": ("i2", "h1"),
    "w3": ("i1", "h2"),
    "w4": ("i2", "h2"),
    "w5": ("h1", "o1"),
    "w6": ("h2", "o1"),
    "w7": ("h1", "o2"),
    "w8": ("h2", "o2"),
}
_OUTSIDE = {  # above an upper neuron, below a lower one, from the neuron outwards
    "h1": ("h1", "dE_da_h1"),
    "h2": ("h2", "dE_da_h2"),
    "o1": ("o1", "t1", "E1"),
    "o2": ("o2", "t2", "E2"),
}

STYLE = """
:root { --forward: #0072b2; --backward: #d55e00 }
.dark { --forward: #56b4e9; --backward: #e69f00 }
.network { display: block; width: 100%; max-width: 440px; margin: auto; font-size: 12.5px }
.network text { fill: var(--body-text-color); text-anchor: middle }
.network line { stroke: var(--border-color-primary); stroke-width: 2 }
.network circle { fill: var(--background-fill-primary); stroke: var(--body-text-color); stroke-width: 1.5 }
.network .name { font-weight: 600 }
.network text.edge { stroke: var(--background-fill-primary); stroke-width: 4; paint-order: stroke }
.network text.backward { fill: var(--backward) }
.network circle.new { stroke: var(--forward); stroke-width: 3 }
.network line.new { stroke: var(--backward); stroke-width: 3 }
.network text.new { font-weight: 700 }
"""
"""Colours by Okabe and Ito, for Gradio's light and dark mode."""


def draw(values: Mapping[str, float], new: Collection[str]) -> str:
    """The network with the values that are known, four digits each, as an SVG element.

    Args:
      values: by the equations' names: i1, w1, a_h1, dE_dw1 ...
      new: the names to emphasise.
    """
    parts = []
    for weight, (start, end) in _EDGES.items():
        (x1, y1), (x2, y2) = _place(start), _place(end)
        fresh = _new(new, weight, f"dE_d{weight}")
        parts.append(f'<line class="{fresh}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
    parts += [_edge_label(weight, values, new) for weight in _EDGES]
    for neuron in ("i1", "i2", "h1", "h2", "o1", "o2"):
        parts += _neuron(neuron, values, new)
    total = f"E_total = {values['E_total']:.4g}" if "E_total" in values else ""
    parts.append(_text(_WIDTH - 54, _HEIGHT / 2 + 4, total, _new(new, "E_total")))
    return (
        f'<svg class="network" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="the network, its weights and values">{"".join(parts)}</svg>'
    )


def _place(neuron: str) -> tuple[int, int]:
    return _COLUMNS[neuron[0]], _ROWS[neuron[1]]


def _neuron(neuron: str, values: Mapping[str, float], new: Collection[str]) -> list[str]:
    x, y = _place(neuron)
    inside = neuron if neuron[0] == "i" else f"a_{neuron}"
    parts = [
        f'<circle class="{_new(new, inside)}" cx="{x}" cy="{y}" r="{_RADIUS}"/>',
        _text(x, y - 3, inside, "name"),
    ]
    if inside in values:
        parts.append(_text(x, y + 12, f"{values[inside]:.4g}", _new(new, inside)))
    known = [name for name in _OUTSIDE.get(neuron, ()) if name in values]
    for place, name in enumerate(known):
        above = neuron[1] == "1"
        height = y - _RADIUS - 6 - 14 * place if above else y + _RADIUS + 15 + 14 * place
        parts.append(_text(x, height, _equals(name, values), _new(new, name), _direction(name)))
    return parts


def _edge_label(weight: str, values: Mapping[str, float], new: Collection[str]) -> str:
    """The weight and, once known, its derivative: by a level edge's middle, by a diagonal's start."""
    (x1, y1), (x2, y2) = (_place(neuron) for neuron in _EDGES[weight])
    along = 0.5 if y1 == y2 else 0.3
    x, y = x1 + along * (x2 - x1), y1 + along * (y2 - y1)
    label = _text(x, y - 5, f"{weight} {values[weight]:.4g}", "edge name", _new(new, weight))
    if f"dE_d{weight}" in values:
        derivative = f"dE_d{weight}"
        label += _text(x, y + 13, f"{values[derivative]:.3g}", "edge", _new(new, derivative), "backward")
    return label


def _equals(name: str, values: Mapping[str, float]) -> str:
    return f"{name.replace('_d', '/d')} = {values[name]:.4g}"


def _direction(name: str) -> str:
    return "backward" if name.startswith("dE") else ""


def _new(new: Collection[str], *names: str) -> str:
    return "new" if any(name in new for name in names) else ""


def _text(x: float, y: float, content: str, *classes: str) -> str:
    return f'<text class="{" ".join(filter(None, classes))}" x="{x:g}" y="{y:g}">{content}</text>'
