import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audit.spreadsheet.mutation import TOKENS, audit_damaged, mutated, originals

places = st.floats(0, 1, exclude_max=True)
new_bytes = st.sampled_from(TOKENS) | st.binary(max_size=3)
edits = st.lists(st.tuples(places, st.integers(0, 12), new_bytes), min_size=1, max_size=4)


@settings(max_examples=12)
@given(which=st.integers(0, 2), part=st.none() | places, edits=edits)
def test_a_damaged_spreadsheet_is_audited_or_refused(which, part, edits):
    audit_damaged(mutated(originals()[which], part, edits))


def test_the_originals_are_right():
    assert {audit_damaged(content) for content in originals()} == {"right"}


def test_every_digit_of_a_table_counts():
    """Another digit anywhere in a number is found, whichever it is of those that rounding leaves."""
    content = originals()[0]
    chosen = random.Random(0)
    lines = content.decode().splitlines()
    for _ in range(12):
        row, column = chosen.randrange(1, len(lines)), chosen.randrange(4, 31)
        cells = lines[row].split(",")
        digits = [place for place, letter in enumerate(cells[column]) if letter.isdigit()][:8]
        place = chosen.choice(digits)
        digit = str((int(cells[column][place]) + chosen.randrange(1, 10)) % 10)
        cells[column] = cells[column][:place] + digit + cells[column][place + 1 :]
        changed = [*lines[:row], ",".join(cells), *lines[row + 1 :]]
        assert audit_damaged("\n".join(changed).encode()) == "wrong"
