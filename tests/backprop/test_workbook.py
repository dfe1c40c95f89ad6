import io
import os
import shutil
import subprocess
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import openpyxl
import pytest

from backprop.config import BackpropConfig
from backprop.descent import COLUMNS, descend_each, table
from backprop.task import descend_from_start
from backprop.workbook import formula, workbook

CONFIG = BackpropConfig(lrs=(0.1, 0.5, 2.0), epochs=40)
FIRST_ROW = 4
PACKAGE = "soffice is missing: install the Debian package libreoffice-calc-nogui"


def trajectories(config):
    with jax.enable_x64(True):
        return descend_from_start(config)


@pytest.fixture(scope="module")
def content():
    return workbook(CONFIG, trajectories(CONFIG))


@pytest.fixture(scope="module")
def formulas(content):
    return openpyxl.load_workbook(io.BytesIO(content))


def cells(book, lr, rows, columns=COLUMNS):
    """The table of a sheet, by its headings."""
    sheet = book[f"eta={lr}"]
    headings = {sheet.cell(3, column).value: column for column in range(1, sheet.max_column + 1)}
    places = [headings[name.replace("_d", "/d")] for name in columns]
    return [[sheet.cell(FIRST_ROW + row, place).value for place in places] for row in range(rows)]


def setting(sheet, name):
    return next(sheet.cell(row, 2) for row in range(1, 50) if sheet.cell(row, 1).value == name)


def test_cached_values_are_our_trajectories(content):
    book = openpyxl.load_workbook(io.BytesIO(content), data_only=True)
    assert book.sheetnames == ["overview", "eta=0.1", "eta=0.5", "eta=2.0"]
    for lr, rows in zip(CONFIG.lrs, trajectories(CONFIG), strict=True):
        np.testing.assert_array_equal(np.array(cells(book, lr, 41)), rows)
        assert book[f"eta={lr}"].max_row == FIRST_ROW + 40


def test_every_cell_of_the_table_is_a_formula(formulas):
    for lr in CONFIG.lrs:
        assert all(cell.startswith("=") for row in cells(formulas, lr, 41) for cell in row)
        assert setting(formulas[f"eta={lr}"], "eta").value == lr


def test_columns_stand_in_the_assignments_order(formulas):
    headings = [cell.value for cell in formulas["eta=0.5"][3] if cell.value is not None]
    assert " ".join(headings[-31:]) == (
        "t1 t2 i1 i2 w1 w2 w3 w4 h1 a_h1 h2 a_h2 w5 w6 w7 w8 o1 a_o1 o2 a_o2 E1 E2 E_total "
        "dE/dw1 dE/dw2 dE/dw3 dE/dw4 dE/dw5 dE/dw6 dE/dw7 dE/dw8"
    )


def test_each_sheet_shows_the_equations_and_stays_in_view(formulas):
    for lr in CONFIG.lrs:
        sheet = formulas[f"eta={lr}"]
        shown = {sheet.cell(row, 3).value: sheet.cell(row, 4).value for row in range(4, 24)}
        assert shown["dE/dw8"] == "= (a_o2-t2) * a_o2*(1-a_o2) * a_h2"
        assert shown["a_h1"] == "= sigmoid(h1)"
        assert sheet.freeze_panes == "A4"


def test_a_chart_on_every_sheet_draws_the_loss(content):
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        charts = {name: file.read(name).decode() for name in file.namelist() if "charts/chart" in name}
    drawn = sorted(text.count("<c:ser>") for text in charts.values())
    assert drawn == [1, 1, 1, 3]
    for text in charts.values():
        assert "$AC$4:$AC$44" in text  # E_total, all epochs
        assert "<a:t>epoch</a:t>" in text


def test_formulas_refer_to_settings_and_to_the_row_above():
    assert formula("w1", 4) == "=$B$9"
    assert formula("w1", 5) == "=K4-$B$4*AD4"
    assert formula("a_h1", 7) == "=1/(1+EXP(MIN(-O7,700)))"
    assert formula("t2", 9) == "=$B$8"


def recalculate(folder, books):
    """Save books by openpyxl, which keeps no values, and let LibreOffice compute them."""
    if shutil.which("soffice") is None:
        if os.environ.get("CI") == "true":
            pytest.fail(PACKAGE)
        pytest.skip(PACKAGE)
    for name, book in books.items():
        book.save(folder / f"{name}.xlsx")
    subprocess.run(
        [
            *("soffice", f"-env:UserInstallation={(folder / 'profile').as_uri()}", "--headless"),
            *("--convert-to", "xlsx", "--outdir", folder / "out"),
            *(folder / f"{name}.xlsx" for name in books),
        ],
        check=True,
        capture_output=True,
        timeout=600,
    )
    return {name: openpyxl.load_workbook(folder / "out" / f"{name}.xlsx", data_only=True) for name in books}


