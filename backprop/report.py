"""A run in words: the terminal's lines, and the claims as sentences."""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from backprop.check import Gradients, Published, Slope, Verdict, lost_slopes
from backprop.descent import TOLERANCE, Claims, Frontier, epochs_in_words, larger_is_faster
from backprop.equations import EQUATIONS, evaluate, heading, named, steps
from backprop.network import Scalar, Scalars, total_error
from backprop.shape import CLASSROOM, Shape

_WIDTH = 100
_LONGEST = 125  # an equation longer than this goes on in the next line


def walk_through(weights: Scalars, example: Scalars, lr: float, shape: Shape = CLASSROOM) -> str:
    """Return the first update as a teacher would write it: step, equation, numbers put in, result."""
    values, lost = _steps_and_lost_slopes(weights, example, shape)
    saturated = {f"da_{h}_d{h}": slope for h, slope in lost.items()}
    lines = []
    for step, equations in steps(shape).items():
        lines += ["", f"Step {step}"]
        for name, text in equations.items():
            lines.append(_worked(name, text, values))
            if name in saturated:
                exact = _what_is_lost(saturated[name])
                lines.append(f"{'':14}Saturated beyond {weights[0].dtype}: the slope {exact}.")
    lines += ["", f"The update: w <- w - eta * dE/dw, with eta = {lr:g}"]
    updated = {w: values[w] - lr * values[f"dE_d{w}"] for w in shape.weight_names}
    for w in shape.weight_names:
        lines.append(_worked(w, f"{w} - {lr:g}*dE_d{w}", values | {w: updated[w]}, put_in=values))
    after = float(total_error(tuple(map(jnp.asarray, updated.values())), example, shape))
    lines.append(f"E_total was {values['E_total']:.6g} and is now {_loss(after, '.6g')}.")
    return "\n".join(lines[1:])


def _steps_and_lost_slopes(
    weights: Scalars, example: Scalars, shape: Shape
) -> tuple[dict[str, float], dict[str, Slope]]:
    values = jax.tree.map(float, _all_steps(weights, example, shape))
    return values, lost_slopes(values, shape, float(jnp.finfo(weights[0].dtype).eps))


def _what_is_lost(slope: Slope) -> str:
    exact = f"is {slope.exact:.3g}" if slope.exact else "is less than 1e-323"
    return f"{exact} (relative error {abs(slope.computed / slope.exact - 1) if slope.exact else 1:.2g})"


@partial(jax.jit, static_argnums=2)
def _all_steps(weights: Scalars, example: Scalars, shape: Shape) -> dict[str, Scalar]:
    values = named(weights, example, shape)
    for equations in steps(shape).values():
        values |= evaluate(equations, values)
    return values


def _worked(
    name: str, text: str, values: Mapping[str, float], put_in: Mapping[str, float] | None = None
) -> str:
    """name = equation = numbers = result; below each other where a line is too short for it."""
    given = put_in or values

    def number(word: re.Match[str]) -> str:
        if (name := word[0]) not in given:  # a function's
            return name
        return f"({given[name]:.6g})" if given[name] < 0 else f"{given[name]:.6g}"

    numbers = re.sub(r"[A-Za-z]\w*", number, text)
    parts = list(dict.fromkeys([heading(text), numbers, f"{values[name]:.6g}"]))
    start = f"  {heading(name):<10}= "
    line = start + " = ".join(parts)
    if len(line) <= _WIDTH:
        return line
    indent = " " * 14
    folded = [textwrap.fill(part, _LONGEST, subsequent_indent=indent) for part in parts]
    return start + f"\n{indent[2:]}= ".join(folded)


def finite(value: float | np.floating) -> float | np.floating | None:
    """The number, or None (JSON: null, CSV: empty) where it outgrew the floating-point numbers."""
    return value if math.isfinite(value) else None


def _loss(value: float | np.floating, digits: str) -> str:
    return format(value, digits) if math.isfinite(value) else "overflow"


def gradients_text(gradients: Gradients, shape: Shape = CLASSROOM) -> str:
    """Return the derivatives, found in three ways, side by side."""
    lines = [f"{'':10}{'by hand':>20}{'jax.grad':>20}{'finite difference':>20}"]
    for w, *three in zip(shape.weight_names, *gradients, strict=True):
        lines.append(f"  {heading(f'dE_d{w}'):<8}" + "".join(f"{float(value):>20.12g}" for value in three))
    by_hand, finite = gradient_differences(gradients)
    lines.append(
        f"Largest difference from jax.grad: {by_hand.max():.2g} by hand, {finite.max():.2g} by differences."
    )
    return "\n".join(lines)


