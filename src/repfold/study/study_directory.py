"""The directory of a study: its file as it was run, the table, the page. The trials are elsewhere, for all studies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from repfold import atomic
from repfold.errors import RepFoldError
from repfold.study import table
from repfold.study.best import at_their_best
from repfold.study.latency import latency
from repfold.study.page import page
from repfold.study.results import Results, read_results
from repfold.study.store import Store, check_writable
from repfold.study.study import Study

FILE, MADE, TABLE, PAGE = "study.toml", "study.json", "table.json", "report.html"


@dataclass(frozen=True)
class StudyDirectory:
    """``path`` holds what is shown of ``study``, whose trials are in ``store``."""

    path: Path
    study: Study
    store: Store
    command: str = ""
    data: str = ""

    def begin(self, text: str) -> None:
        """Write the study's file into the directory.

        Raises: RepFoldError when the directory holds another study, or cannot be written.
        """
        check_writable(self.path)
        other = made(self.path)
        if other is not None and other.name != self.study.name:
            raise RepFoldError(
                f"{self.path} holds the study '{other.name}', not '{self.study.name}'. Choose another directory: --out."
            )
        if other is None and any(self.path.glob("record.jsonl")):
            raise RepFoldError(f"{self.path} holds a run, not a study: choose another directory (--out).")
        atomic.write_text(self.path / FILE, text)
        told = {
            "name": self.study.name,
            "scale": self.study.scale,
            "data": self.data,
            "trials": str(self.store.path.absolute()),
        }
        atomic.write_json(self.path / MADE, told | {"command": self.command}, indent=1)

    def write(self, *, measure: bool) -> Shown:
        """Write table and page of what there is; ``measure``: also time the folded networks, when nothing else runs."""
        found = read_results(self.study, self.store)
        results = replace(found, best=at_their_best(self.study, found.arms))
        times = latency(results, self.store.path, measure=measure)
        shown = Shown(results, times)
        atomic.write_json(self.path / TABLE, table.rows(results, times), indent=1)
        atomic.write_text(self.path / PAGE, page(results, times, self.command))
        return shown


@dataclass(frozen=True)
class Shown:
    """What was written: the results, and the latency of each arm's folded network in milliseconds."""

    results: Results
    latency: Mapping[str, float]


@dataclass(frozen=True)
class Made:
    """What a directory says of the study that it holds."""

    name: str
    scale: str
    data: str
    trials: str
    command: str


def made(path: Path) -> Made | None:
    """Return what the directory says of itself; None where it holds no study, or what it says is damaged."""
    try:
        content = json.loads((path / MADE).read_text(encoding="utf-8"))
        found = Made(**content)
        return found if all(isinstance(value, str) for value in vars(found).values()) else None
    except (OSError, ValueError, TypeError, RecursionError):
        return None
