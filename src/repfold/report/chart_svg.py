"""The drawing of a chart as SVG: grid, bands, lines that break at gaps, a few markers on each line."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from repfold import atomic
from repfold.errors import RepFoldError
from repfold.report import palette
from repfold.report.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axes, Chart, Point, Series, axes
from repfold.report.markup import Markup, join, pixels, tag
from repfold.report.numbers import finite
from repfold.report.scale import tick_labels

_MARKERS = 7


def svg(chart: Chart, *, identifier: str | None = None) -> Markup:
    """Return the chart as an ``<svg>`` element for a page that has ``stylesheet()``; its title is left to the page."""
    return _svg(chart, drawing(chart), 0, identifier=identifier, tabindex=0 if identifier else None)


def svg_file(chart: Chart) -> str:
    """Return the chart as the text of an SVG file, with title, legend and style, light and dark."""
    legend, rows = _legend(chart)
    above = 26 + 18 * rows
    inside = join(
        [
            Markup(f"<style>{stylesheet()}</style>"),
            tag("rect", class_="paper", x=0, y=-above, width=WIDTH, height=HEIGHT + above),
            tag("text", chart.title, class_="title", x=LEFT, y=18 - above),
            legend,
            drawing(chart),
        ]
    )
    return _svg(chart, inside, above, xmlns="http://www.w3.org/2000/svg")


def save_chart(chart: Chart, path: str | os.PathLike[str]) -> Path:
    """Write a chart to ``path``, an ``.svg`` file for light and dark pages; return the path.

    Raises: RepFoldError for another ending, and for a chart without a finite value.
    """
    if (ending := Path(path).suffix).lower() != ".svg":
        raise RepFoldError(f"A chart cannot be written to {path}: it is drawn as .svg, not '{ending}'. Rename it.")
    if not chart.values():
        raise RepFoldError(f"The chart '{chart.title}' has no finite value to draw.")
    atomic.write_text(path, svg_file(chart))
    return Path(path)


def drawing(chart: Chart) -> Markup:
    """Return the grid and the series, without the ``<svg>`` around them."""
    spanned, arms = axes(chart), len({series.style for series in chart.series})
    return join([_grid(spanned), _titles(chart), *(_series(series, spanned, arms) for series in chart.series)])


def stylesheet() -> str:
    """Return the CSS that charts are drawn with, colours included."""
    rules = resources.files("repfold.report").joinpath("chart.css").read_text(encoding="utf-8")
    return palette.css() + rules


def swatch(style: int, *, dashed: bool = False, marker: bool = True) -> Markup:
    """Return a small picture of a line with its marker, for legends."""
    line = tag("path", class_="line dashed" if dashed else "line", d="M1 7H27")
    dot = _marker(style, (14.0, 7.0)) if marker else None
    return tag("svg", line, dot, class_=f"swatch c{palette.colour(style)}", viewBox="0 0 28 14", aria_hidden="true")


def _svg(chart: Chart, inside: Markup, above: int, **attributes: str | int | None) -> Markup:
    label = f"{chart.title}. " + "; ".join(_in_words(series, chart.name(series)) for series in chart.series)
    attributes["id"] = attributes.pop("identifier", None)
    view = f"0 {-above} {WIDTH} {HEIGHT + above}"
    return tag("svg", inside, class_="chart", viewBox=view, role="img", aria_label=label, **attributes)


def _in_words(series: Series, name: str) -> str:
    last = next((point for point in reversed(list(series.points())) if point), None)
    return f"{name} ends at {last[1]:.4g}" if last else f"{name} has no values"


def _legend(chart: Chart) -> tuple[Markup, int]:
    """Return the legend of a file's chart and its rows; a single line needs none, since the title names it."""
    if len(chart.series) < 2:
        return Markup(), 0
    above = 18 * len(chart.series)
    rows = []
    for row, series in enumerate(chart.series):
        y = 12 - above + 18 * row
        line = tag("path", class_="line dashed" if series.dashed else "line", d=f"M{LEFT} {y}h26")
        dot = _marker(series.style, (LEFT + 13.0, float(y)))
        rows.append(tag("g", line, dot, class_=f"c{palette.colour(series.style)}"))
        rows.append(tag("text", chart.name(series), class_="name", x=LEFT + 34, y=y + 4))
    return join(rows), len(chart.series)


