"""A notebook's audit in words: what the terminal, audit.csv and report.html say."""

import textwrap
from collections.abc import Iterator

from audit.lines import line, printable, quoted
from audit.notebook.claims import percent
from audit.notebook.command import command
from audit.notebook.mistakes import Finding
from audit.notebook.network import ReadNetwork
from audit.notebook.standing import Point
from audit.notebook.training import ReadRecipe
from audit.notebook.verdict import NotebookAudit
from cnn.architecture import LayerSummary, format_shape, format_table, summarize
from cnn.config import CnnConfig

CSV_HEADER = (
    *("file", "verdict", "class", "parameters", "used_parameters", "epochs", "epochs_run", "batch_size"),
    *("best_accuracy", "best_epoch", "last_accuracy", "holds_from_epoch", "evaluated", "percentile"),
    *("broken_limits", "mistakes", "remarks", "layers", "recipe", "not_expressed", "notes"),
)


def text(audit: NotebookAudit) -> str:
    """Everything about one notebook."""
    network, recipe = audit.network, audit.recipe
    if not audit.tells:
        return str(audit.refused)
    parts = [f"{quoted(audit.file.name)}: {audit.verdict.upper()}"]
    if audit.refused:
        parts.append(line("refused", audit.refused))
    elif audit.missing:
        parts.append(textwrap.fill(f"{_not_shown(audit)}.", 100))
    if network is not None:
        parts.append(f"Class {network.class_name} ({network.place}):\n\n{format_table(network.architecture)}")
    lines = [*([line("layers", network.text)] if network else []), *_recipe_lines(network, recipe)]
    parts += ["\n".join(lines)] if lines else []
    holds = {True: "holds", False: "DOES NOT HOLD", None: "NOT SHOWN"}
    claims = [line(each.name, f"{holds[each.holds]}: {each.asked}; {each.found}") for each in audit.claims]
    parts.append("\n".join(["Claims:", *claims]))
    if audit.texts:
        parts[-1] += "\n" + line("texts", texts_read(audit))
    if (at := audit.standing) is not None:
        where = f"its last accuracy is at percentile {at.percentile:.0f} of the {at.among} public submissions"
        sizes = f"nearest in size ({at.smallest:,} to {at.largest:,} parameters)"
        parts[-1] += "\n" + line("standing", f"{where} {sizes}")
    for title, wanted in (("Mistakes:", True), ("Remarks:", False)):
        lines = [each for found in audit.findings if found.is_mistake == wanted for each in _finding(found)]
        if lines:
            parts.append("\n".join([title, *lines]))
    return "\n\n".join(parts)


def _recipe_lines(network: ReadNetwork | None, recipe: ReadRecipe | None) -> Iterator[str]:
    if recipe is None or (network is None and recipe.optimizer is None):
        return
    if recipe.recipe is not None and network is not None:
        yield line("recipe", recipe.recipe.flags)
        is_large = network.used_parameters >= CnnConfig.max_parameters
        over = is_large or recipe.recipe.epochs > CnnConfig.max_epochs
        yield f"  train it here:\n\n{printable(command(network, recipe) + ' --noenforce_budget' * over)}"
    elif recipe.flags:
        flags = (f"--{name}={value}" for name, value in recipe.flags.items())
        yield line("recipe", f"in part: {' '.join(flags)}")
    for label, facts in (("not expressed", recipe.missing), ("departs", recipe.departures)):
        for fact in facts:
            yield line(label, f"{fact.place}: {fact.name}" + (f" ({fact.detail})" if fact.detail else ""))


def _not_shown(audit: NotebookAudit) -> str:
    """What is missing, and how to hand it in."""
    return "; ".join(f"not shown: {claim.name}, {claim.found}" for claim in audit.missing)


def texts_read(audit: NotebookAudit) -> str:
    """Which files beside it were read as its own, and which of them has the log."""
    log = audit.training.file if audit.training else ""
    return ", ".join(f"{name} (the log)" if name == log else name for name in audit.texts)


def _finding(found: Finding) -> Iterator[str]:
    more = f" (and {found.others} more)" if found.others else ""
    yield line(f"{found.place}:", f"{found.what}{more}")
    if found.remedy:
        yield line("  to do", found.remedy)


def point(audit: NotebookAudit) -> Point | None:
    """The notebook in the picture; None where its log has no accuracy of test images."""
    if audit.network is None or audit.training is None or audit.training.split == "train":
        return None
    training = audit.training
    return Point(audit.file.name, audit.network.parameters, float(training.best), float(training.last))


