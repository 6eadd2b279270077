"""Which classes are taken for which: the confusion matrix, the worst pairs and the weakest classes, arm by arm."""

from __future__ import annotations

from repfold.report import wording
from repfold.report.arms import Arm
from repfold.report.confusion import Confusion, class_scores, total, worst_pairs
from repfold.report.heatmap import FEW, heatmap, legend, shortened
from repfold.report.markup import Markup, join, tag
from repfold.report.results import Report
from repfold.report.sections.one_by_one import one_by_one
from repfold.report.tables import Column, Table, bar, to_html

_MOST = 10
_LONGEST = 40  # characters of a class's name in the tables


def mistakes(report: Report) -> Markup | None:
    """Return the confusion of each arm, summed over its runs; only the first of several stands open."""
    shown = [(arm, found) for arm in report.arms if (found := _of(arm)) is not None]
    if not shown:
        return None
    if len(report.arms) == 1:
        return _confusion(*shown[0])
    return one_by_one([(arm.title, (arm, found)) for arm, found in shown], lambda one: _confusion(*one))


def _of(arm: Arm) -> Confusion | None:
    return total([run.confusion for run in arm.runs if run.confusion is not None])


def _confusion(arm: Arm, confusion: Confusion) -> Markup:
    counted = sum(run.confusion is not None for run in arm.runs)
    images = wording.count(confusion.matrix_TP.sum())
    what = f"{images} {'image' if images == '1' else 'images'} of {len(confusion.classes)} classes, at the best epoch"
    of = f"{what}, summed over {counted} runs." if counted > 1 else f"{what}."
    tables = tag("div", _pairs(confusion), _classes(confusion), class_="beside")
    matrix = tag("div", heatmap(confusion), class_="scroll", tabindex=0, role="region", aria_label="Confusion matrix")
    return join([tag("p", of, class_="quiet"), tag("div", tag("div", matrix, legend()), tables, class_="confusion")])


def _pairs(confusion: Confusion) -> Markup:
    pairs = worst_pairs(confusion, _MOST)
    if not pairs:
        return tag("p", "No image was taken for another class.", class_="quiet")
    rows = tuple(
        (_short(pair.true), _short(pair.predicted), str(pair.images), bar(pair.share, wording.share(pair.share)))
        for pair in pairs
    )
    heads = (Column("true"), Column("predicted"), Column("images", True), Column("of the class", True))
    return to_html(Table(heads, rows, "Worst-confused pairs"))


def _classes(confusion: Confusion) -> Markup:
    scores = class_scores(confusion)
    few = len(scores) <= FEW
    rows = tuple(
        (_short(score.name), str(score.images), _percent(score.recall), _percent(score.precision))
        for score in (scores if few else scores[:_MOST])
    )
    title = "Classes, the weakest first" if few else f"The {_MOST} weakest of {len(scores)} classes"
    heads = (Column("class"), Column("images", True), Column("recall, %", True), Column("precision, %", True))
    return to_html(Table(heads, rows, title))


def _short(name: str) -> str:
    return shortened(name, _LONGEST)


def _percent(value: float | None) -> str:
    return wording.ABSENT if value is None else bar(value / 100, f"{value:.1f}")
