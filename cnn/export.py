"""A trained network in formats that others read: safetensors, ONNX, StableHLO.

Both programs take "images", float32, batch x height x width x channels with any batch, as values from 0
(background) to 255, and give "logits"; the normalisation is inside. They compute in float32, also where a
network was trained with --compute_dtype=bfloat16: its weights are float32 either way.
"""

import dataclasses
import functools
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Float, UInt8

from cnn import architecture as kinds
from cnn import devices, train
from cnn.xla import EPSILON
from harness.errors import UserError
from harness.workdir import write_bytes, write_json

TOLERANCE = 1e-5
ROUNDING = 1e-6
_BATCH = 500
_OPSET = 17
_IR_VERSION = 8  # the one that came with opset 17: older runtimes read it too

Images = UInt8[np.ndarray, "images height width channels"]
Logits = Float[np.ndarray, "images classes"]


def export(
    folder: Path, variables: dict[str, Any], images: Images, *, name: str, config: train.Config
) -> dict[str, Any]:
    """Write model.safetensors, model.onnx, model.stablehlo and export.json; read each back and compare.

    Args:
      folder: where to write.
      variables: params and batch_stats, those that are evaluated.
      images: what each format is run on once it is read back.
      name: of the network.
      config: the network, and the normalisation of its images.

    Returns:
      The content of export.json: with the largest logit and each file's largest difference from
      the logits that are exact.

    Raises:
      UserError: a file gives logits that differ by more than is allowed.
    """
    variables = jax.tree.map(np.asarray, variables)
    config = dataclasses.replace(config, network=config.network.clone(dtype=jnp.float32))
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as scratch,
        jax.default_matmul_precision("highest"),  # a GPU or TPU rounds products to fewer bits otherwise
    ):
        new = Path(scratch)
        contents = {
            "model.safetensors": to_safetensors(variables, name=name, config=config),
            "model.onnx": to_onnx(variables, name=name, config=config).SerializeToString(),
            "model.stablehlo": to_stablehlo(variables, config=config),
        }
        logits, differences = exact_logits(variables, images, config=config), {}
        for file, content in contents.items():
            write_bytes(new / file, content)
            found = _in_batches(_read(new / file, config), images)
            differences[file] = float(np.abs(found - logits).max())
        largest = float(np.abs(logits).max())
        for file, difference in differences.items():
            if not difference <= allowed(largest):
                raise UserError(
                    f"{file} gives logits that differ from the exact ones by {difference:.1e}, the largest "
                    f"being {largest:.1f}: nothing is exported; try the versions of requirements-tests.lock"
                )
        of_input = {"dtype": "float32", "shape": ["batch", *config.network.architecture.input_shape]}
        description = {
            "model": name,
            "input": {"name": "images", **of_input, "values": "0 to 255"},
            "output": {"name": "logits", "dtype": "float32", "shape": ["batch", logits.shape[1]]},
            "mean": config.mean,
            "deviation": config.std,
            "compared_on_images": len(images),
            "largest_logit": largest,
            "largest_difference": differences,
        }
        write_json(new / "export.json", description)
        for file in (*contents, "export.json"):  # all, or none of them where the disk is full
            os.replace(new / file, folder / file)
    return description


def allowed(largest: float) -> float:
    """Return how much logits may differ: TOLERANCE, or ROUNDING of the largest of them.

    ROUNDING is eight roundings of a float32, about as much as our own program in float32 differs from the
    exact logits.
    """
    return max(TOLERANCE, ROUNDING * largest)


def exact_logits(variables: dict[str, Any], images: Images, *, config: train.Config) -> Logits:
    """Return the logits, computed in float64 on a CPU (a TPU cannot) and rounded once."""
    with jax.default_device(devices.host()), jax.enable_x64(True):
        exact = dataclasses.replace(config, network=config.network.clone(dtype=jnp.float64))
        return _in_batches(_program(jax.tree.map(np.float64, variables), exact), images, np.float64)


def to_safetensors(variables: dict[str, Any], *, name: str, config: train.Config) -> bytes:
    """Return the arrays under flat names such as params/Conv_0/kernel; kernels are height, width, in, out."""
    metadata = {"model": name, "mean": json.dumps(config.mean), "deviation": json.dumps(config.std)}
    return safetensors.numpy.save(flatten_dict(variables, sep="/"), metadata)


def to_stablehlo(variables: dict[str, Any], *, config: train.Config) -> bytes:
    """Return the program by jax.export, weights inside, for CPU, CUDA and TPU."""
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *config.network.architecture.input_shape), jnp.float32)
    program = jax.export.export(_program(variables, config), platforms=("cpu", "cuda", "tpu"))(images)
    return bytes(program.serialize())


