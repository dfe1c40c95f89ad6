"""Spreadsheets as students make them, right, odd and wrong ones, for the tests of the audit."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import openpyxl
from openpyxl.utils import get_column_letter

from backprop.descent import COLUMNS
from backprop.equations import EQUATIONS, heading
from tests.backprop.test_descent import spreadsheet
from tests.backprop.test_network import CASE, START


@dataclass(frozen=True)
class Layout:
    """Where a table stands, what its headings are, and where eta is."""

    top: int = 6
    left: int = 1
    rows: int = 30
    lr: float = 0.5
    targets: tuple[float, float] = CASE[2:]
    label: str | None = "eta"
    headings: Callable[[str], str] = heading
    names: tuple[str, ...] = COLUMNS
    title: str = "Sheet1"


@dataclass
class Student:
    """One workbook; the mistakes of the tests edit its formulas."""

    layout: Layout = field(default_factory=Layout)

    def __post_init__(self):
        layout = self.layout
        self.book = openpyxl.Workbook()
        self.sheet = self.book.active
        self.sheet.title = layout.title
        self.sheet["A1"] = "Back-propagation"
        if layout.label:
            self.sheet["D2"], self.sheet["E2"] = layout.label, layout.lr
        for name in layout.names:
            self.sheet[self.at(name, -1)] = layout.headings(name)
        self.given = dict(zip(("i1", "i2", "t1", "t2"), (*CASE[:2], *layout.targets), strict=True))
        self.given |= {f"w{n}": weight for n, weight in enumerate(START, start=1)}
        for row in range(layout.rows):
            for name in layout.names:
                if name in EQUATIONS:
                    self.write(name, row, EQUATIONS[name])
                elif name.startswith("w") and row:
                    self.write(name, row, f"{name}@ - eta*dE_d{name}@")
                else:
                    self.sheet[self.at(name, row)] = self.given[name]

    def at(self, name, row):
        """A cell's address; row 0 is the first row of numbers."""
        column = self.layout.left + self.layout.names.index(name)
        return f"{get_column_letter(column)}{self.layout.top + row + 1}"

    def write(self, name, row, text, eta=None):
        """A formula from the columns' names; NAME@ is the row above, NAME% the row below."""
        for absent in ("E1", "i1", "i2", "t1", "t2"):  # the layouts leave out no others
            if absent not in self.layout.names:
                text = re.sub(rf"\b{absent}\b", f"({EQUATIONS.get(absent) or self.given[absent]})", text)
        text = re.sub(r"sigmoid\((\w+)\)", r"1/(1+EXP(-\1))", text)
        eta = eta or ("$E$2" if self.layout.label else str(self.layout.lr))

        def cell(word):
            name, shift = word.group(1), {"": 0, "@": -1, "%": 1}[word.group(2)]
            return eta if name == "eta" else self.at(name, row + shift)

        self.sheet[self.at(name, row)] = "=" + re.sub(r"\b([a-zA-Z]\w*)\b(?!\()([@%]?)", cell, text)

    def everywhere(self, name, text, start=0, **more):
        for row in range(start, self.layout.rows):
            self.write(name, row, text, **more)


def _letters(name):
    """Headings with 𝜕, out_ and E_Total."""
    name = re.sub(r"^a_(.)", r"out_\1", name)
    return {"E_total": "E_Total"}.get(name, name.replace("dE_d", "𝜕E_Total/𝜕"))


def _subscripts(name):
    """Headings such as ∂Eₜ/∂w₁ and a h₁, in capitals here and there."""
    name = re.sub(r"(\d)$", lambda digit: chr(0x2080 + int(digit[1])), name)
    return {"E_total": "E_tot"}.get(name, name.replace("dE_d", "∂E_t / ∂").replace("a_", "A "))


CLEAN = {
    "plain": Layout(),
    "letters": Layout(top=20, left=3, lr=0.8, label="ɳ", headings=_letters, targets=(0.5, 0.5)),
    "subscripts": Layout(top=4, left=8, rows=101, lr=2.0, label="Learning rate η =", headings=_subscripts),
    "no_label": Layout(label=None, lr=0.2, rows=60),
    "named_sheet": Layout(label=None, lr=1.0, title="LR = 1.0"),
    "equation_in_a_cell": Layout(label=None, lr=0.1, title="lr 0.1"),
    "without_t_and_E1": Layout(names=tuple(name for name in COLUMNS if name not in ("t1", "t2", "E1"))),
    "without_i_and_t": Layout(names=COLUMNS[4:], targets=(0.5, 0.25), lr=0.3),
    "another_order": Layout(names=tuple(sorted(COLUMNS)), lr=0.05),
    "one_row": Layout(rows=1),
}


def clean(name):
    return Student(CLEAN[name])


def other_activation():
    student = Student()
    student.everywhere("dE_dw8", EQUATIONS["dE_dw8"].replace("a_h2", "a_h1"))
    return student


def other_hidden_neuron():
    student = Student()
    student.everywhere("dE_dw1", EQUATIONS["dE_dw1"].replace("a_h1", "a_h2"))
    return student


def update_in_a_forward_cell():
    student = Student()
    student.write("h1", 7, "h1@ - eta*dE_dw1@")
    return student


def sign_of_the_update():
    student = Student()
    for n in range(1, 9):
        student.everywhere(f"w{n}", f"w{n}@ + eta*dE_dw{n}@", start=1)
    return student


def sign_of_one_update():
    student = Student(Layout(label=None))
    student.everywhere("w3", "w3@ + eta*dE_dw3@", start=1)
    return student


