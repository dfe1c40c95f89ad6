"""What reshaping, flattening, squeezing and means do to a batch of images."""

import math
from typing import Any

from audit.notebook.values import BATCH, Node, Opaque, Refused, Site, Tensor
from cnn.architecture import AveragePool


def is_index(value: Any, shape: tuple[Any, ...]) -> bool:
    """Whether a value counts one of a shape's dimensions."""
    return isinstance(value, int) and not isinstance(value, bool) and -len(shape) <= value < len(shape)


def in_words(shape: tuple[Any, ...]) -> str:
    """A shape without its batch."""
    return "x".join(str(side) for side in shape[1:]) or "no dimensions"


def reshaped(tensor: Tensor, sizes: list[Any], site: Site) -> Tensor:
    """As view and reshape have it, as long as images stay apart."""
    numbers, batch_size = math.prod(tensor.shape[1:]), tensor.shape[0]
    if not sizes or not all(size is BATCH or type(size) is int for size in sizes):
        raise Refused(site, "the shape is not known without running the code")
    first, rest = sizes[0], sizes[1:]
    if any(size is BATCH for size in rest) or rest.count(-1) + (first == -1) > 1:
        raise Refused(site, "it does not keep the images of a batch apart")
    known = math.prod(size for size in rest if size != -1)
    is_whole = first is BATCH or first == batch_size
    if is_whole and -1 in rest and known > 0 and numbers % known == 0:
        rest = [numbers // known if size == -1 else size for size in rest]
        known = numbers
    if not (is_whole or first == -1) or known != numbers or any(size < 1 for size in rest):
        raise Refused(
            site,
            f"an image has {numbers:,} numbers here: the new shape does not keep the images of a batch apart",
        )
    return Tensor((batch_size, *rest), tensor.layout, tensor.node)


def flattened(tensor: Tensor, start: Any, end: Any, site: Site) -> Tensor:
    """As flatten has it."""
    shape = tensor.shape
    if not is_index(start, shape) or not is_index(end, shape):
        raise Refused(site, "what it flattens is not known without running the code")
    start, end = start % len(shape), end % len(shape)
    if start > end:
        raise Refused(site, "it flattens up to a dimension before its first one")
    if start == 0 and end > 0:
        raise Refused(site, "it does not keep the images of a batch apart")
    flat = (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])
    return Tensor(flat, tensor.layout, tensor.node)


def squeezed(tensor: Tensor, name: str, dim: Any, site: Site) -> Tensor:
    """As squeeze and unsqueeze have it."""
    shape = tensor.shape
    if name == "squeeze":
        dims = [index for index, side in enumerate(shape) if type(side) is int and side == 1]
        if dim is not None:
            wanted = dim if isinstance(dim, tuple | list) else (dim,)
            if not all(is_index(each, shape) for each in wanted):
                raise Refused(site, "what it squeezes is not known without running the code")
            dims = [index for index in dims if index in [each % len(shape) for each in wanted]]
        return Tensor(
            tuple(side for index, side in enumerate(shape) if index not in dims), tensor.layout, tensor.node
        )
    if not is_index(dim, (*shape, 1)) or dim % (len(shape) + 1) == 0:
        raise Refused(site, "it does not keep the images of a batch apart")
    place = dim % (len(shape) + 1)
    return Tensor((*shape[:place], 1, *shape[place:]), tensor.layout, tensor.node)


def mean(tensor: Tensor, dims: Any, keepdim: Any, site: Site) -> Any:
    """Of the whole map, at once or along one side after the other; Opaque for any other mean."""
    shape, layout = tensor.shape, tensor.layout
    wanted = dims if isinstance(dims, tuple | list) else (dims,)
    if not wanted or not all(is_index(each, shape) for each in wanted) or not isinstance(keepdim, bool):
        return Opaque("call", site.text, site, args=(tensor,))
    over = sorted({each % len(shape) for each in wanted})
    left = tuple(
        1 if index in over else side for index, side in enumerate(shape) if index not in over or keepdim
    )
    if tensor.node.kind == "mean":
        whole = over == [2] if len(shape) == 3 else len(shape) == 4 and over in ([2], [3])
        source, channels = tensor.node.inputs[0], layout[0]
    else:
        is_map = len(layout) == 3 and layout == shape[1:]
        rows = len(layout) == 3 and shape[1:] == (layout[0], math.prod(layout[1:]))
        whole = (is_map and over == [2, 3]) or (rows and over == [2])
        source, channels = tensor.node, layout[0]
        if is_map and over in ([2], [3]):
            return Tensor(left, layout, Node("mean", (tensor.node,), site=site, name="mean"))
    if not whole or math.prod(left[1:]) != channels:
        return Opaque("call", site.text, site, args=(tensor,))
    node = Node("layer", (source,), AveragePool(None), site=site, name="mean")
    return Tensor(left, (channels, 1, 1), node)