def to_onnx(variables: dict[str, Any], *, name: str, config: train.Config) -> onnx.ModelProto:
    """Return the network as an ONNX graph, channels first inside: a case for each layer, as in cnn.model."""
    architecture = config.network.architecture
    arrays: dict[str, np.ndarray] = {}
    for collection in variables.values():
        for label, array in flatten_dict(collection, sep="/").items():
            arrays[label] = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
    nodes: list[onnx.NodeProto] = []

    def constant(value: Any, dtype: type[np.generic] = np.float32) -> str:
        """Return the label of a new array."""
        label = f"constant_{len(arrays)}"
        arrays[label] = np.asarray(value, dtype)
        return label

    def add(operator: str, *labels: str, of: str | None = None, **attributes: Any) -> str:
        """Append a node that takes `of`, or what the one before it gave, then those labels that exist."""
        known, output = {*arrays, *(node.output[0] for node in nodes)}, f"{operator}_{len(nodes)}"
        before = nodes[-1].output[0] if nodes else "images"
        inputs = [of or before, *(label for label in labels if label in known)]
        nodes.append(onnx.helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    add("Div", constant(255))
    add("Sub", constant(config.mean))
    add("Div", constant(config.std))
    add("Transpose", perm=(0, 3, 1, 2))
    counts = Counter[str]()

    def next_name(kind: str) -> str:
        """Return the name that Flax gives the next module of a kind."""
        counts[kind] += 1
        return f"{kind}_{counts[kind] - 1}"

    def through(
        layers: tuple[kinds.Layer, ...], rows: tuple[kinds.LayerSummary, ...], shape: kinds.Shape
    ) -> None:
        for layer, row in zip(layers, rows, strict=True):
            x = nodes[-1].output[0]
            match layer:
                case kinds.Crop(margin):
                    from_to_axes = [margin] * 2, [-margin] * 2, [2, 3]
                    add("Slice", *(constant(each, np.int64) for each in from_to_axes))
                case kinds.Conv(stride=stride, padding=padding, shares=shares, groups=groups):
                    at = next_name("Conv")  # those that share weights are counted, too
                    if shares is not None:
                        at = f"Conv_{shares}"
                    square: dict[str, Any] = {"strides": [stride] * 2, "pads": [padding] * 4}
                    add("Conv", f"{at}/kernel", f"{at}/bias", group=groups, **square)
                case kinds.BatchNorm(plain):
                    at = next_name("Normalization")
                    affine = f"{at}/scale", f"{at}/bias"
                    if plain:
                        affine = constant([1] * shape[-1]), constant([0] * shape[-1])
                    add("BatchNormalization", *affine, f"{at}/mean", f"{at}/var", epsilon=EPSILON)
                case kinds.ReLU():
                    add("Relu")
                case kinds.SiLU():
                    add("Mul", add("Sigmoid"), of=x)
                case kinds.GELU():  # x (1 + erf(x / sqrt(2))) / 2
                    add("Div", constant(2**0.5))
                    add("Erf")
                    add("Add", constant(1))
                    add("Mul", x)
                    add("Div", constant(2))
                case kinds.LeakyReLU(slope):
                    add("LeakyRelu", alpha=slope)
                case kinds.Dropout() | kinds.ChannelDropout():
                    pass
                case kinds.AveragePool(None):
                    add("GlobalAveragePool")
                case kinds.MaxPool(window) | kinds.AveragePool(window):  # ONNX has our names
                    add(type(layer).__name__, kernel_shape=[window] * 2, strides=[window] * 2)
                case kinds.ConcatPool():
                    maximum = add("GlobalMaxPool")
                    add("GlobalAveragePool", of=x)
                    add("Concat", maximum, axis=1)
                case kinds.Dense():
                    if len(shape) == 3:
                        add("Transpose", perm=(0, 2, 3, 1))
                        add("Flatten")
                    at = next_name("Dense")
                    add("Gemm", f"{at}/kernel", f"{at}/bias")
                case kinds.Residual(inside):
                    through(inside, row.inside, shape)
                    add("Add", x)
                case _:
                    raise kinds.unknown_layer(layer)
            shape = row.output_shape

    rows = kinds.summarize(architecture)
    through(architecture.layers, rows, architecture.input_shape)
    add("Flatten")
    nodes[-1].output[0] = "logits"
    images, logits = (
        onnx.helper.make_tensor_value_info(label, onnx.TensorProto.FLOAT, ["batch", *shape])
        for label, shape in (("images", architecture.input_shape), ("logits", rows[-1].output_shape[-1:]))
    )
    weights = [onnx.numpy_helper.from_array(np.asarray(array), label) for label, array in arrays.items()]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, name, [images], [logits], weights),
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _program(variables: dict[str, Any], config: train.Config) -> jax.stages.Wrapped:
    return jax.jit(functools.partial(train.predict, variables, config=config))


def _read(file: Path, config: train.Config) -> Callable[..., Any]:
    """Return the program of an exported file as its own library reads it."""
    match file.suffix:
        case ".safetensors":
            return _program(unflatten_dict(safetensors.numpy.load(file.read_bytes()), sep="/"), config)
        case ".onnx":
            session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
            return lambda images: session.run(["logits"], {"images": images})[0]
        case ".stablehlo":
            return jax.export.deserialize(bytearray(file.read_bytes())).call
    raise ValueError(f"{file} is of no format that is exported")


def _in_batches(program: Callable[..., Any], images: Images, dtype: type[np.floating] = np.float32) -> Logits:
    """Return the program's logits of all images, which it takes as this dtype, a batch at a time."""
    starts = range(0, len(images), _BATCH)
    return np.concatenate([np.asarray(program(dtype(images[start : start + _BATCH]))) for start in starts])
