"""Whether every number of a table follows, and if not, which cell is wrong first and why.

A cell is wrong when the cells that it is computed from, as they stand in the sheet, imply another
value. One that differs from the true descent only because those cells do is a consequence.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from audit.spreadsheet import arithmetic
from audit.spreadsheet.arithmetic import Column, Columns, bounded, compute, names_in
from audit.spreadsheet.diagnosis import Finding, explain, together_if_stale
from audit.spreadsheet.helpers import helper_findings
from audit.spreadsheet.judgement import Judge
from audit.spreadsheet.network import UPDATE, Network
from audit.spreadsheet.rate import Rate, find_rate, with_own_labels
from audit.spreadsheet.reading import Sheet, read_sheets
from audit.spreadsheet.remarks import missing_in, notes_on, notes_on_file, warnings_on, without_typed_targets
from audit.spreadsheet.roles import settled
from audit.spreadsheet.tables import MAX_TABLES, Table, heads, other_networks
from audit.spreadsheet.unnamed import all_tables
from harness.errors import UserError, require

_DRIFT = 1e-10  # relative; what filling down as a series does to a constant
_MOST_EPOCHS = 400  # that are computed where rows do not follow each other
_LONGEST_SEEN = 300  # letters of headings that mean nothing here
_STALE = 1e-9  # relative; a right formula's value may be off by more than its digits, not by this


@dataclass(frozen=True)
class Consequence:
    """The cells of a column that are wrong only because of the findings; address is the first one's."""

    name: str
    address: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class TableAudit:
    """What became of one table; missing, warnings and notes include the Table's own."""

    table: Table
    rate: Rate
    findings: tuple[Finding, ...]  # in the order of computation, the first wrong cell first
    consequences: tuple[Consequence, ...]
    missing: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    checked: int  # cells that were compared with what they should be

    @property
    def verdict(self) -> str:
        """One of VERDICTS."""
        if self.findings:
            return "wrong"
        if not self.checked:
            return "nothing to check"
        if self.missing:
            return "not shown"
        return "right, with warnings" if self.warnings else "right"


VERDICTS = (
    *("wrong", "not shown", "right, with warnings", "right"),
    *("nothing to check", "no table", "unreadable"),
)
"""Of a file, the first of these that any of its tables has."""


@dataclass(frozen=True)
class FileAudit:
    """What became of one file; notes say how it was read, refused why there is nothing to judge."""

    file: Path
    tables: tuple[TableAudit, ...] = ()
    skipped: tuple[str, ...] = ()  # the sheets without a table
    notes: tuple[str, ...] = ()
    refused: str | None = None
    kind: str = "unreadable"  # of VERDICTS, where it is refused

    @property
    def verdict(self) -> str:
        """One of VERDICTS."""
        if self.refused:
            return self.kind
        return min((table.verdict for table in self.tables), key=VERDICTS.index)


def audit_file(file: Path) -> FileAudit:
    """Audit every table of a file; one that cannot be read says why in its result."""
    try:
        sheets = read_sheets(file)
        tables: dict[str, tuple[Table, ...]] = {}
        for sheet in sheets:
            tables[sheet.name] = with_own_labels(all_tables(sheet))
            require(
                sum(map(len, tables.values())) <= MAX_TABLES,
                f"{file.name} holds more than {MAX_TABLES} tables: give fewer in a file",
            )
    except UserError as error:
        return FileAudit(file, refused=str(error))
    found = tuple(audit_table(table) for of_sheet in tables.values() for table in of_sheet)
    skipped = tuple(name for name, of_sheet in tables.items() if not of_sheet)
    if not found:
        others = [words for sheet in sheets for words in other_networks(sheet)]
        why = others[0] if others else "no row has the headings w1 .. w8, h1, a_h1 ... with numbers below"
        why += next((_seen(sheet, at[0]) for sheet in sheets if not others and (at := heads(sheet))), "")
        refused = f"{file.name} holds no back-propagation table: {why}"
        return FileAudit(file, skipped=skipped, kind="no table", refused=refused)
    if len({table.table.network for table in found if table.table.rows > 1}) == 1:  # one row is a step of it
        found = tuple(replace(table, missing=()) if table.table.rows == 1 else table for table in found)
    notes = (*sheets[0].book.notes, *notes_on_file(file, sheets, [(one.table, one.rate) for one in found]))
    audit = FileAudit(file, found, skipped, notes)
    if audit.verdict == "nothing to check":
        rows = f"headings in row {found[0].table.headings}"
        refused = (
            f"{file.name} holds nothing to check: its table ({rows}) has headings and start values only: "
            "fill in the rows and save it again"
        )
        return replace(audit, kind="nothing to check", refused=refused)
    return audit


