"""The last two checkpoints of a run: which of them to go on from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repfold import run_files
from repfold.errors import RepFoldError
from repfold.train import checkpoint


@dataclass(frozen=True)
class Found:
    """A checkpoint to go on from, and its contents.

    ``why``: why it is the one before the last, or "" for the last; ``damaged``: whether the last cannot be read.
    """

    path: Path
    content: dict[str, Any]
    why: str = ""
    damaged: bool = False


def find(directory: Path) -> Found | None:
    """Return the last good checkpoint in ``directory``, or None when there has been none.

    Raises: RepFoldError when there is one, but none that can be read.
    """
    last, previous = directory / run_files.CHECKPOINT, directory / run_files.PREVIOUS_CHECKPOINT
    if not last.exists() and not previous.exists():
        return None
    if not last.exists():
        why = f"There is no {last.name}, as when a run is killed in the moment of replacing it. {_going_on(previous)}"
        return Found(previous, checkpoint.read(previous), why)
    try:
        return Found(last, checkpoint.read(last))
    except checkpoint.UnreadableError as error:
        if not previous.exists():
            raise
        try:
            content = checkpoint.read(previous)
        except checkpoint.UnreadableError as other:
            raise RepFoldError(f"{error}\n{other}") from error
        why = f"{error.what} {_going_on(previous)} The damaged file is kept as {run_files.DAMAGED_CHECKPOINT}."
        return Found(previous, content, why, damaged=True)


def set_aside_damaged(directory: Path) -> None:
    """Take a last checkpoint that cannot be read out of the way, so that it never replaces the good one."""
    (directory / run_files.CHECKPOINT).replace(directory / run_files.DAMAGED_CHECKPOINT)


def _going_on(previous: Path) -> str:
    return f"The run goes on from the checkpoint before it, {previous.name}."
