"""Schedules of one piece: x is the number of epochs done, n that of the run; values are multiples of the base rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from repfold.schedule.length import LengthLike, length
from repfold.schedule.schedule import Schedule, require


@dataclass(frozen=True)
class Constant(Schedule):
    """The same ``value`` throughout."""

    name: ClassVar[str] = "constant"
    value: float = 1.0

    def __post_init__(self) -> None:
        require(self.value > 0, f"A constant schedule of {self.value} would train nothing: give a value above 0.")

    def at(self, step: int, steps: int, per_epoch: int) -> float:
        """Return ``value``."""
        return self.value


@dataclass(frozen=True)
class Cosine(Schedule):
    """end + (1 - end)/2 · (1 + cos(π x/n)); SGDR's annealing (Loshchilov and Hutter 2016) without a restart."""

    name: ClassVar[str] = "cosine"
    end: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.end <= 1, f"cosine: end={self.end} must lie in [0, 1], it is a multiple of the base rate.")

    def at(self, step: int, steps: int, per_epoch: int) -> float:
        """Return the value of the equation above."""
        return self.end + (1 - self.end) * _half_cosine(step / steps)


@dataclass(frozen=True)
class Step(Schedule):
    """factor^floor(x / size)."""

    name: ClassVar[str] = "step"
    size: LengthLike = "30ep"
    factor: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", length(self.size))
        require(length(self.size).value > 0, "step: a size of 0 leaves no time between the steps.")
        require(self.factor > 0, f"step: factor={self.factor} must be above 0.")

    def at(self, step: int, steps: int, per_epoch: int) -> float:
        """Return the value of the equation above."""
        size = length(self.size).steps(steps, per_epoch)
        require(
            self.factor ** (steps // size) > 0,
            f"step: {steps // size} steps by {self.factor} reach a learning rate of 0; give a larger size or factor.",
        )
        return self.factor ** (step // size)


@dataclass(frozen=True)
class AdjustedStep(Schedule):
    """1 for x <= 20; 0.2^floor((x-15)/15) for 20 < x <= 60; 0.1^floor((x-45)/15) beyond.

    Taken to the letter it is not monotonic: from 0.04 (and 0.008 at x = 60 alone) it rises to 0.1 just after x = 60.
    """

    name: ClassVar[str] = "adjusted-step"

    def at(self, step: int, steps: int, per_epoch: int) -> float:
        """Return the value of the equation above (in whole steps, so that no boundary is lost to rounding)."""
        if step <= 20 * per_epoch:
            return 1.0
        if step <= 60 * per_epoch:
            return 0.2 ** ((step - 15 * per_epoch) // (15 * per_epoch))
        return 0.1 ** ((step - 45 * per_epoch) // (15 * per_epoch))


@dataclass(frozen=True)
class Piecewise(Schedule):
    """``values[i]`` from ``boundaries[i - 1]`` to before ``boundaries[i]``; ÷10 every 30 epochs by default."""

    name: ClassVar[str] = "piecewise"
    boundaries: tuple[LengthLike, ...] = ("30ep", "60ep", "90ep")
    values: tuple[float, ...] = (1.0, 0.1, 0.01, 0.001)

    def __post_init__(self) -> None:
        object.__setattr__(self, "boundaries", tuple(length(boundary) for boundary in self.boundaries))
        object.__setattr__(self, "values", tuple(float(value) for value in self.values))
        require(
            len(self.values) == len(self.boundaries) + 1,
            f"piecewise: {len(self.boundaries)} boundaries make {len(self.boundaries) + 1} pieces, "
            f"but {len(self.values)} values are given.",
        )
        require(min(self.values) > 0, f"piecewise: every value must be above 0, not {self.values}.")

    def at(self, step: int, steps: int, per_epoch: int) -> float:
        """Return the value of the piece that ``step`` lies in."""
        edges = [length(boundary).steps(steps, per_epoch) for boundary in self.boundaries]
        require(
            all(left < right for left, right in pairwise(edges)),
            f"piecewise: the boundaries {'/'.join(map(str, self.boundaries))} do not rise (in steps: {edges}).",
        )
        return self.values[sum(step >= edge for edge in edges)]


@dataclass(frozen=True)
class Exponential(Schedule):
    """e^(-rate · x), x in epochs."""

    name: ClassVar[str] = "exponential"
    rate: float = 0.1

    def __post_init__(self) -> None:
        require(self.rate >= 0, f"exponential: rate={self.rate} would let the learning rate grow without bound.")

    def at(self, step: int, steps: int, per_epoch: int) -> float:
        """Return the value of the equation above."""
        require(
            self.rate * steps / per_epoch < 700,
            f"exponential: at rate={self.rate} the learning rate is 0 long before the run ends; give a smaller rate.",
        )
        return math.exp(-self.rate * step / per_epoch)


@dataclass(frozen=True)
class Polynomial(Schedule):
    """(1 - end) · (1 - x/n)^power + end."""

    name: ClassVar[str] = "polynomial"
    power: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        require(0 < self.power <= 20, f"polynomial: power={self.power} must lie in (0, 20].")
        require(0 <= self.end <= 1, f"polynomial: end={self.end} must lie in [0, 1], a multiple of the base rate.")

    def at(self, step: int, steps: int, per_epoch: int) -> float:
        """Return the value of the equation above."""
        value: float = (1 - self.end) * (1 - step / steps) ** self.power + self.end
        return value


@dataclass(frozen=True)
class InverseSigmoid(Schedule):
    """1 / (1 + e^y), y = (x - n/2) / (n/10 - c), c in epochs: the larger c, the steeper the middle.

    Ends at 0.006693 for c = 0. At c = n/10 the definition divides by zero and beyond it rises: both are refused.
    """

    name: ClassVar[str] = "inverse-sigmoid"
    c: float = 0.0

    def at(self, step: int, steps: int, per_epoch: int) -> float:
        """Return the value of the equation above.

        Raises: RepFoldError when c >= n/10, or so close to it that the second half would train at a rate of 0.
        """
        x, n = step / per_epoch, steps / per_epoch
        width = n / 10 - self.c
        require(
            width > 0,
            f"inverse-sigmoid: c={self.c:g} must be below n/10 = {n / 10:g} (the run has n = {n:g} epochs): "
            f"at n/10 the schedule divides by zero, above it the learning rate would rise.",
        )
        require(
            n / 2 / width < 700,
            f"inverse-sigmoid: c={self.c!r} is so close to n/10 = {n / 10:g} that the learning rate would be 0 after "
            f"the middle; give a smaller c.",
        )
        return 1 / (1 + math.exp((x - n / 2) / width))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from ``start`` to 1 over the share ``rise`` of the run, then down to ``end`` (Smith and Topin 2018).

    ``shape`` "cosine" moves along half a cosine wave each way, "linear" straight.
    """

    name: ClassVar[str] = "one-cycle"
    rise: float = 0.3
    start: float = 0.04
    end: float = 4e-6
    shape: str = "cosine"

    def __post_init__(self) -> None:
        require(
            0 < self.rise < 1, f"one-cycle: rise={self.rise} is the share of the run that rises: give 0 < rise < 1."
        )
        require(0 < self.start <= 1, f"one-cycle: start={self.start} must lie in (0, 1].")
        require(0 <= self.end <= 1, f"one-cycle: end={self.end} must lie in [0, 1].")
        require(self.shape in ("cosine", "linear"), f"one-cycle: shape='{self.shape}' must be cosine or linear.")

    def at(self, step: int, steps: int, per_epoch: int) -> float:
        """Return the value of the curve above."""
        share = step / steps
        falling = _half_cosine if self.shape == "cosine" else _straight
        if share < self.rise:
            return 1 + (self.start - 1) * falling(share / self.rise)
        return self.end + (1 - self.end) * falling((share - self.rise) / (1 - self.rise))


def _half_cosine(share: float) -> float:
    """(1 + cos(π share)) / 2, as a square: exact at both ends and above 0 before the end, however long the run."""
    return math.sin(math.pi / 2 * (1 - share)) ** 2


def _straight(share: float) -> float:
    return 1 - share
