"""Kinds of files that were judged wrongly once: each made here, with what is right for it."""

import csv
import io
import random

import openpyxl
import pytest

from audit.spreadsheet.annotate import annotated
from audit.spreadsheet.report import file_text
from audit.spreadsheet.verdict import audit_file
from tests.audit.spreadsheet.styles import STYLES, Sample
from tests.audit.test_task import audit
from tests.metamorphic.workbooks import REWRITES

pytestmark = pytest.mark.usefixtures("unchecked")  # a third of the time; test_verdict checks shapes


@pytest.fixture
def sample():
    """A table with its headings in row 5, from column A; its rate stands in B1."""
    sample = Sample(random.Random(5))
    sample.top, sample.left, sample.literal, sample.fixed, sample.lr = 4, 0, False, False, 0.5
    sample.heads = str
    return sample


def judged(sample, folder, style="Excel", name="table"):
    """The audit, and the first cell, the number of cells and the cause of each finding."""
    content, kind = sample.written(style)
    (folder / f"{name}{kind}").write_bytes(content)
    audited = audit_file(folder / f"{name}{kind}")
    found = [
        (f.cells[0].address, len(f.cells), f.mistake) for table in audited.tables for f in table.findings
    ]
    return audited, found


def typed(monkeypatch, show):
    """A style of numbers without formulas."""
    monkeypatch.setitem(STYLES, "typed", (show, False))
    return "typed"


def test_a_label_above_w2_hides_no_weight_that_is_never_updated(sample, tmp_path, monkeypatch):
    sample.equations["w2"] = "prev_w2"
    REWRITES["rate above w2"](sample)
    audited, found = judged(sample, tmp_path, typed(monkeypatch, repr))
    assert found[0][:2] == (sample.place("w2", 1), 12)
    assert audited.verdict == "wrong"


def test_a_cell_of_17_digits_says_nothing_of_its_column(sample, tmp_path, monkeypatch):
    style = typed(monkeypatch, lambda value: f"{value:.6f}")
    cells = sample.cells(style)
    at = sample.place("w2", 5)
    numbers = iter([repr(float(cells[at]) + 2.8e-17)])
    monkeypatch.setattr(sample, "cells", lambda style: cells | {at: next(numbers)})
    audited, found = judged(sample, tmp_path, style)
    assert (audited.verdict, found) == ("right", [])


def test_a_constant_of_more_digits_than_its_column_counts_with_its_own(sample, tmp_path, monkeypatch):
    style = typed(monkeypatch, lambda value: f"{value:.6f}")
    exact = sample.numbers()[5]["a_h2"]
    cells = sample.cells(style) | {sample.place("a_h2", 5): repr(exact)}
    monkeypatch.setattr(sample, "cells", lambda style: cells)
    audited, found = judged(sample, tmp_path, style)
    assert (audited.verdict, found) == ("right", [])


def test_numbers_of_three_digits_do_not_show_a_derivative(sample, tmp_path, monkeypatch):
    sample.given |= {"i1": 0.05, "i2": 0.1, "t1": 0.01, "t2": 0.99}
    starts = (0.15, 0.2, 0.25, 0.3, 0.4, 0.45, 0.5, 0.55)
    sample.start = dict(zip(sample.network.weights, starts, strict=True))
    sample.with_mistake("dE_dw6", ("a_h2", "a_h1"))
    audited, found = judged(sample, tmp_path, typed(monkeypatch, lambda value: f"{value:.3f}"))
    assert (audited.verdict, found) == ("not shown", [])
    assert "show more digits" in audited.tables[0].missing[0]


def _with_deltas(sample):
    REWRITES["deltas in columns"](sample)
    return sample


def test_a_mistake_in_a_helper_column_is_named_there(sample, tmp_path):
    _with_deltas(sample).helpers["delta_o1"] = "(a_o1-t1)*a_o1*(1-a_o2)"
    audited, found = judged(sample, tmp_path)
    assert found == [(sample.place("delta_o1", 0), 13, "a_o2 was used instead of a_o1")]
    follows = {consequence.name: consequence.address for consequence in audited.tables[0].consequences}
    assert follows["dE_dw5"] == sample.place("dE_dw5", 0)
    assert "FIRST WRONG    AF6, delta_o1, 13 of 13 rows" in file_text(audited)
    book = openpyxl.load_workbook(io.BytesIO(annotated(audited)))
    colours = {book["Sheet1"][sample.place(name, 1)].fill.fgColor.rgb for name in ("delta_o1", "dE_dw5")}
    assert len(colours) == 2
    assert "00000000" not in colours


