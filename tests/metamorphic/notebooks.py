"""Notebooks rewritten harmlessly and with mistakes put in, and whether the audit says what it should."""

import concurrent.futures
import functools
import random
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from audit.notebook.claims import Limits
from audit.notebook.verdict import NotebookAudit, audit_notebook
from tests.metamorphic.counting import Outcome
from tests.metamorphic.mistakes import MISTAKES, Mistake
from tests.metamorphic.rewrites import REWRITES, rewritten
from tests.metamorphic.submissions import DOZEN, Files, Places, Submission, files_of, write

DRESSES, PAIRS = 5, 300
_BY_NAME = {submission.name: submission for submission in DOZEN}


class Case(NamedTuple):
    """What is done to a submission: a rewrite, or mistakes in the dress that the number draws."""

    kind: str
    names: tuple[str, ...]
    submission: str
    number: int = 0


def cases() -> Iterator[Case]:
    """Every rewrite and every mistake of every submission, and the pairs of mistakes."""
    for submission in DOZEN:
        yield from (Case("rewrite", (name,), submission.name) for name in REWRITES)
    for submission in DOZEN:
        for name in MISTAKES:
            yield from (Case("mistake", (name,), submission.name, number) for number in range(DRESSES))
    draw = random.Random(1)
    count = 0
    while count < PAIRS:
        names, submission = tuple(draw.sample(list(MISTAKES), 2)), draw.choice(DOZEN)
        if _go_together(names, submission):
            yield Case("pair", names, submission.name, count)
            count += 1


def sample() -> list[Case]:
    """Each rewrite and each mistake once, and a few pairs; the submissions take turns."""
    found = list(cases())
    chosen: list[Case] = []
    for kind, each in (("rewrite", REWRITES), ("mistake", MISTAKES)):
        for index, name in enumerate(each):
            of_name = [case for case in found if case.kind == kind and case.names == (name,)]
            chosen.append(of_name[index * 7 % len(of_name)])
    return chosen + [case for case in found if case.kind == "pair"][:10]


def outcomes() -> Iterator[Outcome]:
    """All cases, judged on all cores."""
    with concurrent.futures.ProcessPoolExecutor() as pool:
        yield from pool.map(outcome, cases(), chunksize=20)


def outcome(case: Case) -> Outcome:
    """A case judged; where the audit itself fails, that is its fault."""
    dress: list[str] = []
    try:
        if case.kind == "rewrite":
            fault = _changed_words(case)
        else:
            draw = random.Random(str(case))
            mistakes = [MISTAKES[name] for name in case.names]
            dress = _dress(case, draw)
            fault = _unlike(mistakes, rewritten(dress, _with_mistakes(case), draw), case.submission)
    except Exception as error:
        fault = f"the audit failed: {type(error).__name__}: {error}"
    subject = f"{case.submission} ({', '.join(dress)})" if dress else case.submission
    return Outcome(case.kind, " and ".join(case.names), subject, fault)


def _with_mistakes(case: Case) -> Submission:
    submission = _BY_NAME[case.submission]
    for number, name in enumerate(case.names):
        submission = _numbered(MISTAKES[name].change(submission), number)
    return submission


def _numbered(submission: Submission, number: int) -> Submission:
    """A mistake's own marks, told from those of another one."""

    def text(words: str) -> str:
        return re.sub(r"§(at|used|stepped|printed)§", rf"§\g<1>_{number}§", words)

    return replace(
        submission,
        slots={name: text(value) for name, value in submission.slots.items()},
        texts=tuple(map(text, submission.texts)),
        beside={name: text(value) for name, value in submission.beside.items()},
    )


def _dress(case: Case, draw: random.Random) -> list[str]:
    """Three rewrites that leave what the mistakes, and each other, have changed."""
    right, wrong = _BY_NAME[case.submission], _with_mistakes(case)
    taken = _differences(right, wrong)
    needs = {need for name in case.names for need in MISTAKES[name].needs}
    chosen: list[str] = []
    for name in draw.sample(list(REWRITES), len(REWRITES)):
        change, _, hides = REWRITES[name]
        changes = _differences(right, change(right, draw)) if change else set()
        if len(chosen) < 3 and not hides & needs and not changes & taken:
            chosen.append(name)
            taken |= changes
    return chosen