def precision_text(weights: Scalars, example: Scalars, gradients: Gradients, shape: Shape = CLASSROOM) -> str:
    """Return where the agreement of the three ways shows nothing, and why; empty if nowhere."""
    values, lost = _steps_and_lost_slopes(weights, example, shape)
    # of central differences, for weights of about 1
    error = float(jnp.finfo(weights[0].dtype).eps) ** (2 / 3) * max(1.0, values["E_total"])
    paragraphs = []
    if lost:
        found = [f"{heading(f'da_{name}_d{name}')} {_what_is_lost(slope)}" for name, slope in lost.items()]
        paragraphs.append(
            f"Saturated beyond {weights[0].dtype}, which has too few digits for an activation so near its "
            f"limit: {', '.join(found)}. By hand and by jax.grad, each derivative that this enters has the "
            f"same error, and differences see nothing below about {error:.1g}: their agreement shows nothing."
        )
    reached = [
        f"{output.a} - {target}"
        for output, target in zip(shape.layers[1], shape.target_names, strict=True)
        if output.name in lost and values[output.a] == values[target]
    ]
    if reached:
        paragraphs.append(f"So {', '.join(reached)} is computed as 0, though no output reaches its limit.")
    kinks = [neuron.a for layer in shape.layers for neuron in layer if values[neuron.name] == 0]
    if kinks and shape.activation == "relu":
        paragraphs.append(
            f"At ReLU's kink: {', '.join(kinks)}. The slope is 0 below it and 1 above; by hand and by "
            "jax.grad it counts as 0, and differences find the mean of the two sides."
        )
    slopes = zip(shape.weight_names, map(float, gradients.autodiff), strict=True)
    small = [heading(f"dE_d{name}") for name, slope in slopes if 0 < abs(slope) < error]
    if small:
        paragraphs.append(f"Below the error of differences, about {error:.1g}: {', '.join(small)}.")
    return "\n".join(textwrap.fill(text, _WIDTH) for text in paragraphs)


def gradient_differences(gradients: Gradients) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance of each derivative by hand, and by finite difference, from autodiff's."""
    by_hand, autodiff, finite = (np.asarray(kind) for kind in gradients)
    return np.abs(by_hand - autodiff), np.abs(finite - autodiff)


def published_text(verdicts: Mapping[Published, Verdict]) -> str:
    """Return which published equations are wrong, by how much, and the right ones."""
    right = [equation for equation, verdict in verdicts.items() if not verdict.wrong]
    lines = [
        f"  {document}: {', '.join(heading(e.name) for e in right if e.document == document)}: right"
        for document in dict.fromkeys(equation.document for equation in right)
    ]
    for equation, verdict in verdicts.items():
        if verdict.wrong:
            note = " (the label is wrong, not the formula)" if equation.meant in verdict.fits else ""
            off = abs(verdict.printed - verdict.right)
            far = f"off by {off:.3g} ({off / abs(verdict.right):.2%})"
            if verdict.gradient_off:
                far += f", and a derivative of E_total by up to {verdict.gradient_off:.3g}"
            lines += [
                f"  document {equation.document}: WRONG  {heading(equation.name)} = {equation.text}",
                f"     gives  {verdict.printed:.6g}, autodiff {verdict.right:.6g}: {far}",
                f"     right  {heading(equation.meant)} = {EQUATIONS[equation.meant]}{note}",
            ]
    return "\n".join(lines)


def descents_text(lrs: Sequence[float], losses: Float[np.ndarray, "rate epoch"]) -> str:
    """Return the loss of each listed rate at the start and at the end."""
    after = f"after {epochs_in_words(losses.shape[1] - 1)}"
    lines = [f"{'learning rate':>15}{'loss at the start':>20}{after:>22}"]
    lines += [
        f"{lr:>15g}{_loss(loss[0], '.10g'):>20}{_loss(loss[-1], '.10g'):>22}"
        for lr, loss in zip(lrs, losses, strict=True)
    ]
    return "\n".join(lines)


def claims_in_words(
    lrs: Sequence[float],
    losses: Float[np.ndarray, "rate epoch"],
    frontier: Frontier,
    claims: Claims,
    shape: Shape = CLASSROOM,
) -> list[dict[str, Any]]:
    """Return each claim, True where it holds (None: the data do not show it), and the evidence."""
    order = np.argsort(lrs)
    start, final = float(losses[0, 0]), losses[order, -1]
    faster = larger_is_faster(start, final)
    why, falls = "", final < start
    if len(lrs) == 1:
        why = "One rate cannot be compared: give --lrs two or more. "
    elif faster is None and falls.all():
        why = "Some end alike, but for rounding. "
    elif faster is None:
        why = f"The loss does not fall with {'each' if falls.any() else 'any'} of them. "
    ends = (f"{_loss(loss, '.4g')} with {lrs[i]:g}" for i, loss in zip(order, final, strict=True))
    listed = f"{why}After {epochs_in_words(losses.shape[1] - 1)} the loss is {', '.join(ends)}."
    where_it_stops, what_fails = _where_it_stops(frontier, claims), _what_fails(frontier, claims, shape)
    judged = {
        "Over the listed rates, a larger learning rate converges faster.": (faster, listed),
        "A larger learning rate always converges faster.": (claims.faster, where_it_stops),
        "If the rate keeps growing, the loss might not converge at all.": (claims.fails, what_fails),
    }
    return [dict(claim=claim, holds=holds, evidence=why) for claim, (holds, why) in judged.items()]


