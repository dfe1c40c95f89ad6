"""The network of a submission: a class in PyTorch followed from an image to its logits, as our layers."""

from dataclasses import dataclass

from audit.notebook.cells import Fact, Place
from cnn.architecture import Architecture, Layer
from cnn.text import format_layers

FACTS = {
    "log_softmax": "it ends in log_softmax",
    "log_softmax_without_dim": "log_softmax is not told its dimension",
    "softmax_output": "it ends in softmax",
    "dropout_in_evaluation": "F.dropout is not told whether it trains, so that it drops in evaluation, too",
    "activation_after_last_layer": "an activation stands between the last weights and the output",
    "batch_norm_after_last_layer": "a batch norm stands between the last weights and the output",
    "dropout_after_last_layer": "dropout stands between the last weights and the output",
    "dropout_before_last_layer": "dropout stands right before the last weights",
    "bias_before_batch_norm": "the batch norm that follows takes the layer's bias away again",
    "no_nonlinearity_between": "two layers with weights follow each other without a nonlinearity between",
    "padded_1x1_convolution": "a 1x1 convolution has padding, which adds a border without content",
    "pool_drops_border": "the pooling window does not divide the map: a border is left out",
    "no_batch_norm": "there is no batch norm",
    "no_dropout": "there is no dropout",
    "no_pooling_to_1x1": "neither a pooling of the whole map nor a dense layer is in it",
    "not_a_number_a_class": "it does not end in ten numbers",
    "output_keeps_1x1_map": "the output keeps the height and width of its 1x1 map",
}
"""What each fact's name means."""


@dataclass(frozen=True)
class ReadLayer:
    """A layer of the network that was read.

    Attributes:
      layer: in our language; a residual's layers are inside it.
      name: of the module, as PyTorch names it (conv1.0); of the function where it is none (F.relu).
      place: where the module is made, or the function called.
    """

    layer: Layer
    name: str
    place: Place


@dataclass(frozen=True)
class UnusedLayer:
    """A module that the class holds and forward does not use.

    Attributes:
      name: as PyTorch names it.
      kind: its class.
      parameters: how many; 0 for such as dropout.
      place: where it is made.
    """

    name: str
    kind: str
    parameters: int
    place: Place


@dataclass(frozen=True)
class ReadNetwork:
    """A class of a submission, read.

    Attributes:
      class_name: as the file has it.
      place: where the class begins.
      architecture: the same network in our language, without the log_softmax at its end.
      layers: those of the architecture, each with its place.
      parameters: of the class, as PyTorch counts them: those of unused layers included.
      used_parameters: of what forward uses (torchsummary counts these alone).
      unused: what forward does not use, in the order of the class.
      facts: what is worth a word, each named as in FACTS.
    """

    class_name: str
    place: Place
    architecture: Architecture
    layers: tuple[ReadLayer, ...]
    parameters: int
    used_parameters: int
    unused: tuple[UnusedLayer, ...]
    facts: tuple[Fact, ...]

    @property
    def text(self) -> str:
        """The network for --layers."""
        return format_layers(self.architecture.layers)
