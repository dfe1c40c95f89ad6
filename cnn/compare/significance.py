"""Tests of the difference between two networks, over the seeds and over the images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Bool

LEVEL = 0.05


class OverSeeds(NamedTuple):
    """A paired t-test: the differences of the seeds that two runs share (Student 1908).

    Attributes:
      mean: of the differences, first minus second, as a fraction.
      interval: 95 % confidence interval of that mean.
      p: probability of a mean at least as far from 0 if the networks were equally good.
    """

    mean: float
    interval: tuple[float, float]
    p: float


class OverImages(NamedTuple):
    """McNemar's exact test (McNemar 1947): the images that exactly one of two networks gets right.

    Attributes:
      first, second: number of images that the first alone, the second alone classifies correctly.
      p: probability of a split at least as uneven if each image could go either way.
    """

    first: int
    second: int
    p: float


def over_seeds(first: Sequence[float], second: Sequence[float]) -> OverSeeds | None:
    """Return the test of the accuracies of the same seeds; None where there are fewer than two."""
    differences = np.subtract(first, second)
    if len(differences) < 2:
        return None
    mean = float(differences.mean())
    if not np.ptp(differences):  # the same difference every time
        return OverSeeds(mean, (mean, mean), 1.0 if mean == 0 else 0.0)
    test = scipy.stats.ttest_rel(first, second)
    low, high = map(float, test.confidence_interval(1 - LEVEL))
    return OverSeeds(mean, (low, high), float(test.pvalue))


def over_images(first: Bool[np.ndarray, " images"], second: Bool[np.ndarray, " images"]) -> OverImages:
    """Return the test of which of the same images two networks classify correctly."""
    alone, other = int((first & ~second).sum()), int((second & ~first).sum())
    p = float(scipy.stats.binomtest(alone, alone + other).pvalue) if alone + other else 1.0
    return OverImages(alone, other, p)
