"""A run in words: what the terminal shows, and the claims as sentences."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from backprop.check import Gradients, Published, Verdict
from backprop.descent import TOLERANCE, Claims, Frontier
from backprop.equations import EQUATIONS, STEPS, evaluate, heading
from backprop.network import Example, Scalar, Weights, total_error

_WIDTH = 100


def walk_through(weights: Weights, example: Example, lr: float) -> str:
    """The first update as a teacher would write it: step, equation, numbers put in, result."""
    values = jax.tree.map(float, _all_steps(weights, example))
    lines = []
    for step, equations in STEPS.items():
        lines += ["", f"Step {step}"]
        lines += [_worked(name, text, values) for name, text in equations.items()]
    lines += ["", f"The update: w <- w - eta * dE/dw, with eta = {lr:g}"]
    updated = {w: values[w] - lr * values[f"dE_d{w}"] for w in Weights._fields}
    for w in Weights._fields:
        lines.append(_worked(w, f"{w} - {lr:g}*dE_d{w}", values | {w: updated[w]}, put_in=values))
    after = float(total_error(Weights(*map(jnp.asarray, updated.values())), example))
    lines.append(f"E_total was {values['E_total']:.6g} and is now {after:.6g}.")
    return "\n".join(lines[1:])


@jax.jit
def _all_steps(weights: Weights, example: Example) -> dict[str, Scalar]:
    values = {**weights._asdict(), **example._asdict()}
    for equations in STEPS.values():
        values |= evaluate(equations, values)
    return values


def _worked(
    name: str, text: str, values: Mapping[str, float], put_in: Mapping[str, float] | None = None
) -> str:
    """name = equation = numbers = result; below each other where a line is too short for it."""
    numbers = re.sub(r"[A-Za-z]\w*", lambda word: _number(word.group(), put_in or values), text)
    parts = list(dict.fromkeys([heading(text), numbers, f"{values[name]:.6g}"]))
    start = f"  {heading(name):<10}= "
    line = start + " = ".join(parts)
    return line if len(line) <= _WIDTH else start + f"\n{'':<12}= ".join(parts)


def _number(name: str, values: Mapping[str, float]) -> str:
    if name not in values:
        return name
    return f"({values[name]:.6g})" if values[name] < 0 else f"{values[name]:.6g}"


def gradients_text(gradients: Gradients) -> str:
    """The eight derivatives, found in three ways, side by side."""
    lines = [f"{'':10}{'by hand':>20}{'jax.grad':>20}{'finite difference':>20}"]
    for w, *three in zip(Weights._fields, *gradients, strict=True):
        lines.append(f"  {heading(f'dE_d{w}'):<8}" + "".join(f"{float(value):>20.12g}" for value in three))
    by_hand, finite = gradient_differences(gradients)
    lines.append(
        f"Largest difference from jax.grad: {by_hand.max():.2g} by hand, {finite.max():.2g} by differences."
    )
    return "\n".join(lines)


def gradient_differences(gradients: Gradients) -> tuple[np.ndarray, np.ndarray]:
    """How far each derivative by hand and by finite difference is from autodiff's; shape [8] each."""
    by_hand, autodiff, finite = (np.asarray(kind) for kind in gradients)
    return np.abs(by_hand - autodiff), np.abs(finite - autodiff)


def published_text(verdicts: Mapping[Published, Verdict]) -> str:
    """Which published equations are wrong, by how much, and what the right one is."""
    right = [equation for equation, verdict in verdicts.items() if not verdict.wrong]
    lines = [
        f"  {document}: {', '.join(heading(e.name) for e in right if e.document == document)}: right"
        for document in dict.fromkeys(equation.document for equation in right)
    ]
    for equation, verdict in verdicts.items():
        if verdict.wrong:
            lines += [
                f"  document {equation.document}: WRONG  {heading(equation.name)} = {equation.text}",
                f"     gives  {verdict.printed:.6g}, autodiff {verdict.right:.6g}: {_how_far(verdict)}",
                f"     right  {heading(equation.meant)} = {EQUATIONS[equation.meant]}"
                + (" (the label is wrong, not the formula)" if equation.meant in verdict.fits else ""),
            ]
    return "\n".join(lines)


def _how_far(verdict: Verdict) -> str:
    off = abs(verdict.printed - verdict.right)
    text = f"off by {off:.3g} ({off / abs(verdict.right):.2%})"
    return text + (
        f", and a derivative of E_total by up to {verdict.gradient_off:.3g}" if verdict.gradient_off else ""
    )


