"""Outcomes of rewrites and mistakes, and their counts."""

import collections
from collections.abc import Iterable
from typing import NamedTuple


class Outcome(NamedTuple):
    """One changed submission, judged.

    Attributes:
      kind: rewrite, mistake or pair.
      name: of the rewrite, the mistake or both mistakes.
      subject: the submission, and how it was dressed.
      fault: what is said that should not be, or is not said that should be; empty where all is as it should.
    """

    kind: str
    name: str
    subject: str
    fault: str


def report(title: str, outcomes: Iterable[Outcome]) -> bool:
    """Print each fault, then the counts; True where there is no fault."""
    counts: collections.Counter[str] = collections.Counter()
    faults: collections.Counter[str] = collections.Counter()
    for kind, name, subject, fault in outcomes:
        counts[kind] += 1
        if fault:
            faults[kind] += 1
            print(f"{kind} {name}: {subject}: {fault}", flush=True)
    for kind, count in counts.items():
        print(f"{title}: {count:,} {kind}s, {faults[kind]:,} with a fault", flush=True)
    return not faults.total()
