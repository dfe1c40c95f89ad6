"""46 workbooks made for this, each with a kind of what people hand in, and what is right for it."""

import csv
import functools
import html
import re
from pathlib import Path

import pytest

from audit.api import for_a_page
from audit.spreadsheet.report import file_text
from audit.spreadsheet.verdict import audit_file
from demo.bounded_audit import as_html
from tests.demo.test_bounded_audit import shown, words

FOLDER = Path(__file__).with_name("workbooks")
EXPECTED = list(csv.DictReader((FOLDER / "expected.csv").open(newline="")))
SAID = {
    # file: what the report says, among other things
    "02_given_drift.xlsx": "t2 drifts to 0.989999999999999",
    "02b_given_drift_plus.xlsx": "i1 drifts to 0.0500000000000001",
    "01c_google_with_mistake_dw7.xlsx": "a_o1 was used instead of a_o2",
    "03r_h1_formula_heads.xlsx": "the sign in the sigmoid",
    "04_empty_but_start.xlsx": "headings and start values only",
    "05_unused_link.xlsx": "a link to another file, which no cell, chart or name refers to, was left out",
    "06_eta2_dE3_for_dE4.xlsx": "w4 (H5, 19 of 20 rows): dE/dw3 was used instead of dE/dw4",
    "06b_eta2_dE1_for_dE2.xlsx": "dE/dw1 was used instead of dE/dw2",
    "06c_eta05_dE4_for_dE3.xlsx": "dE/dw4 was used instead of dE/dw3",
    "07_xor_2_2_1_biases.xlsx": "another network's table (2-2-1 with biases, sigmoid), not the "
    "assignment's 2-2-2, and it lacks t1, a_h1, a_h2, o1, a_o1, E1",
    "08_style_index_outside.xlsx": "its cells alone were read",
    "10_bracket_missing.xlsx": "only the second route is multiplied by a_h1*(1-a_h1)*i1",
    "10b_times_t.xlsx": "a_o*t was used instead of a_o-t",
    "10c_h_for_ah.xlsx": "h1 was used instead of a_h1",
    "10d_i_mixed_second_route.xlsx": "i2 was used instead of i1 in the second route",
    "10e_h_and_i.xlsx": "h2 was used instead of a_h2, and i2 was used instead of i1 in the second route",
    "10f_o1_for_o2_all.xlsx": "dE/dw8 (AE4, 20 of 20 rows): the same mistake",
    "11_start_typo.xlsx": "w6 starts at 0.445, the assignment says 0.45",
    "11b_start_typo_i2.xlsx": "i2 is 0.01, the assignment says 0.1",
    "12_unread_wrong_last_row.xlsx": "a_h2 was used instead of a_h1",
    "13_t_equal_wrong_t.xlsx": "refers to t1 where it should to t2; here both are 0.5",
    "14_frozen_row.xlsx": "w4, 19 of 20 rows",
    "15_update_of_w2_in_w3.xlsx": "the whole update of w2 was used",
    "16_a02_wrong.xlsx": "a_o2 is computed from o1",
    "17_side_eta_row.xlsx": "0.5 (cell B1, labelled)",
}


@functools.cache
def audited(name):
    return audit_file(FOLDER / name)


@pytest.mark.parametrize("case", EXPECTED, ids=lambda case: case["file"])
def test_verdict_first_wrong_cell_and_words(case):
    audit = audited(case["file"])
    wrong = [table.findings[0].cells[0].address for table in audit.tables if table.findings]
    assert (audit.verdict, "".join(wrong)) == (case["verdict"], case["first_wrong_cell"])
    expected = "looks like a_h1 was used instead of a_h2" if case["file"][:3] in DERIVATIVES else ""
    text = re.sub(r"\s+", " ", file_text(audit))
    assert SAID.get(case["file"], expected) in text
    if case["verdict"] == "right":
        assert " warning " not in text


DERIVATIVES = tuple(f"03{letter}" for letter in "abcdefghijklmnop")


def test_all_46_are_here():
    assert {case["file"] for case in EXPECTED} == {file.name for file in FOLDER.glob("*.xlsx")}
    assert set(SAID) <= {case["file"] for case in EXPECTED}
    assert len(EXPECTED) == 46


@pytest.mark.parametrize("case", EXPECTED, ids=lambda case: case["file"])
def test_the_page_has_all_words_of_the_report_and_no_others(case):
    audit = audited(case["file"])
    answer = as_html(for_a_page(audit))
    assert words(shown(answer)) == words(file_text(audit))
    assert ("download=" in answer) == (audit.verdict == "wrong")
    for table in audit.tables:
        for cell in [finding.cells[0] for finding in table.findings[:1]]:
            assert f'<dd class="formula">{html.escape(cell.right_formula)}</dd>' in answer
            assert f'<dd class="formula">{html.escape(cell.should_be)}</dd>' in answer
