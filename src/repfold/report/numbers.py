"""Numbers as they stand in records: which values are numbers, which are finite, and how exactly a page keeps them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeGuard

Values = Sequence[float | None]


def number(value: object) -> float | None:
    """Return a number as float, NaN and ∞ included; ``None`` for all else, true and false included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return math.inf if value > 0 else -math.inf


def finite(value: float | None) -> TypeGuard[float]:
    """Return whether a value can be drawn and averaged."""
    return value is not None and math.isfinite(value)


def rounded(values: Values) -> list[float | None]:
    """Return the values to five significant digits, ``None`` for what is not finite, as JSON demands."""
    return [float(f"{value:.5g}") if finite(value) else None for value in values]
