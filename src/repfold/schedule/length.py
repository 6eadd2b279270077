"""Lengths of time in a run: epochs (``5``, ``"5ep"``), optimizer steps (``"400it"``) or a share of it (``"10%"``)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from repfold.errors import RepFoldError

_PATTERN = re.compile(r"(?P<value>[0-9.]+(?:e[+-]?[0-9]+)?)\s*(?P<unit>ep|it|%)?", re.IGNORECASE)


@dataclass(frozen=True)
class Length:
    """A length of time, not yet tied to a run: ``value`` in ``unit`` ("ep" epochs, "it" steps, "%" of the run)."""

    value: float
    unit: str = "ep"

    def __post_init__(self) -> None:
        if self.unit not in ("ep", "it", "%") or not math.isfinite(self.value) or self.value < 0:
            raise RepFoldError(f"{self.value}{self.unit} is not a length: give a number >= 0 of ep, it or %.")
        if self.unit == "it" and self.value != int(self.value):
            raise RepFoldError(f"A length of {self.value} steps is not whole: give a whole number of it, or use ep.")

    def steps(self, steps: int, per_epoch: int) -> int:
        """Return the length in optimizer steps, for a run of ``steps`` at ``per_epoch`` an epoch.

        A length above 0 never rounds to no step at all.
        """
        unit_steps = {"ep": per_epoch, "it": 1, "%": steps / 100}[self.unit]
        return max(round(self.value * unit_steps), 1 if self.value else 0)

    def __str__(self) -> str:
        return f"{float(self.value)!r}".removesuffix(".0") + self.unit


LengthLike = Length | int | float | str


def length(value: LengthLike) -> Length:
    """Return ``value`` as a Length; a bare number counts epochs.

    Raises: RepFoldError when the text is not a number with the unit ep, it or %.
    """
    if isinstance(value, Length):
        return value
    if isinstance(value, int | float):
        return Length(float(value))
    match = _PATTERN.fullmatch(value.strip())
    try:
        if match:
            return Length(float(match["value"]), (match["unit"] or "ep").lower())
    except ValueError as error:
        if isinstance(error, RepFoldError):
            raise
    raise RepFoldError(f"'{value}' is not a length: write epochs as 5 or 5ep, steps as 400it, a share as 10%.")
