"""Whether every number of a table follows, and if not, which cell is wrong first and why.

A cell is wrong when the cells that it is computed from, as they stand in the sheet, imply another
value. One that differs from the true descent only because those cells do is a consequence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audit.spreadsheet.arithmetic import (
    Column,
    Columns,
    bounded,
    compute,
    names_in,
    shortest,
    with_neighbours,
)
from audit.spreadsheet.diagnosis import Finding, explain, pasted_rows
from audit.spreadsheet.mistakes import UPDATE
from audit.spreadsheet.rate import Rate, find_rate
from audit.spreadsheet.reading import read_sheets
from audit.spreadsheet.tables import GIVEN, MAX_TABLES, WEIGHTS, Table, find_tables
from backprop.config import BackpropConfig
from backprop.equations import EQUATIONS, heading
from errors import UserError, require

_LAYERS = ("h1", "h2", "a_h1", "a_h2", "o1", "o2", "a_o1", "a_o2", "E1", "E2", "E_total")
ORDER = (*GIVEN, *WEIGHTS, *_LAYERS, *(f"dE_d{w}" for w in WEIGHTS))
"""The order of computation within a row."""


@dataclass(frozen=True)
class Consequence:
    """The cells of a column that are wrong only because of the findings; address is the first one's."""

    name: str
    address: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class TableAudit:
    """What became of one table: findings in the order of computation, the first wrong cell first."""

    table: Table
    rate: Rate
    findings: tuple[Finding, ...]
    consequences: tuple[Consequence, ...]
    warnings: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """right, right with warnings, or wrong."""
        if self.findings:
            return "wrong"
        return "right, with warnings" if self.warnings else "right"


@dataclass(frozen=True)
class FileAudit:
    """What became of one file: each table, the sheets without one, or why it cannot be read."""

    file: Path
    tables: tuple[TableAudit, ...] = ()
    skipped: tuple[str, ...] = ()
    unreadable: str | None = None

    @property
    def verdict(self) -> str:
        """right, right with warnings, wrong, or unreadable."""
        verdicts = {table.verdict for table in self.tables}
        ranked = ("wrong", "right, with warnings", "right")
        return next((verdict for verdict in ranked if verdict in verdicts), "unreadable")


def audit_file(file: Path) -> FileAudit:
    """Audit every table of an .xlsx or .csv file; a file that cannot be read says why in its result."""
    try:
        sheets = read_sheets(file)
        tables: dict[str, tuple[Table, ...]] = {}
        for sheet in sheets:
            tables[sheet.name] = find_tables(sheet)
            require(
                sum(map(len, tables.values())) <= MAX_TABLES,
                f"{file.name} holds more than {MAX_TABLES} tables: give fewer in a file",
            )
    except UserError as error:
        return FileAudit(file, unreadable=str(error))
    found = tuple(audit_table(table) for of_sheet in tables.values() for table in of_sheet)
    if not found:
        return FileAudit(
            file,
            skipped=tuple(tables),
            unreadable=f"{file.name} holds no back-propagation table: no row has the headings "
            "w1 .. w8, h1, a_h1 ... with numbers below",
        )
    return FileAudit(file, found, tuple(name for name, of_sheet in tables.items() if not of_sheet))


@np.errstate(all="ignore")  # the numbers are anybody's
def audit_table(table: Table) -> TableAudit:
    """Compare each cell with what the cells before it imply, and explain those that differ."""
    notes: list[str] = list(table.notes)
    columns = _given_filled(table, notes)
    right = _row_by_row(table, columns)
    rate = find_rate(table, columns, right)
    eta = table.values.get("eta", np.full(table.rows, np.nan))
    columns.values["eta"] = np.where(np.isfinite(eta), eta, rate.value)
    columns.rounding["eta"] = np.full(table.rows, rate.rounding)

    around = with_neighbours(columns, (*ORDER, "eta"))
    for w in WEIGHTS:
        right.values[w], right.rounding[w] = bounded(UPDATE.format(w=w), around)
    wrong = {name: _wrong(table, columns, right, name) for name in ORDER if name in table.columns}

    findings = [
        finding for name, rows in wrong.items() for finding in explain(table, rate, around, right, name, rows)
    ]
    findings.sort(key=lambda finding: (finding.cells[0].row, ORDER.index(finding.name)))
    return TableAudit(
        table,
        rate,
        tuple(findings),
        _consequences(table, columns, findings),
        (*notes, *_pasted(table, wrong), *_rates_that_differ(table, rate)),
    )


def _given_filled(table: Table, notes: list[str]) -> Columns:
    """The table's columns; inputs and targets carried down over blanks, or found in other columns."""
    values, rounding = dict(table.values), dict(table.rounding)
    for name in (*WEIGHTS, *EQUATIONS):
        if name not in values:
            values[name], rounding[name] = np.full(table.rows, np.nan), np.zeros(table.rows)
    assignment = dict(zip(GIVEN, (*BackpropConfig().inputs, *BackpropConfig().targets), strict=True))
    for name in GIVEN:
        column = values.get(name, np.full(table.rows, np.nan))
        known = column[np.isfinite(column)]
        if known.size:
            start = known[0]
        elif (implied := _implied(name, values)) is not None:
            start = implied
            notes.append(f"no column {name}: taken as {start:g}, as the other columns imply")
        else:
            start = assignment[name]
            notes.append(f"no column {name}: taken as {start:g}, as in the assignment")
        values[name] = np.where(np.isfinite(column), column, start)
        rounding[name] = np.zeros(table.rows)
    return Columns(values, rounding)


