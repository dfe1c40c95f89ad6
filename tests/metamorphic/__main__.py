"""python -m tests.metamorphic [SUBJECT...]: all rewrites, mistakes and pairs, and their counts (minutes)."""

import sys

from tests.metamorphic import notebooks, workbooks
from tests.metamorphic.counting import report

SUBJECTS = {"notebooks": notebooks, "workbooks": workbooks}


def main(names: list[str]) -> int:
    """Print faults and counts of each kind of submission; 1 where there is a fault."""
    right = [report(name, SUBJECTS[name].outcomes()) for name in names or SUBJECTS]
    return int(not all(right))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
