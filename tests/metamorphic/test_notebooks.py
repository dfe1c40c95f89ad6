import pytest

from tests.metamorphic.mistakes import MISTAKES
from tests.metamorphic.notebooks import DRESSES, PAIRS, cases, outcome, sample
from tests.metamorphic.rewrites import REWRITES
from tests.metamorphic.submissions import DOZEN


@pytest.mark.parametrize("case", sample(), ids=lambda case: f"{' and '.join(case.names)}, {case.submission}")
def test_a_rewrite_changes_nothing_and_a_mistake_is_named(case):
    assert outcome(case).fault == ""


def test_there_are_as_many_as_it_says():
    assert min(len(REWRITES), len(MISTAKES)) >= 40
    assert len(DOZEN) == 12
    assert len(list(cases())) == 12 * (len(REWRITES) + DRESSES * len(MISTAKES)) + PAIRS