_IMPLIED = {
    "i1": ("(h1*w4-h2*w2)/(w1*w4-w2*w3)",),
    "i2": ("(h2*w1-h1*w3)/(w1*w4-w2*w3)",),
    "t1": ("a_o1-dE_dw5/(a_o1*(1-a_o1)*a_h1)", "a_o1-dE_dw6/(a_o1*(1-a_o1)*a_h2)"),
    "t2": ("a_o2-dE_dw7/(a_o2*(1-a_o2)*a_h1)", "a_o2-dE_dw8/(a_o2*(1-a_o2)*a_h2)"),
}
"""An input or a target without a column of its own, solved for from the columns that use it."""


def _implied(name: str, values: Mapping[str, Column]) -> float | None:
    """What most rows imply, with as few digits as it can have."""
    found = np.concatenate([compute(text, values) for text in _IMPLIED[name]])
    found = found[np.isfinite(found)]
    if not found.size:
        return None
    middle = float(np.median(found))
    return shortest(middle, spread=max(1e-9, 2 * float(np.median(np.abs(found - middle)))))


def _row_by_row(table: Table, columns: Columns) -> Columns:
    """What each row's own cells imply; fills in the columns and blank cells that a row lacks."""
    right = Columns({}, {})
    for name in GIVEN:
        right.values[name] = np.full(table.rows, columns.values[name][0])
        right.rounding[name] = np.zeros(table.rows)
    for name in ORDER[ORDER.index("h1") :]:
        value, bound = right.values[name], right.rounding[name] = bounded(EQUATIONS[name], columns)
        if name not in table.columns:
            columns.values[name], columns.rounding[name] = value, bound
            continue
        blank = np.array([cell is None for cell in table.cells[name]])
        columns.values[name] = np.where(blank, value, columns.values[name])
        columns.rounding[name] = np.where(blank, bound, columns.rounding[name])
    return right


def _wrong(table: Table, columns: Columns, right: Columns, name: str) -> np.ndarray:
    """Which cells of a column differ from what they should be by more than rounding explains.

    Where nothing says what a cell should be, a text is the fault of a cell before it; but a start weight
    has none before it.
    """
    value, expected = columns.values[name], right.values[name]
    shown = np.array([cell is not None for cell in table.cells[name]])
    no_number = shown & ~np.isfinite(table.values[name])
    off = np.abs(value - expected) > columns.rounding[name] + right.rounding[name]
    start = (np.arange(table.rows) == 0) & (name in WEIGHTS)
    return np.where(np.isfinite(expected), off | no_number, no_number & start)


def _pasted(table: Table, wrong: Mapping[str, np.ndarray]) -> list[str]:
    """Constants among formulas whose value is right: nothing is wrong until something changes."""
    warnings = []
    for name in (*WEIGHTS, *EQUATIONS):
        if name not in table.columns:
            continue
        rows = [row for row in pasted_rows(table, name) if not wrong[name][row]]
        if rows:
            warnings.append(
                f"{_cells(table, name, rows)} ({heading(name)}): a constant stands where the column has "
                "formulas; its value is right, but it will not follow a change"
            )
    return warnings


def _cells(table: Table, name: str, rows: list[int]) -> str:
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    return table.address(name, rows[0]) + more


def _rates_that_differ(table: Table, rate: Rate) -> list[str]:
    warnings = []
    for label in table.labels:
        if label.place is None and label.value != rate.value and not np.isnan(rate.value):
            warnings.append(
                f"the sheet's name says eta = {label.value:g}, the table has {rate.value:g} ({rate.source})"
            )
    if np.isnan(rate.value) and table.rows > 1:
        warnings.append("the learning rate is not known, so the updates are not checked: label it, eta = 0.5")
    eta = table.values.get("eta", np.array([]))
    if len(set(eta[np.isfinite(eta)].tolist())) > 1:
        warnings.append("the column eta changes from row to row")
    return warnings


def _consequences(table: Table, columns: Columns, findings: list[Finding]) -> tuple[Consequence, ...]:
    """Cells that follow from those before them, yet leave the true descent, downstream of a finding."""
    mistaken = {(found.name, cell.row) for found in findings for cell in found.cells}
    sources = {name for name, _ in mistaken}
    downstream: set[str] = set()
    while grown := {n for n in ORDER if n not in downstream and _inputs(n) & (sources | downstream)}:
        downstream |= grown
    if not findings:
        return ()
    true = _true_descent(columns, table.rows)
    consequences = []
    for name in (name for name in ORDER if name in downstream and name in table.columns):
        value, exact = columns.values[name], true[name]
        shown = np.array([cell is not None for cell in table.cells[name]])
        near = np.abs(value - exact) <= 3 * columns.rounding[name] + 1e-11 * np.maximum(1e-3, np.abs(exact))
        off = np.flatnonzero(shown & ~near & np.isfinite(exact)).tolist()
        rows = tuple(row for row in off if (name, row) not in mistaken)
        if rows:
            consequences.append(Consequence(name, table.address(name, rows[0]), rows))
    return tuple(consequences)


def _inputs(name: str) -> set[str]:
    if name in GIVEN:
        return set()
    return {name, f"dE_d{name}"} if name in WEIGHTS else set(names_in(EQUATIONS[name]))


def _true_descent(columns: Columns, rows: int) -> dict[str, Column]:
    """The descent from the first row's weights, inputs and targets, with the table's rate."""
    row = {name: columns.values[name][:1] for name in (*GIVEN, *WEIGHTS)}
    descent: dict[str, list[float]] = {name: [] for name in ORDER}
    for number in range(rows):
        for name, text in EQUATIONS.items():
            row[name] = compute(text, row)
        for name in ORDER:
            descent[name].append(float(row[name][0]))
        eta = columns.values["eta"][number]
        row |= {w: row[w] - eta * row[f"dE_d{w}"] for w in WEIGHTS}
    return {name: np.array(values) for name, values in descent.items()}