def updated_weight_in_a_derivative():
    student = Student()
    for row in range(student.layout.rows - 1):
        text = EQUATIONS["dE_dw2"].replace("w5", "w5%").replace("w7", "w7%")
        student.write("dE_dw2", row, text)
    return student


def updated_weight_in_an_update():
    student = Student()
    for row in range(1, student.layout.rows):
        slope = re.sub(r"\b(?!w)([a-z]\w*)", r"\1@", EQUATIONS["dE_dw1"])
        student.write("w1", row, f"w1@ - eta*({slope})")
    return student


def other_output_in_E2():
    student = Student(Layout(rows=100))
    student.everywhere("E2", "(t2 - a_o1)^2 / 2")
    return student


def eta_in_some_updates_only():
    student = Student(Layout(label=None))
    for n in range(1, 5):
        student.everywhere(f"w{n}", f"w{n}@ - dE_dw{n}@", start=1)
    return student


def eta_in_some_updates_only_labelled():
    student = Student()
    student.everywhere("w6", "w6@ - dE_dw6@", start=1)
    return student


def skipped_row():
    student = Student()
    for n in range(1, 9):
        student.write(f"w{n}", 12, f"w{n}@")
    return student


def wrong_constant():
    student = Student()
    student.sheet[student.at("a_o1", 9)] = 0.7
    return student


def sliding_eta():
    student = Student()
    for row in range(1, 30):
        student.write("w5", row, "w5@ - eta*dE_dw5@", eta=f"E{1 + row}")
    return student


def sliding_eta_onto_a_number():
    student = Student()
    student.sheet["E3"] = 7.0
    student.write("w5", 2, "w5@ - eta*dE_dw5@", eta="E3")
    return student


def another_eta_than_labelled():
    student = Student()
    for n in range(1, 9):
        student.everywhere(f"w{n}", f"w{n}@ - eta*dE_dw{n}@", start=1, eta="0.1")
    return student


def input_filled_as_a_series():
    student = Student()
    for row in range(30):
        student.sheet[student.at("i1", row)] = round(0.05 + row, 2)
    return student


def error_value():
    student = Student()
    student.sheet[student.at("o2", 4)] = "=1/0"
    return student


def two_mistakes():
    student = other_output_in_E2()
    student.write("w7", 40, "w7@")
    return student


def no_half():
    student = Student()
    student.everywhere("E1", "(t1 - a_o1)^2")
    return student


WRONG = {
    # maker: (column, row of the first wrong cell, words of the mistake, columns wrong because of it)
    other_activation: ("dE_dw8", 0, "a_h1 was used instead of a_h2", {"w8", "o2", "a_h1", "E_total"}),
    other_hidden_neuron: ("dE_dw1", 0, "a_h2 was used instead of a_h1", {"w1", "h1", "dE_dw3"}),
    update_in_a_forward_cell: ("h1", 7, "update formula", {"a_h1", "w5", "E_total"}),
    sign_of_the_update: ("w1", 1, "sign of the update", {"h1", "E_total", "dE_dw8"}),
    sign_of_one_update: ("w3", 1, "sign of the update", {"h2", "E_total", "w1"}),
    updated_weight_in_a_derivative: ("dE_dw2", 0, "already updated weights", {"w2", "h1"}),
    updated_weight_in_an_update: ("w1", 1, "already updated weights", {"h1", "w5"}),
    other_output_in_E2: ("E2", 0, "a_o1 was used instead of a_o2", {"E_total"}),
    eta_in_some_updates_only: ("w1", 1, "eta was left out", {"h1", "w5"}),
    eta_in_some_updates_only_labelled: ("w6", 1, "eta was left out", {"o1", "w1"}),
    skipped_row: ("w1", 12, "the update was skipped", {"h1", "E_total"}),
    wrong_constant: ("a_o1", 9, "constant", {"E1", "dE_dw5", "w5"}),
    sliding_eta: ("w5", 2, "the reference to eta slid down: write $E$2", {"o1", "w1"}),
    sliding_eta_onto_a_number: ("w5", 2, "slid down: write $E$2", {"o1"}),
    another_eta_than_labelled: ("w1", 1, "eta = 0.1 was used instead of 0.5", {"h1", "E_total"}),
    input_filled_as_a_series: ("i1", 1, "changes from row to row", {"h1", "w5"}),
    error_value: ("o2", 4, "the cell shows #DIV/0!", {"a_o2", "E2", "w8"}),
    two_mistakes: ("E2", 0, "a_o1 was used instead of a_o2", {"E_total", "o2"}),
    no_half: ("E1", 0, "the factor 1/2 is missing", {"E_total"}),
}


def right_constant():
    """A formula replaced by its own value, which LibreOffice computed as 15 digits."""
    student = Student()
    rows = spreadsheet(0.5, START, CASE, 30)
    for row in (3, 4):
        value = float(f"{rows[row, COLUMNS.index('a_h1')]:.15g}")
        student.sheet[student.at("a_h1", row)] = value
    return student


def label_twice():
    return Student(Layout(headings=lambda name: heading({"dE_dw8": "dE_dw7"}.get(name, name))))


def name_of_another_rate():
    return Student(Layout(title="eta = 0.2"))


WARNED = {
    right_constant: "J10 and 1 more (a_h1): a constant stands where the column has formulas",
    label_twice: "the label dE/dw7 stands twice: AE6 is read as dE/dw8",
    name_of_another_rate: "the sheet's name says eta = 0.2, the table has 0.5",
}