def descents_text(lrs: Sequence[float], losses: Float[np.ndarray, "rate epoch"]) -> str:
    """The loss of each listed rate at the start and at the end."""
    lines = [f"{'learning rate':>15}{'loss at the start':>20}{f'after {losses.shape[1] - 1} epochs':>22}"]
    lines += [f"{lr:>15g}{loss[0]:>20.10g}{loss[-1]:>22.10g}" for lr, loss in zip(lrs, losses, strict=True)]
    return "\n".join(lines)


def claims_in_words(
    lrs: Sequence[float], losses: Float[np.ndarray, "rate epoch"], frontier: Frontier, claims: Claims
) -> list[dict[str, Any]]:
    """Each claim, whether it holds, and the evidence in plain English."""
    order = np.argsort(lrs)
    final = losses[order, -1]
    faster = bool((np.diff(final) < 0).all())
    return [
        {
            "claim": "Over the listed rates, a larger learning rate converges faster.",
            "holds": faster,
            "evidence": f"After {losses.shape[1] - 1} epochs the loss is "
            + ", ".join(f"{loss:.4g} with {lrs[i]:g}" for i, loss in zip(order, final, strict=True))
            + ".",
        },
        {
            "claim": "A larger learning rate always converges faster.",
            "holds": bool(claims.falls_up_to_rate == frontier.lrs[-1]),
            "evidence": _where_it_stops(frontier, claims),
        },
        {
            "claim": "If the rate keeps growing, the loss might not converge at all.",
            "holds": claims.failing > 0,
            "evidence": _what_fails(frontier, claims),
        },
    ]


def claims_text(claims: Sequence[Mapping[str, Any]]) -> str:
    """What claims_in_words returns, as paragraphs."""
    paragraphs = []
    for claim in claims:
        verdict = "Yes." if claim["holds"] else "No."
        paragraphs += [
            f"  {claim['claim']}",
            textwrap.fill(
                f"{verdict} {claim['evidence']}", _WIDTH, initial_indent="    ", subsequent_indent="    "
            ),
        ]
    return "\n".join(paragraphs)


def _where_it_stops(frontier: Frontier, claims: Claims) -> str:
    lrs = frontier.lrs
    text = (
        f"Of {len(lrs):,} rates from {lrs[0]:g} to {lrs[-1]:g}, each has a smaller loss after "
        f"{frontier.epochs:,} epochs than the one before it, up to {claims.falls_up_to_rate:.5g}; "
        f"the smallest loss is {claims.best_loss:.3g}, with {claims.best_rate:.5g}."
    )
    if claims.fewest_epochs is None:
        return text + f" No rate comes within {TOLERANCE:g} of the smallest possible loss."
    return text + (
        f" Within {TOLERANCE:g} of the smallest possible loss ({frontier.smallest_loss:.3g}) end the rates "
        f"from {claims.converged_from:.5g} to {claims.converged_to:.5g}; {claims.fewest_epochs_rate:.5g} "
        f"gets there first, in epoch {claims.fewest_epochs}."
    )


def _what_fails(frontier: Frontier, claims: Claims) -> str:
    text = (
        "The loss never grows without bound: the outputs stay between 0 and 1, so E_total is at most "
        f"{frontier.largest_loss:.4g} (the largest final loss is {claims.largest_loss:.4g}). "
    )
    if claims.failing_from is None:
        return text + f"No rate above {claims.best_rate:.5g} stalls or oscillates."
    above = int((frontier.lrs > claims.best_rate).sum())
    always = claims.failing_always_from
    last = frontier.ending.loss[-1]
    looser = "; a tolerance looser than that would call it converged" if last < frontier.start_loss else ""
    return text + (
        f"But {claims.failing:,} of the {above:,} rates above {claims.best_rate:.5g} fail, the first at "
        f"{claims.failing_from:.5g}"
        + (f", all from {always:.5g} on" if always is not None else "")
        + f": the loss ends more than {TOLERANCE:g} above the smallest possible one, and either stalls "
        f"({frontier.epochs:,} epochs more would, by its gradient, bring it less than 1% closer: the "
        "sigmoids are saturated) or still oscillates. "
        f"With {frontier.lrs[-1]:g} the loss goes from {frontier.start_loss:.4g} to {last:.4g} and the "
        f"gradient to {frontier.ending.gradient[-1]:.2g}{looser}."
    )
