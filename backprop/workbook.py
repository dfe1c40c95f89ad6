"""The assignment's spreadsheet: live formulas, their values already in the cells, and charts."""

import io
import math
import re
from functools import cache
from typing import Any

import numpy as np
import xlsxwriter
from jaxtyping import Float
from xlsxwriter.utility import xl_col_to_name

from backprop.config import BackpropConfig
from backprop.descent import epochs_in_words
from backprop.equations import all_equations, heading
from backprop.shape import CLASSROOM, Shape

# A sheet: settings, equations and chart on the left (A to D), the table from column F on.
TITLE, _GROUPS, HEADINGS, FIRST = 1, 2, 3, 4  # rows, counted as a spreadsheet counts
EPOCH = 5  # column F, counted from 0
_COLOURS = ("#D9D9D9", "#DDEBF7", "#FFE699", "#C6E0B4", "#FFE699", "#F8CBAD", "#FF9F9F", "#D9C3EC")
_FUNCTIONS = {"sigmoid": r"1/(1+EXP(MIN(-\1,700)))", "tanh": r"TANH(\1)", "relu": r"MAX(\1,0)"}

_NOTES = (
    "Each sheet is one gradient descent, one row an epoch: row n holds the weights before update n.",
    "Change a yellow cell of a sheet (eta, an input, a target, a weight): every row and chart follows.",
)
_FUNCTION_NOTE = {
    "sigmoid": "sigmoid(x) is 1/(1+EXP(MIN(-x,700))) in a cell: EXP fails (#NUM!) from 710 on, which a "
    "weight reaches after a large eta; 1/(1+EXP(700)) is already 0 to 304 decimal places. From 37 on it "
    "is 1 in a cell, and a*(1-a) is 0, though the slope is e^-x: a cell has 15 to 17 digits.",
    "tanh": "tanh(x) is TANH(x) in a cell. From 19.1 on it is 1 there, and 1-a^2 is 0, though the slope is "
    "4*e^(-2x): a cell has 15 to 17 digits.",
    "relu": "relu(x) is MAX(x,0) in a cell, and its derivative (x>0) counts as 1 or 0. #NUM! in a cell: the "
    "descent has diverged, and its numbers are too large for a spreadsheet.",
}


def sheet_name(lr: float) -> str:
    """Return the name of a learning rate's sheet."""
    return f"eta={lr}"


def workbook(config: BackpropConfig, table: Float[np.ndarray, "rate epoch column"]) -> bytes:
    """Return the .xlsx file of a descent for each of config.lrs.

    Args:
      table: the values of config.shape.columns, shown until a spreadsheet program computes the formulas. In
        float64, as a spreadsheet computes.
    """
    content = io.BytesIO()
    book = xlsxwriter.Workbook(content, {"in_memory": True})
    styles = {
        "title": book.add_format({"bold": True, "font_size": 16}),
        "name": book.add_format({"bold": True, "indent": 1}),
        "equation": book.add_format({"font_name": "Consolas", "font_size": 10}),
        "head": book.add_format({"bold": True, "bottom": 1}),
        "epoch": book.add_format({"bold": True, "align": "left"}),
        "value": book.add_format({"num_format": "0.000000000"}),
        "small": book.add_format({"num_format": "0.000000E+00"}),
    }
    overview = book.add_worksheet("overview")
    for lr, rows in zip(config.lrs, table, strict=True):
        _write_sheet(book, styles, config, lr, rows)
    _write_overview(book, overview, styles, config, table)
    book.close()
    return content.getvalue()


