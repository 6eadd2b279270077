"""What each run's curves say, and which settings to change."""

from __future__ import annotations

from repfold.report.advice import advise
from repfold.report.markup import Markup, join, tag
from repfold.report.results import Report
from repfold.report.sections.one_by_one import one_by_one
from repfold.report.signs import Finding
from repfold.report.tables import Table as Rows
from repfold.report.tables import columns, to_html


def advice(report: Report) -> Markup | None:
    """Return the findings of each run; of several runs the first stands open. None while it is too early to tell."""
    advised = [(run.name, advise(run)) for run in report.runs]
    found = [
        (name, join(_finding(finding) for finding in findings))
        for name, findings in advised
        if findings[0].topic != "too-early"
    ]
    if not found:
        return None
    if len(report.runs) == 1:
        return found[0][1]
    return one_by_one(found, lambda findings: findings)


def _finding(finding: Finding) -> Markup:
    evidence = tag("p", " ".join(finding.evidence), class_="quiet")
    rows = tuple((tag("code", change.setting), change.now, change.then) for change in finding.changes)
    changes = to_html(Rows(columns("setting", "now", "try"), rows)) if rows else None
    return tag("div", tag("p", tag("strong", finding.says)), evidence, changes)
