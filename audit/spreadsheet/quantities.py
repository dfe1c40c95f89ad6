"""What the formulas of a table mean: each reference as the quantity that it refers to."""

from collections.abc import Collection

from audit.spreadsheet.formulas import Place, Reference, Tree, UnknownFormula, parse, relative, resolved
from audit.spreadsheet.reading import Cell
from audit.spreadsheet.tables import Table

_DEEPEST = 25  # formulas that lead to formulas


class Quantities:
    """Reads formulas of a table as trees over its quantities.

    h1 is of the same row, prev_h1 of the row above, next_h1 of the row below, h1@-2 of two rows above, and
    h1@12 is fixed by $ to the sheet's row 12. Inputs, targets and eta have their names alone. A cell without
    a name stands for its number, or for what its formula means; where they are to be kept, a column that is
    not understood is column:24, and a helper, which has a formula or stands among formulas, Sheet2:-1:24.
    Cells labelled eta hold it where none are given.
    """

    def __init__(
        self,
        table: Table,
        eta: Collection[Place] | None = None,
        *,
        keep_unread: bool = False,
        keep_helpers: bool = False,
        constant: Collection[str] = (),
    ):
        self._table = table
        self._eta = {label.place for label in table.labels} if eta is None else set(eta)
        self._keep_unread = keep_unread
        self._keep_helpers = keep_helpers
        self._names = {column: name for name, column in table.columns.items()}
        self._constant = {*table.network.given, "eta", *constant}
        self._turned = table.source.is_turned
        self._rows = range(table.first, table.first + table.rows)
        self._parsed: dict[tuple[str, str], Tree | None] = {}
        self._sheets = {"": table.source.cells, **table.source.book.sheets}

    def meaning(self, name: str, row: int) -> Tree | None:
        """What the formula of a column's cell computes; None for a constant or a formula not known here."""
        return self.of_cell(row, self._table.columns[name])

    def of_cell(self, row: int, column: int) -> Tree | None:
        """The same for any column of the table's sheet."""
        at = self._table.first + row, column
        cell = self._table.source.cells.get(at)
        try:
            return self._tree(cell.formula, "", at, at[0], 0) if cell and cell.formula else None
        except (UnknownFormula, RecursionError):
            return None

    def _tree(self, formula: str, sheet: str, at: Place, row: int, depth: int) -> Tree:
        """The meaning of a formula at a place, for a cell of the table in a row of the sheet."""
        if depth > _DEEPEST:
            raise UnknownFormula("formulas that lead to formulas")
        real = at if sheet else self._table.source.real(at)
        key = relative(formula, real), sheet
        if key not in self._parsed:
            try:
                self._parsed[key] = parse(formula, real)
            except UnknownFormula:
                self._parsed[key] = None
        tree = self._parsed[key]
        if tree is None:
            raise UnknownFormula(formula)

        def quantity(reference: Reference, place: Place) -> Tree:
            where = reference.sheet or sheet
            if where in ("", self._table.sheet):
                where, place = "", self._table.source.own(place)
            return self._quantity(where, place, row, depth, frozen=reference.fixed[self._turned])

        return resolved(tree, quantity, real, self._defined)

    def _defined(self, name: str) -> Tree:
        text = self._table.source.book.names.get(name.lower())
        if text is None:
            raise UnknownFormula(name)
        match parse(text, (1, 1)):
            case Reference(fixed=(True, True)) | float() as meant:
                return meant
        raise UnknownFormula(name)

    def _quantity(self, sheet: str, place: Place, row: int, depth: int, *, frozen: bool) -> Tree:
        if sheet not in self._sheets:
            raise UnknownFormula(sheet)
        cell = self._sheets[sheet].get(place)
        if not sheet:
            if place in self._eta:
                return "eta"
            if place[0] in self._rows:
                if cell is not None and (name := self._names.get(place[1])):
                    return self._named(name, place[0], row, frozen)
                if self._keep_unread and place[1] in self._table.unread:
                    return self._named(f"column:{place[1]}", place[0], row, frozen)
            if name := self._table.labelled.get(place):
                return name if name in self._constant else f"{name}@{place[0]}"
        if cell is None:
            return 0.0
        if self._keep_helpers and (cell.formula or self._among_formulas(sheet, place)):
            return f"{sheet}:{place[0] - row:+d}:{place[1]}"
        if cell.formula:
            return self._tree(cell.formula, sheet, place, row, depth + 1)
        if isinstance(cell.value, float):
            return cell.value
        raise UnknownFormula("a text as a number")

    def _among_formulas(self, sheet: str, place: Place) -> bool:
        near = (self._sheets[sheet].get((place[0] + way, place[1])) for way in (-1, 1))
        return any(cell and cell.formula for cell in near)

    def of_helper(self, name: str, row: int) -> Tree | None:
        """What a helper's cell computes for a row of the table; its number where it has no formula."""
        cell, sheet, place = self.helper(name, row)
        try:
            if cell.formula:
                return self._tree(cell.formula, sheet, place, self._table.first + row, 1)
        except (UnknownFormula, RecursionError):
            return None
        return cell.value if isinstance(cell.value, float) else None

    def helper(self, name: str, row: int) -> tuple[Cell, str, Place]:
        """The cell of a helper for a row of the table, its sheet ("" for the table's own) and its place."""
        sheet, lines, column = name.rsplit(":", 2)
        place = self._table.first + row + int(lines), int(column)
        return self._sheets[sheet][place], sheet, place

    def _named(self, name: str, at: int, row: int, frozen: bool) -> str:
        if name in self._constant and name != "eta":
            return name
        shift = {0: "", -1: "prev_", 1: "next_"}.get(at - row)
        if shift is None:
            return f"{name}@{at}" if frozen else f"{name}@{at - row:+d}"
        return shift + name
