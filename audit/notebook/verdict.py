"""One notebook audited: what it is, what its log says, and whether claim and code hold."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.notebook import cells
from audit.notebook.cells import Place, Source, texts_beside
from audit.notebook.claims import Claim, Limits, claims
from audit.notebook.interpreter import follow
from audit.notebook.log import Training, chosen, trainings_of
from audit.notebook.mistakes import Finding, findings
from audit.notebook.network import ReadNetwork, network_of
from audit.notebook.prints import Prints
from audit.notebook.recipe import ReadRecipe, read_recipe
from audit.notebook.standing import Standing, standing
from audit.notebook.texts import likely_logs, own_texts
from harness.errors import UserError

VERDICTS = ("wrong", "unreadable", "not shown", "right")
"""Of several the first that one of them has."""


@dataclass(frozen=True)
class NotebookAudit:
    """What became of one notebook.

    Attributes:
      network: the class; None where it is refused.
      recipe: how it is trained; None where the network is refused.
      training: what the log tells; None without one.
      claims: the limits, and whether they are kept.
      findings: mistakes first, then remarks.
      standing: among the public submissions; None without the accuracy of test images.
      texts: the names of the files beside it that were read as its own.
      refused: why it cannot be judged, in one line; None where it can.
    """

    file: Path
    network: ReadNetwork | None = None
    recipe: ReadRecipe | None = None
    training: Training | None = None
    claims: tuple[Claim, ...] = ()
    findings: tuple[Finding, ...] = ()
    standing: Standing | None = None
    texts: tuple[str, ...] = ()
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
    def missing(self) -> tuple[Claim, ...]:
        """The limits of which nothing tells whether they are kept."""
        return tuple(claim for claim in self.claims if claim.holds is None)


def audit_notebook(file: Path, limits: Limits, class_name: str | None = None) -> NotebookAudit:
    """Read a notebook or a .py file and judge it; one that cannot be read says why in its result.

    Args:
      file: the notebook; .py files and texts beside it are read with it.
      limits: what is asked for.
      class_name: the network's class; None takes the one that is trained.
    """
    training = None
    try:
        source = cells.read(file)
        run = follow(source)
        prints = Prints(run)
        network = network_of(run, class_name)
        beside = texts_beside(file)
        texts = own_texts(source, beside, _links(network, trainings_of(source, (), prints)))
        logs = (*texts, *(text for text in likely_logs(source, beside) if text not in texts))
        training = chosen(trainings_of(source, logs, prints))
        texts += tuple(
            text for text in logs if training and text.place.file == training.file and text not in texts
        )
        recipe = read_recipe(source, network)
    except UserError as error:
        return NotebookAudit(file, training=training, refused=str(error))
    code = _code_at(source, network.place)
    found = findings(source, network, recipe, training, limits, code=code, texts=texts)
    of_test = training is not None and training.split == "test"
    return NotebookAudit(
        file,
        network,
        recipe,
        training,
        claims(network, recipe, training, limits),
        found,
        standing(network.parameters, float(training.last)) if training and of_test else None,
        texts=tuple(text.place.file for text in texts),
    )


def _links(network: ReadNetwork, trainings: Sequence[Training]) -> Iterator[str]:
    """What only a text about this submission has."""
    if not re.fullmatch("(?:my)?(?:net(?:work)?|model|cnn)", network.class_name, re.I):
        yield network.class_name
    for parameters in (network.parameters, network.used_parameters):
        yield from (str(parameters), f"{parameters:,}")
    for training in trainings:
        yield from (f"{100 * float(accuracy):.2f}" for accuracy in (training.best, training.last))


def _code_at(source: Source, place: Place) -> str:
    """The cell or file that a class stands in."""
    if place.cell is not None:
        return source.cells[place.cell - 1].code
    path = source.path.with_name(place.file)
    return "" if not path.is_file() else "".join(cell.code for cell in cells.read(path).cells)
