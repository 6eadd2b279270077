"""The statistics against SciPy's, and by simulation: what is called 95 % is so."""

import math

import numpy as np
import pytest
from scipy import stats

from repfold.study import student
from repfold.study.comparison import compare, holm, seeds_needed, verdict_of


@pytest.mark.parametrize("df", [1, 2, 3, 4, 9, 29, 99, 999, 9999])
def test_quantiles_are_scipys(df):
    for p in (1e-6, 0.025, 0.2, 0.5, 0.8, 0.9, 0.975, 0.995, 0.99999):
        assert student.quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("df", [1, 2, 5, 30, 1000])
def test_tails_are_scipys(df):
    for t in (-50.0, -3.0, -1e-3, 0.0, 0.3, 2.0, 12.0, 200.0):
        assert student.cdf(t, df) == pytest.approx(stats.t.cdf(t, df), rel=1e-10, abs=1e-14)
        assert student.survival(t, df) == pytest.approx(stats.t.sf(t, df), rel=1e-10, abs=1e-300)


def test_the_paired_test_is_scipys():
    random = np.random.default_rng(1)
    for n in (2, 3, 5, 10, 40):
        reference = random.normal(60, 2, n)
        arm = reference + random.normal(1, 1.5, n)
        ours, theirs = compare(list(arm - reference)), stats.ttest_rel(arm, reference)
        interval = theirs.confidence_interval(0.95)
        assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), rel=1e-10)
        assert ours.p == pytest.approx(theirs.pvalue, rel=1e-10)
        assert ours.better == pytest.approx(stats.ttest_rel(arm, reference, alternative="greater").pvalue * -1 + 1)


def test_the_bootstrap_is_that_of_all_resamples():
    """Of four values there are 256 resamples, each as likely."""
    values = [0.3, -1.2, 2.5, 0.9]
    means = np.array([np.mean([a, b, c, d]) for a in values for b in values for c in values for d in values])
    exact = np.quantile(means, [0.025, 0.975])
    assert compare(values).bootstrap == pytest.approx(exact, abs=0.06)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.6, 0.9]) == [1.0, 1.0]


def test_the_interval_covers_the_truth_in_95_of_100_studies():
    random = np.random.default_rng(0)
    for n in (3, 5):
        covered = 0
        for differences in random.normal(0.7, 2.0, (2000, n)):
            found = student.quantile(0.975, n - 1) * differences.std(ddof=1) / math.sqrt(n)
            covered += abs(differences.mean() - 0.7) <= found
        assert covered / 2000 == pytest.approx(0.95, abs=0.015)


def test_holm_errs_in_5_of_100_studies_at_most():
    """Nine arms, none of which differs from the reference, whose runs all of them share."""
    random, wrong = np.random.default_rng(3), 0
    for _ in range(1000):
        runs = random.normal(60, 2, (10, 5))
        differences = runs[1:] - runs[0]
        p = 2 * stats.t.sf(np.abs(differences.mean(1)) / (differences.std(1, ddof=1) / math.sqrt(5)), 4)
        wrong += min(holm(list(p))) < 0.05
    assert wrong / 1000 <= 0.05 + 0.015


def test_so_many_seeds_decide_in_four_of_five_studies():
    for effect in (0.3, 0.6, 1.0, 2.0):
        n = seeds_needed(effect, 1.0)
        power = [_power(effect, count) for count in (n - 1, n, n + 1)]
        assert power[0] < 0.8 + 0.03 and power[2] > 0.8 - 0.005
    assert seeds_needed(0.0, 1.0) is None and seeds_needed(1e-4, 1.0) is None and seeds_needed(1.0, 0.0) == 2


def _power(effect, n):
    critical = stats.t.ppf(0.975, n - 1)
    return stats.nct.sf(critical, n - 1, effect * math.sqrt(n))


@pytest.mark.parametrize(
    ("differences", "sign", "margin", "verdict"),
    [
        ([4.47, 4.07, 8.33], 1, 0.0, "cannot tell"),
        ([4.47, 4.07, 8.33, 5.0, 5.2], 1, 0.0, "holds"),
        ([4.47, 4.07, 8.33, 5.0, 5.2], 1, 3.5, "cannot tell"),
        ([4.47, 4.07, 8.33, 5.0, 5.2], 1, 9.0, "does not"),
        ([4.47, 4.07, 8.33, 5.0, 5.2], -1, 0.0, "does not"),
        ([-0.5, -0.51, -0.49], -1, 0.0, "holds"),
        ([0.0, 0.0, 0.0], 1, 0.0, "does not"),
        ([3.0], 1, 0.0, "cannot tell"),
        ([], 1, 0.0, "cannot tell"),
    ],
)
def test_verdicts(differences, sign, margin, verdict):
    assert compare(differences, sign=sign, margin=margin).verdict == verdict


def test_the_verdict_is_of_the_interval_alone():
    assert (verdict_of(0.1, 2), verdict_of(-2, 0), verdict_of(-1, 1)) == ("holds", "does not", "cannot tell")
    assert (verdict_of(0.1, 2, sign=-1), verdict_of(-2, -0.1, sign=-1)) == ("does not", "holds")


def test_the_published_interval():
    """The warm-up study of three seeds: +5.62 points, 95 % interval [-0.22, 11.47]."""
    found = compare([4.47, 4.07, 8.33])
    assert [round(value, 2) for value in (found.difference, found.low, found.high)] == [5.62, -0.22, 11.47]
