"""Some of python -m tests.metamorphic workbooks."""

import pytest

from tests.metamorphic.workbooks import ALL_MISTAKES, REWRITES, STYLES, cases, outcome, sample

pytestmark = pytest.mark.usefixtures("unchecked")  # a third of the time; test_verdict checks shapes


@pytest.mark.parametrize("case", sample(), ids=str)
def test_a_rewrite_changes_nothing_and_a_mistake_is_named(case):
    assert outcome(case).fault == ""


def test_there_are_forty_of_each():
    assert min(len(REWRITES) + len(STYLES), len(ALL_MISTAKES)) >= 40
    assert len(list(cases())) == 12 * (len(REWRITES) + len(STYLES) + 5 * len(ALL_MISTAKES)) + 300
