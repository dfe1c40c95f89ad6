"""Follows a submission's code without running it: its cells in order, and its files where they are imported.

A value that comes from outside (a library's function, a file, the images) is Opaque and flows on as such. In
a module's constructor and in forward nothing may hang on it: there it is refused where a condition, a loop or
a layer would. Elsewhere both branches of such a condition are followed, and one turn of such a loop.
"""

import functools
from pathlib import Path

from audit.notebook import calls, expressions, statements
from audit.notebook.cells import Source, read_code
from audit.notebook.state import Run
from audit.notebook.values import Package, Scope, Unit

_MOST_FILES = 50
_MOST_FOLDERS = 4  # around the file's, in which an import is looked for


def follow(source: Source, *, has_cuda: bool = True) -> Run:
    """Follow all cells in the file's order; raises TooLong after too many steps.

    A notebook whose cells need names that only later ones define was run otherwise: it is followed again
    with those names.
    """
    run = Run(source, has_cuda=has_cuda)
    files = _Files(run)
    run.evaluate = functools.partial(expressions.evaluate, run)
    run.block = functools.partial(statements.block, run)
    run.call_method = functools.partial(calls.call_method, run)
    run.package = files.package
    files.follow_cells()
    if source.is_notebook and any(name in run.scope.names for name in run.undefined):
        run.begin_again()
        files.follow_cells()
    return run


class _Files:
    """The submission's own .py files, and the cells that write one; each is followed once."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.written: dict[str, str] = {}  # by name, code
        self.followed: dict[Path | str, Package] = {}

    def follow_cells(self) -> None:
        run, source = self.run, self.run.source
        for cell in source.cells:
            if cell.writes:
                self.written[Path(cell.writes).stem] = cell.code
            elif cell.code:
                number = run.cell = cell.number if source.is_notebook else None
                statements.follow(
                    run, cell.code, Unit(source.path.name, number, source.path.parent), run.scope
                )

    def package(self, name: str, unit: Unit, level: int) -> Package | None:
        """The .py file of the submission that an import means, followed; None if it is a library's."""
        if not name:
            return None
        if name in self.written:
            return self._follow(name, name, self.written[name], unit.folder)
        file_folder = self.run.source.path.parent
        folders = [unit.folder, unit.folder.parent, file_folder]
        if level > 1:
            folders = [unit.folder.parents[min(level - 1, len(unit.folder.parents)) - 1]]
        parts = name.split(".")
        files = [folder.joinpath(*parts) for folder in folders]
        if len(parts) > 2 and parts[0] not in ("torch", "torchvision"):  # behind the name of a clone
            around = list(self.run.source.path.parents)[:_MOST_FOLDERS]
            files += [folder.joinpath(*parts[1:]) for folder in around]
        for file in (
            each for base in files for each in (base.with_name(f"{base.name}.py"), base / "__init__.py")
        ):
            if file in self.followed:
                return self.followed[file]
            code = read_code(file)
            if code is not None and len(self.followed) < _MOST_FILES:
                return self._follow(file, file.name, code, file.parent)
        return None

    def _follow(self, key: Path | str, name: str, code: str, folder: Path) -> Package:
        if key not in self.followed:
            file = name if name.endswith(".py") else f"{name}.py"
            package = self.followed[key] = Package(name, Scope({"__name__": Path(name).stem}))
            statements.follow(self.run, code, Unit(file, None, folder), package.scope)
        return self.followed[key]
