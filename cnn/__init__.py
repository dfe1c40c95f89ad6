"""MNIST under a budget of parameters and epochs; `from cnn import fit, zoo, data` is the library."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import fit with JAX, which takes seconds, only where it is asked for: flags are checked without."""
    if name != "fit":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cnn.loop import fit

    return fit