def csv_row(audit: NotebookAudit, target: float) -> dict[str, object]:
    """What CSV_HEADER has of one notebook, but for its file and its verdict."""
    network, recipe, training = audit.network, audit.recipe, audit.training
    read = f"read beside it: {texts_read(audit)}" if audit.texts else ""
    row: dict[str, object] = {"notes": "; ".join(filter(None, [audit.refused or _not_shown(audit), read]))}
    if training is not None:
        row |= {
            "epochs_run": training.num_epochs,
            "best_accuracy": float(training.best),
            "best_epoch": training.best_epoch,
            "last_accuracy": float(training.last),
            "holds_from_epoch": training.holds_from(target) or "",
            "evaluated": training.split,
        }
    if audit.counted is not None:
        row |= {"class": audit.counted[0], "parameters": audit.counted[1]}
    if network is not None:
        row |= {"used_parameters": network.used_parameters, "layers": network.text}
    if recipe is not None:
        row |= {
            "epochs": recipe.epochs.value if recipe.epochs else "",
            "batch_size": " or ".join(str(setting.value) for setting in recipe.batch_size),
            "recipe": recipe.recipe.flags if recipe.recipe else "",
            "not_expressed": "; ".join(missing.name for missing in recipe.missing),
        }
    return row | {
        "percentile": round(audit.standing.percentile) if audit.standing else "",
        "broken_limits": " ".join(claim.name for claim in audit.claims if claim.holds is False),
        "mistakes": "; ".join(f"{each.name} ({each.place})" for each in audit.mistakes),
        "remarks": "; ".join(f"{each.name} ({each.place})" for each in audit.findings if not each.is_mistake),
    }


LAYERS_HEADER = ("layer", "output_shape", "parameters", "receptive_field")
LOG_HEADER = ("epoch", "train_accuracy", "test_accuracy")
FINDINGS_HEADER = ("kind", "file", "cell", "line", "what", "to_do")
CLAIMS_HEADER = ("limit", "asked", "found", "holds")


def finding_rows(audit: NotebookAudit) -> list[list[object]]:
    """FINDINGS_HEADER for each mistake and remark."""
    return [
        [
            "mistake" if found.is_mistake else "remark",
            *map(
                quoted, (found.place.file, found.place.cell or "", found.place.line, found.what, found.remedy)
            ),
        ]
        for found in audit.findings
    ]


def claim_rows(audit: NotebookAudit) -> list[list[object]]:
    """CLAIMS_HEADER for each limit."""
    words = {True: "yes", False: "no", None: "not shown"}
    return [[claim.name, claim.asked, claim.found, words[claim.holds]] for claim in audit.claims]


def log_rows(audit: NotebookAudit) -> list[list[object]]:
    """LOG_HEADER for each epoch of the log; accuracies are fractions."""
    return [
        [number, "" if epoch.train_accuracy is None else float(epoch.train_accuracy), float(epoch.accuracy)]
        for number, epoch in enumerate(audit.training.epochs if audit.training else (), 1)
    ]


def in_one_line(audit: NotebookAudit) -> str:
    """What a folder's table says of it."""
    if audit.refused and not audit.tells:
        return audit.refused
    mistakes = ", ".join(found.name.replace("_", " ") for found in audit.mistakes)
    refused = f"{audit.refused}; read all the same: " if audit.refused else ""
    return refused + figures(audit) + (f"; mistakes: {mistakes}" if mistakes else "")


def figures(audit: NotebookAudit) -> str:
    """Its parameters, accuracies and broken limits, and what is missing."""
    parts = [f"{audit.counted[1]:,} parameters"] if audit.counted else []
    if audit.training:
        parts.append(f"best {percent(audit.training.best)}, last {percent(audit.training.last)}")
    broken = [claim.name for claim in audit.claims if claim.holds is False]
    parts += [f"not kept: {', '.join(broken)}"] if broken else []
    parts += [f"with {texts_read(audit)}"] if audit.texts else []
    return "; ".join([*parts, *([] if audit.refused or not audit.missing else [_not_shown(audit)])])


def layer_rows(network: ReadNetwork) -> list[list[object]]:
    """LAYERS_HEADER for each layer, those within a residual before it."""

    def rows(summaries: tuple[LayerSummary, ...]) -> Iterator[list[object]]:
        for each in summaries:
            yield from rows(each.inside)
            parameters = 0 if each.inside else each.parameters
            yield [each.layer, format_shape(each.output_shape), parameters, each.receptive_field]

    return list(rows(summarize(network.architecture)))
