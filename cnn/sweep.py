"""Results of a sweep: a row for each learning rate, and the best one by the validation images."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

import scipy.special

from cnn.population import Progress
from harness.errors import require

Row = dict[str, Any]
_NONE_FINITE = (
    "all networks trained so far diverged, there is none to be shown: try a smaller --learning_rate"
)


def interval(values: Sequence[float], most: float = 1.0) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean (Student 1908), within 0 and `most`.

    None of fewer than three values: that of two is 25 times as wide as they are apart, and says nothing.
    """
    if len(values) < 3:
        return None
    mean, std = statistics.fmean(values), statistics.stdev(values)
    half = float(scipy.special.stdtrit(len(values) - 1, 0.975)) * std / len(values) ** 0.5
    return max(0.0, mean - half), min(most, mean + half)


def table(result: Progress) -> list[Row]:
    """Return a row for each learning rate: the mean of its seeds' last losses and accuracies, with intervals.

    Those of the seeds that stayed finite; `diverged` says which did not, and at which step. An interval of
    fewer than three seeds is None, and so is all of a rate with none.
    """
    return [_of_rate(result, rate) for rate in sorted({*result.learning_rates})]


def _of_rate(result: Progress, rate: float) -> Row:
    members = [index for index, each in enumerate(result.learning_rates) if each == rate]
    names = [name for name in result.history[0] if name.endswith(("_loss", "_accuracy"))]
    last = {row["seed"]: row for row in result.history if row["base_learning_rate"] == rate}
    rows = [last[seed] for seed in result.seeds[_finite(result, members)] if seed in last]
    steps = result.state.metrics.diverged_at
    gone = [f"seed {result.seeds[i]} at step {steps[i]}" for i in members if result.diverged[i]]
    found: Row = {"learning_rate": rate, "seeds": len(rows), "diverged": "; ".join(gone)}
    for name in names:
        values = [row[name] for row in rows]
        low, high = interval(values, 1.0 if name.endswith("_accuracy") else math.inf) or (None, None)
        found[name] = statistics.fmean(values) if values else None
        found |= {f"{name}_low": low, f"{name}_high": high}
    return found


def _finite(result: Progress, members: Sequence[int]) -> list[int]:
    return [index for index in members if not result.diverged[index]]


def best(rows: Sequence[Row]) -> Row | None:
    """Return the row of the highest validation accuracy; of equal ones that of the lowest validation loss.

    None where no images were held out, or a seed diverged at every rate: such a rate is not chosen.
    """
    whole = [row for row in rows if row.get("validation_loss") is not None and not row["diverged"]]
    return max(whole, key=lambda row: (row["validation_accuracy"], -row["validation_loss"]), default=None)


def verdict(rows: Sequence[Row]) -> str:
    """Say which rate is best, or why none is chosen."""
    chosen = best(rows)
    if "validation_loss" not in rows[0]:
        return "no images were held out to choose a learning rate by (--validation_size)"
    if chosen is None:
        return "at every learning rate a network diverged: none is chosen"
    rate, beyond = chosen["learning_rate"], ""
    if rate in (rows[0]["learning_rate"], rows[-1]["learning_rate"]):
        beyond = f"; no {'larger' if rate == rows[-1]['learning_rate'] else 'smaller'} one was tried"
    return f"learning rate {rate:g} is best by the validation images{beyond}"


def text(rows: Sequence[Row]) -> str:
    """Return the table and the verdict for the terminal."""
    splits = [name.removesuffix("_accuracy") for name in rows[0] if name.endswith("_accuracy")]
    lines = [f"{'learning rate':>13}" + "".join(f"{f'{split} accuracy':>32}" for split in splits)]
    for row in rows:
        line = f"{row['learning_rate']:>13g}"
        for split in splits if row["seeds"] else ():
            low, high = row[f"{split}_accuracy_low"], row[f"{split}_accuracy_high"]
            within = "" if low is None else f" ({low:.2%} to {high:.2%})"
            line += f"{row[f'{split}_accuracy']:.2%}{within}".rjust(32)
        lines.append(line + (f"  diverged: {row['diverged']}" if row["diverged"] else ""))
    return "\n".join([*lines, verdict(rows)])


def shown(result: Progress) -> Progress:
    """Return the members that figures, an export and the page show: of a sweep those at one learning rate.

    It is the best rate; where none is chosen, the lowest with a member that stayed finite.

    Raises:
      UserError: all members diverged.
    """
    if not result.learning_rates:
        return result
    rows = table(result) if result.history else []
    require(any(row["seeds"] for row in rows), _NONE_FINITE)
    rate = (best(rows) or next(row for row in rows if row["seeds"]))["learning_rate"]
    return result.of(_finite(result, [i for i, each in enumerate(result.learning_rates) if each == rate]))


def name_of(shown: Progress, name: str) -> str:
    """Return a run's name for reports; of a sweep with the learning rate shown."""
    return f"{name} at learning rate {shown.learning_rates[0]:g}" if shown.learning_rates else name
