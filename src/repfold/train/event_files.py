"""The record as TensorBoard event files, in the run directory while it grows: ``tensorboard --logdir runs``."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any

from repfold import run_files
from repfold.errors import RepFoldError
from repfold.train.events import EpochDone, Event, Record, Started
from repfold.train.record import writing


def found(directory: Path) -> bool:
    """Return whether a run has event files, which should then go on when it does."""
    return any(directory.glob("events.out.tfevents.*"))


class EventFiles:
    """A listener of ``train``, and a context at whose end all is written.

    Each quantity of the record is a scalar over the epochs. A run that goes on gets a file more, which begins with the
    whole record and, as TensorBoard has it for restarts, replaces what earlier files say.

    Raises: RepFoldError when the package tensorboard is missing or unusable.
    """

    def __init__(self, directory: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise RepFoldError(
                f"TensorBoard's event files need the package tensorboard ({error}). Install the extra: "
                "pip install 'repfold[tensorboard]'."
            ) from error
        self.directory, self.writer_of = directory, SummaryWriter
        self.writer: Any = None

    def __enter__(self) -> EventFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.writer is not None:
            self.writer.close()

    def __call__(self, event: Event) -> None:
        """Write what the event adds to the record. Raises: RepFoldError when the directory cannot be written."""
        with writing(self.directory):
            if isinstance(event, Started):
                self._begin()
            elif isinstance(event, EpochDone):
                self._add(event.record, time.time())
                self.writer.flush()

    def _begin(self) -> None:
        """Open a file, and write the epochs that are done as if they had followed one another up to now."""
        records = run_files.epochs_of(self.directory)
        purge = 1 if found(self.directory) else None
        self.writer = self.writer_of(str(self.directory), purge_step=purge)
        at = time.time() - sum(record["seconds"] for record in records)
        for record in records:
            at += record["seconds"]
            self._add(record, at)
        self.writer.flush()

    def _add(self, record: Record, at: float) -> None:
        for name, value in record.items():
            if name != "epoch":
                self.writer.add_scalar(_tag(name), value, record["epoch"], walltime=at)


def _tag(name: str) -> str:
    """The name of a quantity, such that TensorBoard groups those of training and those of validation: val/top1."""
    group, _, rest = name.partition("_")
    return f"{group}/{rest}" if group in ("train", "val") else name