def _seen(sheet: Sheet, row: int) -> str:
    texts = [str(cell.value) for (at, _), cell in sorted(sheet.cells.items()) if at == row]
    return f"; row {row} has {', '.join(texts)[:_LONGEST_SEEN]}"


@np.errstate(all="ignore")  # the numbers are anybody's
def audit_table(table: Table) -> TableAudit:
    """Compare each cell with what the cells before it imply, and explain those that differ."""
    table = without_typed_targets(settled(table))
    network = table.network
    warnings: list[str] = list(table.warnings)
    columns = _given_filled(table, warnings)
    right = _row_by_row(table, columns)
    rate = find_rate(table, columns, right)
    eta = table.values.get("eta", np.full(table.rows, np.nan))
    columns.values["eta"] = np.where(np.isfinite(eta), eta, rate.value)
    columns.rounding["eta"] = np.full(table.rows, rate.rounding)

    around = arithmetic.with_neighbours(columns, (*network.order, "eta"))
    for w in network.weights:
        right.values[w], right.rounding[w] = bounded(UPDATE.format(w=w), around)
    known = {name: float(columns.values[name][0]) for name in network.given}
    places = [label.place for label in table.labels if label.place and label.value == rate.value]
    judge = Judge(table, rate.value, [*places, *([rate.place] if rate.place else [])], known)
    in_table = [name for name in network.order if name in table.columns]
    wrong, idle = {}, {}
    for name in in_table:
        wrong[name], idle[name] = _wrong(table, columns, right, judge, name)
    skipped = _skipped_rows(table, columns, wrong)
    missing = (*table.missing, *skipped, *missing_in(table, rate, columns, right))

    of_helpers = helper_findings(table, rate, judge, wrong)
    findings = [
        finding
        for name, rows in wrong.items()
        for finding in explain(table, rate, judge, around, right, name, rows)
    ]
    findings = [*of_helpers, *together_if_stale(table, findings)]
    computed = [name for name in in_table if name not in network.given]
    findings.sort(key=lambda finding: (finding.cells[0].row, network.order.index(finding.name)))
    return TableAudit(
        table,
        rate,
        tuple(findings),
        _consequences(table, columns, findings),
        missing,
        (*warnings, *warnings_on(table, rate, wrong)),
        (*table.notes, *notes_on(table, rate, judge, columns, idle)),
        int(sum((table.shown(name) & np.isfinite(right.values[name])).sum() for name in computed)),
    )


def _given_filled(table: Table, warnings: list[str]) -> Columns:
    """The table's columns; what is given carried down over blanks, or found beside it or in other columns."""
    network = table.network
    values, rounding = dict(table.values), dict(table.rounding)
    for name in (*network.weights, *network.equations):
        if name not in values:
            values[name], rounding[name] = np.full(table.rows, np.nan), np.zeros(table.rows)
    for name in network.given:
        column = values.get(name, np.full(table.rows, np.nan))
        known = column[np.isfinite(column)]
        if known.size:
            start = known[0]
        elif name in table.constants:
            start = table.constants[name]
        elif (implied := _implied(name, network, values)) is not None:
            start = implied
            warnings.append(f"no column {name}: taken as {start:g}, as the other columns imply")
        else:
            start = network.assignment.get(name, np.nan)
            warnings.append(f"no column {name}: taken as {start:g}, as in the assignment")
        values[name] = np.where(np.isfinite(column), column, start)
        rounding[name] = np.zeros(table.rows)
    return Columns(values, rounding)


