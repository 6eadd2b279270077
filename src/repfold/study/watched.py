"""A training that is watched: how far it is, how long it takes, which code it runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from repfold.study.code import Code, Watch, here
from repfold.study.order import Order
from repfold.train import train
from repfold.train.events import EpochDone, Event, Started, Stepped

_EVERY = 0.5  # seconds between two reports of progress
PROGRESS = "progress"  # how these begin
# What measures runs too much to be watched: all of it counts.
_MEASURING = ("repfold.algebra.", "repfold.fold.", "repfold.graph.")


class OrphanedError(Exception):
    """Nobody listens any more: whoever asked for the trial was killed."""


@dataclass(frozen=True)
class Trained:
    """What is known of a training that has ended: how long it took, the code that ran, what was measured.

    ``seconds`` are those of its epochs, ``from_start`` all from the moment at which the first began.
    """

    seconds: float
    from_start: float
    code: Mapping[str, str]
    measured: Mapping[str, float]


def train_watched(order: Order, directory: Path, pipe: Connection | None, *, leads: bool = True) -> Trained:
    """Train the trial of ``order`` in ``directory``, or go on with it; tell ``pipe`` how far it is.

    ``leads``: this is the process, of perhaps several, which writes the files, and measures what follows.

    Raises: as ``train`` does; OrphanedError when nobody listens.
    """
    listen = Listener(pipe if leads else None, order.code or here())
    listen.watch.on()
    try:
        # The code and the data are those of the key; what may differ is the number of threads.
        result = train(order.trial.recipe, directory, resume=True, override=True, trust=order.trust, on_event=listen)
    finally:
        listen.watch.off()
    measured = _measured(order, directory) if leads else {}
    if measured:
        listen.watch.add_loaded(_MEASURING)
    seconds = sum(record["seconds"] for record in result.records)
    return Trained(seconds, listen.trained, listen.watch.digests() if leads else {}, measured)


def _measured(order: Order, directory: Path) -> dict[str, float]:
    if order.trial.measured != "int8_top1":
        return {}
    from repfold.study.measure import int8_accuracy

    return int8_accuracy(directory, order.trial.recipe, order.threads, trust=order.trust)


class Listener:
    """Hears the events of a training, passes on how far it is, and has the code watched where it may be new."""

    def __init__(self, pipe: Connection | None, code: Code) -> None:
        self.pipe, self.watch = pipe, Watch(code)
        self.epochs, self.trained, self._told_at, self._began = 0, 0.0, 0.0, time.perf_counter()

    def __call__(self, event: Event) -> None:
        """Take note of an event. Raises: OrphanedError when nobody listens."""
        if isinstance(event, Started):
            self.epochs, self._began = event.epochs, time.perf_counter()
        elif isinstance(event, Stepped):
            if event.step >= event.steps:
                self.watch.on()
            else:
                self.watch.off()
            self._tell(event.epoch + event.step / event.steps, event.loss)
        elif isinstance(event, EpochDone):
            self.trained = time.perf_counter() - self._began
            self._tell(float(event.record["epoch"]), event.record["train_loss"], top1=event.record["val_top1"])

    def _tell(self, epochs: float, loss: float, top1: float | None = None) -> None:
        now = time.perf_counter()
        if self.pipe is None or (top1 is None and now - self._told_at < _EVERY):
            return
        self._told_at = now
        try:
            self.pipe.send((PROGRESS, epochs, self.epochs, loss, top1))
        except OSError as error:
            raise OrphanedError from error
