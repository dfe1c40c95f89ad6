"""The same tables as six programs write them: no false alarm, and each mistake found and named."""

import random

import pytest

from audit.spreadsheet.verdict import audit_file
from tests.audit.spreadsheet.styles import MISTAKES, STYLES, Sample, first_row

pytestmark = pytest.mark.usefixtures("unchecked")  # a third of the time; test_verdict checks shapes


def audited(folder, sample, style):
    content, kind = sample.written(style)
    (folder / f"table{kind}").write_bytes(content)
    return audit_file(folder / f"table{kind}")


def assert_right(folder, style, seed):
    audit = audited(folder, Sample(random.Random(seed)), style)
    wrong = [(finding.cells[0].address, finding.mistake) for t in audit.tables for finding in t.findings]
    assert (audit.verdict, wrong, audit.tables[0].warnings) == ("right", [], ()), seed


def assert_named(folder, style, mistake, seed):
    name, change, words = mistake
    sample = Sample(random.Random(seed)).with_mistake(name, change)
    sample.lr = 1.7  # four digits show it, and no product of the inputs is 1 or 2
    audit = audited(folder, sample, style)
    first = audit.tables[0].findings[0]
    assert first.cells[0].address == sample.address(name, first_row(name, sample.network), style), seed
    assert words in str(first.mistake), (seed, first.mistake)


@pytest.mark.parametrize("style", STYLES)
def test_no_false_alarm(tmp_path, style):
    for seed in range(3):
        assert_right(tmp_path, style, seed)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: f"{mistake[0]} {mistake[2]}")
def test_a_mistake_has_its_cell_and_its_name(tmp_path, mistake):
    number = MISTAKES.index(mistake)
    assert_named(tmp_path, list(STYLES)[number % len(STYLES)], mistake, seed=number)


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_no_false_alarm_in_100_tables(tmp_path, style):
    for seed in range(100, 200):
        assert_right(tmp_path, style, seed)


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: f"{mistake[0]} {mistake[2]}")
def test_every_mistake_in_every_style(tmp_path, mistake, style):
    assert_named(tmp_path, style, mistake, seed=1000 + MISTAKES.index(mistake))