@pytest.mark.parametrize("typed_in", [False, True])
def test_one_wrong_cell_of_a_helper_column(sample, tmp_path, typed_in):
    _with_deltas(sample).single["delta_o2", 4] = "0.123 + 0*o2" if typed_in else "(a_o2-t2)*a_o2"
    if typed_in:
        cells = sample.cells
        at = sample.place("delta_o2", 4)
        sample.cells = lambda style: cells(style) | {at: "0.123"}
    words = "a constant was typed over the formula" if typed_in else "the factor (1-a_o2) is missing"
    assert judged(sample, tmp_path)[1] == [(sample.place("delta_o2", 4), 1, words)]


def test_a_helper_of_a_helper_on_another_sheet(sample, tmp_path):
    rows = sample.numbers()
    wrong = [row["a_o1"] * (1 - row["a_o2"]) for row in rows]

    def more(book, sheet):
        other = book.add_worksheet("Steps")
        other.write("A1", "da/do")
        other.write("B1", "delta")
        for row, slope in enumerate(wrong):
            a, b, t = (sample.place(name, row) for name in ("a_o1", "a_o2", "t1"))
            other.write_formula(row + 1, 0, f"=Sheet1!{a}*(1-Sheet1!{b})", None, repr(slope))
            delta = (rows[row]["a_o1"] - rows[row]["t1"]) * slope
            other.write_formula(row + 1, 1, f"=A{row + 2}*(Sheet1!{a}-Sheet1!{t})", None, repr(delta))

    for row in range(13):
        for name, a in (("dE_dw5", "a_h1"), ("dE_dw6", "a_h2")):
            sample.single[name, row] = f"(a_o1-t1)*a_o1*(1-a_o2)*{a}"
    rows[:] = sample.numbers()
    wrong[:] = [row["a_o1"] * (1 - row["a_o2"]) for row in rows]
    for row in range(13):
        for name, a in (("dE_dw5", "a_h1"), ("dE_dw6", "a_h2")):
            sample.instead[name, row] = f"=Steps!B{row + 2}*{sample.place(a, row)}"
    sample.more = more
    audited, found = judged(sample, tmp_path)
    assert found == [("A2", 13, "a_o2 was used instead of a_o1")]
    assert "FIRST WRONG    Steps!A2, da/do" in file_text(audited)
    assert openpyxl.load_workbook(io.BytesIO(annotated(audited)))["Steps"]["A2"].comment is not None


def test_a_column_of_updated_weights_is_a_helper(sample, tmp_path):
    cells, place = sample.cells, sample.place
    letters = {w: f"A{chr(ord('H') + number)}" for number, w in enumerate(sample.network.weights)}

    def with_updated(style):
        found = dict(cells(style))
        for w, letter in letters.items():
            found[f"{letter}5"] = f"{w}'"
            for row, values in enumerate(sample.numbers()):
                new = values[w] - sample.lr * values[f"dE_d{w}"] * (-1 if w == "w3" else 1)
                sign = "+" if w == "w3" else "-"
                text = f"={place(w, row)}{sign}$B$1*{place(f'dE_d{w}', row)}"
                found[f"{letter}{6 + row}"] = (text, repr(new))
                if row:
                    found[place(w, row)] = (f"={letter}{5 + row}", found[place(w, row)][1])
        return found

    sample.equations["w3"] = "prev_w3 + prev_eta*prev_dE_dw3"
    sample.cells = with_updated
    audited, found = judged(sample, tmp_path)
    assert found == [("AJ6", 12, "the sign of the update: + eta*dE/dw was used instead of - eta*dE/dw")] or (
        found[0][:2] == ("AJ6", 12)
    ), found
    assert "FIRST WRONG    AJ6, w3'" in file_text(audited)


def test_tanh_in_one_cell(sample, tmp_path):
    sample.single["a_h2", 3] = "tanh(h2)"
    words = "tanh was used instead of the sigmoid"
    assert judged(sample, tmp_path)[1] == [(sample.place("a_h2", 3), 1, words)]


def test_one_row_shows_no_update_but_beside_a_table_it_is_an_example(sample, tmp_path):
    sample.epochs = 0
    audited, _ = judged(sample, tmp_path)
    assert audited.verdict == "not shown"
    assert "no update to check" in file_text(audited)
    sample.eta, sample.literal = "", True
    REWRITES["a second table below"](sample)
    assert judged(sample, tmp_path)[0].verdict == "right"


def test_another_cell_with_the_same_rate_is_a_note(sample, tmp_path):
    sample.notes["D1"] = "0.5"
    for w in sample.network.weights:
        sample.instead[w, 7] = sample.formula(w, 7).replace("$B$1", "$D$1")
    audited, found = judged(sample, tmp_path)
    assert (audited.verdict, found) == ("right", [])
    assert "E13 (8 in all) takes eta from D1, not from B1: both are 0.5 now" in file_text(audited)
    sample.instead, sample.rewritten = {}, str.lower
    assert "takes eta from" not in file_text(judged(sample, tmp_path)[0])


