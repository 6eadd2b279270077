"""A chart as a value: the lines, what their axes span, and the numbers behind them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from repfold.report.numbers import Values, finite, rounded
from repfold.report.scale import Scale, decade_ticks, round_ticks

WIDTH, HEIGHT = 420, 256
LEFT, RIGHT, TOP, BOTTOM = 62, WIDTH - 10, 10, HEIGHT - 42

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line: ``y`` over ``x``, with an optional band ``low..high``; values absent or not finite leave a gap.

    ``style`` gives the colour and the marker shape; ``dashed`` tells apart two lines of one style.
    """

    name: str
    x: Sequence[float]
    y: Values
    low: Values | None = None
    high: Values | None = None
    style: int = 0
    dashed: bool = False

    def points(self) -> Iterator[Point | None]:
        """Yield the points in order, ``None`` for each gap."""
        for x, y in zip(self.x, self.y, strict=True):
            yield (x, y) if finite(x) and finite(y) else None


@dataclass(frozen=True)
class Chart:
    """What is drawn over what.

    ``floor`` and ``ceiling`` are where the quantity ends, as 0 and 100 for percent. ``decimals`` is how exactly values
    are written; without it four significant digits. ``keys``: what solid (False) and dashed (True) lines stand for.
    """

    title: str
    series: tuple[Series, ...]
    x_label: str = ""
    y_label: str = ""
    x_whole: bool = False
    x_range: tuple[float, float] | None = None
    log: bool = False
    floor: float = -math.inf
    ceiling: float = math.inf
    decimals: int | None = None
    keys: dict[bool, str] = field(default_factory=dict)

    def values(self) -> list[float]:
        """Return every value that the y axis must span."""
        columns = [column for s in self.series for column in (s.y, s.low, s.high) if column is not None]
        return [value for column in columns for value in column if finite(value) and (not self.log or value > 0)]

    def name(self, series: Series) -> str:
        """Return what a line is called in a legend: its name, and what its dashes stand for."""
        return f"{series.name}, {self.keys[series.dashed]}" if self.keys else series.name


@dataclass(frozen=True)
class Axes:
    """Where a chart's values lie in its drawing."""

    x: Scale
    y: Scale
    x_ticks: tuple[float, ...]
    y_ticks: tuple[float, ...]

    def to_pixels(self, point: Point | None) -> Point | None:
        """Return a point's coordinates in pixels; ``None`` for a gap and for what a logarithm cannot show."""
        if point is None or (self.y.log and point[1] <= 0):
            return None
        return self.x(point[0]), self.y(point[1])


def axes(chart: Chart) -> Axes:
    """Return the axes that span all of the chart's values and end on round numbers."""
    xs = list(chart.x_range) if chart.x_range else [x for s in chart.series for x in s.x if finite(x)]
    x_ticks = round_ticks(xs, most=8, whole=chart.x_whole)
    if chart.log:
        y_ticks = decade_ticks(chart.values(), 5)
    else:
        y_ticks = round_ticks(chart.values(), most=5, floor=chart.floor, ceiling=chart.ceiling)
    # The x axis ends with the data, since a rounded end would look like a run that was cut short.
    low, high = (min(xs), max(xs)) if xs and min(xs) < max(xs) else (x_ticks[0], x_ticks[-1])
    return Axes(
        Scale(low, high, LEFT, RIGHT),
        Scale(y_ticks[0], y_ticks[-1], BOTTOM, TOP, log=chart.log),
        tuple(tick for tick in x_ticks if low <= tick <= high),
        y_ticks,
    )


def hover_data(chart: Chart) -> dict[str, Any]:
    """Return what the page's script needs to show the values under the pointer, as JSON-able numbers."""
    spanned = axes(chart)
    return {
        "x": [spanned.x.low, spanned.x.high, spanned.x.start, spanned.x.stop],
        "y": [spanned.y.low, spanned.y.high, spanned.y.start, spanned.y.stop],
        "log": chart.log,
        "label": chart.x_label,
        "decimals": chart.decimals,
        "series": [
            {
                "name": chart.name(series),
                "style": series.style,
                "dashed": series.dashed,
                "x": list(series.x),
                "y": rounded(series.y),
                "low": rounded(series.low) if series.low else None,
                "high": rounded(series.high) if series.high else None,
            }
            for series in chart.series
        ],
    }
