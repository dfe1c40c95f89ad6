"""What headings leave open, settled by formulas and numbers: unread columns, activation, biases."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from audit.spreadsheet.arithmetic import Columns, bounded, names_in
from audit.spreadsheet.formulas import Tree, replaced, symbols
from audit.spreadsheet.headings import keep_number
from audit.spreadsheet.network import UPDATE, Network
from audit.spreadsheet.points import Points, agree
from audit.spreadsheet.quantities import Quantities
from audit.spreadsheet.tables import LABEL, Table
from backprop.equations import heading
from backprop.shape import ACTIVATIONS

_EPOCHS = re.compile("epoch|iter|step|round|update", re.IGNORECASE)
_TRIED = "tried"  # the name of a column while it is looked for what it holds
_LOOKED_AT = 3  # rows of a column: the first, the second and the last
_FEWEST_VALUES = 3


def settled(table: Table) -> Table:
    """The table with its activation, biases and unread columns as formulas and numbers imply them."""
    table = _with_activation(_with_its_rate(table))
    table = _with_biases(table)
    for find in (_by_formula, _by_use, _by_value):
        if table.unread:
            found = find(table)
            table = table.with_columns({column: name for name, column in found.items()}) if found else table
    counters = _counters(table)
    read = {*counters, *_referred_to(table)}
    unread = {column: text for column, text in table.unread.items() if column not in read}
    notes = table.notes
    if not [name for name in _missing(table) if name in table.network.equations]:
        beside = [column for column, text in unread.items() if _is_beside(table, column, text)]
        notes += tuple(f"beside the table, and not part of it: {_headed(table, beside)}" for _ in beside[:1])
        unread = {column: text for column, text in unread.items() if column not in beside}
    return replace(
        table,
        unread=unread,
        steps=next(iter(counters.values()), ()),
        notes=notes,
        missing=(*table.missing, *_unread_words(table, unread)),
    )


def _with_its_rate(table: Table) -> Table:
    """The table without a column eta that changes from row to row, and that no update uses."""
    eta = table.values.get("eta", np.array([]))
    if len(set(eta[np.isfinite(eta)].tolist())) < 2:
        return table
    quantities = Quantities(table, eta=())
    updates = [quantities.meaning(w, 1) for w in table.network.weights if w in table.columns]
    if not any(updates) or any("eta" in symbol for tree in updates for symbol in symbols(tree)):
        return table
    words = f"the column {table.address('eta', 0)} is not read as eta: no update uses it"
    return replace(table.without(["eta"]), notes=(*table.notes, words))


def _is_beside(table: Table, column: int, text: str) -> bool:
    """Whether a column is none of the table's: another rate's numbers, or computed from the table."""
    if ((rate := LABEL.search(keep_number(text))) and rate[1]) or re.fullmatch(r"[0-9.,]+", text):
        return True
    points = Points(table.network, {})
    quantities = Quantities(table, keep_unread=True)
    if any(points.of_tree(quantities.of_cell(row, column)) is not None for row in _rows(table)):
        return True
    trial = table.with_columns({column: _TRIED})
    return any(_fits(trial, equation, _TRIED) for equation in table.network.intermediates)


def _rows(table: Table) -> list[int]:
    return sorted({0, min(1, table.rows - 1), table.rows - 1})[:_LOOKED_AT]


def _with_activation(table: Table) -> Table:
    """The network whose activation most columns show; the sigmoid where none says."""
    quantities = Quantities(table)
    votes = dict.fromkeys(ACTIVATIONS, 0)
    names = [name for name in table.columns if name.startswith("a_")]
    networks = {kind: _with_shape(table.network, activation=kind) for kind in ACTIVATIONS}
    for name in names:
        trees = [tree for row in _rows(table) if (tree := quantities.meaning(name, row)) is not None]
        for kind, network in networks.items():
            points = Points(network, {})
            votes[kind] += any(agree(points.of_tree(tree), points.right(network, name)) for tree in trees)
            votes[kind] += not trees and _fits(table, network.equations[name], name)
    best = max(votes, key=lambda kind: (votes[kind], kind == "sigmoid"))
    if 2 * votes[best] <= len(names) or best == table.network.shape.activation:
        return table
    return replace(table, network=networks[best], notes=(*table.notes, f"the activation is {best}"))


def _with_shape(network: Network, **changes: object) -> Network:
    return replace(network, shape=replace(network.shape, **changes))  # type: ignore[arg-type]


def _with_biases(table: Table) -> Table:
    """The network with biases that stand in the formulas alone, or without those that no formula has."""
    plain = Network(_with_shape(table.network, biases=False).shape)
    points = Points(plain, {})
    quantities = Quantities(replace(table, labelled={}))
    biases = []
    for name in (neuron.name for layer in table.network.shape.layers for neuron in layer):
        values = points.of_tree(quantities.meaning(name, 0)) if name in table.columns else None
        if values is None:
            return table
        extra = values - points.right(plain, name)
        if not np.ptp(extra) < 1e-9:
            return table
        biases.append(float(f"{extra[0]:.12g}"))
    if table.network.shape.biases:
        return table if any(biases) else replace(table, network=plain)
    hidden = table.network.shape.hidden
    if 2 * sum(map(bool, biases)) <= len(biases):  # one that left it out is a mistake, two that have it none
        return table
    layers = [[bias for bias in layer if bias] or [0.0] for layer in (biases[:hidden], biases[hidden:])]
    shared = all(len(set(layer)) == 1 for layer in layers)
    network = Network(_with_shape(plain, biases=True).shape, shared_biases=shared, fixed_biases=True)
    shown = [layer[0] for layer in layers] if shared else biases
    constants = dict(zip(network.biases, shown, strict=True))
    words = ", ".join(f"{name} = {value:g}" for name, value in constants.items())
    return replace(
        table,
        network=network,
        constants={**table.constants, **constants},
        notes=(*table.notes, f"biases that the formulas add: {words}"),
    )


def _missing(table: Table) -> list[str]:
    return [name for name in table.network.columns if name not in table.columns]


def _named_by(table: Table, holds: Callable[[int, str], bool]) -> dict[str, int]:
    """The first unread column that holds what each name without a column should."""
    found: dict[str, int] = {}
    for column in table.unread:
        names = (name for name in _missing(table) if name in table.network.equations and name not in found)
        if name := next((name for name in names if holds(column, name)), None):
            found[name] = column
    return found


def _by_formula(table: Table) -> dict[str, int]:
    """Unread columns whose formula is the right one of a name that has no column."""
    quantities = Quantities(table)
    points = Points(table.network, _known(table))
    values = {
        column: [points.of_tree(quantities.of_cell(row, column)) for row in _rows(table)]
        for column in table.unread
    }
    return _named_by(
        table,
        lambda column, name: any(agree(each, points.right(table.network, name)) for each in values[column]),
    )


def _by_value(table: Table) -> dict[str, int]:
    """Unread columns of numbers that are what a name without a column should be in every row."""
    equations = table.network.equations
    return _named_by(
        table, lambda column, name: _fits(table.with_columns({column: name}), equations[name], name)
    )


def _by_use(table: Table) -> dict[str, int]:
    """The column that w1's update uses is dE/dw1."""
    quantities = Quantities(table, keep_unread=True)
    points = Points(table.network, _known(table))
    found: dict[str, int] = {}
    for w in table.network.weights:
        slope = f"dE_d{w}"
        if slope in table.columns or w not in table.columns or table.rows < 2:
            continue
        for tree in (quantities.meaning(w, row) for row in sorted({1, table.rows - 1})):
            for symbol in symbols(tree):
                _, is_above, column = symbol.partition("prev_column:")
                free = is_above and slope not in found and int(column) not in found.values()
                if free and tree is not None and _updates(points, w, replaced(tree, symbol, f"prev_{slope}")):
                    found[slope] = int(column)
    return found