def _grid(spanned: Axes) -> Markup:
    rules = "".join(f"M{LEFT} {pixels(spanned.y(tick))}H{RIGHT}" for tick in spanned.y_ticks[1:])
    y_texts = [
        tag("text", label, x=LEFT - 6, y=spanned.y(tick) + 4, class_="end")
        for tick, label in zip(spanned.y_ticks, tick_labels(spanned.y_ticks, log=spanned.y.log), strict=True)
    ]
    x_texts = [
        tag("text", label, x=spanned.x(tick), y=BOTTOM + 17, class_="middle")
        for tick, label in zip(spanned.x_ticks, tick_labels(spanned.x_ticks), strict=True)
    ]
    rule, axis = tag("path", class_="rule", d=rules), tag("path", class_="axis", d=f"M{LEFT} {BOTTOM}H{RIGHT}")
    return tag("g", rule, axis, *y_texts, *x_texts, class_="axes", aria_hidden="true")


def _titles(chart: Chart) -> Markup:
    """What the axes stand for: below the one, and along the other."""
    x = tag("text", chart.x_label, class_="middle", x=(LEFT + RIGHT) / 2, y=HEIGHT - 7)
    turned = f"translate(13 {pixels((TOP + BOTTOM) / 2)}) rotate(-90)"
    y = tag("text", chart.y_label, class_="middle", transform=turned)
    return tag("g", x if chart.x_label else None, y if chart.y_label else None, class_="axes", aria_hidden="true")


def _series(series: Series, spanned: Axes, of: int) -> Markup:
    points = [spanned.to_pixels(point) for point in series.points()]
    line = tag("path", class_="line dashed" if series.dashed else "line", d=_line(points))
    markers = (_marker(series.style, points[index]) for index in _marked(points, series.style, of))
    colour = f"series c{palette.colour(series.style)}"
    return tag("g", _band(series, spanned), line, *markers, class_=colour, data_style=series.style)


def _line(points: Sequence[Point | None]) -> str:
    words, pen_down = [], False
    for point in points:
        if point:
            words.append(f"{'L' if pen_down else 'M'}{pixels(point[0])} {pixels(point[1])}")
        pen_down = point is not None
    return "".join(words)


def _band(series: Series, spanned: Axes) -> Markup:
    """Return the polygons between low and high, one for each stretch without gaps."""
    if series.low is None or series.high is None:
        return Markup()
    stretches: list[list[tuple[Point, Point]]] = [[]]
    for x, low, high in zip(series.x, series.low, series.high, strict=True):
        below = spanned.to_pixels((x, low)) if finite(low) else None
        above = spanned.to_pixels((x, high)) if finite(high) else None
        if below and above:
            stretches[-1].append((below, above))
        elif stretches[-1]:
            stretches.append([])
    outlines = [
        [*(above for _, above in stretch), *(below for below, _ in reversed(stretch))]
        for stretch in stretches
        if len(stretch) > 1
    ]
    return join(tag("path", class_="band", d=_line(outline) + "Z") for outline in outlines)


def _marked(points: Sequence[Point | None], style: int, of: int) -> list[int]:
    """Return which points carry a marker.

    Of several lines each has a few, shifted by style so that lines that coincide show all their shapes; a line alone
    has one at its end. A point between two gaps always has one, since no line shows it.
    """
    drawn = [index for index, point in enumerate(points) if point]
    padded = [None, *points, None]
    alone = [index for index in drawn if padded[index] is None and padded[index + 2] is None]
    stride = max(1, math.ceil(len(drawn) / _MARKERS))
    few = drawn[(style * stride // 3) % stride :: stride] if of > 1 else []
    return sorted({*alone, *few, *drawn[-1:]})


def _marker(style: int, at: Point | None) -> Markup:
    assert at is not None
    shift = f"translate({pixels(at[0])} {pixels(at[1])})"
    return tag("path", class_="marker", d=palette.SHAPES[palette.shape(style)], transform=shift)
