"""Random tables as programs and people write them: six styles, right and with one of 30 mistakes."""

import csv
import io
import random
import re
from dataclasses import dataclass, field

import numpy as np
import xlsxwriter
from xlsxwriter.utility import xl_cell_to_rowcol, xl_rowcol_to_cell

from audit.spreadsheet.arithmetic import compute
from audit.spreadsheet.network import UPDATE, Network
from backprop.equations import heading


def computed(text, values):
    """An equation's value for numbers by name."""
    return float(compute(text, {name: np.array([value]) for name, value in values.items()})[0])


def _google(value):
    return "0" if abs(value) < 1e-10 else f"{value:.10g}"


STYLES = {
    # name: (how it writes a computed number, whether it keeps formulas)
    "Excel": (repr, True),
    "LibreOffice": (lambda value: f"{value:.15g}", True),
    "Google": (_google, True),
    "WPS": (lambda value: f"{value:.16g}", True),
    "four digits": (lambda value: f"{value:.4g}", False),
    "CSV": (lambda value: f"{value:.9f}", False),
}

MISTAKES = (
    # (column, what it computes, words of the cause)
    ("dE_dw3", ("a_h2", "a_h1"), "a_h1 was used instead of a_h2"),
    ("dE_dw8", ("a_h2", "a_h1"), "a_h1 was used instead of a_h2"),
    ("E2", ("a_o2", "a_o1"), "a_o1 was used instead of a_o2"),
    ("E1", ("/ 2", ""), "the factor 1/2 is missing"),
    ("E1", ("^2", ""), "the square is missing"),
    ("a_h1", ("(h1)", "(-h1)"), "the sign in the sigmoid"),
    ("a_h2", ("sigmoid", ""), "the sigmoid is missing"),
    ("a_o2", ("o2", "o1"), "a_o2 is computed from o1"),
    ("h1", ("i2", "i1"), "i1 was used instead of i2"),
    ("h2", ("w4", "w2"), "w2 was used instead of w4"),
    ("o1", ("a_h1", "a_h2"), "a_h2 was used instead of a_h1"),
    ("o2", ("w8", "w6"), "w6 was used instead of w8"),
    ("E_total", ("E1 + E2", "(E1 + E2)/2"), "the mean was used instead of the sum"),
    ("E_total", ("+ E2", ""), "E2 is missing"),
    ("dE_dw5", ("a_o1-t1", "t1-a_o1"), "t - a_o was used instead of a_o - t"),
    ("dE_dw6", ("a_o1*(1-a_o1) * ", ""), "the factor a_o1*(1-a_o1): it is missing"),
    ("dE_dw5", ("a_o1*(1-a_o1)", "a_o1"), "the factor a_o1*(1-a_o1): only a_o1 was used"),
    ("dE_dw7", ("a_o2", "a_o1"), "a_o1 was used instead of a_o2"),
    ("dE_dw1", ("(a_o2-t2)*a_o2*(1-a_o2)*w7", "0"), "the route through w7 is missing"),
    (
        "dE_dw1",
        (" + ", ")+("),
        "a bracket is missing: only the second route is multiplied by a_h1*(1-a_h1)*i1",
    ),
    ("dE_dw2", ("-t", "*t"), "a_o*t was used instead of a_o-t"),
    ("dE_dw2", ("i2", "i1"), "i1 was used instead of i2"),
    ("dE_dw4", ("a_h2", "h2"), "h2 was used instead of a_h2"),
    ("dE_dw3", ("w6", "w5"), "w5 was used instead of w6"),
    ("w1", ("- prev_eta", "+ prev_eta"), "the sign of the update"),
    ("w2", ("prev_eta*", ""), "eta was left out of the update"),
    ("w3", ("dE_dw3", "dE_dw4"), "dE/dw4 was used instead of dE/dw3"),
    ("w5", ("prev_w5", "prev_w6"), "w6 was used instead of w5"),
    ("w7", ("w7", "w8"), "the whole update of w8 was used"),
    ("w4", ("prev_w4 - prev_eta*prev_dE_dw4", "prev_w4"), "the update was skipped"),
)


