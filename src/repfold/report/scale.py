"""Axes: ticks on round numbers, the domain that they span, and the map from a value to a coordinate."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from repfold.report import wording


@dataclass(frozen=True)
class Scale:
    """Maps ``low..high`` (a value) to ``start..stop`` (pixels), linearly or by logarithm."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel coordinate of ``value``."""
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.stop - self.start)


def round_ticks(
    values: Iterable[float],
    *,
    most: int = 6,
    whole: bool = False,
    floor: float = -math.inf,
    ceiling: float = math.inf,
) -> tuple[float, ...]:
    """Return ascending ticks of a step 1, 2, 2.5 or 5 times a power of ten whose first and last enclose ``values``.

    At most ``most`` steps; ``whole`` allows whole-number steps only. ``floor`` and ``ceiling`` are where the quantity
    ends (0 and 100 for percent): values all alike are given room around them, but never beyond these ends.
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        room = max(abs(high) * 0.1, 1.0 if whole else 0.0) or 1.0
        low, high = max(low - room, min(floor, low)), min(high + room, max(ceiling, high))
    step = _step((high - low) / most, whole)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    while last - first > most:
        step = _step(step * 1.01, whole)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    # Through text, so that 3 * 0.1 is 0.3 and not 0.30000000000000004.
    return tuple(float(f"{index * step:.12g}") for index in range(first, last + 1))


def decade_ticks(values: Iterable[float], most: int = 6) -> tuple[float, ...]:
    """Return powers of ten whose first and last enclose the positive ``values``."""
    positive = [value for value in values if math.isfinite(value) and value > 0] or [1.0]
    first, last = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    last = max(last, first + 1)
    stride = math.ceil((last - first) / most)
    return tuple(10.0**power for power in range(first, last + stride, stride))


def tick_labels(ticks: Sequence[float], *, log: bool = False) -> tuple[str, ...]:
    """Write the ticks, all with as many decimals as the finest of them needs; very large and small ones shorter."""
    largest = max(abs(tick) for tick in ticks)
    if log:
        return tuple(wording.scientific(tick, 1) for tick in ticks)
    if largest >= 1e5 or 0 < largest < 1e-4:
        write = wording.large if largest >= 1e5 else wording.scientific
        # As many digits as tell the ticks apart.
        written = (tuple(_short(write(tick, digits)) for tick in ticks) for digits in range(3, 17))
        return next(labels for labels in written if len(set(labels)) == len(ticks))
    decimals = max((len(text) - text.find(".") - 1 if "." in (text := f"{tick:.12g}") else 0) for tick in ticks)
    return tuple(f"{tick:.{decimals}f}" for tick in ticks)


def _short(text: str) -> str:
    """Drop the zeros that end a number's decimals: 2.50·10⁻⁵ -> 2.5·10⁻⁵, 250.0 k -> 250 k."""
    return re.sub(r"\.(\d*?)0+(?!\d)", lambda found: f".{found[1]}" if found[1] else "", text)


def _step(least: float, whole: bool) -> float:
    """Return the smallest round step that is no smaller than ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    for factor in (1, 2, 2.5, 5, 10, 20, 50):
        step = factor * power
        if step >= least * (1 - 1e-9) and not (whole and (step < 1 or not float(step).is_integer())):
            return step
    return float(math.ceil(least))
