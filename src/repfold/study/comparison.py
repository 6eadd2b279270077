"""What follows from the differences between two arms, seed by seed: intervals, tests, and the verdict on the claim."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from repfold.study import student

Verdict = Literal["holds", "does not", "cannot tell"]

LEVEL = 0.95
POWER = 0.8  # with which the number of seeds that would decide does so
_RESAMPLES = 20_000
_MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Comparison:
    """Of an arm with its reference, over the seeds that both were trained with.

    Attributes:
        n: seeds.
        difference: mean of arm - reference; None without a seed in common.
        low, high: of its 95 % interval, by Student's t; None for fewer than two seeds.
        bootstrap: the same by resampling the seeds.
        better: the probability that the arm is better, the differences being normal and nothing else known.
        p: of the two-sided paired t test.
        needed: with how many seeds the claim would be decided in four of five studies, were difference and spread those
            that were found; None where they tell nothing.
    """

    n: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    bootstrap: tuple[float, float] | None = None
    better: float | None = None
    p: float | None = None
    needed: int | None = None
    verdict: Verdict = "cannot tell"


def compare(differences: Sequence[float], *, sign: int = 1, margin: float = 0.0) -> Comparison:
    """Return what follows from paired ``differences`` (arm - reference) for "the arm is better by more than margin".

    ``sign``: 1 when more is better, -1 when less is. The claim holds when all of the interval is beyond the margin, it
    does not when none of it is, and else nobody can tell.
    """
    n = len(differences)
    if n == 0:
        return Comparison(0)
    mean = statistics.fmean(differences)
    if n == 1:
        return Comparison(1, mean)
    error = statistics.stdev(differences) / math.sqrt(n)
    half = student.quantile((1 + LEVEL) / 2, n - 1) * error
    low, high = mean - half, mean + half
    beyond = sign * mean - margin
    statistic = _ratio(beyond, error)
    return Comparison(
        n=n,
        difference=mean,
        low=low,
        high=high,
        bootstrap=bootstrap(differences),
        better=student.cdf(_ratio(sign * mean, error), n - 1),
        p=min(1.0, 2 * student.survival(abs(statistic), n - 1)),
        needed=seeds_needed(beyond, error * math.sqrt(n)),
        verdict=verdict_of(low, high, sign=sign, margin=margin),
    )


def _ratio(value: float, error: float) -> float:
    if error:
        return value / error
    return math.copysign(math.inf, value) if value else 0.0


def verdict_of(low: float, high: float, *, sign: int = 1, margin: float = 0.0) -> Verdict:
    """Return the verdict on "better by more than margin" from the interval of the difference alone."""
    worst, best = sorted((sign * low, sign * high))
    if worst > margin:
        return "holds"
    return "does not" if best <= margin else "cannot tell"


def bootstrap(differences: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean by the percentiles of its resamples (Efron 1979), the same at every call.

    With few seeds it is too narrow, which is why the verdict is of the other.
    """
    values_N = np.asarray(differences, dtype=np.float64)
    draws_RN = np.random.default_rng(0).integers(0, len(values_N), (_RESAMPLES, len(values_N)))
    low, high = np.quantile(values_N[draws_RN].mean(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def seeds_needed(difference: float, deviation: float) -> int | None:
    """Return the fewest seeds n with |difference|·√n / deviation >= t(97.5 %, n-1) + t(80 %, n-1).

    At so many the interval leaves the margin out in four of five studies. None when that takes more than 10,000.
    """
    if deviation == 0 or difference == 0:
        return None if difference == 0 else 2
    low, high = 1, 2
    while not _decides(high, abs(difference) / deviation):
        low, high = high, 2 * high
        if high > 2 * _MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _decides(middle, abs(difference) / deviation) else (middle, high)
    return high if high <= _MOST_SEEDS else None


def _decides(n: int, effect: float) -> bool:
    wanted = student.quantile((1 + LEVEL) / 2, n - 1) + student.quantile(POWER, n - 1)
    return effect * math.sqrt(n) >= wanted


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values corrected for their number (Holm 1979): all below 5 % are true together in 95 of 100 studies.

    Of m sorted p values the k-th becomes the largest of (m - j + 1)·p_j over j <= k, at most 1.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