def formula(name: str, row: int, shape: Shape = CLASSROOM) -> str:
    """Return the live formula of a column in a row (the first is 4), over the cells of the same sheet."""
    letter, setting = letters(shape), setting_cells(shape)
    if name in all_equations(shape):
        function = rf"{shape.activation}\((\w+)\)"
        text = re.sub(function, _FUNCTIONS[shape.activation], all_equations(shape)[name].replace(" ", ""))
        return "=" + re.sub(
            r"[A-Za-z]\w*", lambda word: f"{letter[word[0]]}{row}" if word[0] in letter else word[0], text
        )
    if f"dE_d{name}" in letter and row > FIRST:
        return f"={letter[name]}{row - 1}-{setting['eta']}*{letter[f'dE_d{name}']}{row - 1}"
    return f"={setting[name]}"


@cache
def letters(shape: Shape) -> dict[str, str]:
    """Return the letter of each column of the table."""
    return {name: xl_col_to_name(EPOCH + 1 + place) for place, name in enumerate(shape.columns)}


@cache
def setting_cells(shape: Shape) -> dict[str, str]:
    """Return the cell of each number that a reader may change, such as $B$4 for eta."""
    settings = ("eta", *shape.input_names, *shape.target_names, *shape.weight_names)
    return {name: f"$B${FIRST + place}" for place, name in enumerate(settings)}


def write_frame(
    book: xlsxwriter.Workbook, sheet: Any, config: BackpropConfig, lr: float, colour: str
) -> None:
    """Write the numbers that a table starts from, in this colour, and its headings; lay out the page.

    The headings are two rows: the groups of columns, and the columns.
    """
    letter, bold = letters(config.shape), book.add_format({"bold": True})
    setting = book.add_format({"bg_color": colour, "border": 1})
    settings = (lr, *config.inputs, *config.targets, *config.start.values())
    for (name, cell), value in zip(setting_cells(config.shape).items(), settings, strict=True):
        sheet.write(cell.replace("$B$", "A"), name, bold)
        sheet.write(cell.replace("$", ""), value, setting)
    sheet.write(HEADINGS - 1, EPOCH, "epoch", book.add_format({"bold": True, "bottom": 1}))
    for (group, names), shade in zip(config.shape.column_groups.items(), _COLOURS, strict=True):
        style = book.add_format({"bold": True, "bg_color": shade, "align": "center", "border": 1})
        if len(names) > 1:
            sheet.merge_range(f"{letter[names[0]]}{_GROUPS}:{letter[names[-1]]}{_GROUPS}", group, style)
        else:
            sheet.write(f"{letter[names[0]]}{_GROUPS}", group, style)
        sheet.write_row(f"{letter[names[0]]}{HEADINGS}", [*map(heading, names)], style)
    sheet.freeze_panes(HEADINGS, 0)
    sheet.set_landscape()
    sheet.fit_to_pages(1, 0)  # in width


def _write_sheet(
    book: xlsxwriter.Workbook,
    styles: dict[str, Any],
    config: BackpropConfig,
    lr: float,
    rows: Float[np.ndarray, "epoch column"],
) -> None:
    shape = config.shape
    letter, setting = letters(shape), setting_cells(shape)
    sheet = book.add_worksheet(sheet_name(lr))
    write_frame(book, sheet, config, lr, "#FFF2CC")
    equation_width = min(255, 39 * max(2, shape.outputs))
    for column, width in enumerate((8, 13, 10, equation_width, 2, 8)):
        sheet.set_column(column, column, width)
    sheet.set_column(EPOCH + 1, EPOCH + len(letter), 13)

    title = f'="Gradient descent with eta = "&{setting["eta"]}'
    sheet.write_formula(f"A{TITLE}", title, styles["title"], f"Gradient descent with eta = {lr:g}")
    sheet.write_row(f"A{HEADINGS}", ("setting", "change me"), styles["head"])
    sheet.merge_range(f"C{HEADINGS}:D{HEADINGS}", "  equation", styles["head"])
    updates = {"w": f"w - eta * dE/dw, for each weight{' and bias' * shape.biases}, gives the next row"}
    equations = {**all_equations(shape), **updates}
    for row, (name, text) in enumerate(equations.items(), start=FIRST):
        sheet.write(f"C{row}", heading(name), styles["name"])
        sheet.write_string(f"D{row}", f"= {text}", styles["equation"])

    formats = [styles["small" if name.startswith(("E", "d")) else "value"] for name in shape.columns]
    for epoch, values in enumerate(rows.tolist()):
        row = FIRST + epoch
        sheet.write_number(row - 1, EPOCH, epoch, styles["epoch"])
        for place, (name, style, value) in enumerate(zip(letter, formats, values, strict=True)):
            content = formula(name, row, shape)
            sheet.write_formula(row - 1, EPOCH + 1 + place, content, style, _cached(value))

    chart = _loss_chart(book, "Loss after each epoch", epochs=len(rows) - 1)
    chart.add_series(_loss_series(lr, shape, len(rows)) | {"line": {"color": "#0072B2", "width": 2}})
    chart.set_legend({"none": True})
    sheet.insert_chart(
        f"A{FIRST + max(len(setting), len(equations)) + 2}", chart, {"x_scale": 1.6, "y_scale": 1.4}
    )


