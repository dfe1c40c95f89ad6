"""A worksheet to fill in: start values drawn from a number, and cells that turn green, yellow or red.

A cell's answer stands at its place on a hidden sheet, computed from three others: what is right, what would
be right for the earlier cells, and how large the numbers are that rounding moved. A conditional format finds
the answer by INDIRECT, because in Google Sheets it may name no cell of another sheet.
"""

import dataclasses
import io
import random
import re

import numpy as np
import xlsxwriter
from jaxtyping import Float

from backprop.config import BackpropConfig
from backprop.workbook import EPOCH, FIRST, TITLE, formula, letters, setting_cells, write_frame

ROWS = 3
"""Epochs to fill in."""
SHEET, RIGHT, FOLLOWING, SIZE, ANSWERS = "exercise", "right", "following", "size", "answers"
_GREEN, _YELLOW, _RED, _GIVEN = "#C6EFCE", "#FFEB9C", "#FFC7CE", "#F2F2F2"
_LEGEND = {
    _GREEN: "right, to four digits or as many as you gave",
    _YELLOW: "right for what your earlier cells hold, but one of them is wrong or rounded",
    _RED: "wrong",
}
_ROUNDED = 0.0005  # share by which rounding to four digits moves a number, at most


def drawn(config: BackpropConfig) -> BackpropConfig:
    """Return the few epochs of an exercise: inputs and weights are drawn from its number, one eta is kept."""
    choice, values = random.Random(config.exercise), [round(0.05 * n, 2) for n in range(1, 20)]
    return dataclasses.replace(
        config,
        lrs=config.lrs[:1],
        epochs=ROWS - 1,
        inputs=tuple(choice.sample(values, len(config.inputs))),
        weights=tuple(choice.choices(values, k=len(config.weights))),
    )


def worksheet(config: BackpropConfig, rows: Float[np.ndarray, "epoch column"], *, solved: bool) -> bytes:
    """Return a worksheet as .xlsx; what is to be filled in is empty, or solved.

    Args:
      config: of drawn.
      rows: what is right, the values of config.shape.columns in float64.
    """
    shape, content = config.shape, io.BytesIO()
    book = xlsxwriter.Workbook(content, {"in_memory": True})
    sheet, *hidden = map(book.add_worksheet, (SHEET, RIGHT, FOLLOWING, SIZE, ANSWERS))
    for each in hidden:
        each.hide()
    right, following, size, answers = hidden
    bold, empty = book.add_format({"bold": True}), book.add_format({"border": 1})
    given = book.add_format({"bg_color": _GIVEN, "border": 1})
    letter = letters(shape)
    title = f"Back-propagation by hand, worksheet {config.exercise}: fill in the empty cells"
    sheet.write(f"A{TITLE}", title, book.add_format({"bold": True, "font_size": 16}))
    sheet.set_column(EPOCH + 1, EPOCH + len(letter), 9)
    write_frame(book, sheet, config, config.lrs[0], _GIVEN)
    for row, (colour, words) in enumerate(_LEGEND.items(), start=FIRST + len(setting_cells(shape)) + 1):
        sheet.write(f"A{row}", "", book.add_format({"bg_color": colour, "border": 1}))
        sheet.write(f"B{row}", words)
    for row, values in enumerate(rows.tolist(), start=FIRST):
        sheet.write(row - 1, EPOCH, row - FIRST, bold)
        for (name, column), value in zip(letter.items(), values, strict=True):
            cell, text = f"{column}{row}", formula(name, row, shape)
            if name in shape.example_names or (name in shape.weight_names and row == FIRST):
                sheet.write_formula(cell, text, given, value)
                continue
            right.write_number(cell, value)
            at_sheet = re.sub(r"\$?[A-Z]+\$?\d+", lambda found: f"{SHEET}!{found[0]}", text)
            following.write_formula(cell, at_sheet, None, value)
            size.write_formula(cell, _size(at_sheet, is_function=name.startswith("a_")))
            if solved:
                sheet.write_formula(cell, text, empty, value)
            else:
                sheet.write_blank(cell, None, empty)
            answers.write_formula(cell, _answer(f"{SHEET}!{cell}", cell), None, int(solved))
    block = f"{letter[shape.columns[0]]}{FIRST}:{letter[shape.columns[-1]]}{FIRST + len(rows) - 1}"
    for answer, colour in enumerate(_LEGEND, start=1):
        criteria = f'=INDIRECT("{ANSWERS}!"&ADDRESS(ROW(),COLUMN()))={answer}'
        style = book.add_format({"bg_color": colour})
        sheet.conditional_format(block, {"type": "formula", "criteria": criteria, "format": style})
    book.close()
    return content.getvalue()


def _size(text: str, *, is_function: bool) -> str:
    """Return the formula of the sum of what a formula adds and subtracts, which rounding is a share of."""
    if is_function:
        return f"=ABS({text.removeprefix('=')})"
    return re.sub(rf"({SHEET}!\$?[A-Z]+\$?\d+)", r"ABS(\1)", text).replace("-", "+")


def _answer(given: str, place: str) -> str:
    """Return the formula of an answer: 0 empty, 1 right, 2 right for the earlier cells, 3 wrong.

    The unit is that of the last digit given, or of the fourth: ROUND finds how many digits there are.

    Args:
      given: the cell that is filled in.
      place: the same cell of the other sheets.
    """
    size = f"INT(LOG10(ABS({given})))"
    digits = f"IF(ROUND({given},-{size})={given},0,IF(ROUND({given},1-{size})={given},1,"
    digits += f"IF(ROUND({given},2-{size})={given},2,3)))"
    half = f"IF({given}=0,0,0.500001*10^({size}-{digits}))"
    right, follows = f"{RIGHT}!{place}", f"{FOLLOWING}!{place}"
    is_right = f"ABS({given}-{right})<={half}"
    is_following = f"ABS({given}-{follows})<={half}+{_ROUNDED}*{SIZE}!{place}"
    judged = f"IF(ISNUMBER({given}),IF({is_right},1,IF({is_following},2,3)),3)"
    return f"=IF(ISBLANK({given}),0,{judged})"
