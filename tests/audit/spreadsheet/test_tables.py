import numpy as np
import pytest

from audit.spreadsheet.headings import canonical
from audit.spreadsheet.reading import Cell, Sheet
from audit.spreadsheet.tables import find_tables
from backprop.descent import COLUMNS
from backprop.equations import heading
from tests.backprop.test_descent import spreadsheet
from tests.backprop.test_network import CASE, START

ROWS = spreadsheet(0.5, START, CASE, 4).tolist()


def sheet(*lines, name="Sheet1"):
    cells = {}
    for row, line in enumerate(lines, start=1):
        for column, value in enumerate(line, start=1):
            if value is not None:
                cells[row, column] = (
                    Cell(value) if isinstance(value, str) else Cell(float(value), repr(value))
                )
    return Sheet(name, cells)


HEAD = [heading(name) for name in COLUMNS]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *((heading(name), name) for name in COLUMNS),
        *((name, name) for name in COLUMNS),
        *((name.upper(), name) for name in COLUMNS),
        ("out_h1", "a_h1"),
        ("out h2", "a_h2"),
        ("out_o1", "a_o1"),
        ("a_h₁", "a_h1"),
        ("𝑎_ℎ1", "a_h1"),
        ("σ(h1)", "a_h1"),
        ("sigmoid(o2)", "a_o2"),
        ("net_h1", "h1"),
        ("target1", "t1"),
        ("Input 2", "i2"),
        ("x1", "i1"),
        ("E_tot", "E_total"),
        ("E_Total", "E_total"),
        ("Etotal", "E_total"),
        ("E total", "E_total"),
        ("Error", "E_total"),
        ("E", "E_total"),
        ("E_t", "E_total"),
        ("E_o1", "E1"),
        ("∂E_Total/∂w1", "dE_dw1"),
        ("𝜕E/𝜕w8", "dE_dw8"),
        ("∂E_t / ∂w₅", "dE_dw5"),
        ("dE/dw3", "dE_dw3"),
        ("dEtot/dw4", "dE_dw4"),
        ("δE/δw2", "dE_dw2"),
        ("\\partial E/\\partial w_{6}", "dE_dw6"),
        ("η", "eta"),
        ("ɳ", "eta"),
        ("Learning Rate", "eta"),
        ("w9", "w9"),
        ("h3", "h3"),
        ("epoch", None),
        ("hidden layer", None),
        ("", None),
    ],
)
def test_headings_as_people_write_them(text, name):
    assert canonical(text) == name


@pytest.mark.parametrize(("above", "left"), [(0, 0), (1, 0), (17, 5)])
def test_a_table_starts_in_any_row_and_column(above, left):
    blank = [None] * left
    lines = [["a title"]] * above + [blank + HEAD] + [blank + row for row in ROWS]
    (table,) = find_tables(sheet(*lines))
    assert (table.headings, table.first, table.rows) == (above + 1, above + 2, 5)
    assert list(table.columns.values()) == list(range(left + 1, left + 32))
    np.testing.assert_array_equal(np.stack([table.values[name] for name in COLUMNS], axis=1), ROWS)


def test_a_heading_on_two_lines_and_a_line_of_units():
    upper = [name.split("/")[0] + "/" if "/" in name else "weights" for name in HEAD]
    lower = [name.split("/")[-1] for name in HEAD]
    (table,) = find_tables(sheet(upper, lower, ["unit"] * 31, *ROWS))
    assert tuple(table.columns) == COLUMNS
    assert (table.headings, table.first) == (2, 4)


def test_two_tables_below_each_other():
    first, second = find_tables(sheet(HEAD, *ROWS, [], ["again"], HEAD, *ROWS[:3]))
    assert (first.first, first.rows, second.first, second.rows) == (2, 5, 10, 3)
    assert first.warnings == ()


def test_a_sheet_of_text_or_of_other_numbers_holds_no_table():
    assert find_tables(sheet(["the weights w1 and w2"], ["dE/dw1", "="])) == ()
    assert find_tables(sheet(HEAD)) == ()
    assert find_tables(sheet(["epoch", "loss"], [1, 2.0])) == ()
    assert find_tables(sheet()) == ()


@pytest.mark.parametrize(("place", "label", "meant"), [(30, "dE/dw7", "dE/dw8"), (29, "dE/dw8", "dE/dw7")])
def test_a_label_that_stands_twice_is_read_by_its_place(place, label, meant):
    head = [*HEAD[:place], label, *HEAD[place + 1 :]]
    (table,) = find_tables(sheet(head, *ROWS))
    assert tuple(table.columns) == COLUMNS
    assert f"the label {label} stands twice" in table.warnings[0]
    assert f"is read as {meant}" in table.warnings[0]


def test_a_column_that_stands_twice_is_read_once():
    (table,) = find_tables(sheet([*HEAD, "w1"], *([*row, 9.0] for row in ROWS)))
    assert table.columns["w1"] == 5
    assert table.warnings == ("a second column w1 (AF1) is not read",)


def test_rows_cut_short_and_rows_after_a_gap():
    (table,) = find_tables(sheet(HEAD, *ROWS[:2], [], ["a note"], *ROWS[2:4], ROWS[4][:16]))
    assert table.rows == 5
    assert table.address("w1", 2) == "E6"
    assert np.isnan(table.values["E_total"][4])
    assert table.values["w8"][4] == ROWS[4][15]
    assert table.warnings == ("Q8 and 14 more are blank: not checked",)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([["eta", 0.5]], [(0.5, (1, 2))]),
        ([["Learning rate (η)", None, 0.5]], [(0.5, (1, 3))]),
        ([["ɳ"], [0.5]], [(0.5, (2, 1))]),
        ([["η = 0.25"]], [(0.25, (1, 1))]),
        ([["lr: 2"]], [(2.0, (1, 1))]),
        ([["learning rate: 1e-2"]], [(0.01, (1, 1))]),
        ([["Learning Rate = 0,5"]], [(0.5, (1, 1))]),
        ([["w5 = w5 - eta*dE/dw5", 3.0]], []),
        ([["beta", 3.0]], []),
    ],
)
def test_a_learning_rate_beside_the_table(lines, expected):
    (table,) = find_tables(sheet(*lines, [], HEAD, *ROWS))
    assert [(label.value, label.place) for label in table.labels] == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [("eta=0.1", 0.1), ("LR 2", 2.0), ("0.5", 0.5), ("η_0.8", 0.8), ("Sheet1", None), ("1", None)],
)
def test_a_learning_rate_in_the_sheets_name(name, value):
    (table,) = find_tables(sheet(HEAD, *ROWS, name=name))
    assert [label.value for label in table.labels] == ([] if value is None else [value])


def test_rounding_follows_from_the_digits_of_a_column():
    rows = [[round(value, 4) for value in row] for row in ROWS]
    (table,) = find_tables(sheet(HEAD, *rows))
    np.testing.assert_allclose(table.rounding["a_h2"], 1e-4)
    assert table.rounding["w1"][0] == 0  # 0.15, typed
    assert table.rounding["w1"][1] == 1e-4
    (table,) = find_tables(sheet(HEAD, *ROWS))
    assert table.rounding["a_h2"].max() <= 1e-14