@dataclass
class Sample:
    """A table: equations by column, numbers, and how it is laid out."""

    random: random.Random
    network: Network = field(default_factory=Network)
    epochs: int = 12

    def __post_init__(self):
        draw = self.random
        self.equations = {w: UPDATE.format(w=w) for w in self.network.weights} | dict(self.network.equations)
        self.lr = draw.choice((0.3, 0.5, 0.8, 1.7, 2.0))
        self.start = {w: round(draw.uniform(0.1, 1.5), 2) for w in self.network.weights}
        sizes = dict(zip(("i1", "i2", "t1", "t2"), draw.sample(range(30, 98), 4), strict=True))
        self.given = {name: sizes[name] / 100 for name in ("i1", "i2", "t1", "t2")}
        self.top, self.left = draw.randrange(2, 9), draw.randrange(0, 4)
        self.columns = list(self.network.columns)
        self.heads = draw.choice(
            (
                heading,
                lambda name: heading(name).replace("dE/d", "∂E/∂"),
                lambda name: name.replace("dE_d", "E∂").replace("a_", "out_"),
                lambda name: heading(name).upper().replace("_TOTAL", "_total"),
            )
        )
        self.fixed = draw.random() < 0.5  # inputs and targets of the first row, by $
        self.spaces = draw.choice(("", " "))
        self.exp = draw.choice(("EXP", "exp"))
        self.literal = draw.random() < 0.3  # eta typed into each formula
        self.eta = "$B$1"
        self.label = ("eta", "A1")
        self.instead = {}  # formulas of single cells: (column, row) -> text
        self.single = {}  # equations of single cells, likewise
        self.more = lambda book, sheet: None  # what else stands in the file
        self.helpers = {}  # columns besides those of the network: name -> equation
        self.gaps = {}  # lines left free before a row: row -> how many
        self.turned = False
        self.notes = {}  # what else stands in the sheet: (line, column) -> text or number
        self.rewritten = lambda formula: formula  # the same formula, written otherwise
        self.once = False  # inputs and targets stand in the first row only
        self.title = "Sheet1"

    def with_mistake(self, name, change):
        """The same sample with a mistake in a column."""
        self.equations[name] = re.sub(re.escape(change[0]), change[1], self.equations[name])
        return self

    def equation(self, name, row):
        """What a cell computes."""
        return self.single.get((name, row)) or self.helpers.get(name) or self.equations[name]

    def numbers(self):
        """The table's numbers, row by row."""
        rows, before = [], None
        for _ in range(self.epochs + 1):
            row = dict(self.given)
            known = {f"prev_{name}": value for name, value in (before or {}).items()} | {"prev_eta": self.lr}
            names = [*self.network.weights, *self.network.equations]
            first = next(place for place, name in enumerate(names) if name.startswith("dE"))
            for name in (*names[:first], *self.helpers, *names[first:]):
                if name in self.start and before is None:
                    row[name] = self.start[name]
                else:
                    row[name] = computed(self.equation(name, len(rows)), {**row, **known})
            rows.append(row)
            before = row
        return rows

    def place(self, name, row, *, fixed=False):
        """Where a cell stands, as the spreadsheet program writes it; row -1 is the headings'."""
        line = self.top + 1 + row + sum(lines for at, lines in self.gaps.items() if at <= row)
        at = (line, self.left + [*self.columns, *self.helpers].index(name))
        return xl_rowcol_to_cell(*(at[::-1] if self.turned else at), row_abs=fixed, col_abs=fixed)

    def formula(self, name, row):
        """A cell's formula."""
        text = self.equation(name, row).replace(" ", self.spaces)
        text = re.sub(
            r"sigmoid\((-?)(\w+)\)", lambda s: f"1/(1+{self.exp}({'' if s[1] else '-'}{s[2]}))", text
        )

        def cell(word):
            word = word.group()
            if word == "prev_eta":
                return f"{self.lr!r}" if self.literal else self.eta
            shift, word = int(word.startswith("prev_")), word.removeprefix("prev_")
            if word not in self.columns and word in self.given:
                return repr(self.given[word])
            fixed = (self.fixed or self.once) and word in self.given
            return self.place(word, 0 if fixed else row - shift, fixed=fixed)

        return self.rewritten("=" + re.sub(r"\b(prev_)?(eta|[a-z]\w*\d|E\d|E_total|dE_dw\d)\b", cell, text))

    def cells(self, style):
        """What stands where: address -> text, number as typed or shown, or (formula, number shown)."""
        show, formulas = STYLES[style]
        cells = dict(self.notes)
        if self.eta.startswith("$"):
            text, at = self.label
            cells |= {at: text, self.eta.replace("$", ""): repr(self.lr)}
        rows = self.numbers()
        for name in (*self.columns, *self.helpers):
            cells[self.place(name, -1)] = self.heads(name)
            for number, row in enumerate(rows):
                typed = name in self.given or (name in self.start and number == 0)
                if typed and name in self.given and self.once and number:
                    continue
                value = repr(row[name]) if typed else show(row[name])
                if formulas and not typed:
                    value = (self.instead.get((name, number)) or self.formula(name, number), value)
                cells[self.place(name, number)] = value
        return cells

    def written(self, style):
        """The file's content and its suffix."""
        if style == "CSV":
            return self._csv(), ".csv"
        content = io.BytesIO()
        with xlsxwriter.Workbook(content) as book:
            sheet = book.add_worksheet(self.title)
            for at, shown in self.cells(style).items():
                if isinstance(shown, tuple):
                    sheet.write_formula(at, shown[0], None, shown[1])
                elif re.fullmatch(r"-?[\d.]+(e-?\d+)?", shown):
                    sheet.write_number(at, float(shown))
                else:
                    sheet.write_string(at, shown)
            self.more(book, sheet)
        return content.getvalue(), ".xlsx"

    def _csv(self):
        cells = {xl_cell_to_rowcol(at): shown for at, shown in self.cells("CSV").items()}
        lines = [
            [cells.get((row, column), "") for column in range(1 + max(at[1] for at in cells))]
            for row in range(1 + max(at[0] for at in cells))
        ]
        text = io.StringIO()
        csv.writer(text, delimiter=";").writerows(
            [cell.replace(".", ",") if re.match(r"-?\d", cell) else cell for cell in line] for line in lines
        )
        return text.getvalue().encode()

    def address(self, name, row, style=None):
        """Where a cell stands."""
        return self.place(name, row)


def first_row(name, network):
    """The first row in which a column is computed."""
    return int(name in network.weights)
