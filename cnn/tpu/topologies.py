"""TPU slices by the names that their users know, and what libtpu calls them. No JAX here."""

from typing import NamedTuple


class Topology(NamedTuple):
    """One TPU host.

    Attributes:
      libtpu_name: generation and chips along x and y (and z), as libtpu wants them.
      chips: along x, y and z.
      accelerator_type: what the host would have in TPU_ACCELERATOR_TYPE.
      devices: as JAX counts them: cores of v2 and v3, which have two a chip, and chips of the others.
      peak_flops: of one device, with products in bfloat16, a second.
    """

    libtpu_name: str
    chips: tuple[int, int, int]
    accelerator_type: str
    devices: int
    peak_flops: float


_V2, _V3, _V5E, _V6E = 45e12 / 2, 123e12 / 2, 197e12, 918e12
"""The pages "TPU v2" to "TPU v6e" of cloud.google.com/tpu/docs give them a chip."""

TOPOLOGIES = {
    "v2-8": Topology("v2:2x2x1", (2, 2, 1), "v2-8", 8, _V2),
    "v3-8": Topology("v3:2x2x1", (2, 2, 1), "v3-8", 8, _V3),
    "v5e-1": Topology("v5e:1x1", (1, 1, 1), "v5litepod-1", 1, _V5E),
    "v5e-4": Topology("v5e:2x2", (2, 2, 1), "v5litepod-4", 4, _V5E),
    "v5e-8": Topology("v5e:2x4", (2, 4, 1), "v5litepod-8", 8, _V5E),
    "v6e-1": Topology("v6e:1x1", (1, 1, 1), "v6e-1", 1, _V6E),
    "v6e-4": Topology("v6e:2x2", (2, 2, 1), "v6e-4", 4, _V6E),
}
