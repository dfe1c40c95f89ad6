"""Compile a small program that has all that the report looks for, for a TPU v2-8, and print it.

`python -m tests.cnn.tpu.make_program > tests/cnn/tpu/program.hlo.txt` made the file beside this one, with the
extra tpu-aot installed. The tables of source files at its head, which name folders, are left out.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnn.tpu.compilation import devices
from cnn.tpu.topologies import TOPOLOGIES

STEPS, IMAGES, CHOSEN = 5, 64, 24


def compile_program() -> jax.stages.Compiled:
    """Five steps on 64 images over 8 devices; and, outside of the loop, a sum over the devices."""
    mesh = Mesh(np.array(devices(TOPOLOGIES["v2-8"])), ("data",))
    split, everywhere = PartitionSpec("data"), PartitionSpec()

    def run(images, kernel, table, chosen):
        def step(_, carry):
            kernel, total = carry
            with jax.named_scope("Conv_0"):
                maps = jax.lax.conv_general_dilated(
                    images, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
                )
            mean, square = (jax.lax.pmean(x.mean((0, 1, 2)), "data") for x in (maps, maps * maps))  # combined
            jax.debug.callback(print, mean)
            picked = table[chosen + jnp.int32(total), chosen[::-1]]
            return kernel - mean, total + square.sum() + picked.sum()

        kernel, total = jax.lax.fori_loop(0, STEPS, step, (kernel, jnp.float32(0)))
        return kernel, jax.lax.psum(total * images.sum(), "data")

    def argument(shape, spec, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))

    return (
        jax.jit(
            jax.shard_map(
                run,
                mesh=mesh,
                in_specs=(split, everywhere, everywhere, everywhere),
                out_specs=(everywhere, everywhere),
            )
        )
        .lower(
            argument((IMAGES, 28, 28, 1), split),
            argument((3, 3, 1, 16), everywhere),
            argument((40, 50), everywhere),
            argument((CHOSEN,), everywhere, jnp.int32),
        )
        .compile()
    )


def without_source_files(text: str) -> str:
    """The text without the tables between its first line and the first computation."""
    head, *blocks = text.split("\n\n")
    tables = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
    return "\n\n".join([head, *(block for block in blocks if not block.lstrip().startswith(tables))])


if __name__ == "__main__":
    print(without_source_files(compile_program().as_text()), end="")
