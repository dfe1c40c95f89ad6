"""Each sentence of the report is held against the table that it is about, for networks drawn at random."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backprop.check import gradients
from backprop.config import BackpropConfig
from backprop.descent import TOLERANCE, explore, settle
from backprop.report import claims_in_words, gradients_text, precision_text
from backprop.shape import CLASSROOM, Shape
from backprop.task import descend_from_start, start

from .test_properties import OUTPUTS, cases, config_of, magnitudes, plain_descent

FAILS = ("stalled", "oscillating", "diverged")


def close(said, value):
    """Said with three digits or more."""
    return (said == "overflow" and np.isinf(value)) or float(said) == pytest.approx(value, rel=6e-3)


def rounding(losses):
    """Half of the digits of a loss, or the square of eight roundings of an output."""
    return 2.0**-26 * losses + (8 * 2.0**-52) ** 2


def fallen(losses):
    """Whether each loss is at most the smallest before it, but for rounding."""
    lowest = np.minimum.accumulate(losses)
    return bool((losses <= lowest + rounding(lowest)).all())


class Tables:
    """What a run writes: the listed rates' losses, and the frontier's columns."""

    def __init__(self, config, losses, frontier):
        self.lrs, losses = (np.array(table)[np.argsort(config.lrs)] for table in (config.lrs, losses))
        self.start, self.final = losses[0, 0], losses[:, -1]
        self.epochs, self.frontier_epochs = config.epochs, config.frontier_epochs
        self.rates, self.outcome = frontier.lrs, frontier.outcome
        self.loss, self.gradient, _, self.reached, self.margin = frontier.ending
        inputs, targets = np.array(config.inputs), np.array(config.targets)
        self.low, self.high = OUTPUTS[config.activation]
        if config.activation != "sigmoid" and not config.biases and not inputs.any():
            self.low = self.high = 0
        self.smallest = ((targets - np.clip(targets, self.low, self.high)) ** 2).sum() / 2
        self.largest = (np.maximum(abs(targets - self.low), abs(self.high - targets)) ** 2).sum() / 2
        self.best = int(self.loss.argmin())
        self.above = np.arange(len(self.rates)) > self.best
        self.failing = self.above & np.isin(self.outcome, FAILS)

    def at(self, said):
        """The row of a rate that a sentence names."""
        (row,) = np.flatnonzero(abs(self.rates / float(said) - 1) < 1e-4)
        return int(row)


def listed(t, holds, epochs, losses):
    pairs = [pair.split(" with ") for pair in losses.split(", ")]
    assert int(epochs) == t.epochs
    assert all(close(*both) for both in zip([loss for loss, _ in pairs], t.final, strict=True))
    assert all(close(*both) for both in zip([rate for _, rate in pairs], t.lrs, strict=True))
    if holds is not None:
        faster = (t.final < t.start).all() and (np.diff(t.final) < 0).all()
        assert holds == faster
        assert (t.final < t.start).any()


def alike(t, holds):
    assert holds is None
    assert (t.final < t.start).all()
    assert (t.final[1:] + rounding(t.final[1:]) >= t.final[:-1]).any()


def not_faster(t, holds, epochs, shown, first, last, start):
    assert holds is None
    assert int(epochs) == t.frontier_epochs
    assert close(first, t.loss[0])
    assert close(last, t.loss[-1])
    assert close(start, t.start)
    if shown == "does not fall with every rate":
        assert t.loss[0] >= t.start
    else:
        assert (t.loss >= t.start).all() or t.loss[-1] + rounding(t.loss[-1]) >= t.loss[0]


def falls_up_to(t, holds, epochs, up_to, smallest, best):
    assert int(epochs) == t.frontier_epochs
    assert holds == fallen(t.loss)
    assert t.loss.min() < t.start
    assert close(smallest, t.loss.min())
    assert t.at(best) == t.best
    if up_to is None:
        assert t.best == 0 or t.loss[1] >= t.loss[0]
    else:
        last = t.at(up_to)
        assert fallen(t.loss[: last + 1])
        assert t.loss[last] < t.loss[0]
        assert last == t.best or t.loss[last + 1] > t.loss[last]


def end_within(t, holds, smallest, some, first, last, epoch, rate):
    (rows,) = np.nonzero(t.outcome == "converged")
    assert (t.loss[rows] - t.smallest <= TOLERANCE + 1e-12).all()
    assert close(smallest, t.smallest)
    assert (t.at(first), t.at(last)) == (rows[0], rows[-1])
    assert bool(some) == (rows[-1] - rows[0] + 1 > len(rows))
    assert t.at(rate) in rows
    assert t.reached[t.at(rate)] == t.reached[rows].min() == int(epoch)


def none_within(t, holds):
    assert not (t.loss - t.smallest <= TOLERANCE).any()


def bounded(t, holds, bound, most, largest):
    low, high = {"0, as the inputs are": (0, 0)}.get(bound) or map(int, re.findall(r"-?\d", bound))
    assert (low, high) == (t.low, t.high)
    assert close(most, t.largest)
    assert close(largest, t.loss.max())
    assert t.loss.max() <= t.largest * (1 + 1e-9)


def unbounded(t, holds, number, of):
    assert t.high == math.inf
    assert (number.replace("none", "0"), of) == (str(np.isinf(t.loss).sum()), str(len(t.rates)))


def largest_is_best(t, holds, rate):
    assert holds is None
    assert t.at(rate) == t.best == len(t.rates) - 1
    assert (t.loss[:-1] > t.loss[-1]).all()


def none_fails(t, holds, rate):
    assert holds is False
    assert t.at(rate) == t.best
    assert not t.failing.any()
    assert t.above.any()


def fail(t, holds, failing, above, best, first, always, epochs, overflows):
    assert (int(failing), int(above)) == (t.failing.sum(), t.above.sum())
    assert t.at(best) == t.best
    assert t.at(first) == t.failing.argmax()
    if always is None:
        assert not t.failing[-1]
    else:
        assert t.failing[t.at(always) :].all()
        assert not t.failing[t.at(always) - 1]
    assert (t.loss[t.failing] - t.smallest > TOLERANCE).all()
    stalled = t.outcome == "stalled"
    assert int(epochs) == t.frontier_epochs
    with np.errstate(over="ignore"):
        next_fall = t.frontier_epochs * t.rates * t.gradient**2
    assert (next_fall[stalled] < 0.01 * (t.loss[stalled] - t.smallest)).all()
    assert bool(overflows) == np.isinf(t.loss).any()
    does_not = np.isin(t.outcome[: t.failing.argmax()], FAILS).all() and not np.isinf(t.loss).any()
    assert holds is (None if does_not else True)


def last_rate(t, holds, rate, start, loss, gradient, zero, saturated, looser):
    assert t.at(rate) == len(t.rates) - 1
    assert close(start, t.start)
    assert close(loss, t.loss[-1])
    assert float(gradient) == pytest.approx(t.gradient[-1], rel=0.06)
    assert bool(zero) == (t.gradient[-1] == 0)
    if saturated:
        assert t.outcome[-1] == "stalled"
        assert t.margin[-1] < 0.003
    if looser:
        assert t.failing[-1]
        assert t.loss[-1] < t.start


def overflows(t, holds, rate=None):
    assert np.isinf(t.loss[-1] if rate else t.loss).all()


def not_shown(t, holds):
    assert holds is None
    assert np.isin(t.outcome[: t.failing.argmax()], ("stalled", "oscillating")).all()


def one_rate(t, holds):
    assert holds is None
    assert len(t.lrs) == 1


def no_fall(t, holds, which):
    assert holds is None
    falls = t.final < t.start
    assert not (falls.any() if which == "any" else falls.all())


N = r"([-+.\w]+)"
SENTENCES = {
    r"One rate cannot be compared: give --lrs two or more\.": one_rate,
    r"Some end alike, but for rounding\.": alike,
    r"The loss does not fall with (each|any) of them\.": no_fall,
    rf"After {N} epochs? the loss is (.*)\.": listed,
    r"With each of \d+ rates from \S+ to \S+ the loss overflows\.": overflows,
    r"With \d+ rates from \S+ to \S+ the loss after (\d+) epochs? "
    r"(shows none to be faster|does not fall with every rate): "
    rf"it is {N} with the smallest and {N} with the largest, {N} at the start\.": not_faster,
    r"With \d+ rates from \S+ to \S+ the loss after (\d+) epochs? "
    rf"(?:falls as the rate grows, up to {N}|does not fall at first as the rate grows); "
    rf"the smallest is {N}, with {N}\.": falls_up_to,
    r"No rate ends within 1e-05 of the smallest possible loss\.": none_within,
    rf"Within 1e-05 of the smallest possible loss \({N}\) end (some of )?the rates from {N} to {N}, "
    rf"at the earliest in epoch (\d+), with {N}\.": end_within,
    r"The loss never grows without bound: "
    r"the outputs stay (between 0 and 1|between -1 and 1|0, as the inputs are), "
    rf"so E_total is at most {N} \(the largest final loss is {N}\)\.": bounded,
    r"ReLU's outputs have no upper bound, nor has E_total: "
    r"it overflows with (\w+) of (\d+) rates\.": unbounded,
    rf"The largest rate tried, {N}, ends lowest: raise --frontier_max to see more\.": largest_is_best,
    rf"No rate above {N} stalls or oscillates\.": none_fails,
    rf"But (\d+) of the (\d+) rates above {N} fail, the first at {N}(?:, all from {N} on)?: "
    r"the loss ends more than 1e-05 above the smallest possible one, and either stalls "
    r"\((\d+) epochs? more would, by its gradient, bring it less than 1% closer\) "
    r"or still oscillates( or overflows)?\.": fail,
    rf"With {N} the loss goes from {N} to {N} and the gradient to {N}( in float\d\d)?"
    r"(: the outputs are saturated)?(; a tolerance looser than that would call it converged)?\.": last_rate,
    rf"With {N} the loss overflows\.": overflows,
    r"All smaller rates stall or oscillate, too: that the rate is too large is not shown\.": not_shown,
}


def check(words, tables):
    for claim in words:
        for sentence in re.split(r"(?<=\.) (?=[A-Z])", re.sub(r"(?<=\d),(?=\d{3})", "", claim["evidence"])):
            found = [
                (check, match.groups())
                for pattern, check in SENTENCES.items()
                if (match := re.fullmatch(pattern, sentence))
            ]
            assert len(found) == 1, sentence
            ((check, groups),) = found
            try:
                check(tables, claim["holds"], *groups)
            except AssertionError as error:
                raise AssertionError(f"{claim['holds']}: {sentence}\n{vars(tables)}") from error


SHAPES = [CLASSROOM, Shape(1, 1, 1, biases=True)]  # few: each is compiled
SHAPES += [Shape(2, 3, 2, "tanh", biases=True), Shape(3, 1, 2, "relu", biases=True)]
numbers = st.one_of(st.just(0.0), st.floats(-2, 2, width=16), st.floats(-60, 60, width=16))


def run(shape, weights, example, lrs, frontier_lrs, epochs):
    flags = {"lrs": tuple(lrs), "epochs": epochs, "frontier_epochs": epochs}
    config = config_of(shape, weights, example, **flags)
    with jax.enable_x64(True):
        losses = descend_from_start(config)[:, :, config.shape.columns.index("E_total")]
        frontier = explore(jnp.asarray(frontier_lrs), *start(config), epochs, shape)
    words = claims_in_words(config.lrs, losses, frontier, settle(frontier), shape)
    return words, Tables(config, losses, frontier)


powers = st.floats(-3, 5)


@settings(max_examples=60)
@given(
    cases(st.sampled_from(SHAPES), numbers),
    st.lists(powers, min_size=3, max_size=3, unique_by=lambda power: round(power, 2)),
    st.one_of(st.tuples(powers, powers), st.just((-17.0, -14.0)), st.just((0.0, 12.0))),
)
def test_each_sentence_is_true_of_its_table(case, listed, ends):
    first, last = sorted(ends)
    frontier_lrs = np.geomspace(10**first, max(10**last, 1.1 * 10**first), 12)
    check(*run(*case, [10**power for power in listed], frontier_lrs, epochs=40))


def test_the_earliest_epoch_is_of_a_rate_that_converges():
    """The README's second network: 36.322 passes through the tolerance in epoch 1, and stalls at 0.125."""
    shape = Shape(3, 4, 1, "tanh", biases=True)
    config = BackpropConfig(
        inputs=(0.1, 0.2, 0.3), hidden=4, outputs=1, targets=(0.5,), activation="tanh", biases=True
    )
    weights, example = list(config.start.values()), [0.1, 0.2, 0.3, 0.5]
    words, tables = run(shape, weights, example, [0.1], np.array([1e-3, 0.1, 1.0, 36.322]), epochs=1000)
    check(words, tables)
    assert tables.outcome[-1] == "stalled"
    epoch, rate = re.search(r"at the earliest in epoch (\d+), with ([\d.]+)", words[1]["evidence"]).groups()
    losses, *_ = plain_descent(shape, weights, example, float(rate), 1000)
    assert (losses[int(epoch) :] <= TOLERANCE).all()
    assert losses[int(epoch) - 1] > TOLERANCE


