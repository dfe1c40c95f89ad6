"""How the benchmarks say a figure that was measured several times."""

import statistics
from collections.abc import Sequence


def spread(values: Sequence[float], how: str) -> str:
    """The median of some figures, and how far they spread."""
    return f"{statistics.median(values):{how}} ({min(values):{how}} to {max(values):{how}})"
