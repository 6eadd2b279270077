"""The end of a training whose numbers are not finite."""

from __future__ import annotations

from repfold.errors import RepFoldError
from repfold.train.run_directory import RunDirectory


def diverged(what: str, files: RunDirectory, epoch: int, step: int) -> RepFoldError:
    """Return the error for ``what`` ("The loss is nan") was found after ``step`` steps of ``epoch`` (from 0)."""
    lr = files.run.lr(files.run.position(epoch, step).index - 1)
    return RepFoldError(
        f"{what} at step {step} of epoch {epoch + 1}, at a learning rate of {lr:.4g}. {files.what_is_kept()} Use a "
        "lower lr, a warm-up (--warmup 5), or precision fp32."
    )
