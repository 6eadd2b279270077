"""Timings of a network's forms: medians with their spread, and how many times as fast as the train form each is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one forward pass of ``batch`` images: median, 10th and 90th percentile of ``n`` measurements.

    ``threads`` it ran on, and ``peak_bytes`` of memory that loading and running took at most, where they are known.
    """

    form: str
    batch: int
    median_ms: float
    low_ms: float
    high_ms: float
    n: int
    threads: int | None = None
    peak_bytes: int | None = None

    @property
    def images_per_second(self) -> float:
        """Throughput at the median."""
        return 1000 * self.batch / self.median_ms


@dataclass(frozen=True)
class Timings:
    """Timings taken on one machine; all rows of one batch size were taken together."""

    machine: Mapping[str, Any]
    rows: tuple[Timing, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: {"machine": {...}, "rows": [{"form", "batch", "median_ms", "low_ms", "high_ms", "n"}...]}."""
        return asdict(self)

    def batches(self) -> tuple[int, ...]:
        """Return the batch sizes, ascending."""
        return tuple(sorted({row.batch for row in self.rows}))

    def of_batch(self, batch: int) -> tuple[Timing, ...]:
        """Return the rows of one batch size, as they were written."""
        return tuple(row for row in self.rows if row.batch == batch)

    def reference(self, batch: int) -> Timing:
        """Return the row that the others are compared with: the train form, or the first when none is called so."""
        rows = self.of_batch(batch)
        return next((row for row in rows if "train" in row.form.lower()), rows[0])

    def speed_up(self, row: Timing) -> float:
        """Return how many times as fast as the reference a row is."""
        return self.reference(row.batch).median_ms / row.median_ms

    def fastest(self) -> Timing | None:
        """Return the row of the largest speed-up over its reference; ``None`` when there is no other form."""
        others = [row for row in self.rows if row != self.reference(row.batch)]
        return max(others, key=self.speed_up, default=None)


def timings_of(content: Any) -> Timings:
    """Return the timings of a ``timings.json``.

    Raises: KeyError, TypeError or ValueError when a row lacks a field or its times are not positive numbers.
    """
    rows = tuple(_row(row) for row in content["rows"])
    if not rows:
        raise ValueError("no rows")
    machine = content.get("machine") or {}
    return Timings(machine if isinstance(machine, dict) else {"machine": machine}, rows)


def _row(row: Any) -> Timing:
    median, low, high = (float(row[key]) for key in ("median_ms", "low_ms", "high_ms"))
    if not all(math.isfinite(value) and value > 0 for value in (median, low, high)):
        raise ValueError(f"a time that is not a positive number for {row['form']}")
    if not (math.isfinite(row["batch"]) and math.isfinite(row["n"])):
        raise ValueError(f"a batch or a count that is not finite for {row['form']}")
    threads, peak = (_whole(row.get(key)) for key in ("threads", "peak_bytes"))
    return Timing(str(row["form"]), int(row["batch"]), median, low, high, int(row["n"]), threads, peak)


def _whole(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None
