"""What a schedule is: a value that, called with a step, returns the multiplier of the base learning rate.

A run has N = epochs * steps_per_epoch steps, numbered 0 to N - 1. Step k is taken when x = k / steps_per_epoch epochs
are done, and x is the variable of the literature's definitions. A falling curve is therefore read at the beginning
of its step: cosine is 1 at x = 0 and 0 at x = n (``cosine(0, ...)`` is 1, ``cosine(N, ...)`` is 0), but
step N is never taken, and the last step taken, N - 1, still moves the weights. A rising ramp would waste its first step
that way, so warm-up is read at the end of its step: 1/W, 2/W, ... 1. No update happens at a learning rate of exactly 0.

Schedules hold no state: what resumes a schedule is the number of the step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from repfold import specs
from repfold.errors import RepFoldError


class ScheduleWarning(UserWarning):
    """A schedule that can be run but is surely not what was meant."""


@dataclass(frozen=True)
class Schedule(ABC):
    """A learning-rate schedule: ``schedule(step, steps_per_epoch, epochs)`` -> multiplier of the base learning rate.

    ``str(schedule)`` is the text from which ``repfold.schedule.parse`` makes an equal schedule.
    """

    name: ClassVar[str]

    def __call__(self, step: int, steps_per_epoch: int, epochs: float) -> float:
        """Return the multiplier of the base learning rate for the update number ``step`` (from 0).

        ``step`` = epochs * steps_per_epoch is allowed and gives the value where the schedule ends.

        Raises: RepFoldError when the step lies outside the run or the schedule does not fit into it.
        """
        if steps_per_epoch < 1 or epochs <= 0:
            raise RepFoldError(f"A run of {epochs} epochs of {steps_per_epoch} steps has nothing to schedule.")
        steps = max(round(epochs * steps_per_epoch), 1)
        if not 0 <= step <= steps:
            raise RepFoldError(f"Step {step} is outside the run of {steps} steps ({epochs} x {steps_per_epoch}).")
        multiplier = self.at(step, steps, steps_per_epoch)
        if multiplier <= 0 and step < steps:
            raise RepFoldError(
                f"Schedule '{self}' would make step {step} of {steps} at a learning rate of {multiplier}."
            )
        return multiplier

    @abstractmethod
    def at(self, step: int, steps: int, per_epoch: int) -> float:
        """Return the multiplier at ``step`` of a run of ``steps`` steps, ``per_epoch`` of them an epoch."""

    def __str__(self) -> str:
        return specs.to_text(self.name, self)


def require(condition: bool, message: str) -> None:
    """Raise RepFoldError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise RepFoldError(message)
