"""Learning-rate schedules drawn over one another, as an SVG file or as any picture that matplotlib writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from repfold import atomic
from repfold.errors import RepFoldError
from repfold.report import palette
from repfold.report.chart import Chart, Series
from repfold.report.chart_svg import svg_file

PICTURES = (".pdf", ".png")


def write_lr_plot(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: Path, *, log: bool = False
) -> None:
    """Write the curves, name -> (epochs done, learning rates), to ``path``; its suffix says the format.

    Raises: RepFoldError for an unknown format.
    """
    series = tuple(Series(name, x, y, style=style) for style, (name, (x, y)) in enumerate(curves.items()))
    chart = Chart("Learning rate", series, x_label="epoch", log=log, floor=0.0)
    if path.suffix == ".svg":
        atomic.write_text(path, svg_file(chart))
    elif path.suffix in PICTURES:
        _write_picture(chart, path)
    else:
        raise RepFoldError(f"{path}: a plot cannot be written as '{path.suffix}'. Use .svg, {' or '.join(PICTURES)}.")


def _write_picture(chart: Chart, path: Path) -> None:
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot(title=chart.title, xlabel=chart.x_label, yscale="log" if chart.log else "linear")
    for series in chart.series:
        colour = palette.LIGHT[palette.colour(series.style)]
        marker = palette.MATPLOTLIB_SHAPES[palette.shape(series.style)]
        axes.plot(
            list(series.x),
            np.asarray(series.y, dtype=float),
            label=series.name,
            color=colour,
            marker=marker,
            markevery=max(len(series.x) // 8, 1),
        )
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
