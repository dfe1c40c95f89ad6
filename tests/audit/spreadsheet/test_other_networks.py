"""Other networks with one hidden layer: the 2-2-2 with two biases, XOR, tanh, ReLU."""

import io
import random
import re

import pytest
import xlsxwriter
from xlsxwriter.utility import xl_rowcol_to_cell

from audit.spreadsheet.network import UPDATE, Network
from audit.spreadsheet.report import file_text
from audit.spreadsheet.verdict import audit_file
from backprop.equations import heading
from backprop.shape import Shape
from tests.audit.spreadsheet.styles import computed

pytestmark = pytest.mark.usefixtures("unchecked")  # a third of the time; test_verdict checks shapes

BIASES = Network(Shape(biases=True), shared_biases=True, fixed_biases=True)
EXAMPLE = dict(zip(BIASES.weights, (0.15, 0.20, 0.25, 0.30, 0.40, 0.45, 0.50, 0.55), strict=True)) | {
    "i1": 0.05,
    "i2": 0.10,
    "t1": 0.01,
    "t2": 0.99,
    "b1": 0.35,
    "b2": 0.60,
}
"""The worked example that is known best: E_total starts at 0.298371109, w5 becomes 0.35891648."""

PLAIN = {"sigmoid": r"1/(1+EXP(-\1))", "tanh": r"TANH(\1)", "relu": r"MAX(0,\1)"}


def table(network, start, rows=8, eta=0.5, beside=(), hidden=(), changes=None):
    """A workbook of a network's descent with formulas.

    Args:
      beside: constants that stand labelled above the table instead of in columns; hidden: those that
        stand in the formulas alone. changes: equations of a mistake, by column.
    """
    equations = {w: UPDATE.format(w=w) for w in network.weights} | dict(network.equations) | (changes or {})
    columns = [name for name in network.columns if name not in (*beside, *hidden)]
    content = io.BytesIO()
    values = {}
    with xlsxwriter.Workbook(content) as book:
        sheet = book.add_worksheet()
        for place, (name, number) in enumerate([("eta", eta), *((name, start[name]) for name in beside)]):
            sheet.write(0, 2 * place, name)
            sheet.write(0, 2 * place + 1, number)

        def cell(word, row):
            name = word.removeprefix("prev_")
            if name in hidden:
                return repr(start[name])
            if name == "eta" or name in beside:
                return xl_rowcol_to_cell(0, 1 + 2 * ["eta", *beside].index(name), True, True)
            return xl_rowcol_to_cell(3 + row - word.startswith("prev_"), columns.index(name))

        for place, name in enumerate(columns):
            sheet.write(2, place, heading(name))
        for row in range(rows):
            known = {f"prev_{name}": value for name, value in values.items()} | {"prev_eta": eta}
            values = {name: start[name] for name in network.given}
            for name in (*network.weights, *network.equations):
                values[name] = (
                    start[name]
                    if name in start and not row
                    else computed(equations[name], {**values, **known})
                )
            for place, name in enumerate(columns):
                if name in network.given or (name in start and not row):
                    sheet.write_number(3 + row, place, values[name])
                    continue
                text = equations[name].replace(" ", "")
                for function, formula in PLAIN.items():
                    text = re.sub(rf"{function}\((\w+)\)", formula, text)
                text = re.sub(
                    r"\b(?!EXP|TANH|MAX)[a-zA-Z_]\w*", lambda word, row=row: cell(word.group(), row), text
                )
                sheet.write_formula(3 + row, place, "=" + text, None, repr(values[name]))
    return content.getvalue(), lambda name, row: xl_rowcol_to_cell(3 + row, columns.index(name))


def audited(folder, content):
    (folder / "table.xlsx").write_bytes(content)
    return audit_file(folder / "table.xlsx")


WHERE = {
    "in columns": {},
    "beside the table": {"beside": ("b1", "b2")},
    "in the formulas": {"hidden": ("b1", "b2")},
}


@pytest.mark.parametrize("where", WHERE)
def test_the_example_with_two_biases_is_right(tmp_path, where):
    content, _ = table(BIASES, EXAMPLE, **WHERE[where])
    audit = audited(tmp_path, content)
    assert (audit.verdict, file_text(audit).count("warning")) == ("right", 0), file_text(audit)
    (found,) = audit.tables
    assert found.table.network == BIASES
    row = found.table.values
    assert row["E_total"][0] == pytest.approx(0.298371109, abs=5e-10)
    assert row["w5"][1] == pytest.approx(0.35891648, abs=5e-9)
    assert "2-2-2 with one bias a layer, sigmoid" in file_text(audit)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(
    ("column", "equation", "words"),
    [
        ("dE_dw3", BIASES.equations["dE_dw3"].replace("a_h2", "a_h1"), "a_h1 was used instead of a_h2"),
        ("h2", "w3*i1 + w4*i2", "b1 is missing"),
        ("w7", "prev_w7 + prev_eta*prev_dE_dw7", "the sign of the update"),
    ],
)
def test_three_mistakes_in_it_are_named(tmp_path, where, column, equation, words):
    content, at = table(BIASES, EXAMPLE, **WHERE[where], changes={column: equation})
    audit = audited(tmp_path, content)
    first = audit.tables[0].findings[0]
    assert (audit.verdict, first.cells[0].address) == ("wrong", at(column, int(column[0] == "w")))
    assert words in first.mistake


@pytest.mark.parametrize(
    "network",
    [
        Network(Shape(2, 2, 1, biases=True)),
        Network(Shape(2, 2, 1)),
        Network(Shape(2, 2, 2, biases=True), shared_biases=True),
        Network(Shape(3, 2, 2, "tanh")),
        Network(Shape(1, 1, 1, biases=True)),
        Network(Shape(2, 3, 1, "relu", biases=True)),
        Network(Shape(2, 3, 2)),
    ],
    ids=str,
)
def test_any_network_with_one_hidden_layer(tmp_path, network):
    draw = random.Random(0)
    start = {name: round(draw.uniform(0.1, 0.9), 2) for name in (*network.given, *network.weights)}
    content, at = table(network, start, eta=0.1)
    audit = audited(tmp_path, content)
    assert (audit.verdict, audit.tables[0].warnings) == ("right", ()), file_text(audit)
    assert audit.tables[0].table.network == network
    last = network.weights[-1]
    content, at = table(network, start, eta=0.1, changes={last: f"prev_{last} + prev_eta*prev_dE_d{last}"})
    (found,) = audited(tmp_path, content).tables
    assert found.findings[0].cells[0].address == at(last, 1)
    assert "the sign of the update" in found.findings[0].mistake
