"""What import statements bind: the submission's own files, followed, or a library's names."""

import ast
import re
import sys
from typing import Any

from audit.notebook.frames import Frame
from audit.notebook.library import canonical
from audit.notebook.state import Run
from audit.notebook.values import Opaque, Package, Scope

_LIBRARY = re.compile(
    r"torch(vision|summary|info|metrics|viz|_lr_finder)?|(pytorch_)?lightning|accelerate|ignite|timm|fastai|numpy|scipy|"
    r"pandas|sklearn|skimage|matplotlib|seaborn|plotly|PIL|cv2|albumentations|tensorflow|tensorboardX|keras|tqdm|rich|"
    r"wandb|optuna|IPython|google|yaml"
)


def _note_absent(run: Run, name: str, level: int) -> None:
    """Remember a module that is not there: the submission's own, most likely."""
    first = name.partition(".")[0]
    if level or (not _LIBRARY.fullmatch(first) and first not in sys.stdlib_module_names):
        run.absent.add(name)


def import_modules(run: Run, node: ast.Import, frame: Frame) -> None:
    """import a, b.c as d."""
    for alias in node.names:
        package = run.package(alias.name, frame.unit, 0)
        first = alias.name.partition(".")[0]
        if package is None:
            _note_absent(run, alias.name, 0)
        if alias.asname or "." not in alias.name:
            value: Any = package or Opaque("library", canonical(alias.name))
            frame.scope.names[alias.asname or alias.name] = value
        elif package is None:
            frame.scope.names[first] = Opaque("library", first)
        else:  # import models.model
            _assign_dotted(alias.name.split("."), package, frame)


def _assign_dotted(names: list[str], package: Package, frame: Frame) -> None:
    outer = frame.scope.names
    for name in names[:-1]:
        if not isinstance(outer.get(name), Package):
            outer[name] = Package(name, Scope({}))
        outer = outer[name].scope.names
    outer[names[-1]] = package


def import_names(run: Run, node: ast.ImportFrom, frame: Frame) -> None:
    """from a import b as c, *."""
    package = run.package(node.module or "", frame.unit, node.level)
    if package is None and node.module:
        _note_absent(run, node.module, node.level)
    for alias in node.names:
        name = alias.asname or alias.name
        if package is not None and alias.name == "*":
            names = {key: value for key, value in package.scope.names.items() if not key.startswith("_")}
            frame.scope.names |= names
        elif package is not None and alias.name in package.scope.names:
            frame.scope.names[name] = package.scope.names[alias.name]
        elif alias.name == "*":
            frame.scope.names.setdefault("(stars)", []).append(node.module or "")
        else:
            inner = run.package(f"{node.module or ''}.{alias.name}".strip("."), frame.unit, node.level)
            library = canonical(f"{node.module}.{alias.name}")
            frame.scope.names[name] = inner or Opaque("library", library)