def claims_text(claims: Sequence[Mapping[str, Any]]) -> str:
    """Return the claims of claims_in_words as paragraphs."""
    verdicts, lines = {True: "Yes.", False: "No.", None: "Not shown."}, []
    for claim in claims:
        evidence = textwrap.fill(f"{verdicts[claim['holds']]} {claim['evidence']}", _WIDTH - 4)
        lines += [f"  {claim['claim']}", textwrap.indent(evidence, "    ")]
    return "\n".join(lines)


def _where_it_stops(frontier: Frontier, claims: Claims) -> str:
    lrs, loss = frontier.lrs, frontier.ending.loss
    rates = f"{len(lrs):,} rates from {lrs[0]:g} to {lrs[-1]:g}"
    if claims.best_rate is None:
        return f"With each of {rates} the loss overflows."
    after = f"With {rates} the loss after {epochs_in_words(frontier.epochs)}"
    if claims.faster is None:
        first, last = (_loss(float(end), ".4g") for end in loss[[0, -1]])
        falls_with_some = loss[-1] < frontier.start_loss <= loss[0]
        shown = "does not fall with every rate" if falls_with_some else "shows none to be faster"
        return (
            f"{after} {shown}: it is {first} with the smallest and {last} with the largest, "
            f"{frontier.start_loss:.4g} at the start."
        )
    shown = "does not fall at first as the rate grows"
    if loss[lrs <= claims.falls_up_to_rate].min() < loss[0]:
        shown = f"falls as the rate grows, up to {claims.falls_up_to_rate:.5g}"
    text = f"{after} {shown}; the smallest is {claims.best_loss:.3g}, with {claims.best_rate:.5g}."
    if claims.converged_from is None:
        return text + f" No rate ends within {TOLERANCE:g} of the smallest possible loss."
    between = (lrs >= claims.converged_from) & (lrs <= claims.converged_to)
    some = "the rates" if claims.outcomes["converged"] == between.sum() else "some of the rates"
    return text + (
        f" Within {TOLERANCE:g} of the smallest possible loss ({frontier.smallest_loss:.3g}) end {some} "
        f"from {claims.converged_from:.5g} to {claims.converged_to:.5g}, "
        f"at the earliest in epoch {claims.fewest_epochs}, with {claims.fewest_epochs_rate:.5g}."
    )


_BOUND = {"sigmoid": "between 0 and 1", "tanh": "between -1 and 1"}
_SATURATED = 0.003  # of an output, so far from its limit: the slope is a hundredth of the largest


def _what_fails(frontier: Frontier, claims: Claims, shape: Shape) -> str:
    if math.isfinite(frontier.largest_loss):
        all_zero = frontier.smallest_loss == frontier.largest_loss
        bound = "0, as the inputs are" if all_zero else _BOUND[shape.activation]
        text = (
            f"The loss never grows without bound: the outputs stay {bound}, so E_total is "
            f"at most {frontier.largest_loss:.4g} (the largest final loss is {claims.largest_loss:.4g}). "
        )
    else:
        diverged = f"{claims.outcomes['diverged']:,}" if "diverged" in claims.outcomes else "none"
        text = (
            "ReLU's outputs have no upper bound, nor has E_total: it overflows with "
            f"{diverged} of {len(frontier.lrs):,} rates. "
        )
    if claims.best_rate is None:
        return text
    if claims.failing_from is None:
        best = f"{claims.best_rate:.5g}"
        if claims.fails is None:
            return text + f"The largest rate tried, {best}, ends lowest: raise --frontier_max to see more."
        return text + f"No rate above {best} stalls or oscillates."
    above = int((frontier.lrs > claims.best_rate).sum())
    always = claims.failing_always_from
    last = frontier.ending.loss[-1]
    all_fail = f", all from {always:.5g} on" if always is not None else ""
    overflows = " or overflows" if "diverged" in claims.outcomes else ""
    text += (
        f"But {claims.failing:,} of the {above:,} rates above {claims.best_rate:.5g} fail, the first at "
        f"{claims.failing_from:.5g}{all_fail}: the loss ends more than {TOLERANCE:g} above the smallest "
        f"possible one, and either stalls ({epochs_in_words(frontier.epochs)} more would, by its gradient, "
        f"bring it less than 1% closer) or still oscillates{overflows}. With {frontier.lrs[-1]:g} the loss "
    )
    if math.isfinite(last):
        gradient = frontier.ending.gradient[-1]
        text += f"goes from {frontier.start_loss:.4g} to {last:.4g} and the gradient to "
        text += _loss(float(gradient), ".2g") + (f" in {gradient.dtype}" if gradient == 0 else "")
        at_limits = shape.activation in _BOUND and frontier.ending.margin[-1] < _SATURATED
        if at_limits and frontier.outcome[-1] == "stalled":
            text += ": the outputs are saturated"
        if always is not None and last < frontier.start_loss:
            text += "; a tolerance looser than that would call it converged"
        text += "."
    else:
        text += "overflows."
    if claims.fails is None:
        text += " All smaller rates stall or oscillate, too: that the rate is too large is not shown."
    return text
