"""A schedule for display: its landmark steps, and the curve to draw."""

from __future__ import annotations

from repfold.schedule.ramps import Warmup
from repfold.schedule.schedule import Schedule


def landmarks(schedule: Schedule, steps_per_epoch: int, epochs: float) -> dict[str, int]:
    """Return the numbers of the first step, the last of a warm-up (if there is one), the middle and the last step."""
    steps = max(round(epochs * steps_per_epoch), 1)
    positions = {"first step": 0}
    if isinstance(schedule, Warmup) and (ramp := schedule.ramp_steps(steps, steps_per_epoch)):
        positions["end of warm-up"] = ramp - 1
    return positions | {"middle": steps // 2, "last step": steps - 1}


def curve(
    schedule: Schedule, steps_per_epoch: int, epochs: float, *, points: int = 1000
) -> tuple[list[float], list[float]]:
    """Return epochs done and multipliers at up to ``points`` steps, evenly from the first to the last one taken."""
    last = max(round(epochs * steps_per_epoch), 1) - 1
    count = min(points, last + 1)
    steps = sorted({round(last * index / max(count - 1, 1)) for index in range(count)})
    return [step / steps_per_epoch for step in steps], [schedule(step, steps_per_epoch, epochs) for step in steps]
