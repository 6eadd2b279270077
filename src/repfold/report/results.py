"""What a page is made of: the runs and the arms that they form."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from repfold.report.arms import Arm, group, seed_notes
from repfold.report.comparable import data_notes
from repfold.report.records import Run, read_runs


@dataclass(frozen=True)
class Report:
    """Runs in the order given, and arms in order of first appearance."""

    runs: tuple[Run, ...]
    arms: tuple[Arm, ...]

    def notes(self) -> tuple[str, ...]:
        """Return everything that the reader should know about what was missing or strange, with the run's name."""
        several = len(self.runs) > 1
        notes = [f"{run.name}: {note}" if several else note for run in self.runs for note in run.notes]
        return (*data_notes(self.runs), *notes, *seed_notes(self.arms))


def read(directories: Sequence[str | os.PathLike[str]], *, pictures: bool = True) -> Report:
    """Read run directories into a report; without ``pictures`` no image of the data gets into its page.

    Raises: RepFoldError when none is given, or one is missing, is no run directory, or has no epoch recorded.
    """
    runs = read_runs(directories)
    if not pictures:
        runs = tuple(replace(run, mistakes=None) for run in runs)
    return Report(runs, group(runs))
