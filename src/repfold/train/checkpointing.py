"""When a run writes its checkpoints: every so many steps, after so many seconds, and at the end of each epoch."""

from __future__ import annotations

import time

from repfold.train import checkpoint
from repfold.train.checkpoint import State
from repfold.train.divergence import diverged
from repfold.train.run_directory import RunDirectory


class Checkpoints:
    """The checkpoints of the run that ``files`` are of."""

    def __init__(self, files: RunDirectory) -> None:
        self.files, self.settings = files, files.run.settings
        self.written = time.perf_counter()

    def due(self, step: int) -> bool:
        """Whether one is due after so many steps of an epoch, whatever the time."""
        return bool(self.settings.checkpoint_every) and step % self.settings.checkpoint_every == 0

    def overdue(self) -> bool:
        """Whether the last one was written too long ago."""
        return time.perf_counter() - self.written > self.settings.checkpoint_seconds

    def write(self, state: State) -> None:
        """Write one. Raises: RepFoldError, keeping the last one, when a weight is not finite."""
        try:
            self.files.write_checkpoint(state)
        except checkpoint.NotFiniteError as error:
            raise diverged(str(error), self.files, state.epoch, state.step) from error
        self.written = time.perf_counter()
