"""Where in a training one is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Position:
    """``step`` steps of ``epoch`` (from 0) are done."""

    epoch: int
    step: int

    def __str__(self) -> str:
        return f"step {self.step} of epoch {self.epoch + 1}" if self.step else f"the end of epoch {self.epoch}"

    def index(self, steps_per_epoch: int) -> int:
        """Return how many steps are done since the beginning: the number, from 0, of the step that comes next."""
        return self.epoch * steps_per_epoch + self.step
