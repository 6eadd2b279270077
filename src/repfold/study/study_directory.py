"""The directory of a study: its file as it was run, the table, the page. The trials are elsewhere, for all studies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repfold import atomic
from repfold.errors import RepFoldError
from repfold.study import table
from repfold.study.latency import latency
from repfold.study.page import page
from repfold.study.results import read_results
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

    def begin(self, text: str) -> None:
        """Write the study's file into the directory.

        Raises: RepFoldError when the directory holds another study, or cannot be written.
        """
        check_writable(self.path)
        other = made(self.path).get("name")
        if other is not None and other != self.study.name:
            raise RepFoldError(
                f"{self.path} holds the study '{other}', not '{self.study.name}': choose another directory (--out)."
            )
        if other is None and any(self.path.glob("record.jsonl")):
            raise RepFoldError(f"{self.path} holds a run, not a study: choose another directory (--out).")
        atomic.write_text(self.path / FILE, text)
        told = {"name": self.study.name, "scale": self.study.scale, "trials": str(self.store.path.absolute())}
        atomic.write_json(self.path / MADE, told | {"command": self.command}, indent=1)

    def write(self, *, measure: bool) -> Shown:
        """Write table and page of what there is; ``measure``: also time the folded networks, when nothing else runs."""
        results = read_results(self.study, self.store)
        times = latency(results, self.store.path, measure=measure)
        shown = Shown(results, times)
        atomic.write_json(self.path / TABLE, table.rows(results, times), indent=1)
        atomic.write_text(self.path / PAGE, page(results, times, self.command))
        return shown
