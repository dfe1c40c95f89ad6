"""What is read of public submissions, beside what a person read of them.

    python -m benchmarks.submissions FOLDER [TABLE]

FOLDER holds a folder a submission, named by its id, with the files of the table (../shared/submissions.csv).
"""

import collections
import csv
import sys
from pathlib import Path

from audit.notebook import cells, network
from harness.errors import UserError

TABLE = Path("../shared/submissions.csv")


def main() -> None:
    """Read every submission of the table that is in the folder, and print how many are as it says."""
    folder = Path(sys.argv[1])
    rows = list(csv.DictReader((Path(sys.argv[2]) if len(sys.argv) > 2 else TABLE).open()))
    counts: collections.Counter[str] = collections.Counter()
    for row in rows:
        file = folder / row["id"] / row["files"].split(" | ")[0]
        try:
            source = cells.read(file)
            read = network.read_network(source)
        except UserError as error:
            counts["refused"] += 1
            print(f"{row['id']:>4} refused: {error}")
            continue
        right = str(read.parameters) == row["parameters"] and read.class_name == row["class_trained"]
        counts["right" if right else "wrong"] += 1
        if not right:
            print(
                f"{row['id']:>4} WRONG: {read.class_name} {read.parameters:,} ({row['class_trained']} "
                f"{row['parameters']})"
            )
    print(dict(counts))


if __name__ == "__main__":
    main()
