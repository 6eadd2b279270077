"""``repfold advise``: what the record of a run says about its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from repfold.cli.terminal import echo, print_json


def advise(
    run: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    plot: Path | None = None,
    json: bool = False,
) -> None:
    """Read a run's record and say whether it over- or underfits, and which settings to change and how.

    Also: whether the schedule was too short, the learning rate too high, a warm-up missing, reading images the
    bottleneck, and, for a run that starts from trained weights, whether its rate suits the number of images.

    Args:
        run: A run directory; the run need not be finished.
        plot: Where to draw the two accuracies that show over- and underfitting, an .svg file.
        json: Print one JSON object.
    """
    from dataclasses import asdict

    from repfold.report.advice import advise as findings_of
    from repfold.report.records import read_runs

    (found,) = read_runs([run])
    findings = findings_of(found)
    if plot is not None:
        from repfold.report.chart import Chart, Series
        from repfold.report.chart_svg import save_chart

        epochs = [float(record["epoch"]) for record in found.epochs]
        names = {"train_top1": "training (unaugmented sample)", "val_top1": "validation"}
        series = [Series(name, epochs, found.column(key), style=s) for s, (key, name) in enumerate(names.items())]
        save_chart(Chart("Top-1, %", tuple(series), x_label="epoch", x_whole=True, floor=0.0, ceiling=100.0), plot)
    if json:
        content = {"run": str(found.directory), "findings": [asdict(finding) for finding in findings]}
        print_json({**content, "plot": str(plot) if plot else None})
        return
    for finding in findings:
        echo(finding.says)
        for sentence in finding.evidence:
            echo(f"  {sentence}")
        for change in finding.changes:
            echo(f"  try: --{change.setting.replace('_', '-')} {_quoted(change.then)}   (now {change.now})")
    if plot is not None:
        echo(f"Written: {plot}")


def _quoted(value: str) -> str:
    """As the command line takes it: several values are words of their own."""
    return value.replace(",", "") if ", " in value else value
