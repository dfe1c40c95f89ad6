"""python -m tests.metamorphic: all rewrites, mistakes and pairs, and their counts (minutes)."""

import sys

from tests.metamorphic import notebooks
from tests.metamorphic.counting import report

SUBJECTS = {"notebooks": notebooks}


def main() -> int:
    """Print faults and counts of each kind of submission; 1 where there is a fault."""
    right = [report(name, module.outcomes()) for name, module in SUBJECTS.items()]
    return int(not all(right))


if __name__ == "__main__":
    sys.exit(main())
