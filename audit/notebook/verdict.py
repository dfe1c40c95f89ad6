"""One notebook audited: what it is, what its log says, and whether claim and code hold."""

from dataclasses import dataclass
from pathlib import Path

from audit.notebook import cells
from audit.notebook.cells import Source
from audit.notebook.claims import Claim, Limits, claims
from audit.notebook.interpreter import follow
from audit.notebook.log import Training, chosen
from audit.notebook.mistakes import Finding, findings
from audit.notebook.network import ReadNetwork, count, read_network
from audit.notebook.prints import Prints
from audit.notebook.recipe import read_recipe
from audit.notebook.standing import Standing, standing
from audit.notebook.texts import read_log_of
from audit.notebook.training import ReadRecipe
from harness.errors import UserError

VERDICTS = ("wrong", "unreadable", "not shown", "right")
"""Of several the first that one of them has."""


@dataclass(frozen=True)
class NotebookAudit:
    """What became of one notebook."""

    file: Path
    # the class and its number of parameters; None where they cannot be counted
    counted: tuple[str, int] | None = None
    network: ReadNetwork | None = None  # None where it is refused, as the recipe
    recipe: ReadRecipe | None = None
    training: Training | None = None  # None without a log
    claims: tuple[Claim, ...] = ()  # the limits, and whether they are kept
    findings: tuple[Finding, ...] = ()  # mistakes first, then remarks
    standing: Standing | None = None  # among the public submissions; None without the accuracy of test images
    texts: tuple[str, ...] = ()  # the names of the files beside it that were read as its own
    # all that keeps it from being judged, in one line; what was read is there all the same
    refused: str | None = None

    @property
    def mistakes(self) -> tuple[Finding, ...]:
        """What changes the result or the claim."""
        return tuple(finding for finding in self.findings if finding.is_mistake)

    @property
    def verdict(self) -> str:
        """One of VERDICTS."""
        if self.refused:
            return "unreadable"
        if self.mistakes or any(claim.holds is False for claim in self.claims):
            return "wrong"
        return "not shown" if self.missing else "right"

    @property
    def tells(self) -> bool:
        """Whether anything of it was read."""
        trains = self.recipe is not None and self.recipe.optimizer is not None
        return bool(self.counted or self.training or self.mistakes or trains)

    @property
    def missing(self) -> tuple[Claim, ...]:
        """The limits of which nothing tells whether they are kept."""
        return tuple(claim for claim in self.claims if claim.holds is None)


def audit_notebook(file: Path, limits: Limits, class_name: str | None = None) -> NotebookAudit:
    """Judge a notebook or .py file, and the class of that name or the trained one; a refusal says why."""
    try:
        source = cells.read(file)
    except UserError as error:
        return NotebookAudit(file, refused=str(error))
    run, network, recipe, counted = None, None, None, None
    obstacles: list[str] = []
    try:
        run = follow(source)
        prints = Prints(run)
        network = read_network(run, class_name)
        counted = network.class_name, network.parameters
    except UserError as error:
        obstacles.append(str(error))
        counted = count(run, class_name) if run else None
    try:
        recipe = read_recipe(run, network) if run else None
    except UserError as error:
        obstacles += [str(error)] * (str(error) not in obstacles)
    numbers = {*(counted or ()), *([network.used_parameters] if network else [])}
    trainings, texts = read_log_of(source, prints if run else None, numbers)
    training = chosen(trainings)
    of_test = network and training and training.split == "test"
    return NotebookAudit(
        file,
        counted,
        network,
        recipe,
        training,
        claims(counted[1] if counted else None, network, recipe, training, limits),
        findings(source, network, recipe, training, limits, code=_code_at(source, network), texts=texts),
        standing(network.parameters, float(training.last)) if network and training and of_test else None,
        tuple(text.place.file for text in texts),
        "; ".join(obstacles) or None,
    )


def _code_at(source: Source, network: ReadNetwork | None) -> str:
    """The cell or file that the class stands in."""
    if network is None:
        return ""
    place = network.place
    if place.cell is not None:
        return source.cells[place.cell - 1].code
    path = source.path.with_name(place.file)
    return "" if not path.is_file() else "".join(cell.code for cell in cells.read(path).cells)
