"""Schedules around a schedule, at either end: warm-up before (or over) it, cool-down after (or over) it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from repfold.errors import RepFoldError, nearest
from repfold.schedule.decay import Constant, Cosine
from repfold.schedule.length import LengthLike, length
from repfold.schedule.schedule import Schedule, require

# Where a warm-up of each shape starts by default, and where a cool-down ends, as multiples of the base rate.
_WARMUP_STARTS = {"linear": 0.0, "constant": 0.1, "exponential": 0.01}
_COOLDOWN_ENDS = {"linear": 0.0, "cosine": 0.0, "sqrt": 0.0, "constant": 0.01, "exponential": 0.01}

# The way down from 1 at share 0 to 0 at share 1 of a cool-down.
_FALLS: dict[str, Callable[[float], float]] = {
    "linear": lambda share: 1 - share,
    "cosine": lambda share: (1 + math.cos(math.pi * share)) / 2,
    "sqrt": lambda share: 1 - math.sqrt(share),
}


@dataclass(frozen=True)
class Warmup(Schedule):
    """Rise to the base rate over the first W steps, W = ``length``; then the schedule ``then``.

    ``shape``: "linear" (gradual warm-up), "exponential" (equal factors) or "constant" (a low rate, then the full one).
    ``mode``: "prefix" - ``then`` begins after the warm-up and has the N - W steps that are left;
    "overlap" - ``then`` runs under it from step 0 over all N steps, and the warm-up multiplies it.
    ``start``: the multiplier of the first step. 0, the default of linear, means "from 0 before the first step":
    1/W, 2/W, ... 1. Step W - 1 is at 1 (constant: step W).
    """

    name: ClassVar[str] = "warmup"
    length: LengthLike = "5ep"
    then: Schedule = Cosine()  # noqa: RUF009 - frozen
    shape: str = "linear"
    mode: str = field(default="prefix", metadata={"always_written": True})
    start: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", length(self.length))
        _require_choice("warmup", "shape", self.shape, _WARMUP_STARTS)
        _require_choice("warmup", "mode", self.mode, ("prefix", "overlap"))
        require(0 <= self._start <= 1, f"warmup: start={self._start} must lie in [0, 1], a multiple of the base rate.")
        require(
            self._start > 0 or self.shape == "linear",
            f"warmup: a {self.shape} warm-up from start=0 would train nothing: give a start above 0.",
        )

    @property
    def _start(self) -> float:
        return _WARMUP_STARTS[self.shape] if self.start is None else self.start

    def ramp_steps(self, steps: int, per_epoch: int) -> int:
        """Return W, the number of warm-up steps.

        Raises: RepFoldError when the warm-up leaves no step of the run for the schedule it leads to.
        """
        ramp = length(self.length).steps(steps, per_epoch)
        require(
            ramp < steps,
            f"A warm-up of {self.length} ({ramp} steps) leaves nothing of a run of {steps} steps "
            f"({steps / per_epoch:g} epochs): shorten the warm-up or train longer.",
        )
        return ramp

    def at(self, step: int, steps: int, per_epoch: int) -> float:
        """Return the ramp's value, in overlap mode times ``then``; after the ramp, the value of ``then``."""
        ramp = self.ramp_steps(steps, per_epoch)
        factor = self._ramp(step, ramp) if step < ramp else 1.0
        if self.mode == "overlap":
            return factor * self.then.at(step, steps, per_epoch)
        return factor if step < ramp else self.then.at(step - ramp, steps - ramp, per_epoch)

    def _ramp(self, step: int, ramp: int) -> float:
        first = self._start or 1 / ramp
        if self.shape == "constant" or ramp == 1:
            return first
        share = step / (ramp - 1)
        return first + (1 - first) * share if self.shape == "linear" else first ** (1 - share)


@dataclass(frozen=True)
class Cooldown(Schedule):
    """Fall to ``end`` over the last C steps, C = ``length``, of the schedule ``of``.

    ``shape``: "linear", "cosine", "sqrt" (1 - sqrt of the share done), "exponential" (equal factors) or "constant"
    (``end`` throughout).
    ``mode``: "suffix" - ``of`` has the first N - C steps as its whole run, and the fall starts from its last
    rate; "overlap" - ``of`` runs over all N steps and the fall, from 1, multiplies it.
    """

    name: ClassVar[str] = "cooldown"
    length: LengthLike = "5ep"
    of: Schedule = Constant()  # noqa: RUF009 - frozen
    shape: str = "linear"
    mode: str = field(default="suffix", metadata={"always_written": True})
    end: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", length(self.length))
        _require_choice("cooldown", "shape", self.shape, _COOLDOWN_ENDS)
        _require_choice("cooldown", "mode", self.mode, ("suffix", "overlap"))
        require(0 <= self._end <= 1, f"cooldown: end={self._end} must lie in [0, 1], a multiple of the base rate.")
        require(
            self._end > 0 or self.shape in _FALLS,
            f"cooldown: a {self.shape} cool-down to end=0 would train nothing: give an end above 0.",
        )

    @property
    def _end(self) -> float:
        return _COOLDOWN_ENDS[self.shape] if self.end is None else self.end

    def at(self, step: int, steps: int, per_epoch: int) -> float:
        """Return the value of ``of``, and over the last C steps that of the fall.

        Raises: RepFoldError when the cool-down is as long as the run.
        """
        fall = length(self.length).steps(steps, per_epoch)
        head = steps - fall
        require(
            head > 0,
            f"A cool-down of {self.length} ({fall} steps) leaves nothing of a run of {steps} steps: shorten it.",
        )
        share = (step - head) / fall if step > head else 0.0
        if self.mode == "overlap":
            falling = self._fall(1.0, share) if fall and step >= head else 1.0
            return falling * self.of.at(step, steps, per_epoch)
        if step < head:
            return self.of.at(step, head, per_epoch)
        last = self.of.at(head - 1 if fall else head, head, per_epoch)
        return self._fall(last, share) if fall else last

    def _fall(self, top: float, share: float) -> float:
        if self.shape == "constant":
            return self._end
        if self.shape == "exponential":
            value: float = top * (self._end / top) ** share
            return value
        left = _FALLS[self.shape](share)
        return top * left + self._end * (1 - left)  # top + (end - top) * ... would lose a top far below end


def warmup_stable_decay(
    warmup: LengthLike = "5%", decay: LengthLike = "20%", shape: str = "linear", end: float | None = None
) -> Schedule:
    """Return warmup-stable-decay: a linear rise, the base rate, then a fall to ``end`` over the last part of the run.

    Shares (``"20%"``) of ``decay`` are of what follows the warm-up.
    """
    return Warmup(warmup, then=Cooldown(decay, of=Constant(), shape=shape, end=end))


def _require_choice(owner: str, key: str, value: str, known: tuple[str, ...] | dict[str, float]) -> None:
    if value not in known:
        raise RepFoldError(f"{owner}: unknown {key} '{value}'. {nearest(value, known)}")