def _write_overview(
    book: xlsxwriter.Workbook,
    sheet: Any,
    styles: dict[str, Any],
    config: BackpropConfig,
    table: Float[np.ndarray, "rate epoch column"],
) -> None:
    letter, setting = letters(config.shape), setting_cells(config.shape)
    first, last = FIRST, FIRST + table.shape[1] - 1
    sheet.set_landscape()
    sheet.fit_to_pages(1, 0)  # in width
    sheet.set_column("A:C", 22)
    sheet.write("A1", "Back-propagation by hand: the loss for each learning rate", styles["title"])
    for row, note in enumerate((*_NOTES, _FUNCTION_NOTE[config.activation]), start=2):
        sheet.write(f"A{row}", note)
    headings = ("learning rate (eta)", "E_total at the start", f"after {epochs_in_words(last - first)}")
    sheet.write_row("A6", headings, styles["head"])
    loss = table[:, :, config.shape.columns.index("E_total")].tolist()
    chart = _loss_chart(book, "Loss for each learning rate (eta)", epochs=last - first)
    for row, (lr, losses) in enumerate(zip(config.lrs, loss, strict=True), start=7):
        there = f"'{sheet_name(lr)}'!"
        sheet.write_formula(f"A{row}", f"={there}{setting['eta']}", styles["epoch"], lr)
        for column, at in (("B", first), ("C", last)):
            value = _cached(losses[at - first])
            sheet.write_formula(f"{column}{row}", f"={there}{letter['E_total']}{at}", styles["value"], value)
        chart.add_series(_loss_series(lr, config.shape, len(losses)) | {"line": {"width": 2}})
    sheet.insert_chart("E6", chart, {"x_scale": 1.8, "y_scale": 1.8})


def _cached(value: float) -> float | str:
    """A computed value as a spreadsheet shows it: too large a number is an error."""
    return value if math.isfinite(value) else "#NUM!"


def _loss_chart(book: xlsxwriter.Workbook, title: str, *, epochs: int) -> Any:
    chart = book.add_chart({"type": "scatter", "subtype": "straight"})
    chart.set_title({"name": title, "name_font": {"size": 14}})
    chart.set_x_axis({"name": "epoch", "min": 0, "max": epochs, "major_gridlines": {"visible": False}})
    chart.set_y_axis({"name": "E_total", "min": 0, "major_gridlines": {"visible": True}})
    return chart


def _loss_series(lr: float, shape: Shape, rows: int) -> dict[str, Any]:
    first, last = FIRST - 1, FIRST + rows - 2
    loss = EPOCH + 1 + shape.columns.index("E_total")
    name = sheet_name(lr)
    return {
        "name": f"='{name}'!{setting_cells(shape)['eta']}",
        "categories": [name, first, EPOCH, last, EPOCH],
        "values": [name, first, loss, last, loss],
    }
