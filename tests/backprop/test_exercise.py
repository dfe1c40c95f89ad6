"""Two students' worksheets with 12 typical mistakes, computed by LibreOffice: each cell has its colour."""

import math
import re

import openpyxl
import pytest

from audit.spreadsheet.verdict import audit_file
from backprop import exercise
from backprop.config import BackpropConfig
from backprop.equations import all_equations
from backprop.network import on_cpu
from backprop.task import descend_from_start
from backprop.workbook import FIRST, letters
from launch import main
from tests.backprop.test_workbook import recalculate

EMPTY, RIGHT, FOLLOWS, WRONG = range(4)
MISTAKES = {  # a column, and what a student computes in it
    "a weight of the other neuron": ("h1", "w1*i1 + w3*i2"),
    "the weighted sum as activation": ("a_h1", "h1"),
    "a sign in the sigmoid": ("a_o1", "1/(1+exp(o1))"),
    "a neuron's other input": ("o2", "w7*a_h1 + w8*a_h1"),
    "no half": ("E1", "(t1 - a_o1)**2"),
    "a difference": ("E_total", "E1 - E2"),
    "target minus output": ("dE_dw5", "(t1-a_o1) * a_o1*(1-a_o1) * a_h1"),
    "no slope": ("dE_dw6", "(a_o1-t1) * a_h2"),
    "another activation": ("dE_dw8", "(a_o2-t2) * a_o2*(1-a_o2) * a_h1"),
    "one route alone": ("dE_dw1", "(a_o1-t1)*a_o1*(1-a_o1)*w5 * a_h1*(1-a_h1) * i1"),
    "another input": (
        "dE_dw3",
        "((a_o1-t1)*a_o1*(1-a_o1)*w6 + (a_o2-t2)*a_o2*(1-a_o2)*w8) * a_h2*(1-a_h2) * i2",
    ),
    "uphill": ("w2", "w2 + eta * dE_dw2"),
}


def drawn(number, **flags):
    config = exercise.drawn(BackpropConfig(lrs=(0.5,), exercise=number, **flags))
    with on_cpu(float64=True):
        return config, descend_from_start(config)[0]


def opened(config, rows, folder, *, solved=False):
    file = folder / "worksheet.xlsx"
    file.write_bytes(exercise.worksheet(config, rows, solved=solved))
    return openpyxl.load_workbook(file)


def by_a_student(config, wrong, text):
    """The rows of a student who computes one column otherwise, by name."""
    equations = {name: text.replace("^", "**") for name, text in all_equations(config.shape).items()}
    updates = {name: f"{name} - eta * dE_d{name}" for name in config.shape.weight_names}
    (updates if wrong in updates else equations)[wrong] = text
    known = {"exp": math.exp, "sigmoid": lambda x: 1 / (1 + math.exp(-x)), "eta": config.lrs[0]}
    row = dict(zip(config.shape.example_names, (*config.inputs, *config.targets), strict=True)) | config.start
    for epoch in range(exercise.ROWS):
        if epoch:
            row |= {name: eval(text, known | row) for name, text in updates.items()}
        for name, equation in equations.items():
            row[name] = eval(equation, known, row)
        yield dict(row)


def is_right(given, right):
    digits = min(4, len(re.sub(r"e.*|[.-]", "", f"{given!r}").lstrip("0")))
    unit = 10.0 ** (math.floor(math.log10(abs(given))) + 1 - digits)
    return abs(given - right) <= 0.500001 * unit


@pytest.mark.parametrize("number", [1, 42])
def test_cells_are_coloured_as_they_are_right(number, tmp_path):
    config, rows = drawn(number)
    letter, books, expected = letters(config.shape), {}, {}
    for place, (wrong, text) in enumerate(MISTAKES.values()):
        books[f"b{place}"] = book = opened(config, rows, tmp_path)
        sheet = book[exercise.SHEET]
        for row, (of_student, right) in enumerate(
            zip(by_a_student(config, wrong, text), rows, strict=True), FIRST
        ):
            for (name, column), value in zip(letter.items(), right.tolist(), strict=True):
                if sheet[f"{column}{row}"].value is not None:
                    continue
                given = float(f"{of_student[name]:.4g}")
                sheet[f"{column}{row}"] = given
                answer = RIGHT if is_right(given, value) else WRONG if name == wrong else FOLLOWS
                expected[f"b{place}", f"{column}{row}"] = answer
    other = drawn(number, hidden=3, outputs=1, targets=(0.5,), activation="tanh", biases=True)
    books["empty"] = opened(config, rows, tmp_path)
    books["solved"] = opened(config, rows, tmp_path, solved=True)
    books["tanh"] = opened(*other, tmp_path, solved=True)
    found = recalculate(tmp_path, books)
    assert {*expected.values()} == {RIGHT, FOLLOWS, WRONG}
    for (name, cell), answer in expected.items():
        assert found[name][exercise.ANSWERS][cell].value == answer, (name, cell)
    for name, answer, shape in (
        ("empty", EMPTY, config.shape),
        ("solved", RIGHT, config.shape),
        ("tanh", RIGHT, other[0].shape),
    ):
        cells = [
            cell.value for row in found[name][exercise.ANSWERS] for cell in row if cell.value is not None
        ]
        to_fill_in = 3 * (len(shape.columns) - len(shape.example_names)) - len(shape.weight_names)
        assert cells == [answer] * to_fill_in


def test_a_format_shows_each_answer_and_the_other_sheets_are_hidden(tmp_path):
    book = opened(*drawn(7), tmp_path)
    (cells,) = book[exercise.SHEET].conditional_formatting
    rules = [rule.formula[0] for rule in cells.rules]
    assert str(cells.sqref) == "G4:AK6"
    assert [rule[-1] for rule in rules] == ["1", "2", "3"]
    assert [sheet.sheet_state for sheet in book] == ["visible", *["hidden"] * 4]


def test_every_number_has_its_own_start_values_and_always_the_same(tmp_path):
    several = [drawn(number)[0] for number in range(50)]
    assert len({(config.inputs, config.weights) for config in several}) == 50
    assert drawn(3)[0] == several[3]


@pytest.mark.parametrize(
    "flags", [{}, {"hidden": 3, "outputs": 1, "targets": (0.5,), "activation": "tanh", "biases": True}]
)
def test_the_command_writes_a_worksheet_and_a_solution_that_the_audit_reads(flags, tmp_path, capsys):
    words = [
        f"--{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in flags.items()
    ]
    assert main(["launch.py", "--task=backprop", "--exercise=42", f"--workdir={tmp_path}", *words]) == 0
    assert "exercise.xlsx, to be filled in, and solution.xlsx" in capsys.readouterr().out
    assert audit_file(tmp_path / "exercise.xlsx").verdict not in ("right", "wrong")
    solution = audit_file(tmp_path / "solution.xlsx")
    assert (solution.verdict, len(solution.tables)) == ("right", 1)
