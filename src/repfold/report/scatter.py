"""Arms as points: what is wanted over what it costs, named, with the front of those that no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from repfold.report.chart import HEIGHT, WIDTH, Chart, Point, Series, axes
from repfold.report.chart_svg import drawing
from repfold.report.markup import Markup, join, pixels, tag


@dataclass(frozen=True)
class Spot:
    """A point with its name, and the style that its arm is drawn with."""

    name: str
    cost: float
    value: float
    style: int


def front(spots: Sequence[Spot], *, higher: bool = True) -> list[Spot]:
    """Return the spots than which none is both cheaper and better, the cheapest first.

    ``higher``: whether more of the value is better.
    """
    sign = 1 if higher else -1
    best: list[Spot] = []
    for spot in sorted(spots, key=lambda one: (one.cost, -sign * one.value)):
        if not best or sign * spot.value > sign * best[-1].value:
            best.append(spot)
    return best


def scatter(title: str, spots: Sequence[Spot], *, x_label: str, higher: bool = True) -> Markup:
    """Return the figure: a point an arm, its name beside it, and the front as a stepped line."""
    series = tuple(Series(spot.name, (spot.cost,), (spot.value,), style=spot.style) for spot in spots)
    chart = Chart(title, series, x_label=x_label)
    spanned = axes(chart)
    edge = [at for spot in front(spots, higher=higher) if (at := spanned.to_pixels((spot.cost, spot.value)))]
    line = tag("path", class_="line dashed", d=_steps(edge)) if len(edge) > 1 else None
    names = (_name(spot, spanned.to_pixels((spot.cost, spot.value))) for spot in spots)
    words = "; ".join(f"{spot.name}: {spot.value:.4g} at {spot.cost:.4g}" for spot in spots)
    written = tag(
        "svg",
        tag("g", line, class_="front") if line else None,
        drawing(chart),
        join(names),
        class_="chart scatter",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{title}. {words}",
    )
    return tag("figure", tag("figcaption", tag("b", title)), written)


def _name(spot: Spot, at: Point | None) -> Markup:
    assert at is not None
    right = at[0] > 0.72 * WIDTH
    text = tag("text", spot.name, class_="end name" if right else "name", x=at[0] + (-8 if right else 8), y=at[1] - 7)
    return tag("g", text, class_="series", data_style=spot.style)


def _steps(points: Sequence[Point]) -> str:
    first, *rest = points
    return f"M{pixels(first[0])} {pixels(first[1])}" + "".join(f"H{pixels(x)}V{pixels(y)}" for x, y in rest)