def _go_together(names: Sequence[str], submission: Submission) -> bool:
    first, other = (MISTAKES[name] for name in names)
    changes = [_differences(submission, each.change(submission)) for each in (first, other)]
    return first.group != other.group and first.name != other.name and not changes[0] & changes[1]


def _differences(one: Submission, other: Submission) -> set[str]:
    """The slots and fields in which two submissions differ."""
    slots = {name for name in {**one.slots, **other.slots} if one.slots.get(name) != other.slots.get(name)}
    fields = {name for name, value in vars(one).items() if name != "slots" and value != vars(other)[name]}
    return slots | fields


def _judged(files: Files) -> tuple[NotebookAudit, Places]:
    with tempfile.TemporaryDirectory() as folder:
        file, places = write(files, Path(folder))
        return audit_notebook(file, Limits()), places


@functools.cache
def _of_right(name: str) -> NotebookAudit:
    return _judged(files_of(_BY_NAME[name]))[0]


def _changed_words(case: Case) -> str:
    """What is said otherwise of a rewritten submission."""
    submission = _BY_NAME[case.submission]
    before = said(_of_right(case.submission))
    after = said(_judged(rewritten(list(case.names), submission, random.Random(str(case))))[0])
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return "; ".join(f"{key}: {after.get(key)!s:.200} for {before.get(key)!s:.200}" for key in keys)


def said(audit: NotebookAudit) -> dict[str, Any]:
    """All that a reader learns, but for places."""
    found: dict[str, Any] = {"verdict": audit.verdict, "refused": audit.refused}
    found |= {claim.name: claim.found for claim in audit.claims}
    for finding in audit.findings:
        found[finding.name] = re.sub(r"(\w+\.\w+|cell \d+), line \d+", "", finding.what)
    if audit.network is not None:
        found |= {"layers": audit.network.architecture.layers, "counted": audit.network.used_parameters}
    if audit.recipe is not None:
        found["recipe"] = audit.recipe.recipe
        for kind in ("missing", "departures"):
            found[kind] = [(fact.name, fact.detail) for fact in getattr(audit.recipe, kind)]
    if audit.training is not None:
        found["log"] = [float(epoch.accuracy) for epoch in audit.training.epochs]
    return found


def _unlike(mistakes: Sequence[Mistake], files: Files, name: str) -> str:
    """What is missed, what is named and is not there, and what is named elsewhere than it is."""
    audit, places = _judged(files)
    if audit.refused:
        return f"refused: {audit.refused}"
    found = {finding.name: finding for finding in audit.findings}
    broken = {claim.name for claim in audit.claims if claim.holds is False}
    wanted = {mistake.name for mistake in mistakes}
    expected = {
        *wanted,
        *(each for mistake in mistakes for each in mistake.also),
        *(finding.name for finding in _of_right(name).findings),
    }
    faults = [f"missed {each}" for each in sorted(wanted - found.keys() - broken)]
    for each in sorted((found.keys() | broken) - expected):
        faults.append(f"false alarm {each}: {found[each].what if each in found else 'a limit'}")
    for number, mistake in enumerate(mistakes):
        if mistake.name in found and not _is_there(mistake, number, found[mistake.name].place, places):
            faults.append(f"{mistake.name} is named at {found[mistake.name].place}")
    return "; ".join(faults)


def _is_there(mistake: Mistake, number: int, place: Any, places: Places) -> bool:
    """Whether a mistake is named at one of its marks, or in the cell of one."""
    for name in mistake.places:
        mark = name.removeprefix("cell ")
        file, cell, line = places.get(f"{mark}_{number}", places.get(mark, ("", None, 0)))
        if (file, cell) == (place.file, place.cell) and (name.startswith("cell ") or line == place.line):
            return True
    return not mistake.places
