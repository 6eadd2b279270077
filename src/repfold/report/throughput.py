"""Timings as a picture: images a second over the batch size, a line for each form and number of threads."""

from __future__ import annotations

import os
from pathlib import Path

from repfold.counted import counted
from repfold.report.chart import Chart, Series
from repfold.report.chart_svg import save_chart
from repfold.report.timings import Timing, Timings


def save_throughput(timings: Timings, path: str | os.PathLike[str]) -> Path:
    """Draw the timings to an .svg file; the band is from the 90th to the 10th percentile of the time.

    Raises: RepFoldError for another ending.
    """
    return save_chart(throughput(timings), path)


def throughput(timings: Timings) -> Chart:
    """Return images a second over the batch size, on a logarithmic axis."""
    counts = {row.threads for row in timings.rows}
    lines: dict[tuple[str, int | None], list[Timing]] = {}
    for row in timings.rows:
        lines.setdefault((row.form, row.threads), []).append(row)
    series = tuple(
        _line(form if len(counts) == 1 or threads is None else f"{form}, {counted(threads, 'thread')}", rows, style)
        for style, ((form, threads), rows) in enumerate(lines.items())
    )
    return Chart("Images a second", series, x_label="images at once", x_whole=True, log=True)


def _line(name: str, rows: list[Timing], style: int) -> Series:
    rows = sorted(rows, key=lambda row: row.batch)
    median, low, high = (
        [1000 * row.batch / getattr(row, time) for row in rows] for time in ("median_ms", "high_ms", "low_ms")
    )
    return Series(name, [row.batch for row in rows], median, low, high, style=style)
