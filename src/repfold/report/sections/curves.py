"""The curves over the epochs: learning rate, accuracies, losses, and the speed of training; all arms overlaid."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from repfold import run_files
from repfold.report import wording
from repfold.report.arms import Arm, curve
from repfold.report.chart import Chart, Series, hover_data
from repfold.report.chart_svg import svg, swatch
from repfold.report.markup import Markup, join, tag
from repfold.report.numbers import Values, finite, number
from repfold.report.records import Run
from repfold.report.results import Report
from repfold.report.sections.one_by_one import DRAWN, left_out
from repfold.report.tables import Column, Table, to_html

_PERCENT = {"floor": 0.0, "ceiling": 100.0}
_TRAIN_AND_VAL = {False: "validation", True: "training"}
# Beyond this many rows the table of all numbers would outweigh the rest of the page.
_MOST_ROWS = 400
_WRITTEN: dict[str, tuple[str, Callable[[float | None], str]]] = {
    "lr": ("lr", wording.significant),
    "train_loss": ("train loss", wording.significant),
    "val_loss": ("val loss", wording.significant),
    "train_top1": ("train top-1", wording.percent),
    "val_top1": ("val top-1", wording.percent),
    "val_top5": ("top-5", wording.percent),
    "val_precision": ("precision", wording.percent),
    "val_recall": ("recall", wording.percent),
    "images_per_second": ("images/s", wording.count),
    "waiting_share": ("waiting", wording.share),
    "seconds": ("time", wording.seconds),
}


def curves(report: Report) -> Markup | None:
    """Return the charts, those without a value left out, and the table of every epoch."""
    drawn = report.arms[:DRAWN]
    charts = [*training_charts(drawn), *speed_charts(drawn)]
    more = left_out(len(report.arms), DRAWN)
    return join([more, figures(drawn, charts) if charts else None, every_epoch(report)])


def training_charts(arms: Sequence[Arm]) -> list[Chart]:
    """Return the charts of learning rate, accuracies and losses that have a value in some arm."""
    both = _both(arms, "loss")
    losses = [value for series in both for value in series.y if finite(value)]
    # A run that diverged would press all else to the floor of a linear axis.
    log = bool(losses) and min(losses) > 0 and max(losses) > 100 * min(losses)
    charts = [
        _chart("Learning rate", arms, _rates(arms), y_label="learning rate"),
        _chart("Top-1 accuracy", arms, _lines(arms, "val_top1"), y_label="top-1, %", decimals=2, **_PERCENT),
        _chart("Top-5 accuracy", arms, _lines(arms, "val_top5"), y_label="top-5, %", decimals=2, **_PERCENT),
        _chart("Mean precision", arms, _lines(arms, "val_precision"), y_label="precision, %", decimals=2, **_PERCENT),
        _chart("Mean recall", arms, _lines(arms, "val_recall"), y_label="recall, %", decimals=2, **_PERCENT),
        _chart(
            "Top-1 by set", arms, _both(arms, "top1"), y_label="top-1, %", decimals=2, keys=_TRAIN_AND_VAL, **_PERCENT
        ),
        _chart("Loss", arms, both, y_label="loss, nats", log=log, keys=_TRAIN_AND_VAL),
    ]
    return [chart for chart in charts if chart.values()]


def speed_charts(arms: Sequence[Arm]) -> list[Chart]:
    """Return the charts of throughput and of waiting that have a value in some arm."""
    waiting = [_in_percent(series) for series in _lines(arms, "waiting_share")]
    charts = [
        _chart("Training speed", arms, _lines(arms, "images_per_second"), y_label="images/s", floor=0.0),
        _chart("Waiting for data", arms, waiting, y_label="of the time, %", decimals=1, **_PERCENT),
    ]
    return [chart for chart in charts if chart.values()]


def _chart(title: str, arms: Sequence[Arm], series: Sequence[Series], **options: Any) -> Chart:
    ends = [int(run.last["epoch"]) for arm in arms for run in arm.runs]
    drawn = tuple(one for one in series if any(finite(value) for value in one.y))
    return Chart(title, drawn, x_label="epoch", x_whole=True, x_range=(0.0, float(max(ends))), **options)


def _lines(arms: Sequence[Arm], key: str, *, dashed: bool = False) -> list[Series]:
    """Return one series per arm: the mean over its runs, with the band from lowest to highest if there are several."""
    series = []
    for arm in arms:
        points = curve(arm, key)
        band = {"low": points.low, "high": points.high} if arm.n > 1 else {}
        series.append(Series(arm.label, points.epochs, points.mean, **band, style=arm.style, dashed=dashed))
    return series


def _both(arms: Sequence[Arm], quantity: str) -> list[Series]:
    """Return validation (solid) and training (dashed) of one quantity, an arm's two lines in one style."""
    return [*_lines(arms, f"val_{quantity}"), *_lines(arms, f"train_{quantity}", dashed=True)]


