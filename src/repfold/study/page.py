"""The page of a study: one HTML file with conclusions, table, curves, what it cost, and where it is from."""

from __future__ import annotations

import json
from collections.abc import Sequence

from repfold.report.arms import Arm
from repfold.report.chart_svg import swatch
from repfold.report.document import document
from repfold.report.markup import Markup, join, tag
from repfold.report.numbers import number, rounded
from repfold.report.records import Run
from repfold.report.scatter import Spot, scatter
from repfold.report.sections.curves import figures, training_charts
from repfold.report.tables import Column, Table, to_html
from repfold.study import table
from repfold.study.metrics import METRICS
from repfold.study.provenance import provenance
from repfold.study.results import ArmResult, Results
from repfold.study.results import Run as FinishedRun
from repfold.study.sentences import outdated, sentences
from repfold.study.table import Latency

_SINGLE_RUNS = {"Top-1 accuracy": "val_top1", "Top-5 accuracy": "val_top5"}
_MOST_POINTS = 400_000  # of single runs, which would outweigh the page


def page(results: Results, latency: Latency, command: str) -> Markup:
    """Return the whole page. ``command``: what to type to run what is missing, or failed."""
    sections = {
        "Conclusions": _conclusions(results),
        "Table": _table(results, latency),
        "Curves": _curves(results),
        "Accuracy and its cost": _costs(results, latency),
        "Failed trials": _failures(results, command),
        "Published figures": _published(results),
        "How this was made": _made(results, command),
    }
    shown = [(title.lower().replace(" ", "-"), title, body) for title, body in sections.items() if body]
    links = [tag("a", title, href=f"#{name}") for name, title, _ in shown]
    study = results.study
    about = " · ".join(
        part
        for part in (
            f"study {study.name}",
            f"scale {study.scale}" if study.scale else "",
            study.about,
            f"{results.finished} of {results.total} trials finished",
        )
        if part
    )
    return document(
        study.title,
        tag("header", tag("h1", study.title), tag("p", about, class_="subtitle"), tag("nav", *links)),
        tag("main", *(tag("section", tag("h2", title), inside, id=name) for name, title, inside in shown)),
        scripts=("page.js", "study.js"),
    )


def _conclusions(results: Results) -> Markup | None:
    lines = [tag("li", text) for text in sentences(results)]
    missing = results.total - results.finished
    notes = [f"{missing} trials are not finished yet: these are conclusions half-way."] * bool(missing)
    notes += [outdated(results)] * bool(results.outdated)
    return join([tag("ul", *lines, class_="conclusions"), *(tag("p", note) for note in notes)])


def _table(results: Results, latency: Latency) -> Markup:
    used = table.columns(results, latency)
    rows = []
    for style, row in enumerate(table.rows(results, latency)):
        cells = [column.text(row) for column in used]
        if style < len(results.arms):
            cells[0] = tag("span", swatch(style), " ", cells[0], class_="named")
        rows.append(tuple(cells))
    heads = tuple(Column(column.title, column.number) for column in used)
    every = (*results.arms, *results.best)
    marked = frozenset(index for index, arm in enumerate(every) if arm.arm.is_reference)
    metric = METRICS[results.study.metric]
    which = "the last epoch" if results.study.epoch == "last" else "the best epoch, which is flattering"
    explained = (
        f"{metric.title.capitalize()} of {which}, in float32, on validation images that no seed redraws; mean ± "
        "standard deviation over n seeds. The difference is to the reference, seed by seed; the interval is Student's "
        "t; P(better) is the probability that the arm is better, the differences being normal; p is of the paired "
        "test, corrected for the number of arms (Holm). A column's title sorts by it."
    )
    if results.best:
        explained += " The best values of an arm are chosen for each seed by the other seeds."
    written = tag("div", to_html(Table(heads, tuple(rows), marked=marked)), class_="sortable")
    return join([written, tag("p", explained, class_="quiet")])


def _arms(results: Results) -> list[Arm]:
    return [
        Arm(result.arm.name, tuple(map(_for_report, result.runs)), style)
        for style, result in enumerate(results.arms)
        if result.runs
    ]


def _for_report(run: FinishedRun) -> Run:
    return Run(run.directory, run.directory.name, run.epochs)


def _curves(results: Results) -> Markup | None:
    arms = _arms(results)
    charts = training_charts(arms) if arms else []
    if not charts:
        return None
    singles = {}
    points = sum(len(run.epochs) for arm in arms for run in arm.runs)
    for index, chart in enumerate(charts):
        key = _SINGLE_RUNS.get(chart.title)
        if key is not None and points <= _MOST_POINTS:
            singles[f"chart-{index}"] = {
                arm.style: [rounded([number(epoch.get(key)) for epoch in run.epochs]) for run in arm.runs]
                for arm in arms
                if arm.n > 1
            }
    written = json.dumps(singles, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    data = tag("script", Markup(written), type="application/json", class_="runs")
    return join([figures(arms, charts), data])


def _costs(results: Results, latency: Latency) -> Markup | None:
    metric = METRICS[results.study.metric]
    times, delays = [], []
    for style, result in enumerate(results.arms):
        if result.mean is None:
            continue
        if result.seconds:
            times.append(Spot(result.arm.name, result.seconds / 60, result.mean, style))
        if result.arm.name in latency:
            delays.append(Spot(result.arm.name, latency[result.arm.name], result.mean, style))
    title = metric.title.capitalize() + (f", {metric.unit}" if metric.unit else "")
    drawn = [
        scatter(f"{title} over {over}", spots, x_label=label, higher=metric.higher)
        for over, label, spots in (
            ("training time", "minutes a run (median)", times),
            ("the folded network's latency", "ms an image, PyTorch, one thread", delays),
        )
        if spots
    ]
    if not drawn:
        return None
    words = "Dashed: the Pareto front, of the arms than which none is both cheaper and better."
    return join([tag("div", *drawn, class_="charts"), tag("p", words, class_="quiet")])


def _failures(results: Results, command: str) -> Markup | None:
    rows = [
        (trial.label, failure.error, tag("code", failure.command))
        for result in results.arms
        for trial, failure in result.failed
    ]
    if not rows:
        return None
    again = tag("p", "All of them are tried again by: ", tag("code", command)) if command else None
    heads = (Column("trial"), Column("error"), Column("to see it fail alone"))
    return join([to_html(Table(heads, tuple(rows))), again])


def _published(results: Results) -> Markup | None:
    known = {arm.arm.name: arm for arm in results.arms} | {arm.arm.group: arm for arm in reversed(results.arms)}
    rows = [
        (
            one.arm,
            METRICS[one.metric].title if one.metric in METRICS else one.metric,
            table.spread(one.value, one.std),
            _ours(known.get(one.arm), one.metric, results),
            one.source,
            one.differs,
        )
        for one in results.study.published
    ]
    heads = (
        Column("arm"),
        Column("quantity"),
        Column("published", True),
        Column("here", True),
        Column("source"),
        Column("what differs"),
    )
    return to_html(Table(heads, tuple(rows))) if rows else None


def _ours(result: ArmResult | None, metric: str, results: Results) -> str:
    same = result is not None and metric == results.study.metric
    return table.spread(result.mean, result.std) if result is not None and same else ""


def _made(results: Results, command: str) -> Markup:
    lines: Sequence[Markup] = [tag("li", text) for text in provenance(results)]
    asked = tag("p", "Run it, or what is missing of it, with: ", tag("code", command)) if command else None
    return join([asked, tag("ul", *lines)])
