"""How long each form of the network takes for one batch, with the spread of the repeats."""

from __future__ import annotations

from repfold.report import wording
from repfold.report.markup import Markup, join, tag
from repfold.report.results import Report
from repfold.report.sections.one_by_one import one_by_one
from repfold.report.sections.settings import flat
from repfold.report.tables import Column, Table, bar, to_html
from repfold.report.timings import Timing, Timings


def timing(report: Report) -> Markup | None:
    """Return the timings of each run that has some, a table for each batch size."""
    timed = [(run, run.timings) for run in report.runs if run.timings]
    if not timed:
        return None
    if len(report.runs) == 1:
        return _timings(timed[0][1])
    return one_by_one([(run.name, timings) for run, timings in timed], _timings)


def _timings(timings: Timings) -> Markup:
    tables = tag("div", *(_batch(timings, batch) for batch in timings.batches()), class_="beside")
    repeats = sorted({row.n for row in timings.rows})
    n = f"{repeats[0]}" if len(repeats) == 1 else f"{repeats[0]} to {repeats[-1]}"
    words = f"Bar: median of {n} repeats; whisker: from low to high."
    machine = "; ".join(f"{key} {value}" for key, value in flat(timings.machine).items() if value != wording.ABSENT)
    return join([tag("p", words, f" Machine: {machine}." if machine else None, class_="quiet"), tables])


def _batch(timings: Timings, batch: int) -> Markup:
    rows = timings.of_batch(batch)
    longest = max(max(row.high_ms, row.median_ms) for row in rows)
    heads = (
        Column("form"),
        Column("median, ms", True),
        Column("low – high", True),
        Column("images/s", True),
        Column("speed-up", True),
    )
    written = tuple(_row(timings, row, longest) for row in rows)
    return to_html(Table(heads, written, f"Batch of {batch}" if batch > 1 else "One image at a time"))


def _row(timings: Timings, row: Timing, longest: float) -> tuple[str, ...]:
    drawn = bar(
        row.median_ms / longest,
        wording.significant(row.median_ms, 3),
        low=row.low_ms / longest,
        high=row.high_ms / longest,
    )
    return (
        row.form,
        drawn,
        f"{wording.significant(row.low_ms, 3)} – {wording.significant(row.high_ms, 3)}",
        wording.count(row.images_per_second) if row.images_per_second >= 10 else f"{row.images_per_second:.2f}",
        "1 ×" if row == timings.reference(row.batch) else f"{wording.significant(timings.speed_up(row), 3)} ×",
    )
