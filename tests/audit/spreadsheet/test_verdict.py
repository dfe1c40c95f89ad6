import csv
import functools
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.spreadsheet.network import Network
from audit.spreadsheet.reading import Cell, Sheet
from audit.spreadsheet.tables import find_tables
from audit.spreadsheet.verdict import audit_file, audit_table
from backprop.descent import COLUMNS
from backprop.equations import EQUATIONS, heading
from tests.audit.spreadsheet.make_workbooks import CLEAN, WARNED, WRONG
from tests.backprop.test_descent import spreadsheet
from tests.backprop.test_network import CASE, START


@pytest.fixture(scope="module")
def audited(students_books):
    """The audit of a workbook of make_workbooks, by its name."""
    return functools.cache(lambda name: audit_file(students_books / f"{name}.xlsx"))


@pytest.mark.parametrize("name", CLEAN)
def test_no_false_alarm_in_any_layout(audited, name):
    audit = audited(name)
    (table,) = audit.tables
    assert (table.findings, table.consequences) == ((), ())
    assert table.rate.value == CLEAN[name].lr
    assert table.table.rows == CLEAN[name].rows
    assert set(table.table.columns) == set(CLEAN[name].names)
    right = "right" if set(CLEAN[name].names) == set(COLUMNS) else "right, with warnings"
    assert audit.verdict == ("not shown" if name == "one_row" else right)


@pytest.mark.parametrize("make", WRONG, ids=lambda make: make.__name__)
def test_the_first_wrong_cell_and_its_mistake_are_named(audited, make):
    column, row, words, because = WRONG[make]
    audit = audited(make.__name__)
    (table,) = audit.tables
    first = table.findings[0]
    student = make()
    assert audit.verdict == "wrong"
    assert (first.name, first.cells[0].row) == (column, row)
    assert first.cells[0].address == student.at(column, row)
    assert words in first.mistake
    written = student.sheet[first.cells[0].address].value
    formula = first.cells[0].formula
    assert formula.replace(" ", "") == written.replace(" ", "") if formula else formula is None
    assert because <= {consequence.name for consequence in table.consequences}
    assert table.rate.value == student.layout.lr


def test_consequences_are_only_what_follows(audited):
    (table,) = audited("other_output_in_E2").tables
    assert [(found.name, found.address, len(found.rows)) for found in table.consequences] == [
        ("E_total", "W7", 100)
    ]
    (table,) = audited("skipped_row").tables
    assert {finding.name for finding in table.findings} == set(Network().weights)
    assert all([cell.row for cell in finding.cells] == [12] for finding in table.findings)
    rows = {consequence.name: consequence.rows for consequence in table.consequences}
    assert rows["w1"] == tuple(range(13, 30))
    assert rows["E_total"] == tuple(range(12, 30))


def test_the_right_value_and_equation_of_a_wrong_cell(audited):
    (table,) = audited("other_output_in_E2").tables
    cell = table.findings[0].cells[0]
    assert cell.right == pytest.approx(spreadsheet(0.5, START, CASE, 0)[0, COLUMNS.index("E2")], rel=1e-14)
    assert (cell.equation, cell.right_formula) == (EQUATIONS["E2"], "=(B7-T7)^2/2")
    (table,) = audited("sliding_eta_onto_a_number").tables
    cell = table.findings[0].cells[0]
    assert cell.right_formula == "=M8-$E$2*AB8"
    assert cell.right == pytest.approx(spreadsheet(0.5, START, CASE, 2)[2, COLUMNS.index("w5")], rel=1e-14)


def test_an_error_of_its_own_later_on_is_not_a_consequence(audited):
    (table,) = audited("two_mistakes").tables
    assert [(finding.name, finding.cells[0].row) for finding in table.findings] == [("E2", 0), ("w7", 40)]


@pytest.mark.parametrize("make", WARNED, ids=lambda make: make.__name__)
def test_what_is_odd_but_right_is_a_warning(audited, make):
    audit = audited(make.__name__)
    assert audit.verdict == "right, with warnings"
    assert any(WARNED[make] in warning for warning in audit.tables[0].warnings)


SHOWN = {
    "all digits": repr,
    **{kind: lambda value, kind=kind: format(value, kind) for kind in (".3f", ".6f", ".15g", ".4g", ".3e")},
}


def as_sheet(rows, show=repr, eta=None):
    """A sheet of constants, its numbers as somebody prints them (given numbers as they are)."""
    lines = [["eta", repr(eta)] if eta else [], [heading(name) for name in COLUMNS]]
    lines += [[*map(repr, row[:4]), *map(show, row[4:])] for row in np.asarray(rows).tolist()]
    cells = {}
    for row, line in enumerate(lines, start=1):
        for column, text in enumerate(line, start=1):
            numeral = row > 2 or (row == 1 and column == 2)
            cells[row, column] = Cell(float(text), text) if numeral else Cell(text)
    return Sheet("", cells)


def audited_sheet(*sheet, **more):
    (table,) = find_tables(as_sheet(*sheet, **more))
    return audit_table(table)


numbers = st.floats(-2, 2).map(lambda number: round(number, 3))


