"""The task --task=backprop, from top to bottom."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from backprop import exercise, report
from backprop.check import Gradients, Published, Verdict, gradients, judge_published
from backprop.config import BackpropConfig
from backprop.descent import TOLERANCE, Frontier, descend_each, explore, settle, table
from backprop.equations import EQUATIONS
from backprop.figures import all_loss_curves, frontier_figure, loss_curve
from backprop.network import Scalars, on_cpu
from backprop.report import finite
from backprop.shape import CLASSROOM, Shape
from backprop.workbook import workbook
from harness.report import write_report
from harness.workdir import (
    lock,
    open_workdir,
    read_flags,
    save_figure,
    write_bytes,
    write_config,
    write_csv,
    write_each,
    write_json,
)

_LABELS = {
    "claims": "the assignment's claims",
    "final_losses": "loss after the last epoch, for each learning rate",
    "start_loss": "loss before the first update",
    "gradients": "the derivatives, found in three ways",
    "max_difference_by_hand_autodiff": "largest difference of those by hand from those by jax.grad",
    "max_difference_finite_difference_autodiff": "largest difference of finite differences from jax.grad",
    "frontier": "the frontier: many learning rates at once",
    "rates": "learning rates tried",
    "max_difference_by_hand": "difference of by hand from autodiff",
    "max_difference_finite_difference": "difference of finite difference from autodiff",
}
"""What the summary's keys and the columns of gradients.csv mean to a person, the important first."""


def run(config: BackpropConfig) -> None:
    """Walk through one update, check the equations, descend, explore the rates, write the files.

    Raises:
      UserError: the folder cannot be written to, is in use, or holds a run of another task.
    """
    jax.config.update("jax_platforms", "cpu")  # JAX would look for a GPU and a TPU, too
    folder = open_workdir(config.workdir, "backprop")
    with lock(folder, wait=config.wait):
        _clear_earlier_run(folder)
        write_config(folder, "backprop", config, device="CPU")
        if config.exercise is None:
            _run_in(folder, config)
        else:
            _write_exercise(folder, config)


def _write_exercise(folder: Path, config: BackpropConfig) -> None:
    drawn = exercise.drawn(config)
    with on_cpu(float64=True):
        (rows,) = descend_from_start(drawn)
    for name, solved in (("exercise", False), ("solution", True)):
        write_bytes(folder / f"{name}.xlsx", exercise.worksheet(drawn, rows, solved=solved))
    print(f"{folder} has exercise.xlsx, to be filled in, and solution.xlsx, the same for the teacher.")


def _run_in(folder: Path, config: BackpropConfig) -> None:
    shape = config.shape
    with on_cpu(float64=config.precision == "float64"):
        weights, example = start(config)
        print(report.walk_through(weights, example, config.lrs[0], shape))

        derivatives = gradients(weights, example, shape)
        print(f"\nThe derivatives, found in three ways ({config.precision})")
        print(report.gradients_text(derivatives, shape))
        if beyond_precision := report.precision_text(weights, example, derivatives, shape):
            print(beyond_precision)

        trajectories = descend_from_start(config)
        losses = trajectories[:, :, shape.columns.index("E_total")]

        lrs = np.geomspace(config.frontier_min, config.frontier_max, config.frontier_rates)
        frontier = explore(jnp.asarray(lrs), weights, example, config.frontier_epochs, shape)
        claims = settle(frontier)

    # In float64 at any precision: as the documents' own numbers, and as a spreadsheet computes.
    with on_cpu(float64=True):
        published = judge_published(*start(BackpropConfig())) if shape == CLASSROOM else {}
        spreadsheet = workbook(config, descend_from_start(config))

    if published:
        print("\nEquations of published solutions (documents) against jax.grad, at the assignment's values")
        print(report.published_text(published))
    print(f"\nGradient descent\n{report.descents_text(config.lrs, losses)}")
    words = report.claims_in_words(config.lrs, losses, frontier, claims, shape)
    print(f"\nThe claims\n{report.claims_text(words)}")

    _write_gradients(folder, derivatives, shape)
    epochs = (
        (lr, epoch, *map(finite, values))
        for lr, rows in zip(config.lrs, trajectories, strict=True)
        for epoch, values in enumerate(rows)
    )
    write_csv(folder / "trajectories.csv", ("lr", "epoch", *shape.columns), epochs)
    _write_frontier(folder, frontier)
    write_bytes(folder / "backprop.xlsx", spreadsheet)
    by_hand, by_difference = (finite(float(each.max())) for each in report.gradient_differences(derivatives))
    beyond = {"beyond_precision": beyond_precision.replace("\n", " ")} if beyond_precision else {}
    ends = {str(lr): finite(float(loss[-1])) for lr, loss in zip(config.lrs, losses, strict=True)}
    summary = {
        "precision": config.precision,
        "start_loss": finite(float(losses[0, 0])),
        "final_losses": ends,
        "gradients": {
            "max_difference_by_hand_autodiff": by_hand,
            "max_difference_finite_difference_autodiff": by_difference,
            **beyond,
        },
        **_wrong_equations(published),
        "frontier": {
            "rates": len(lrs),
            "epochs": config.frontier_epochs,
            "tolerance": TOLERANCE,
            "smallest_possible_loss": frontier.smallest_loss,
            "largest_possible_loss": finite(frontier.largest_loss),
            **dataclasses.asdict(claims),
        },
        "claims": words,
    }
    write_json(folder / "summary.json", summary)
    figures: dict[str, Callable[[], Figure]] = {
        "frontier": partial(frontier_figure, frontier, claims, listed=config.lrs),
        "loss_all": partial(all_loss_curves, config.lrs, losses),
    }
    for lr, loss in zip(config.lrs, losses, strict=True):
        figures[f"loss_eta_{lr}"] = partial(loss_curve, lr, loss)
    files = {name: partial(save_figure, folder, name, draw) for name, draw in figures.items()}
    page = partial(write_report, folder, "Back-propagation by hand", figures=figures, tables=["gradients"])
    files["report.html"] = partial(page, labels=_LABELS)
    write_each(folder, files, again="start again")
    print(f"\nEverything is in {folder}: open backprop.xlsx, loss_all.png and frontier.png first.")


