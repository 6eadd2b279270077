"""The certificate of the fold: how exactly each region was folded, what that saved, and what was left and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from repfold.counted import counted
from repfold.report import wording
from repfold.report.markup import Markup, join, tag
from repfold.report.numbers import finite, number
from repfold.report.records import Run
from repfold.report.results import Report
from repfold.report.sections.one_by_one import one_by_one
from repfold.report.tables import Column, Table, bar, to_html

_SAVED = {"parameters": "parameters", "multiply_adds": "multiply-adds"}
# A table of more regions than this is folded away: the head line states the largest error.
_OPEN = 30


def proof(report: Report) -> Markup | None:
    """Return the certificate of each run that has one."""
    certified = [run for run in report.runs if run.certificate]
    if not certified:
        return None
    if len(report.runs) == 1:
        return _certificate(certified[0].certificate or {})
    named = [(run.name, run.certificate or {}) for run in certified]
    each = one_by_one(named, _certificate, open_first=False)
    return join([_overview(certified), tag("details", tag("summary", "The regions, run by run"), each, class_="bulky")])


def _overview(runs: Sequence[Run]) -> Markup:
    heads = (
        Column("run"),
        *(Column(text, True) for text in ("relative error", "regions folded", "left as found")),
        *(Column(f"{name} saved", True) for name in _SAVED.values()),
    )
    rows = []
    for run in runs:
        certificate = run.certificate or {}
        regions = entries(certificate, "regions")
        error = wording.scientific(number(certificate.get("error")))
        counts = str(len(regions)), str(len(entries(certificate, "left")))
        sums = [_sum(regions, key) for key in _SAVED]
        rows.append((run.name, error, *counts, *(wording.large(pair[0] - pair[1]) for pair in sums)))
    return to_html(Table(heads, tuple(rows), "The folded networks against their training forms"))


def _sum(regions: Sequence[Mapping[str, Any]], key: str) -> tuple[float, float]:
    """Return a cost before and after, summed over the regions that have it."""
    pairs = [pair for region in regions if (pair := before_after(region.get(key)))]
    return sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)


def entries(certificate: Mapping[str, object], key: str) -> list[Mapping[str, Any]]:
    """Return a certificate's list under ``key``, without what is no object."""
    found = certificate.get(key)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _certificate(certificate: Mapping[str, object]) -> Markup:
    regions, left = entries(certificate, "regions"), entries(certificate, "left")
    return join([_sentence(certificate, regions, left), _regions(regions), _left(left)])


def _sentence(
    certificate: Mapping[str, object], regions: Sequence[Mapping[str, Any]], left: Sequence[Mapping[str, Any]]
) -> Markup:
    error, absolute = number(certificate.get("error")), number(certificate.get("absolute_error"))
    words = [
        f"On the same input the folded network's output differs from the training form's by at most "
        f"{wording.scientific(error)} of its largest value"
    ]
    words.append(f" ({wording.scientific(absolute)} absolute)" if absolute is not None else "")
    words.append(f", computed in {certificate['dtype']}" if certificate.get("dtype") else "")
    words.append(f". {counted(len(regions), 'region')} folded")
    words.append(f", {len(left)} left as found. " if left else ", nothing left. ")
    for key, name in _SAVED.items():
        before, after = _sum(regions, key)
        if before:
            change = f"{wording.large(before)} to {wording.large(after)}{_change(before, after)}"
            words.append(f"The folded regions' {name} went from {change}. ")
    return tag("p", *words)


def _regions(regions: Sequence[Mapping[str, Any]]) -> Markup | None:
    if not regions:
        return None
    saved = [key for key in _SAVED if any(before_after(region.get(key)) for region in regions)]
    worst = max((value for region in regions if finite(value := number(region.get("error")))), default=0.0)
    heads = (
        Column("region"),
        Column("relative error", True),
        *(Column(text, True) for key in saved for text in (f"{_SAVED[key]}, before", "after", "change")),
    )
    rows = tuple(
        (
            tag("code", str(region.get("name", "?"))),
            _error(region, worst),
            *(c for key in saved for c in _saved(region, key)),
        )
        for region in regions
    )
    table = to_html(Table(heads, rows, "Folded regions: errors on random input, relative to the largest output"))
    if len(regions) <= _OPEN:
        return table
    return tag(
        "details", tag("summary", f"{len(regions)} folded regions, largest error {wording.scientific(worst)}"), table
    )


def _error(region: Mapping[str, object], worst: float) -> str:
    value = number(region.get("error"))
    text = wording.scientific(value)
    if not finite(value):
        return text
    return bar(0.0 if value <= 0 or worst <= 0 else value / worst, text)


def _saved(region: Mapping[str, object], key: str) -> tuple[str, str, str]:
    pair = before_after(region.get(key))
    if pair is None:
        return (wording.ABSENT,) * 3
    return wording.large(pair[0]), wording.large(pair[1]), _change(*pair).removeprefix(" (").removesuffix(")")


def before_after(value: object) -> tuple[float, float] | None:
    """Return a pair of a cost before and after the fold, ``None`` when it is not one."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    before, after = number(value[0]), number(value[1])
    return (before, after) if finite(before) and finite(after) else None


def _left(left: Sequence[Mapping[str, Any]]) -> Markup | None:
    if not left:
        return None
    rows = tuple((tag("code", str(one.get("name", "?"))), str(one.get("reason", ""))) for one in left)
    return to_html(Table((Column("left as found"), Column("why")), rows, "What was not folded"))


def _change(before: float, after: float) -> str:
    """Write the change from before to after: (−12.3 %); nothing when there was nothing before."""
    if not before or not math.isfinite(after / before):
        return ""
    change = 100 * (after / before - 1)
    return " (±0 %)" if abs(change) < 0.05 else f" ({'+' if change > 0 else '−'}{abs(change):.1f} %)"
