"""The network of a table: which names its columns have, and the equation of each."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from backprop.config import BackpropConfig
from backprop.equations import all_equations
from backprop.shape import CLASSROOM, Shape

UPDATE = "prev_{w} - prev_eta*prev_dE_d{w}"
"""A weight's equation; prev_ is the row above, next_ the row below."""

_MAX_NEURONS = 8  # in a layer, as --inputs, --hidden and --outputs have it


@dataclass(frozen=True)
class Network:
    """A network with one hidden layer, as a table shows it."""

    shape: Shape = CLASSROOM
    shared_biases: bool = False  # b1 and b2, one a layer, in place of one a neuron
    fixed_biases: bool = False  # constants, which no update changes

    @cached_property
    def biases(self) -> tuple[str, ...]:
        """The biases that the equations have."""
        names = tuple(name for name in self.shape.weight_names if name.startswith("b"))
        return ("b1", "b2") if self.shared_biases and names else names

    @cached_property
    def weights(self) -> tuple[str, ...]:
        """All that the updates change, in the order of the assignment's columns."""
        biases = () if self.fixed_biases else self.biases
        plain = tuple(name for name in self.shape.weight_names if name.startswith("w"))
        return plain + biases if self.shared_biases or self.fixed_biases else self.shape.weight_names

    @cached_property
    def given(self) -> tuple[str, ...]:
        """What stays the same in every row: inputs, targets, biases that no update changes."""
        biases = self.biases if self.fixed_biases else ()
        return (*self.shape.input_names, *self.shape.target_names, *biases)

    @cached_property
    def equations(self) -> Mapping[str, str]:
        """The equation of each column that is computed within a row, in the assignment's order."""
        equations = dict(all_equations(self.shape))
        if self.shape.biases and self.shared_biases:
            equations = _with_shared_biases(equations, self.shape.hidden, self.shape.outputs)
        unused = {f"dE_d{bias}" for bias in self.biases} if self.fixed_biases else set()
        return {name: text for name, text in equations.items() if name not in unused}

    @cached_property
    def intermediates(self) -> tuple[str, ...]:
        """What people have columns for besides: factors, routes and sums of the derivatives, the updates."""
        found = []
        for text in (text for name, text in self.equations.items() if name.startswith("dE_dw")):
            factors = text.split(" * ")
            routes = factors[0][1:-1].split(" + ")
            product = f"{factors[0]} * {factors[1]}"
            found += [factors[0], product, factors[1], *(routes if "*" in routes[0] else ())]
            found += [f"-({factors[0]})", f"-{product}"]
        for name in self.equations:
            if name.startswith("a_"):
                found += [f"1-{name}", f"-{name.removeprefix('a_')}"]
        for w in self.weights:
            found += [f"eta*dE_d{w}", f"{w} - eta*dE_d{w}"]
        return tuple(dict.fromkeys(found))

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns in the assignment's order."""
        known = {*self.given, *self.weights, *self.equations}
        ordered = [name for name in self.shape.columns if name in known]
        return (*ordered, *(name for name in (*self.biases, *self.equations) if name in known - set(ordered)))

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The columns in the order of computation within a row."""
        layers = [[neuron.name for neuron in layer] for layer in self.shape.layers]
        forward = [name for layer in layers for name in (*layer, *(f"a_{name}" for name in layer))]
        rest = [name for name in self.equations if name not in forward]
        return (*self.given, *self.weights, *forward, *rest)

    @cached_property
    def column_kinds(self) -> Mapping[str, str]:
        """What kind of quantity each column is: weights of a layer, sums of a layer, and so on."""
        hidden = {*self.weights_of(0)}
        return {
            name: re.sub(r"\d+$", "", name) + ("hidden" if name.removeprefix("dE_d") in hidden else "")
            for name in (*self.given, *self.weights, *self.equations)
        }

    def weights_of(self, layer: int) -> list[str]:
        """The weights to the hidden layer, 0, or to the output layer, 1, without biases."""
        return [w for neuron in self.shape.layers[layer] for w in neuron.incoming.values() if w[0] == "w"]

    @cached_property
    def assignment(self) -> Mapping[str, float]:
        """The assignment's inputs, targets and weights, for its own network."""
        config = BackpropConfig()
        values = (*config.inputs, *config.targets, *config.weights)
        names = (*self.shape.input_names, *self.shape.target_names, *self.weights)
        return dict(zip(names, values, strict=True)) if self.is_classroom else {}

    @property
    def is_classroom(self) -> bool:
        """Whether it is the assignment's own."""
        return self.shape == CLASSROOM

    def __str__(self) -> str:
        shape = self.shape
        biases = " with one bias a layer" if self.shared_biases else " with biases"
        sizes = f"{shape.inputs}-{shape.hidden}-{shape.outputs}"
        return f"{sizes}{biases if shape.biases else ''}, {shape.activation}"


def _with_shared_biases(equations: Mapping[str, str], hidden: int, outputs: int) -> dict[str, str]:
    """One bias a layer: its derivative is the sum of those by the neurons' own."""
    own = [f"b{number}" for number in range(1, hidden + outputs + 1)]
    layer_of = {bias: "b1" if place < hidden else "b2" for place, bias in enumerate(own)}
    renamed = {
        name: re.sub(r"\bb\d+\b", lambda bias: layer_of[bias.group()], text)
        for name, text in equations.items()
        if name.removeprefix("dE_d") not in own
    }
    for shared in ("b1", "b2"):
        sums = [equations[f"dE_d{bias}"] for bias in own if layer_of[bias] == shared]
        renamed[f"dE_d{shared}"] = " + ".join(sums)
    return renamed


def network_of(names: Collection[str]) -> Network | None:
    """The network whose columns have these names; None where no network has them all.

    Names may be missing: of 6 weights and 2 hidden neurons that sum up 2 inputs, there is one output.
    """
    inputs, hidden = _last("i", names), max(_last("h", names), _last("a_h", names))
    outputs = max(_last(kind, names) for kind in ("o", "a_o", "E", "t"))
    weights = max(_last("w", names), _last("dE_dw", names))
    biases = max(_last("b", names), _last("dE_db", names))
    sizes = [
        (i, h, o)
        for h in range(1, _MAX_NEURONS + 1)
        for i in range(1, _MAX_NEURONS + 1)
        for o in range(1, _MAX_NEURONS + 1)
        if h * (i + o) == weights and i >= inputs and h >= hidden and o >= outputs
    ]
    if not sizes:
        return None
    close = min(sizes, key=lambda size: (sum(size) - inputs - hidden - outputs, size != (2, 2, 2)))
    shape = Shape(*close, biases=bool(biases))
    if biases not in (0, 2, shape.hidden + shape.outputs):
        return None
    return Network(shape, shared_biases=biases == 2 != shape.hidden + shape.outputs)


def _last(kind: str, names: Collection[str]) -> int:
    numbers = (found[1] for name in names if (found := re.fullmatch(rf"{kind}(\d+)", name)))
    return max(map(int, numbers), default=0)