_IMPLIED = {
    "i1": ("(h1*w4-h2*w2)/(w1*w4-w2*w3)",),
    "i2": ("(h2*w1-h1*w3)/(w1*w4-w2*w3)",),
    "t1": ("a_o1-dE_dw5/(a_o1*(1-a_o1)*a_h1)", "a_o1-dE_dw6/(a_o1*(1-a_o1)*a_h2)"),
    "t2": ("a_o2-dE_dw7/(a_o2*(1-a_o2)*a_h1)", "a_o2-dE_dw8/(a_o2*(1-a_o2)*a_h2)"),
}
"""An input or a target without a column of its own, solved for from the columns that use it (2-2-2)."""


def _implied(name: str, network: Network, values: Mapping[str, Column]) -> float | None:
    """What most rows imply, with as few digits as it can have."""
    if not network.is_classroom:
        return None
    found = np.concatenate([compute(text, values) for text in _IMPLIED[name]])
    found = found[np.isfinite(found)]
    if not found.size:
        return None
    middle = float(np.median(found))
    return arithmetic.shortest(middle, spread=max(1e-9, 2 * float(np.median(np.abs(found - middle)))))


def _row_by_row(table: Table, columns: Columns) -> Columns:
    """What each row's own cells imply; fills in the columns and blank cells that a row lacks."""
    right = Columns({}, {})
    for name in table.network.given:
        right.values[name] = np.full(table.rows, columns.values[name][0])
        right.rounding[name] = np.abs(right.values[name]) * _DRIFT
    for name in table.network.order:
        if name not in table.network.equations:
            continue
        value, bound = bounded(table.network.equations[name], columns)
        right.values[name], right.rounding[name] = value, bound
        if name not in table.columns:
            columns.values[name], columns.rounding[name] = value, bound
            continue
        blank = ~table.shown(name)
        columns.values[name] = np.where(blank, value, columns.values[name])
        columns.rounding[name] = np.where(blank, bound, columns.rounding[name])
    return right


def _wrong(
    table: Table, columns: Columns, right: Columns, judge: Judge, name: str
) -> tuple[np.ndarray, dict[int, str]]:
    """Which cells of a column are wrong, and the first row of each wrong formula that makes no difference.

    A constant is wrong where rounding does not explain how it differs from what it should be; a formula where
    it is another function, if that shows in any cell that it was filled into, or where its value is old.
    Where nothing says what a cell should be, a text is the fault of a cell before it, but a start weight's.
    """
    value, expected = columns.values[name], right.values[name]
    slack = columns.rounding[name] + right.rounding[name]
    shown = table.shown(name)
    no_number = shown & ~np.isfinite(table.values[name])
    off = np.abs(value - expected) > slack
    stale = np.abs(value - expected) > 10 * slack + _STALE * np.abs(expected)
    filled: dict[object, list[int]] = {}
    for row in np.flatnonzero(shown).tolist():
        judgement = judge.of(name, row)
        if judgement is not None and judgement.right:
            off[row] = stale[row]
        elif judgement is not None:
            filled.setdefault(judgement.tree, []).append(row)
    idle = {}
    for rows in filled.values():
        if off[rows].any():
            off[rows] = True
        else:
            idle[rows[0]] = name
    start = (np.arange(table.rows) == 0) & (name in table.network.weights)
    return np.where(np.isfinite(expected), off | no_number, no_number & start), idle