def _wrong_equations(published: Mapping[Published, Verdict]) -> dict[str, Any]:
    """Return what the summary says of them: nothing of another network than the classroom's."""
    wrong = [
        {
            "document": equation.document,
            "printed": f"{equation.name} = {equation.text}",
            "right": f"{equation.meant} = {EQUATIONS[equation.meant]}",
            "printed_value": verdict.printed,
            "right_value": verdict.right,
            "gradient_off": verdict.gradient_off,
        }
        for equation, verdict in published.items()
        if verdict.wrong
    ]
    return {"wrong_published_equations": wrong} if published else {}


def start(config: BackpropConfig) -> tuple[Scalars, Scalars]:
    """The weights and the example as scalars of JAX's current precision."""
    weights = tuple(map(jnp.asarray, config.start.values()))
    return weights, tuple(map(jnp.asarray, (*config.inputs, *config.targets)))


def descend_from_start(config: BackpropConfig) -> Float[np.ndarray, "rate epoch column"]:
    """config.shape.columns for each of config.lrs and each epoch, in JAX's current precision."""
    weights, example = start(config)
    rows = descend_each(jnp.asarray(config.lrs), weights, example, config.epochs, config.shape)
    return table(rows, example, config.shape)


def _clear_earlier_run(folder: Path) -> None:
    """Remove what a run over an earlier one would not write anew, or only at its end."""
    if (folder / "config.json").exists():
        read_flags(str(folder), "backprop")  # refuses another task's run
        for stale in (folder / "summary.json", folder / "report.html", *folder.glob("loss_eta_*")):
            stale.unlink(missing_ok=True)


def _write_gradients(folder: Path, derivatives: Gradients, shape: Shape) -> None:
    differences = ("max_difference_by_hand", "max_difference_finite_difference")
    columns = (*map(np.asarray, derivatives), *report.gradient_differences(derivatives))
    rows = zip(shape.weight_names, *(map(finite, column) for column in columns), strict=True)
    write_csv(folder / "gradients.csv", ("weight", *Gradients._fields, *differences), rows)


def _write_frontier(folder: Path, frontier: Frontier) -> None:
    end = frontier.ending
    header = ("lr", "final_loss", "gradient_norm", "last_rise", "epochs_to_tolerance", "outcome")
    loss, gradient = (map(finite, np.asarray(each)) for each in (end.loss, end.gradient))
    reached = ("" if epoch < 0 else epoch for epoch in end.epochs_to_tolerance)
    rows = zip(frontier.lrs, loss, gradient, end.last_rise, reached, frontier.outcome, strict=True)
    write_csv(folder / "frontier.csv", header, rows)
