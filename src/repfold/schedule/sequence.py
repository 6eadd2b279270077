"""Schedules that repeat or replace a schedule: warm restarts (SGDR) and a tail of fixed small rates."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import ClassVar

from repfold.errors import RepFoldError, nearest
from repfold.schedule.decay import Cosine, InverseSigmoid
from repfold.schedule.length import LengthLike, length
from repfold.schedule.schedule import Schedule, ScheduleWarning, require


@dataclass(frozen=True)
class Restarts(Schedule):
    """``of``, run anew in cycles of T_i = ``first`` · ``factor``^i (SGDR's T_0 and T_mult; Loshchilov and Hutter 2016).

    Each cycle is a whole run to ``of``. ``top`` and ``end`` are the range of each cycle, as multiples of the base rate
    (one value: that of all cycles; of several the last is that of the cycles after it), with cosine SGDR's equation:
    η = end_i + (top_i - end_i)/2 · (1 + cos(π T_cur/T_i)). A run that ends inside a cycle ends at a high rate: that
    warns.
    """

    name: ClassVar[str] = "restarts"
    first: LengthLike = "10ep"
    factor: float = 2.0
    of: Schedule = Cosine()  # noqa: RUF009 - frozen
    top: float | tuple[float, ...] = 1.0
    end: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", length(self.first))
        for bound in ("top", "end"):
            object.__setattr__(self, bound, _each(getattr(self, bound)))
        require(length(self.first).value > 0, "restarts: a first cycle of length 0 never ends.")
        require(
            self.factor >= 1, f"restarts: factor={self.factor} must be at least 1, or the cycles shrink to nothing."
        )
        cycles = range(max(len(_each(self.top)), len(_each(self.end))))
        require(
            all(0 <= end <= top and top > 0 for top, end in map(self._range, cycles)),
            f"restarts: top={self.top} and end={self.end} are multiples of the base rate: in each cycle top must be "
            "above 0 and end from 0 to top.",
        )

    def at(self, step: int, steps: int, per_epoch: int) -> float:
        """Return ``of`` at the step's position in its cycle, in the cycle's range; the run ends with its last cycle."""
        number, begin, cycle = self._cycle(min(step, steps - 1), steps, per_epoch)
        self._warn_if_cut(steps, per_epoch)
        top, end = self._range(number)
        return end + (top - end) * self.of.at(step - begin, cycle, per_epoch)

    def _range(self, number: int) -> tuple[float, float]:
        tops, ends = _each(self.top), _each(self.end)
        return tops[min(number, len(tops) - 1)], ends[min(number, len(ends) - 1)]

    def _cycle(self, step: int, steps: int, per_epoch: int) -> tuple[int, int, int]:
        """The number of the step's cycle, from 0, the step it begins at, and its steps."""
        number, begin, span = 0, 0, float(length(self.first).steps(steps, per_epoch))
        while begin + round(span) <= step:
            number, begin, span = number + 1, begin + round(span), span * self.factor
        return number, begin, round(span)

    def _warn_if_cut(self, steps: int, per_epoch: int) -> None:
        _, begin, cycle = self._cycle(steps - 1, steps, per_epoch)
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
    """``of`` until the last ``length`` of the run, then the ``rates``, an equal time each.

    ``rates`` are absolute learning rates, and ``lr`` is the base rate they are divided by. ``mode``: "suffix" - ``of``
    has the steps before the tail as its whole run; "overlap" - ``of`` runs over all N steps, and the tail takes the
    place of its end. A tail that starts above the last rate of the schedule before it is a mistake, and warns.
    """

    name: ClassVar[str] = "step-tail"
    length: LengthLike = "20ep"
    of: Schedule = InverseSigmoid()  # noqa: RUF009 - frozen
    rates: tuple[float, ...] = (1e-4, 5e-5)
    lr: float = 0.1
    mode: str = field(default="suffix", metadata={"always_written": True})

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", length(self.length))
        object.__setattr__(self, "rates", tuple(float(rate) for rate in self.rates))
        if self.mode not in _TAIL_MODES:
            raise RepFoldError(f"step-tail: unknown mode '{self.mode}'. {nearest(self.mode, _TAIL_MODES)}")
        require(bool(self.rates) and min(self.rates) > 0, "step-tail: give one or more rates, each above 0.")
        require(self.lr > 0, f"step-tail: the base learning rate lr={self.lr} must be above 0.")

    def at(self, step: int, steps: int, per_epoch: int) -> float:
        """Return the value of ``of`` at ``step``, or in the tail its rate divided by ``lr``."""
        tail = length(self.length).steps(steps, per_epoch)
        head = steps - tail
        require(
            head > 0, f"A tail of {self.length} ({tail} steps) leaves nothing of a run of {steps} steps: shorten it."
        )
        run = head if self.mode == "suffix" else steps
        if tail:
            self._warn_if_above(self.of.at(head - 1, run, per_epoch))
        if step < head or not tail:
            return self.of.at(step, run, per_epoch)
        piece = min((step - head) * len(self.rates) // tail, len(self.rates) - 1)
        return self.rates[piece] / self.lr

    def _warn_if_above(self, last: float) -> None:
        if self.rates[0] > last * self.lr:
            warnings.warn(
                f"The tail starts at a learning rate of {self.rates[0]:g}, above the {last * self.lr:.3g} that "
                f"{self.of} has come to for a base rate of {self.lr:g}: it would rise. Give smaller rates, or a base "
                f"rate of {self.rates[0] / last:.3g} or more.",
                ScheduleWarning,
                stacklevel=4,
            )


def sgdr(
    first: LengthLike = "10ep",
    factor: float = 2.0,
    end: float | tuple[float, ...] = 0.0,
    top: float | tuple[float, ...] = 1.0,
) -> Schedule:
    """Return cosine annealing with warm restarts: cycles of ``first``, ``first`` · ``factor``, ..., each in its range.

    ``top`` and ``end``: of all cycles, or one of each, as in ``Restarts``.
    """
    return Restarts(first, factor, top=top, end=end)


def sigmoid_step_tail(
    c: float = 0.0,
    length: LengthLike = "20ep",
    rates: tuple[float, ...] = (1e-4, 5e-5),
    lr: float = 0.1,
    mode: str = "suffix",
) -> Schedule:
    """Return inverse sigmoid followed by a step tail: of 120 epochs, 100 of the sigmoid and 10 at each of two rates.

    "suffix": a sigmoid of 100 epochs, whole; "overlap": one of 120 epochs, cut at 100.
    """
    return StepTail(length, of=InverseSigmoid(c), rates=rates, lr=lr, mode=mode)


_TAIL_MODES = ("suffix", "overlap")


def _each(bound: float | tuple[float, ...]) -> tuple[float, ...]:
    """The bounds of the cycles, one for all or several."""
    values = bound if isinstance(bound, tuple) else (bound,)
    return tuple(float(value) for value in values) or (math.nan,)
