"""Learning-rate schedules drawn over one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from repfold.report.chart import Chart, Series
from repfold.report.figures import save_chart


def write_lr_plot(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: Path, *, log: bool = False
) -> None:
    """Write the curves, name -> (epochs done, learning rates), to ``path``: .svg, .png or .pdf.

    Raises: RepFoldError for another ending.
    """
    series = tuple(Series(name, x, y, style=style) for style, (name, (x, y)) in enumerate(curves.items()))
    save_chart(Chart("Learning rate", series, x_label="epoch", log=log, floor=0.0), path)
