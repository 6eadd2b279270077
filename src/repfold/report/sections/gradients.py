"""The masks of gradient re-parameterization: a picture and a row for every layer."""

from __future__ import annotations

import math

from repfold.report import wording
from repfold.report.markup import Markup, join, tag
from repfold.report.masks import Grid, LayerMask
from repfold.report.results import Report
from repfold.report.tables import Table, columns, to_html

_CELL = 26.0


def gradients(report: Report) -> Markup | None:
    """Return the masks of each run that was trained under rules."""
    reparameterized = [(run, run.masks) for run in report.runs if run.masks]
    if not reparameterized:
        return None
    if len(report.runs) == 1:
        return _masks(reparameterized[0][1])
    return join(
        tag("details", tag("summary", run.name), _masks(masks), open="" if index == 0 else None)
        for index, (run, masks) in enumerate(reparameterized)
    )


def _masks(masks: tuple[LayerMask, ...]) -> Markup:
    words = (
        "The network is plain; its optimizer multiplies each gradient so that the kernel moves as the sum of its "
        "branches would. Shown is the mean factor at each tap: between different channels and, where a branch passes "
        "its input on, of each channel with itself."
    )
    drawn = [layer for layer in masks if layer.grids]
    highest = max((tap for layer in drawn for grid in layer.grids for row in grid for tap in row), default=1.0)
    figures = tag("div", *(_figure(layer, highest) for layer in drawn), class_="beside") if drawn else None
    return join([tag("p", words, class_="quiet"), figures, tag("details", tag("summary", "All layers"), _table(masks))])


def _figure(layer: LayerMask, highest: float) -> Markup:
    named = {"different channels": layer.elsewhere, "channel with itself": layer.diagonal}
    grids = [(name, grid) for name, grid in named.items() if grid is not None]
    width, parts = 4.0, []
    height = 20 + _CELL * max(len(grid) for _, grid in grids)
    for name, grid in grids:
        parts += _cells(grid, name, width, highest)
        width += max(_CELL * len(grid[0]), 6.2 * len(name)) + 14
    label = f"Mean gradient factors of {layer.name}: {wording.significant(layer.low, 3)} to "
    label += wording.significant(layer.high, 3)
    view = f"0 0 {width:.0f} {height:.0f}"
    style = f"width:{width:.0f}px"
    drawing = tag("svg", *parts, class_="chart matrix", viewBox=view, style=style, role="img", aria_label=label)
    return tag("figure", tag("figcaption", tag("b", layer.name)), drawing)


def _cells(grid: Grid, name: str, left: float, highest: float) -> list[Markup]:
    parts = [tag("text", name, class_="label", x=left, y=12)]
    for row, taps in enumerate(grid):
        for column, tap in enumerate(taps):
            # The square root lets the small factors beside the centre be seen.
            shade = round(math.sqrt(tap / highest), 3) if highest else 0.0
            x, y = left + column * _CELL, 18 + row * _CELL
            square = {"x": x + 1, "y": y + 1, "width": _CELL - 2, "height": _CELL - 2, "rx": 3}
            words = tag("title", f"{wording.significant(tap, 3)} at tap {row}, {column}")
            cell = tag("rect", class_="hit" if shade else "none", fill_opacity=shade if shade else None, **square)
            parts.append(tag("g", cell, words))
    return parts


def _table(masks: tuple[LayerMask, ...]) -> Markup:
    def span(layer: LayerMask) -> str:
        if layer.low is None or layer.high is None:
            return "an operator"
        return f"{wording.significant(layer.low, 3)} – {wording.significant(layer.high, 3)}"

    rows = tuple((m.name, "×".join(map(str, m.kernel)), span(m), ", ".join(m.branches)) for m in masks)
    return to_html(Table(columns("layer", "kernel", "#factors", "branches"), rows))
