"""What a study under way tells whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from repfold.study import worker
from repfold.study.trial import Trial

End = Literal["trained", "found", "failed"]
ENDS: dict[str, End] = {worker.DONE: "trained", worker.FOUND: "found", worker.FAILED: "failed"}


@dataclass(frozen=True)
class Begun:
    """``finished`` of ``total`` trials are there already; ``jobs`` are trained at a time, each on ``threads``."""

    finished: int
    total: int
    jobs: int
    threads: int


@dataclass(frozen=True)
class Progress:
    """A trial is ``epoch`` (fractional) of ``epochs`` far; ``top1`` is that of an epoch that has just ended."""

    trial: Trial
    epoch: float
    epochs: int
    loss: float | None
    top1: float | None


@dataclass(frozen=True)
class Ended:
    """A trial came to its end, in ``seconds``; ``result``: its directory's name, or why it failed.

    ``how``: it was trained, found finished by another runner meanwhile, or failed.
    """

    trial: Trial
    how: End
    result: str
    seconds: float


@dataclass(frozen=True)
class Waiting:
    """All that is left, ``trials``, is being trained by another runner."""

    trials: int


@dataclass(frozen=True)
class OutOfTime:
    """The hours are over, or the next round of a seed would not fit: ``left`` trials are not begun."""

    left: int


Event = Begun | Progress | Ended | Waiting | OutOfTime