@settings(max_examples=25)
@given(cases(st.sampled_from(SHAPES), magnitudes(6)))
def test_what_is_said_of_digits_is_true_of_the_numbers(case):
    shape, weights, example = case
    with jax.enable_x64(True):
        w, e = tuple(map(jnp.asarray, weights)), tuple(map(jnp.asarray, example))
        found = gradients(w, e, shape)
        words, text = precision_text(w, e, found, shape).replace("\n", " "), gradients_text(found, shape)
    by_hand, autodiff, differences = np.array(found)
    said = re.findall(r"Largest difference from jax.grad: (\S+) by hand, (\S+) by differences", text)[0]
    for number, way in zip(said, (by_hand, differences), strict=True):
        assert float(number) == pytest.approx(abs(way - autodiff).max(), rel=0.06, nan_ok=True)
    named = dict(zip(shape.weight_names, autodiff, strict=True))
    for limit, names in re.findall(r"Below the error of differences, about (\S+): ([^.]*)\.", words):
        below = {name for name, slope in named.items() if 0 < abs(slope) < float(limit)}
        assert set(names.replace("dE/d", "").split(", ")) ^ below <= {
            name for name, slope in named.items() if abs(slope) == pytest.approx(float(limit), rel=0.6)
        }
    slopes = {"sigmoid": lambda h: np.cosh(h / 2) ** -2 / 4, "tanh": lambda h: np.cosh(h) ** -2}
    to_hidden = np.array(weights[: shape.inputs * shape.hidden]).reshape(shape.hidden, shape.inputs)
    biases = weights[to_hidden.size :][: shape.hidden] if shape.biases else 0
    sums = to_hidden @ example[: shape.inputs] + biases
    for number, said_slope in re.findall(r"da_h\d/dh(\d) is (\d\S*)", words):
        h = sums[int(number) - 1]
        assert float(said_slope) == pytest.approx(slopes[shape.activation](h), rel=1e-2, abs=1e-320)
    lost = {"sigmoid": sums > 40, "tanh": abs(sums) > 20, "relu": sums > math.inf}[shape.activation]
    assert all(f"da_h{number}/dh{number} is" in words for number in np.flatnonzero(lost) + 1)