CHANGED = BackpropConfig(lrs=(0.1, 0.2, 0.5, 1.0, 2.0), epochs=40)
CHANGES = (
    # for each sheet of CHANGED: the cells that are changed, and the settings it then has
    ({}, {}),
    ({"eta": 3.7}, {"lrs": (3.7,)}),
    ({"eta": 1000.0}, {"lrs": (1000.0,)}),
    ({"w3": -1.3, "w8": 0.25}, {"weights": (0.15, 0.20, -1.3, 0.30, 0.40, 0.45, 0.50, 0.25)}),
    ({"t1": 0.5, "i2": 0.9}, {"targets": (0.5, 0.99), "inputs": (0.05, 0.9)}),
)


NETWORKS = {
    "tanh": BackpropConfig(
        lrs=(0.5, 0.3), epochs=40, hidden=4, inputs=(0.1, -0.2, 0.3), activation="tanh", biases=True
    ),
    "relu": BackpropConfig(
        lrs=(0.5, 0.3), epochs=40, hidden=3, outputs=1, inputs=(0.4,), targets=(0.7,), activation="relu"
    ),
    "sigmoid": BackpropConfig(
        lrs=(0.5, 0.3), epochs=40, hidden=1, outputs=3, targets=(0.0, 1.0, 0.5), biases=True
    ),
}
EDITS = {"tanh": {"b2": -0.4, "w20": 0.3}, "relu": {"w2": -1.5, "i1": 0.8}, "sigmoid": {"b4": -0.1}}


@pytest.fixture(scope="module")
def changed():
    """The workbook of CHANGED after CHANGES, one on each sheet."""
    book = openpyxl.load_workbook(io.BytesIO(workbook(CHANGED, trajectories(CHANGED))))
    for lr, (edits, _) in zip(CHANGED.lrs, CHANGES, strict=True):
        for cell, value in edits.items():
            setting(book[f"eta={lr}"], cell).value = value
    return book


@pytest.fixture(scope="module")
def networks():
    """For each of NETWORKS: its columns, its workbook with EDITS on the second sheet, the right tables."""
    found = {}
    for name, config in NETWORKS.items():
        book, shape = openpyxl.load_workbook(io.BytesIO(workbook(config, trajectories(config)))), config.shape
        right = []
        for lr, edits in zip(config.lrs, ({}, EDITS[name]), strict=True):
            for cell, value in edits.items():
                setting(book[f"eta={lr}"], cell).value = value
            values = dict(zip(shape.input_names, config.inputs, strict=True)) | config.start | edits
            with jax.enable_x64(True):
                example = tuple(jnp.asarray(values[name]) for name in shape.input_names)
                example += tuple(map(jnp.asarray, config.targets))
                weights = tuple(jnp.asarray(values[name]) for name in shape.weight_names)
                rows = descend_each(jnp.array([lr]), weights, example, 40, shape)
                right.append(table(rows, example, shape)[0])
        found[name] = shape.columns, book, right
    return found


@pytest.fixture(scope="module")
def recalculated(changed, networks, tmp_path_factory):
    """All these books as LibreOffice computes them: it starts once."""
    books = {"changed": changed} | {name: book for name, (_, book, _) in networks.items()}
    return recalculate(tmp_path_factory.mktemp("office"), books)


def test_libreoffice_recalculates_every_row_after_a_change(recalculated):
    book = recalculated["changed"]
    for place, (lr, (_, changes)) in enumerate(zip(CHANGED.lrs, CHANGES, strict=True)):
        config = BackpropConfig(**({"lrs": (lr,), "epochs": 40} | changes))
        found = np.array(cells(book, lr, 41), dtype=float)
        np.testing.assert_allclose(found, trajectories(config)[0], rtol=0, atol=1e-12, err_msg=f"eta={lr}")
        overview = [book["overview"][f"{column}{7 + place}"].value for column in "ABC"]
        assert overview == pytest.approx([config.lrs[0], found[0, 22], found[-1, 22]], rel=1e-14)
        assert book[f"eta={lr}"]["A1"].value == f"Gradient descent with eta = {config.lrs[0]:g}"


def test_libreoffice_computes_the_workbook_of_any_network(recalculated, networks):
    for name, (columns, _, tables) in networks.items():
        for lr, right in zip(NETWORKS[name].lrs, tables, strict=True):
            found = np.array(cells(recalculated[name], lr, 41, columns), dtype=float)
            np.testing.assert_allclose(found, right, rtol=0, atol=1e-12, err_msg=f"{name}, eta={lr}")


def test_a_number_too_large_is_the_error_that_a_spreadsheet_shows():
    config = BackpropConfig(lrs=(0.5,), epochs=2, activation="relu")
    values = np.zeros((1, 3, len(COLUMNS)))
    loss = COLUMNS.index("E_total")
    values[0, 2, [loss, -1, -2]] = np.inf, -np.inf, np.nan
    content = io.BytesIO(workbook(config, values))
    book = openpyxl.load_workbook(content, data_only=True)
    assert [cells(book, 0.5, 3)[2][place] for place in (loss, -1, -2)] == ["#NUM!"] * 3
    assert book["overview"]["C7"].value == "#NUM!"
    assert cells(openpyxl.load_workbook(content), 0.5, 3)[2][loss].startswith("=")
