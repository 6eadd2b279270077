"""The conclusion of each arm as a sentence, made from the interval, never by hand."""

from __future__ import annotations

from repfold.counted import counted
from repfold.study.metrics import METRICS, Metric
from repfold.study.results import ArmResult, Results
from repfold.study.study import Arm, Study


def sentences(results: Results) -> list[str]:
    """Return a sentence for each arm but the references."""
    return [sentence(arm, results.study) for arm in (*results.arms, *results.best) if not arm.arm.is_reference]


def outdated(results: Results) -> str:
    """Say how many trials are of older code."""
    return (
        f"{results.outdated} of the trials are of code that has changed since: they are what was found then, and "
        "running the study trains them again."
    )


def sentence(result: ArmResult, study: Study) -> str:
    """Return what can be said of the arm's claim: that it holds, does not, or that nobody can tell yet, and why."""
    found, metric = result.comparison, METRICS[study.metric]
    claim = _told(result.arm) or _claim(result, study, metric)
    if found.difference is None:
        return f"{claim}: cannot tell; no seed is finished with both.{_failures(result)}"
    difference = f"{found.difference:+.2f}{_unit(metric)}"
    if found.low is None or found.high is None:
        return f"{claim}: cannot tell; {difference} with one seed, and a spread takes two.{_failures(result)}"
    interval = f"{difference}, 95 % interval [{found.low:+.2f}, {found.high:+.2f}], n = {counted(found.n, 'seed')}"
    return f"{claim}: {found.verdict}. {interval}{_correction(result)}{_needed(result)}.{_failures(result)}"


def _told(arm: Arm) -> str:
    """The claim in the file's words, and which of the arms that share it this is."""
    which = arm.name.removeprefix(arm.group).lstrip(", ")
    return f"{arm.claim} ({which})" if arm.claim and which else arm.claim


def _claim(result: ArmResult, study: Study, metric: Metric) -> str:
    more = f" by more than {study.margin:g}{_unit(metric)}" if study.margin else ""
    return f"'{result.arm.name}' is better than '{result.arm.reference}' in {metric.title}{more}"


def _unit(metric: Metric) -> str:
    return " points" if metric.unit == "%" else f" {metric.unit}".rstrip()


def _correction(result: ArmResult) -> str:
    """Say so when the verdict does not survive that several arms were looked at."""
    decided = result.comparison.verdict != "cannot tell"
    if decided and result.holm is not None and result.holm >= 0.05:
        return f" (but looked at together with the other arms, p = {result.holm:.2g} after Holm's correction)"
    return ""


def _needed(result: ArmResult) -> str:
    found = result.comparison
    if found.verdict != "cannot tell":
        return ""
    if found.needed is None:
        return "; so small a difference would take more seeds than anybody trains"
    if found.needed <= found.n:
        return "; a few more seeds would decide"
    return f"; about {counted(found.needed, 'seed')} would decide"


def _failures(result: ArmResult) -> str:
    count = len(result.failed)
    if not count:
        return ""
    return f" {count} of its trials failed and {'are' if count > 1 else 'is'} left out, which flatters it."
