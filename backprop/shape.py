"""A network with one hidden layer: its size, and the names of all its values. No JAX here."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

ACTIVATIONS = ("sigmoid", "tanh", "relu")


class Neuron(NamedTuple):
    """One neuron, by the names of its values.

    Attributes:
      name: its weighted sum, such as h1.
      incoming: what it sums up -> the weight of that; a bias is the weight of "1".
    """

    name: str
    incoming: dict[str, str]

    @property
    def a(self) -> str:
        """Its activation, such as a_h1."""
        return f"a_{self.name}"


@dataclass(frozen=True)
class Shape:
    """The size of a network, and how its values are numbered.

    As in the assignment: the weights of the first hidden neuron come first, then those of the next,
    then those of the outputs. Without arguments it is the assignment's own network.

    Attributes:
      activation: of hidden and output neurons alike; one of ACTIVATIONS.
      biases: whether each neuron has one.
    """

    inputs: int = 2
    hidden: int = 2
    outputs: int = 2
    activation: str = "sigmoid"
    biases: bool = False

    @property
    def input_names(self) -> tuple[str, ...]:
        """The inputs' names, i1, i2, ..."""
        return _numbered("i", self.inputs)

    @property
    def target_names(self) -> tuple[str, ...]:
        """The targets' names, t1, t2, ..."""
        return _numbered("t", self.outputs)

    @property
    def layers(self) -> tuple[list[Neuron], list[Neuron]]:
        """The hidden neurons and the output neurons."""
        weights, biases = map("w{}".format, itertools.count(1)), map("b{}".format, itertools.count(1))

        def layer(names: Sequence[str], sources: Sequence[str]) -> list[Neuron]:
            neurons = [Neuron(name, dict(zip(sources, weights, strict=False))) for name in names]
            if self.biases:
                for neuron in neurons:
                    neuron.incoming["1"] = next(biases)
            return neurons

        hidden = layer(_numbered("h", self.hidden), self.input_names)
        return hidden, layer(_numbered("o", self.outputs), [neuron.a for neuron in hidden])

    @property
    def weight_names(self) -> tuple[str, ...]:
        """All weights; the biases of a layer stand after its weights."""
        hidden, output = self.layers
        return (*_weights(hidden), *_weights(output))

    @property
    def column_groups(self) -> dict[str, tuple[str, ...]]:
        """The columns of the assignment's spreadsheet by what they hold, in its order."""
        hidden, output = self.layers
        weights = "weights and biases" if self.biases else "weights"
        return {
            "targets": self.target_names,
            "inputs": self.input_names,
            f"{weights} to the hidden layer": tuple(_weights(hidden)),
            "hidden layer": tuple(name for neuron in hidden for name in (neuron.name, neuron.a)),
            f"{weights} to the output layer": tuple(_weights(output)),
            "output layer": tuple(name for neuron in output for name in (neuron.name, neuron.a)),
            "error": (*_numbered("E", self.outputs), "E_total"),
            "derivatives of E_total": tuple(f"dE_d{weight}" for weight in self.weight_names),
        }

    @property
    def forward_names(self) -> tuple[str, ...]:
        """All values of a forward pass, h1 to E_total."""
        groups = self.column_groups
        return groups["hidden layer"] + groups["output layer"] + groups["error"]

    @property
    def example_names(self) -> tuple[str, ...]:
        """The inputs, then the targets."""
        return self.input_names + self.target_names

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the assignment's spreadsheet, in its order."""
        return tuple(itertools.chain(*self.column_groups.values()))


CLASSROOM = Shape()
"""The assignment's network: two inputs, two hidden and two output neurons, sigmoids, no biases."""


def _numbered(letter: str, count: int) -> tuple[str, ...]:
    return tuple(f"{letter}{number}" for number in range(1, count + 1))


def _weights(layer: Sequence[Neuron]) -> Iterator[str]:
    for biases in (False, True):
        for neuron in layer:
            yield from (weight for source, weight in neuron.incoming.items() if (source == "1") == biases)
