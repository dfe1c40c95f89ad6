"""What people do besides the plain table: each is judged rightly, and said."""

import random
import re

import pytest

from audit.spreadsheet.report import file_text
from audit.spreadsheet.verdict import audit_file
from tests.audit.spreadsheet.styles import Sample

pytestmark = pytest.mark.usefixtures("unchecked")  # a third of the time; test_verdict checks shapes


@pytest.fixture
def sample():
    """A table with its headings in row 4, from column A."""
    sample = Sample(random.Random(5))
    sample.top, sample.left, sample.literal, sample.fixed = 3, 0, False, False
    sample.heads = str
    return sample


def judged(sample, folder, style="Excel"):
    content, kind = sample.written(style)
    (folder / f"table{kind}").write_bytes(content)
    audit = audit_file(folder / f"table{kind}")
    found = [(f.cells[0].address, len(f.cells), f.mistake) for table in audit.tables for f in table.findings]
    return audit, found


def at(sample, name, row):
    return sample.address(name, row, "Excel")


def test_eta_on_another_sheet(sample, tmp_path):
    sample.eta = "Values!$B$2"

    def more(book, sheet):
        other = book.add_worksheet("Values")
        other.write("A2", "eta")
        other.write("B2", sample.lr)

    sample.more = more
    audit, found = judged(sample, tmp_path)
    assert (audit.verdict, found) == ("right", []), file_text(audit)


def test_a_defined_name_for_eta(sample, tmp_path):
    sample.eta = "rate"
    sample.more = lambda book, sheet: (sheet.write("H1", sample.lr), book.define_name("rate", "=Sheet1!$H$1"))
    audit, found = judged(sample, tmp_path)
    assert (audit.verdict, found) == ("right", []), file_text(audit)


def test_a_reference_frozen_by_dollars_names_all_its_rows(sample, tmp_path):
    slope = at(sample, "dE_dw3", 0)
    frozen = re.sub(r"([A-Z]+)(\d+)", r"$\1$\2", slope)
    for row in range(1, 13):
        sample.instead["w3", row] = sample.formula("w3", row).replace(at(sample, "dE_dw3", row - 1), frozen)
    sample.equations["w3"] = "prev_w3 - prev_eta*0.123"  # the numbers of another table: any that do not fit
    _, found = judged(sample, tmp_path)
    rows = [place for place in found if place[0] == at(sample, "w3", 2)]
    assert rows == [(at(sample, "w3", 2), 11, "dE/dw3 of row 5 (frozen by $) was used instead of dE/dw3")]


def test_helper_columns_are_read_through(sample, tmp_path):
    row_of = {row: sample.top + 2 + row for row in range(13)}

    def more(book, sheet):
        sheet.write(sample.top, 31, "delta o1")
        for row, values in enumerate(sample.numbers()):
            a, t = at(sample, "a_o1", row), at(sample, "t1", row)
            delta = (values["a_o1"] - values["t1"]) * values["a_o1"] * (1 - values["a_o1"])
            sheet.write_formula(sample.top + 1 + row, 31, f"=({a}-{t})*{a}*(1-{a})", None, repr(delta))

    for row in range(13):
        sample.instead["dE_dw5", row] = f"=AF{row_of[row]}*{at(sample, 'a_h1', row)}"
    sample.more = more
    audit, found = judged(sample, tmp_path)
    assert (audit.verdict, found) == ("right", []), file_text(audit)
    for row in range(13):
        sample.instead["dE_dw6", row] = f"=AF{row_of[row]}*{at(sample, 'a_h1', row)}"
    sample.with_mistake("dE_dw6", ("a_h2", "a_h1"))
    _, found = judged(sample, tmp_path)
    assert found == [(at(sample, "dE_dw6", 0), 13, "a_h1 was used instead of a_h2")]


def test_a_column_that_nobody_understands_keeps_a_table_from_being_right(sample, tmp_path):
    def more(book, sheet):
        sheet.write(sample.top, 31, "zeta")
        sheet.write_column(sample.top + 1, 31, [0.3 + row / 7 for row in range(13)])

    sample.more = more
    audit, found = judged(sample, tmp_path)
    assert (audit.verdict, found) == ("not shown", [])
    assert "not understood, and so not checked: AF4 (zeta)" in file_text(audit)


def test_an_average_below_and_a_counter_beside_are_none_of_the_table(sample, tmp_path):
    sample.left = 1

    def more(book, sheet):
        sheet.write(sample.top, 0, "epoch")
        sheet.write_column(sample.top + 1, 0, range(13))
        sheet.write(sample.top + 14, 0, "Average")
        sheet.write_formula(sample.top + 14, 23, "=AVERAGE(X5:X17)", None, "0.1")

    sample.more = more
    audit, found = judged(sample, tmp_path)
    assert (audit.verdict, found) == ("right", []), file_text(audit)


def test_a_value_that_was_not_computed_again(sample, tmp_path):
    numbers = sample.numbers()
    sample.numbers = lambda: [
        row | ({"E1": row["E1"] + 0.1} if n == 4 else {}) for n, row in enumerate(numbers)
    ]
    _, found = judged(sample, tmp_path)
    assert found == [
        (
            at(sample, "E1", 4),
            2,
            "the stored values are old, the formulas are right: compute the file again and save it",
        )
    ]


def test_targets_over_the_errors_are_a_warning(sample, tmp_path):
    numbers = sample.numbers()
    sample.numbers = lambda: [row | {"E1": row["t1"], "E2": row["t2"]} for row in numbers]
    audit, found = judged(sample, tmp_path, "four digits")
    assert (audit.verdict, found) == ("right, with warnings", [])
    assert "holds the target, not the error" in file_text(audit)


def test_derivative_columns_known_by_their_use(sample, tmp_path):
    sample.heads = lambda name: f"col {name[-1]}" if name.startswith("dE") else name
    sample.with_mistake("dE_dw3", ("a_h2", "a_h1"))
    audit, found = judged(sample, tmp_path)
    assert found == [(at(sample, "dE_dw3", 0), 13, "a_h1 was used instead of a_h2")], file_text(audit)


def test_two_tables_side_by_side(sample, tmp_path):
    rows = sample.numbers()

    def more(book, sheet):
        for place, name in enumerate(sample.columns):
            sheet.write(sample.top, 33 + place, name)
            sheet.write_column(
                sample.top + 1,
                33 + place,
                [row[name] + (name == "h1" and n == 3) for n, row in enumerate(rows)],
            )

    sample.more = more
    audit, _ = judged(sample, tmp_path)
    assert [table.verdict for table in audit.tables] == ["right", "wrong"]
    assert audit.tables[1].findings[0].cells[0].address == "AP8"
