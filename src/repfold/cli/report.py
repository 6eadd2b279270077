"""``repfold report``: the page of one run, or of several laid over one another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from repfold.cli.terminal import echo, print_json


def report(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    *,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    csv: Path | None = None,
    pictures: bool = True,
    json: bool = False,
) -> None:
    """Write one HTML page of curves, mistakes, certificate, timings and recipe; it needs no network to be read.

    Runs whose recipes differ in nothing but the seed are drawn as one arm: mean, and band from lowest to highest.

    Args:
        runs: Run directories, as 'repfold train' writes them.
        output: Where the page goes; RUN/report.html for one run, report.html here for several.
        csv: Write the records too, as a table of an epoch a line.
        pictures: Leave the worst mistakes out, so that the page holds no pictures of the data.
        json: Print one JSON object.
    """
    from repfold import atomic, run_files
    from repfold.report import epochs
    from repfold.report.digest import digest, digest_table
    from repfold.report.page import save
    from repfold.report.results import read
    from repfold.report.tables import to_text

    found = read(runs, pictures=pictures)
    one = found.runs[0].directory / run_files.REPORT if len(found.runs) == 1 else None
    path = save(found, output or one or Path(run_files.REPORT))
    if csv is not None:
        atomic.write_text(csv, epochs.to_csv(found))
    if json:
        print_json({"report": str(path), **({"csv": str(csv)} if csv else {}), **digest(found)})
        return
    echo(to_text(digest_table(found)))
    for note in found.notes():
        echo(f"note: {note}")
    echo(f"\nThe page: {path}")
    if csv is not None:
        echo(f"The records: {csv}")
