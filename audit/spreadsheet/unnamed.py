"""Headings that nobody here knows, such as those of another language: what the formulas below them tell."""

from collections.abc import Iterator, Mapping

import numpy as np

from audit.spreadsheet.formulas import Tree, symbols
from audit.spreadsheet.network import Network
from audit.spreadsheet.points import Points
from audit.spreadsheet.quantities import Quantities
from audit.spreadsheet.reading import Sheet
from audit.spreadsheet.tables import Table, find_tables, heads, tables_named
from backprop.shape import Shape

_MOST_HEADS = 20  # rows of headings that are looked at
_MOST_NEURONS = 8


def all_tables(sheet: Sheet) -> tuple[Table, ...]:
    """The tables of a sheet, by their headings or, where these do not tell the weights, by their formulas."""
    by_heading = find_tables(sheet)
    if by_heading and all(set(table.network.weights) <= set(table.columns) for table in by_heading):
        return by_heading
    names = {row: found for row in heads(sheet)[:_MOST_HEADS] if (found := _names(sheet, row))}
    return (tables_named(sheet, names) if names else ()) or by_heading


def _names(sheet: Sheet, head: int) -> dict[int, str]:
    """The names of the columns below a row of headings, by the formulas of its first two rows of numbers."""
    columns = [column for (row, column) in sheet.cells if row == head]
    unread = dict.fromkeys(sorted(columns), "")
    table = Table(Network(), sheet, headings=head, first=head + 1, rows=2, columns={}, unread=unread)
    given = [
        column
        for column in sorted(columns)
        if (cell := sheet.cells.get((head + 1, column))) and not cell.formula
        if sheet.cells.get((head + 2, column), cell) == cell
    ]
    quantities = Quantities(table, keep_unread=True, constant={f"column:{column}" for column in given})
    first, second = (
        {column: tree for column in sorted(columns) if (tree := quantities.of_cell(row, column)) is not None}
        for row in (0, 1)
    )
    slopes = dict(_updates(first, second))
    sums = {
        column: uses
        for column, tree in second.items()
        if column not in slopes.values()
        and set(uses := _columns(tree)) & set(slopes)
        and "prev_" not in str(tree)
    }
    activations = {uses[0]: column for column, tree in second.items() if len(uses := _columns(tree)) == 1}
    hidden = [column for column, uses in sums.items() if {*uses} - {*slopes} <= {*given}]
    active = [activations[column] for column in hidden if column in activations]
    output = [
        column for column, uses in sums.items() if {*uses} - {*slopes} <= {*active} and column not in hidden
    ]
    inputs = sorted({use for column in hidden for use in sums[column]} - {*slopes})
    if not (inputs and hidden and output) or max(map(len, (inputs, hidden, output))) > _MOST_NEURONS:
        return {}
    names = {column: f"i{number}" for number, column in enumerate(inputs, start=1)}
    shape = Shape(len(inputs), len(hidden), len(output))
    for layer, columns_of_layer in zip(shape.layers, (hidden, output), strict=True):
        for neuron, column in zip(layer, columns_of_layer, strict=True):
            names[column] = neuron.name
            if column in activations:
                names[activations[column]] = neuron.a
            for weight, source in _products(second[column], [use for use in sums[column] if use in slopes]):
                if source in names and (name := neuron.incoming.get(names[source])):
                    names[weight], names[slopes[weight]] = name, f"dE_d{name}"
    return names | _errors(second, names, given)


def _updates(first: Mapping[int, Tree], second: Mapping[int, Tree]) -> Iterator[tuple[int, int]]:
    """Each column that starts with a number and goes on from the row above, and the one that changes it."""
    found = {
        column: [symbol for symbol in symbols(tree) if symbol != f"prev_column:{column}"]
        for column, tree in second.items()
        if column not in first and f"prev_column:{column}" in symbols(tree)
    }
    of_all = [symbol for uses in found.values() for symbol in uses]
    for column, uses in found.items():
        own = [symbol for symbol in uses if symbol.startswith("prev_column:") and of_all.count(symbol) == 1]
        if len(own) == 1:
            yield column, int(own[0].rpartition(":")[2])


def _columns(tree: Tree) -> list[int]:
    return [int(symbol.rpartition(":")[2]) for symbol in symbols(tree) if symbol.startswith("column:")]


def _products(tree: Tree, weights: list[int]) -> Iterator[tuple[int, int]]:
    """Each weight of a sum, and the column that it is multiplied by."""
    points = Points(Network(), {})
    before = points.of_tree(tree)
    for weight in weights:
        moved = Points(Network(), {})
        moved[f"column:{weight}"] = points[f"column:{weight}"] + 1
        after = moved.of_tree(tree)
        for column in _columns(tree) if before is not None and after is not None else ():
            if np.allclose(after - before, points[f"column:{column}"], atol=1e-9):  # type: ignore[operator]
                yield weight, column


def _errors(second: Mapping[int, Tree], names: Mapping[int, str], given: list[int]) -> dict[int, str]:
    """The targets, the errors and their sum."""
    found: dict[int, str] = {}
    outputs = {column: name for column, name in names.items() if name.startswith("a_o")}
    free = {column for column in given if column not in names}
    for column, tree in second.items():
        uses = _columns(tree)
        of = [outputs[use][3:] for use in uses if use in outputs]
        targets = [use for use in uses if use in free]
        if len(of) == 1 and len(targets) == 1:
            found.setdefault(targets[0], f"t{of[0]}")
            if len(uses) == 2 and column not in names:
                found.setdefault(column, f"E{of[0]}")
    errors = {column for column, name in found.items() if name.startswith("E")}
    for column, tree in second.items():
        if column not in names and {*_columns(tree)} == errors and errors:
            found[column] = "E_total"
    return found