def _rates(arms: Sequence[Arm]) -> list[Series]:
    """Return the learning rate from each epoch's first step to its last, so that warm-up and restarts are seen."""
    series = []
    for arm in arms:
        first, last, steps = (curve(arm, key) for key in ("lr_first", "lr", "step"))
        points: list[tuple[float, float | None]] = []
        for epoch, start, end, step in zip(last.epochs, first.mean, last.mean, steps.mean, strict=True):
            if finite(start):  # at the end of the epoch's first step, which is 1 / (steps in an epoch) into it
                points.append((epoch - 1 + (epoch / step if finite(step) and step > epoch else 0.0), start))
            points.append((float(epoch), end))
        series.append(Series(arm.label, [x for x, _ in points], [y for _, y in points], style=arm.style))
    return series


def _in_percent(series: Series) -> Series:
    def times_100(values: Values | None) -> Values | None:
        return None if values is None else [100 * value if finite(value) else None for value in values]

    y = times_100(series.y)
    assert y is not None
    return replace(series, y=y, low=times_100(series.low), high=times_100(series.high))


def figures(arms: Sequence[Arm], charts: Sequence[Chart]) -> Markup:
    """Return the drawings, a legend of the arms that hides and shows them, and the values for the pointer."""
    data = {f"chart-{index}": hover_data(chart) for index, chart in enumerate(charts)}
    drawn = [_figure(chart, f"chart-{index}") for index, chart in enumerate(charts)]
    # Inside a script element only "<" could end it or open a comment.
    written = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return join(
        [
            legend(arms) if len(arms) > 1 else None,
            tag("div", *drawn, class_="charts"),
            tag("script", Markup(written), type="application/json", class_="hover"),
        ]
    )


def _figure(chart: Chart, identifier: str) -> Markup:
    keys = None
    if chart.keys:
        words = [join([swatch(7, dashed=dashed, marker=False), " ", word]) for dashed, word in chart.keys.items()]
        keys = tag("span", *(tag("span", one) for one in words), class_="keys")
    scale = tag("span", "logarithmic", class_="keys") if chart.log else None
    return tag("figure", tag("figcaption", tag("b", chart.title), keys, scale), svg(chart, identifier=identifier))


def legend(arms: Sequence[Arm]) -> Markup:
    """Return the arms with their lines; each is a button that hides and shows the arm's lines."""
    buttons = [
        tag("button", swatch(arm.style), " ", arm.title, type="button", data_style=arm.style, aria_pressed="true")
        for arm in arms
    ]
    band = any(arm.n > 1 for arm in arms)
    words = "line: mean of the runs, band: lowest to highest" if band else None
    return tag("div", *buttons, tag("span", words, class_="quiet") if words else None, class_="legend")


def every_epoch(report: Report) -> Markup:
    """Return the table of everything that was recorded; nothing when it would outweigh the page."""
    rows = sum(len(run.epochs) for run in report.runs)
    if rows > _MOST_ROWS:
        return tag(
            "p", f"{rows} epochs are recorded, too many for a table here; {run_files.RECORD} has them.", class_="quiet"
        )
    tables = [_epochs(run, run.name if len(report.runs) > 1 else "") for run in report.runs]
    return tag("details", tag("summary", "Every epoch in numbers"), *tables, class_="bulky")


def _epochs(run: Run, caption: str) -> Markup:
    keys = [key for key in _WRITTEN if any(value is not None for value in run.column(key))]
    heads = (Column("epoch", True), *(Column(_WRITTEN[key][0], True) for key in keys))
    rows = tuple(
        (str(record["epoch"]), *(_WRITTEN[key][1](number(record.get(key))) for key in keys)) for record in run.epochs
    )
    best = frozenset({run.epochs.index(run.best)}) if run.has("val_top1") else frozenset()
    return to_html(Table(heads, rows, caption, marked=best))
