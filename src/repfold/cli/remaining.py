"""How long a training still takes: as measured before its first step, corrected by how it really goes."""

from __future__ import annotations

import time
from collections.abc import Callable

from repfold.train.events import Pace

# Once so much of the session has passed, its own course says more than the steps measured before it.
_TELLS_SECONDS = 5.0


class Remaining:
    """The rest of a run of ``epochs`` of ``steps``, of which ``done`` epochs and ``step`` steps are behind.

    ``pace``: what a step and an evaluation cost, if that was measured; else evaluations count nothing.
    """

    def __init__(
        self,
        pace: Pace | None,
        epochs: int,
        steps: int,
        done: int = 0,
        step: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pace, self.measured = pace or Pace(1.0, 0.0), pace is not None
        self.steps, self.clock = steps, clock
        self.total = self.pace.of(epochs, steps)
        self.behind = self.begin = self.pace.of(done, steps) + step * self.pace.step
        self.began = clock()

    def stepped(self, epoch: int, step: int) -> None:
        """Take in that ``step`` steps of ``epoch`` (from 0) are done."""
        self.behind = self.pace.of(epoch, self.steps) + step * self.pace.step

    def evaluated(self, epochs: int) -> None:
        """Take in that so many epochs are done, their evaluation included."""
        self.behind = self.pace.of(epochs, self.steps)

    def seconds(self) -> float | None:
        """Return the seconds that are left, or None while nothing is known of them."""
        elapsed, worked = self.clock() - self.began, self.behind - self.begin
        if worked > 0 and (elapsed > _TELLS_SECONDS or not self.measured):
            return (self.total - self.behind) * elapsed / worked
        return self.total - self.behind if self.measured else None


def in_words(seconds: float) -> str:
    """Return a length of time as people say it: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{max(whole, 1)} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 10:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
