"""The task --task=compare: two runs evaluated on the same images, and tested."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from cnn import devices, train
from cnn.compare import significance
from cnn.compare.config import CompareConfig
from cnn.config import CnnConfig
from cnn.data import Examples
from cnn.experiment import resolve
from cnn.results import state_of
from cnn.task import experiment_of, load
from harness.errors import require


class _Evaluated(NamedTuple):
    """A run as it did on the test images.

    Attributes:
      test: the images, and their labels.
      correct: for each of its seeds, which images it classified correctly.
    """

    name: str
    test: Examples
    correct: dict[int, Bool[np.ndarray, " images"]]


def run(config: CompareConfig) -> None:
    """Print how two runs did, and whether they differ by more than chance.

    Raises:
      UserError: a folder without a finished run, runs of different data sets, no seed in common.
    """
    devices.start(resolve(CnnConfig()))
    first = _evaluate("workdir", str(config.workdir))
    second = _evaluate("against", str(config.against))
    require(
        all(map(np.array_equal, first.test, second.test)),
        f"--workdir={config.workdir} and --against={config.against} were tested on different images: "
        "compare runs of one data set",
    )
    seeds = sorted(first.correct.keys() & second.correct.keys())
    require(
        bool(seeds),
        f"--workdir has the seeds {_listed(first)}, --against has {_listed(second)}: "
        "train the second one with --seed and --num_seeds of the first",
    )
    print(_report(first, second, seeds))


def _evaluate(flag: str, folder: str) -> _Evaluated:
    require(
        (Path(folder).expanduser() / "config.json").exists(),
        f"--{flag}={folder} holds no run: name the folder of a run of --task=mnist",
    )
    run, result = load(experiment_of(folder))
    require(
        not result.learning_rates,
        f"--{flag}={folder} holds a run of several learning rates: compare runs of one each",
    )
    test = run.splits["test"]
    correct = {}
    for index, seed in enumerate(result.seeds):
        logits = train.evaluate(state_of(result, index), test, config=run.config).logits
        correct[int(seed)] = logits.argmax(-1) == test.labels
    return _Evaluated(run.experiment.name, test, correct)


def _listed(run: _Evaluated) -> str:
    return ", ".join(map(str, sorted(run.correct)))


def _report(first: _Evaluated, second: _Evaluated, seeds: list[int]) -> str:
    """Return a row a seed with McNemar's test, then the test over the seeds and what follows from them."""
    names = [first.name, second.name]
    if names[0] == names[1]:
        names = [f"{names[0]} ({flag})" for flag in ("workdir", "against")]
    accuracies = [[run.correct[seed].mean() for seed in seeds] for run in (first, second)]
    lines = [f"{'seed':>6}{names[0]:>28}{names[1]:>28}{'right alone':>16}{'McNemar p':>12}"]
    tests = [significance.over_images(first.correct[seed], second.correct[seed]) for seed in seeds]
    for seed, one, other, images in zip(seeds, *accuracies, tests, strict=True):
        alone = f"{images.first} : {images.second}"
        lines.append(f"{seed:>6}{one:>28.2%}{other:>28.2%}{alone:>16}{images.p:>12.3g}")
    lines.append(f"{'mean':>6}{np.mean(accuracies[0]):>28.3%}{np.mean(accuracies[1]):>28.3%}")
    over_seeds = significance.over_seeds(*accuracies)
    if over_seeds is None:
        p, what = tests[0].p, "McNemar's test on the images of one seed (more seeds would say more)"
    else:
        low, high = over_seeds.interval
        lines.append(
            f"\ndifference {over_seeds.mean:+.3%}, 95 % interval {low:+.3%} to {high:+.3%} "
            f"(paired t-test over {len(seeds)} seeds, p = {over_seeds.p:.3g})"
        )
        p, what = over_seeds.p, "the paired test over the seeds"
    if p < significance.LEVEL:
        better = names[int(np.mean(accuracies[1]) > np.mean(accuracies[0]))]
        lines.append(f"{better} is better: significant at 5 %, by {what}")
    else:
        lines.append(f"no significant difference at 5 %, by {what}")
    return "\n".join(lines)
