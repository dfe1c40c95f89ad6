"""Students' workbooks, computed by LibreOffice once for all tests."""

import pytest

from tests.audit.spreadsheet import make_workbooks
from tests.audit.spreadsheet.make_workbooks import CLEAN, WARNED, WRONG
from tests.backprop.test_workbook import recalculate


@pytest.fixture(scope="session")
def students_books(once):
    """A folder with every workbook of make_workbooks; tests only read it."""
    return once("students_books", _computed) / "out"


def _computed(folder):
    books = {name: make_workbooks.clean(name).book for name in CLEAN}
    books |= {make.__name__: make().book for make in (*WRONG, *WARNED)}
    recalculate(folder, books)
