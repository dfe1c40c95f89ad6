"""python -m tests.recorded: everything that PyTorch computes for the tests, into this folder's .npz files."""

import numpy as np
import torch

from tests.recorded import FOLDER, pytorch

print(f"PyTorch {torch.__version__}")
for kind in pytorch.CASES:
    file, arrays = FOLDER / f"{kind}.npz", pytorch.compute_all(kind)
    np.savez_compressed(file, **arrays)
    print(f"{file.name:<20}{len(arrays):>6} arrays{file.stat().st_size:>10,} bytes", flush=True)