def _updates(points: Points, w: str, tree: Tree) -> bool:
    """Whether a tree is the update of a weight with some learning rate."""
    values = points.of_tree(tree)
    if values is None:
        return False
    with np.errstate(all="ignore"):
        rates = (points[f"prev_{w}"] - values) / points[f"prev_dE_d{w}"]
        constant = bool(np.ptp(rates) < 1e-6 * np.abs(rates).max())
    return constant or agree(values, points.of_text(UPDATE.format(w=w)))


def _fits(table: Table, text: str, name: str) -> bool:
    """Whether a column's numbers are those of an equation."""
    if not all(other in table.values or other in table.constants for other in names_in(text)):
        return False
    values = {other: np.full(table.rows, number) for other, number in table.constants.items()}
    values |= table.values
    for other in table.network.given:  # once above blank cells
        if other in values and np.isfinite(values[other][:1]).all():
            values[other] = np.where(np.isfinite(values[other]), values[other], values[other][0])
    rounding = {other: table.rounding.get(other, np.zeros(table.rows)) for other in values}
    right, bound = bounded(text, Columns(values, rounding))
    known = np.isfinite(values[name]) & np.isfinite(right)
    near = np.abs(values[name] - right) <= bound + table.rounding[name]
    varied = len(set(values[name][known].tolist())) >= min(_FEWEST_VALUES, table.rows)
    return bool(varied and near[known].all() and 2 * known.sum() > table.rows)


def _known(table: Table) -> dict[str, float]:
    """Biases that no update changes, by their values."""
    biases = table.network.biases if table.network.fixed_biases else ()
    columns = {name: float(table.values[name][0]) for name in biases if name in table.values}
    return {name: table.constants[name] for name in biases if name in table.constants} | columns


def _counters(table: Table) -> dict[int, tuple[int, ...]]:
    """Columns that count the rows, with how far from row to row: those of epochs first."""
    counters = {}
    for column in sorted(table.unread, key=lambda column: not _EPOCHS.search(table.unread[column])):
        cells = [table.source.cells.get((table.first + row, column)) for row in range(table.rows)]
        numbers = [cell.value for cell in cells if cell and isinstance(cell.value, float)]
        steps = [after - before for before, after in pairwise(numbers)]
        whole = all(number.is_integer() for number in numbers)
        if whole and (min(steps, default=1) > 0 or (len(set(steps)) == 1 and steps[0])):
            counters[column] = tuple(map(int, steps)) if len(numbers) == table.rows else ()
    return counters


def _referred_to(table: Table) -> set[int]:
    """Columns that the table's formulas go through: they are judged with them."""
    quantities = Quantities(table, keep_unread=True)
    found = set()
    for name in table.columns:
        for row in sorted({0, min(1, table.rows - 1)}):
            for symbol in symbols(quantities.meaning(name, row)):
                if "column:" in symbol:
                    found.add(int(symbol.rpartition(":")[2].partition("@")[0]))
    return found


def _unread_words(table: Table, unread: dict[int, str]) -> list[str]:
    absent = [heading(name) for name in _missing(table) if name in table.network.equations]
    sought = f"; no column is read as {', '.join(absent)}" if absent else ""
    words = (
        f"not understood, and so not checked: {_headed(table, unread)}{sought}: head each by what it holds"
    )
    return [words] if unread else []


def _headed(table: Table, columns: Iterable[int]) -> str:
    """Where columns are headed, and how."""
    words = []
    for column in columns:
        text = " ".join(table.unread[column].split())[:40]
        words.append(table.source.address(table.headings, column) + (f" ({text})" if text else ""))
    return ", ".join(words)
