"""What gradients were multiplied with, layer by layer, as in ``rules.json``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

Grid = tuple[tuple[float, ...], ...]  # rows of taps, from the top


@dataclass(frozen=True)
class LayerMask:
    """One folded layer.

    ``elsewhere`` and ``diagonal`` are mean factors per tap, between different channels and where an identity joins a
    channel with itself; None where there is none, or where the rule is no mask.
    """

    name: str
    kernel: tuple[int, ...]
    rule: str
    branches: tuple[str, ...]
    low: float | None
    high: float | None
    elsewhere: Grid | None
    diagonal: Grid | None

    @property
    def grids(self) -> tuple[Grid, ...]:
        """Those that there are."""
        return tuple(grid for grid in (self.elsewhere, self.diagonal) if grid is not None)


def masks_of(content: Any) -> tuple[LayerMask, ...]:
    """Return the layers of a ``rules.json``.

    Raises: KeyError, TypeError or ValueError when a layer lacks a field or has factors that are not finite.
    """
    return tuple(_layer(layer) for layer in content["layers"])


def _layer(layer: Any) -> LayerMask:
    return LayerMask(
        name=str(layer["name"]),
        kernel=tuple(int(size) for size in layer["kernel"]),
        rule=str(layer["rule"]),
        branches=tuple(str(branch) for branch in layer["branches"]),
        low=_factor(layer["low"]),
        high=_factor(layer["high"]),
        elsewhere=_grid(layer["elsewhere"]),
        diagonal=_grid(layer["diagonal"]),
    )


def _factor(value: Any) -> float | None:
    if value is None:
        return None
    if not (math.isfinite(float(value)) and value >= 0):
        raise ValueError(f"a factor of {value}")
    return float(value)


def _grid(value: Any) -> Grid | None:
    """Rows of taps; a kernel of one axis is one row, one of none a single tap. Three axes are not drawn."""
    if value is None:
        return None
    rows = value if isinstance(value, list) else [value]
    rows = rows if rows and isinstance(rows[0], list) else [rows]
    if any(isinstance(tap, list) for row in rows for tap in row):
        return None
    grid = tuple(tuple(float(tap) for tap in row) for row in rows)
    if not all(math.isfinite(tap) and tap >= 0 for row in grid for tap in row):
        raise ValueError("a factor that is not finite")
    return grid