def _skipped_rows(table: Table, columns: Columns, wrong: dict[str, np.ndarray]) -> list[str]:
    """What is said where rows do not follow each other; the updates between them are no longer wrong then."""
    weights = [w for w in table.network.weights if w in table.columns]
    suspects = [
        row
        for row in range(1, table.rows)
        if all(cell and not cell.formula for cell in (table.cells[w][row] for w in weights))
        and 2 * sum(wrong[w][row] for w in weights) > len(weights)
    ]
    if table.steps:
        skipped = [row for row in suspects if table.steps[row - 1] != 1]
    else:
        skipped = _epochs_left_out(table, columns, weights) if suspects else []
        skipped = skipped if set(suspects) <= set(skipped) else []
    if not skipped:
        return []
    for w in weights:
        wrong[w] = wrong[w] & ~np.isin(np.arange(table.rows), skipped)
    first = table.address(weights[0], skipped[0])
    return [f"epochs are left out before {first}: the updates to such rows are not checked; give every epoch"]


def _epochs_left_out(table: Table, columns: Columns, weights: list[str]) -> list[int]:
    """The rows whose weights are those of a later epoch than the next, where all rows' are some epoch's."""
    epochs = min(_MOST_EPOCHS, 20 * table.rows)
    true = _true_descent(columns, epochs, table.network)
    epoch, skipped = 0, []
    for row in range(1, table.rows):
        values = [(columns.values[w][row], columns.rounding[w][row], true[w]) for w in weights]
        near = np.all([np.abs(exact - value) <= 3 * unit + 1e-9 for value, unit, exact in values], axis=0)
        later = np.flatnonzero(near[epoch + 1 :])
        if not later.size:
            return []
        skipped += [row] if later[0] else []
        epoch += 1 + int(later[0])
    return skipped


def _consequences(table: Table, columns: Columns, findings: list[Finding]) -> tuple[Consequence, ...]:
    """Cells that follow from those before them, yet leave the true descent, downstream of a finding."""
    cells = [cell for found in findings for cell in found.cells]
    mistaken = {(cell.name, cell.row) for cell in cells if not cell.helper}
    sources = {name for name, _ in mistaken}
    downstream = {cell.name for cell in cells if cell.helper}
    network = table.network
    while grown := {
        name
        for name in network.order
        if name not in downstream and _inputs(name, network) & (sources | downstream)
    }:
        downstream |= grown
    if not findings:
        return ()
    true = _true_descent(columns, table.rows, network)
    consequences = []
    for name in (name for name in network.order if name in downstream and name in table.columns):
        value, exact = columns.values[name], true[name]
        near = np.abs(value - exact) <= 3 * columns.rounding[name] + 1e-11 * np.maximum(1e-3, np.abs(exact))
        off = np.flatnonzero(table.shown(name) & ~near & np.isfinite(exact)).tolist()
        rows = tuple(row for row in off if (name, row) not in mistaken)
        if rows:
            consequences.append(Consequence(name, table.address(name, rows[0]), rows))
    return tuple(consequences)


def _inputs(name: str, network: Network) -> set[str]:
    if name in network.given:
        return set()
    return {name, f"dE_d{name}"} if name in network.weights else set(names_in(network.equations[name]))


def _true_descent(columns: Columns, rows: int, network: Network) -> dict[str, Column]:
    """The descent from the first row's weights, inputs and targets, with the table's rate."""
    row = {name: columns.values[name][:1] for name in (*network.given, *network.weights)}
    descent: dict[str, list[float]] = {name: [] for name in network.order}
    for number in range(rows):
        for name, text in network.equations.items():
            row[name] = compute(text, row)
        for name in network.order:
            descent[name].append(float(row[name][0]))
        eta = columns.values["eta"][min(number, len(columns.values["eta"]) - 1)]
        row |= {w: row[w] - eta * row[f"dE_d{w}"] for w in network.weights}
    return {name: np.array(values) for name, values in descent.items()}
