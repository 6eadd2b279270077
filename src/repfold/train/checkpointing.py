"""When a run writes its checkpoints, and what it says when there is nothing worth writing any more."""

from __future__ import annotations

import time

from repfold.errors import RepFoldError
from repfold.train import checkpoint
from repfold.train.checkpoint import State
from repfold.train.run_directory import RunDirectory


class Checkpoints:
    """The checkpoints of a run: every so many steps, after so many seconds, and at the end of each epoch."""

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


def diverged(what: str, files: RunDirectory, epoch: int, step: int) -> RepFoldError:
    """Return the error that ``what`` ("The loss is nan") was found after ``step`` steps of ``epoch`` (from 0)."""
    steps = files.run.steps_per_epoch
    lr = files.run.settings.lr(epoch * steps + step - 1, steps)
    return RepFoldError(
        f"{what} at step {step} of epoch {epoch + 1}, at a learning rate of {lr:.4g}. {files.what_is_kept()} Use a "
        "lower lr, a warm-up (--warmup 5), or precision fp32."
    )
