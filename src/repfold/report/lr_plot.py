"""Learning rates drawn: schedules over one another, and the losses of a range test over the rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from repfold.report.chart import Chart, Series
from repfold.report.chart_svg import save_chart


def write_lr_plot(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: Path, *, log: bool = False
) -> None:
    """Write the curves, name -> (epochs done, learning rates), to ``path``, an .svg file.

    Raises: RepFoldError for another ending.
    """
    series = tuple(Series(name, x, y, style=style) for style, (name, (x, y)) in enumerate(curves.items()))
    save_chart(Chart("Learning rate", series, x_label="epoch", y_label="learning rate", log=log, floor=0.0), path)


def write_range_plot(rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], path: Path) -> None:
    """Write the losses of a range test over the powers of ten of its rates to ``path``, an .svg file.

    What explodes is cut off at twice the first loss, or the fall before it could not be seen.

    Raises: RepFoldError for another ending.
    """
    highest = 2 * smoothed[0]
    decades = [math.log10(rate) for rate in rates]
    lines = {"loss": losses, "smoothed": smoothed}
    series = tuple(
        Series(name, decades, [y if y <= highest else None for y in values], style=style)
        for style, (name, values) in enumerate(lines.items())
    )
    save_chart(
        Chart(
            "Loss at each learning rate", series, x_label="log10 of the learning rate", y_label="loss, nats", floor=0.0
        ),
        path,
    )