@pytest.mark.parametrize("counted", [True, False])
def test_epochs_left_out_are_not_shown(sample, tmp_path, monkeypatch, counted):
    sample.epochs = 20
    kept = (0, 1, 2, 5, 10, 20)
    rows = sample.numbers()
    monkeypatch.setattr(sample, "numbers", lambda: [rows[epoch] for epoch in kept])
    sample.left = 1
    if counted:
        sample.notes = {f"A{6 + place}": str(epoch) for place, epoch in enumerate(kept)} | {"A5": "epoch"}
    style = typed(monkeypatch, repr)
    audited, found = judged(sample, tmp_path, style)
    assert (audited.verdict, found) == ("not shown", [])
    assert f"epochs are left out before {sample.place('w1', 3)}" in file_text(audited)
    rows[5]["h1"] += 0.1
    assert judged(sample, tmp_path, style)[1][0][0] == sample.place("h1", 3)


def test_a_table_on_its_side_is_judged_and_marked(sample, tmp_path):
    REWRITES["on its side"](sample.with_mistake("h2", ("w3*i1 + w4*i2", "w3*i2 + w4*i1")))
    audited, found = judged(sample, tmp_path)
    assert found == [(sample.place("h2", 0), 13, "i1 and i2 are swapped")]
    assert "headings in column E, 13 columns (F to R), 31 rows" in file_text(audited)
    sheet = openpyxl.load_workbook(io.BytesIO(annotated(audited)))["Sheet1"]
    assert sheet[sample.place("h2", 0)].border.left.style == "thick"


def test_headings_of_another_language_without_formulas_are_named(sample, tmp_path):
    REWRITES["Spanish"](sample)
    audited, _ = judged(sample, tmp_path, "CSV")
    assert audited.verdict == "no table"
    assert "row 5 has objetivo 1, objetivo 2, entrada 1, entrada 2, peso 1" in audited.refused


def test_old_values_are_one_line_a_file(sample, tmp_path):
    folder = tmp_path / "class"
    folder.mkdir()
    rows = sample.numbers()
    sample.numbers = lambda: rows
    sample.lr = 0.25
    for name in ("anna", "ben"):
        _, found = judged(sample, folder, name=name)
        assert len(found) == 1
    done = audit(folder, tmp_path / "out")
    assert done.stdout.count("the stored values are old") == 3  # a line for each, and one for both
    assert done.returncode == 1


def test_rates_below_each_other_are_judged_one_by_one(sample, tmp_path):
    lines = [["lr", "epoch", *sample.columns]]
    for rate in (0.1, 0.5, 2.0):
        sample.lr = rate
        for epoch, row in enumerate(sample.numbers()):
            lines.append([rate, epoch, *(row[name] for name in sample.columns)])
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    (tmp_path / "trajectories.csv").write_text(text.getvalue())
    audited = audit_file(tmp_path / "trajectories.csv")
    assert [(table.verdict, table.rate.value, table.table.rows) for table in audited.tables] == [
        ("right", 0.1, 13),
        ("right", 0.5, 13),
        ("right", 2.0, 13),
    ]


def test_names_of_another_rate_and_hidden_sheets_are_notes(sample, tmp_path):
    REWRITES["the sheet is hidden"](sample)
    audited, _ = judged(sample, tmp_path, name="lr_0.3")
    assert audited.verdict == "right"
    assert audited.notes == (
        "the sheet Sheet1 is hidden, and was judged",
        "the file's name says eta = 0.3, its table has 0.5",
    )
    assert judged(sample, tmp_path, name="eta=0.5")[0].notes[1:] == ()


def test_the_first_sheet_of_a_marked_copy_says_it_all(sample, tmp_path):
    sample.with_mistake("dE_dw8", ("a_h2", "a_h1"))
    audited, _ = judged(sample, tmp_path)
    sheet = openpyxl.load_workbook(io.BytesIO(annotated(audited))).worksheets[0]
    lines = [[str(cell.value or "") for cell in row] for row in sheet]
    assert lines[0][0] == "table.xlsx: WRONG"
    assert lines[3][:3] == ["first", f"Sheet1!{sample.place('dE_dw8', 0)} and 12 more", "dE/dw8"]
    assert lines[3][6:] == ["=(T6-B6)*T6*(1-T6)*L6", "a_h1 was used instead of a_h2"]
    legend = {line[1]: sheet.cell(number, 1).fill.fgColor.rgb for number, line in enumerate(lines, start=1)}
    assert legend["the first wrong cell of a table, in a thick frame"] == legend[lines[3][1]]
