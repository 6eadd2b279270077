"""The page: one HTML file that holds everything it needs and asks the network for nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from repfold import atomic, run_files
from repfold.errors import RepFoldError
from repfold.report import wording
from repfold.report.document import document
from repfold.report.markup import Markup, tag
from repfold.report.results import Report, read
from repfold.report.sections import SECTIONS
from repfold.report.sections.summary import trained


def write(runs: Sequence[str | os.PathLike[str]], path: str | os.PathLike[str]) -> Path:
    """Read run directories and write their page to ``path``, whole or not at all; return the path.

    Raises: RepFoldError when no run is given, or one is missing, is no run directory, or has no epoch recorded, and
    when ``path`` cannot be written.
    """
    return save(read(runs), path)


def save(report: Report, path: str | os.PathLike[str]) -> Path:
    """Write the page of runs that are already read; return its path.

    Raises: RepFoldError when it cannot be written.
    """
    if Path(path).is_dir():
        raise RepFoldError(
            f"The page cannot be written to {path}: it is a directory. Name a file in it: {run_files.REPORT}."
        )
    try:
        atomic.write_text(path, page(report))
    except OSError as error:
        raise RepFoldError(f"The page cannot be written to {path}: {error.strerror}. Choose another path.") from error
    return Path(path)


def page(report: Report) -> Markup:
    """Return the whole page. The same runs give the same text, byte for byte."""
    shown = [(name, title, body) for name, (title, section) in SECTIONS.items() if (body := section(report))]
    links = [tag("a", title, href=f"#{name}") for name, title, _ in shown]
    return document(
        heading(report),
        tag("header", tag("h1", heading(report)), _subtitle(report), tag("nav", *links, aria_label="Sections")),
        _notes(report),
        tag("main", *(tag("section", tag("h2", title), inside, id=name) for name, title, inside in shown)),
    )


def heading(report: Report) -> str:
    """Return what the page is about: the model and data when they are the same everywhere, else the number of runs."""
    trained = {(_last(run.recipe.get("model")), _last(run.recipe.get("data"))) for run in report.runs}
    model, data = trained.pop() if len(trained) == 1 else ("", "")
    if model:
        return f"{model} on {data}" if data else model
    return report.runs[0].name if len(report.runs) == 1 else f"{len(report.runs)} runs"


def _last(value: object) -> str:
    """Return the last part of a path, or the value as it is written."""
    text = wording.plain(value) if value else ""
    return text.rstrip("/").rsplit("/", 1)[-1]


def _subtitle(report: Report) -> Markup:
    first = report.runs[0]
    if len(report.runs) == 1:
        return tag("p", " · ".join(part for part in (first.name, trained(first.recipe)) if part), class_="subtitle")
    arms = f" in {len(report.arms)} arms" if 1 < len(report.arms) < len(report.runs) else ""
    return tag("p", f"{len(report.runs)} runs{arms}", class_="subtitle")


def _notes(report: Report) -> Markup | None:
    notes = report.notes()
    return tag("ul", *(tag("li", note) for note in notes), class_="notes") if notes else None
