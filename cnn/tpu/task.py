"""The task --task=tpu: a run compiled for a TPU, and what its compiler says."""

import jax

from cnn.tpu.compilation import compile_run
from cnn.tpu.config import TpuConfig
from cnn.tpu.report import report
from harness.errors import require_installed


def run(config: TpuConfig) -> None:
    """Compile a run for the TPU, and print what the compiler says of it.

    Raises:
      UserError: libtpu is not installed, or a step does not fit into the TPU's memory.
    """
    require_installed("task=tpu", ["libtpu"], extra="tpu-aot")
    jax.config.update("jax_platforms", "cpu")  # the TPU is libtpu's description of one
    jax.config.update("jax_enable_compilation_cache", False)  # no program can be loaded for it again
    print(report(config, compile_run(config)))