@settings(max_examples=6)
@given(
    weights=st.tuples(*[numbers] * 8),
    case=st.tuples(*[numbers] * 4),
    lr=st.sampled_from((0.05, 0.1, 0.37, 0.5, 1.0, 2.0, 10.0)),
    epochs=st.integers(0, 60),
    shown=st.sampled_from(list(SHOWN)),
    labelled=st.booleans(),
)
def test_no_false_alarm_at_any_number_of_digits(weights, case, lr, epochs, shown, labelled):
    rows = spreadsheet(lr, weights, case, epochs)
    found = audited_sheet(rows, SHOWN[shown], eta=lr if labelled else None)
    assert found.findings == ()


@pytest.mark.parametrize("lr", [0.1, 0.37, 2.0, 0.123456789012])
@pytest.mark.parametrize(
    ("shown", "off"), [("all digits", 1e-9), (".15g", 1e-9), (".6f", 1e-3), (".4g", 0.1)]
)
def test_the_learning_rate_is_inferred(lr, shown, off):
    found = audited_sheet(spreadsheet(lr, START, CASE, 50), SHOWN[shown])
    assert found.rate.value == pytest.approx(lr, rel=off)
    assert found.rate.source == "inferred from how the weights change"


@settings(max_examples=6)
@given(
    column=st.sampled_from(Network().order[4:]),
    row=st.integers(1, 29),
    off=st.sampled_from((1e-9, -1e-6, 0.3)),
    labelled=st.booleans(),
)
def test_any_single_changed_number_is_found(column, row, off, labelled):
    rows = spreadsheet(0.5, START, CASE, 29)
    rows[row, COLUMNS.index(column)] *= 1 + off
    found = audited_sheet(rows, eta=0.5 if labelled else None)
    first = found.findings[0]
    assert (first.name, first.cells[0].row) == (column, row)
    assert first.cells[0].right == pytest.approx(rows[row, COLUMNS.index(column)] / (1 + off), rel=1e-12)


def test_an_error_is_found_in_rounded_numbers_too():
    rows = spreadsheet(0.5, START, CASE, 40)
    rows[:, COLUMNS.index("E2")] = (0.99 - rows[:, COLUMNS.index("a_o1")]) ** 2 / 2
    rows[:, COLUMNS.index("E_total")] = rows[:, COLUMNS.index("E1")] + rows[:, COLUMNS.index("E2")]
    found = audited_sheet(rows, SHOWN[".3f"], eta=0.5)
    assert [(finding.name, finding.mistake) for finding in found.findings] == [
        ("E2", "a_o1 was used instead of a_o2")
    ]
    assert [consequence.name for consequence in found.consequences] == ["E_total"]


def test_a_wrong_derivative_column_does_not_mislead_the_learning_rate():
    rows = spreadsheet(0.5, START, CASE, 40)
    rows[:, -8:-4] *= 3
    found = audited_sheet(rows)
    assert found.rate.value == 0.5
    assert {finding.name for finding in found.findings} == {
        *("dE_dw1", "dE_dw2", "dE_dw3", "dE_dw4"),
        *("w1", "w2", "w3", "w4"),  # they do not follow from the derivatives that the sheet shows
    }


def test_every_weight_updated_upwards_still_tells_the_learning_rate():
    rows = spreadsheet(-0.5, START, CASE, 40)
    found = audited_sheet(rows)
    assert found.rate.value == 0.5
    assert {finding.name for finding in found.findings} == set(Network().weights)
    assert all("sign of the update" in finding.mistake for finding in found.findings)


def test_inputs_given_once_and_rows_cut_short():
    sheet = as_sheet(spreadsheet(0.5, START, CASE, 9))
    blank = {(row, column) for row in range(4, 13) for column in range(1, 5)}
    blank |= {(12, column) for column in range(17, 32)}
    cells = {place: cell for place, cell in sheet.cells.items() if place not in blank}
    (table,) = find_tables(Sheet("", cells))
    found = audit_table(table)
    assert (found.findings, found.rate.value, table.rows) == ((), 0.5, 10)


def test_a_csv_file_and_files_without_a_table(tmp_path):
    text = io.StringIO()
    csv.writer(text).writerows([COLUMNS, *spreadsheet(0.5, START, CASE, 9).tolist()])
    (tmp_path / "good.csv").write_text(text.getvalue())
    (tmp_path / "none.csv").write_text("epoch,loss\n1,2\n")
    (tmp_path / "bad.xlsx").write_text("")
    good, none, bad = (audit_file(tmp_path / name) for name in ("good.csv", "none.csv", "bad.xlsx"))
    assert (good.verdict, none.verdict, bad.verdict) == ("right", "no table", "unreadable")
    assert "holds no back-propagation table" in none.refused
    assert "is empty" in bad.refused


@pytest.mark.parametrize("eta", [5e-5, 1e-7])
def test_a_rate_that_is_written_with_an_exponent(tmp_path, eta):
    """The labelled 0.5 was not used; the one that was, 5e-05, holds an e that is no column."""
    text = io.StringIO()
    csv.writer(text).writerows([["eta", 0.5], COLUMNS, *spreadsheet(eta, START, CASE, 20).tolist()])
    (tmp_path / "table.csv").write_text(text.getvalue())
    (table,) = audit_file(tmp_path / "table.csv").tables
    assert table.findings[0].mistake == f"eta = {eta:g} was used instead of 0.5"
