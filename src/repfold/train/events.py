"""The events that a training emits while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]


@dataclass(frozen=True)
class Preparing:
    """``done`` of ``total`` steps of checking and decoding images."""

    done: int
    total: int


@dataclass(frozen=True)
class Note:
    """Something that the user should know, in a sentence; ``severe``: also one who only looks at errors."""

    text: str
    severe: bool = False


@dataclass(frozen=True)
class Pace:
    """How long one training step takes, and the evaluation after an epoch; in seconds."""

    step: float
    evaluation: float

    def of(self, epochs: int, steps: int) -> float:
        """Return the seconds of so many epochs of ``steps`` steps."""
        return epochs * (steps * self.step + self.evaluation)


@dataclass(frozen=True)
class Started:
    """The run begins, or goes on, at ``step`` (of ``steps``) of ``epoch`` (from 0, of ``epochs``).

    ``classes``: those of the data; ``pace``: as measured beforehand, if it was.
    """

    summary: dict[str, str]
    epoch: int
    epochs: int
    step: int
    steps: int
    classes: int
    pace: Pace | None = None


@dataclass(frozen=True)
class Stepped:
    """Update ``step`` (from 1, of ``steps``) of ``epoch`` (from 0) is done, at ``loss`` (the epoch's mean so far)."""

    epoch: int
    step: int
    steps: int
    loss: float
    lr: float
    images_per_second: float


@dataclass(frozen=True)
class EpochDone:
    """An epoch is evaluated; ``best``: it is the best so far; ``last``: no other follows."""

    record: Record
    best: bool
    last: bool = False


Event = Preparing | Note | Started | Stepped | EpochDone
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing."""
