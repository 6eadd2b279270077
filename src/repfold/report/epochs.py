"""The records of runs as one table in CSV, a line an epoch: for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io

from repfold.report.numbers import number
from repfold.report.results import Report


def to_csv(report: Report) -> str:
    """Return the epochs of all runs, under the names that records have; what a run did not record is left empty."""
    quantities = dict.fromkeys(key for run in report.runs for record in run.epochs for key in record)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", *quantities])
    for run in report.runs:
        for record in run.epochs:
            values = (record.get(key) for key in quantities)
            writer.writerow([run.name, *("" if number(value) is None else value for value in values)])
    return out.getvalue()
