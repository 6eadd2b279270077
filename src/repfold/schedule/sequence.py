"""Schedules that repeat or replace a schedule: warm restarts (SGDR) and a tail of fixed small rates."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar

from repfold.schedule.decay import Cosine, InverseSigmoid
from repfold.schedule.length import LengthLike, length
from repfold.schedule.schedule import Schedule, ScheduleWarning, require


@dataclass(frozen=True)
class Restarts(Schedule):
    """``of``, run anew in cycles of T_i = ``first`` · ``factor``^i (SGDR's T_0 and T_mult; Loshchilov and Hutter 2016).

    Each cycle is a whole run to ``of``: cosine gives η = end + (1 - end)/2 · (1 + cos(π T_cur/T_i)).
    A run that ends inside a cycle ends at a high rate: that warns.
    """

    name: ClassVar[str] = "restarts"
    first: LengthLike = "10ep"
    factor: float = 2.0
    of: Schedule = Cosine()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", length(self.first))
        require(length(self.first).value > 0, "restarts: a first cycle of length 0 never ends.")
        require(
            self.factor >= 1, f"restarts: factor={self.factor} must be at least 1, or the cycles shrink to nothing."
        )

    def at(self, step: int, steps: int, per_epoch: int) -> float:
        """Return the value of ``of`` at the step's position in its cycle; the run ends at the end of its last cycle."""
        begin, cycle = self._cycle(min(step, steps - 1), steps, per_epoch)
        self._warn_if_cut(steps, per_epoch)
        return self.of.at(step - begin, cycle, per_epoch)

    def _cycle(self, step: int, steps: int, per_epoch: int) -> tuple[int, int]:
        begin, span = 0, float(length(self.first).steps(steps, per_epoch))
        while begin + round(span) <= step:
            begin, span = begin + round(span), span * self.factor
        return begin, round(span)

    def _warn_if_cut(self, steps: int, per_epoch: int) -> None:
        begin, cycle = self._cycle(steps - 1, steps, per_epoch)
        if begin + cycle > steps:
            warnings.warn(
                f"The run of {steps} steps ends inside a cycle of {self.name}, {steps - begin} steps into {cycle}: it "
                f"will end at a high learning rate. Runs that end with a cycle: {begin} or {begin + cycle} steps "
                f"({begin / per_epoch:g} or {(begin + cycle) / per_epoch:g} epochs).",
                ScheduleWarning,
                stacklevel=4,
            )


@dataclass(frozen=True)
class StepTail(Schedule):
    """``of`` over all but the last ``length`` of the run, as its whole run; then the ``rates``, an equal time each.

    ``rates`` are absolute learning rates, and ``lr`` is the base rate they are divided by. A tail that starts above the
    last rate of the schedule it follows is a mistake, and warns.
    """

    name: ClassVar[str] = "step-tail"
    length: LengthLike = "20ep"
    of: Schedule = InverseSigmoid()  # noqa: RUF009 - frozen
    rates: tuple[float, ...] = (1e-4, 5e-5)
    lr: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", length(self.length))
        object.__setattr__(self, "rates", tuple(float(rate) for rate in self.rates))
        require(bool(self.rates) and min(self.rates) > 0, "step-tail: give one or more rates, each above 0.")
        require(self.lr > 0, f"step-tail: the base learning rate lr={self.lr} must be above 0.")

    def at(self, step: int, steps: int, per_epoch: int) -> float:
        """Return the value of ``of`` at ``step``, or in the tail its rate divided by ``lr``."""
        tail = length(self.length).steps(steps, per_epoch)
        head = steps - tail
        require(
            head > 0, f"A tail of {self.length} ({tail} steps) leaves nothing of a run of {steps} steps: shorten it."
        )
        if tail:
            self._warn_if_above(self.of.at(head - 1, head, per_epoch))
        if step < head or not tail:
            return self.of.at(step, head, per_epoch)
        piece = min((step - head) * len(self.rates) // tail, len(self.rates) - 1)
        return self.rates[piece] / self.lr

    def _warn_if_above(self, last: float) -> None:
        if self.rates[0] > last * self.lr:
            warnings.warn(
                f"The tail starts at a learning rate of {self.rates[0]:g}, above the {last * self.lr:.3g} at which "
                f"{self.of} ends for a base rate of {self.lr:g}: it would rise. Give smaller rates, or a base rate of "
                f"{self.rates[0] / last:.3g} or more.",
                ScheduleWarning,
                stacklevel=4,
            )


def sgdr(first: LengthLike = "10ep", factor: float = 2.0, end: float = 0.0) -> Schedule:
    """Return cosine annealing with warm restarts: cycles of ``first``, ``first`` · ``factor``, ..., down to ``end``."""
    return Restarts(first, factor, of=Cosine(end))


def sigmoid_step_tail(
    c: float = 0.0,
    length: LengthLike = "20ep",
    rates: tuple[float, ...] = (1e-4, 5e-5),
    lr: float = 0.1,
) -> Schedule:
    """Return inverse sigmoid followed by a step tail: of 120 epochs, 100 of the sigmoid and 10 at each of two rates."""
    return StepTail(length, of=InverseSigmoid(c), rates=rates, lr=lr)
