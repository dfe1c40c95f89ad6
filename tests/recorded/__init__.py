"""PyTorch's results, which `make test` compares with; `python -m tests.recorded` makes them anew.

That takes a Python with PyTorch. `make test-torch` makes the same tests compare with PyTorch itself.
"""

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent


def read(kind: str, case: str) -> dict[str, np.ndarray]:
    """Each array's name and values, as pytorch.compute gives them."""
    with np.load(FOLDER / f"{kind}.npz") as file:
        return {name.removeprefix(f"{case}/"): file[name] for name in file if name.startswith(f"{case}/")}
