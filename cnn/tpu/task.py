"""What --task=tpu does, top to bottom."""

import jax

from cnn.tpu.analysis import analyze
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
    compiled = compile_run(config)
    print(report(config, compiled, analyze(compiled)))
