"""The learning-rate range test (Smith 2017): train a little at ever higher rates, and look where the loss falls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from repfold.errors import RepFoldError
from repfold.train.assemble import assemble
from repfold.train.distributed import Ranks
from repfold.train.events import Listener, Started, Stepped, ignore
from repfold.train.machine import choose, prepare_process
from repfold.train.pace import batches
from repfold.train.recipe import Recipe
from repfold.train.settings import resolve
from repfold.train.step import step
from repfold.train.summary import summary

_MEMORY = 0.9  # of the smoothed loss: about ten steps
_EXPLODED = 3.0  # times the lowest smoothed loss, at which nothing more is to be learnt
_MOST = 1_000_000  # steps, each of which has a rate of its own
_FEWEST = 10  # steps of which a curve can be made


@dataclass(frozen=True)
class RangeTest:
    """``losses`` of a step at each of ``rates``, and ``smoothed``; ``suggestion``: a base rate, None if no rate helps.

    ``steepest`` is the rate where the smoothed loss falls fastest per decade, ``limit`` that of the lowest one: beyond
    it training gets worse. The suggestion is the geometric mean of the two, at most a third of the limit.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    steepest: float | None
    limit: float | None
    suggestion: float | None
    stopped: str

    def to_dict(self) -> dict[str, object]:
        """The JSON form."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


def find_lr(
    recipe: Recipe,
    *,
    low: float = 1e-5,
    high: float = 10.0,
    steps: int = 100,
    trust: bool = False,
    on_event: Listener | None = None,
) -> RangeTest:
    """Train the recipe's network for up to ``steps`` steps at rates from ``low`` to ``high``, evenly in decades.

    Everything else is as the recipe says, its schedule and warm-up excepted; no file is written and the weights are
    thrown away. It ends early when the loss explodes. ``trust``: run the code that a teacher's file names.

    Raises: RepFoldError for a range that is none, fewer than 10 steps, and whatever training would refuse.
    """
    if not 0 < low < high < math.inf or not _FEWEST <= steps <= _MOST:
        raise RepFoldError(
            f"The range test goes from {low:g} to {high:g} in {steps} steps: it needs 0 < low < high, and {_FEWEST} to "
            f"{_MOST:,} steps."
        )
    settings = resolve(recipe.replace(warmup="0", schedule="constant", lr_batch=0, average="none"))
    machine = choose(recipe)
    prepare_process(machine)
    emit = on_event or ignore
    run = assemble(settings, machine, Ranks(), emit, trust=trust)
    emit(Started(summary(run), 0, 1, 0, steps, len(run.source.classes)))
    rates = [low * (high / low) ** (index / (steps - 1)) for index in range(steps)]
    losses: list[float] = []
    stopped = "the highest rate was reached"
    for rate, (batch, position) in zip(rates, batches(run), strict=False):
        losses.append(float(step(run.parts, batch, position, rate)[0]))
        emit(Stepped(0, len(losses), steps, losses[-1], rate, 0.0))
        smoothed = smooth(losses)
        if not math.isfinite(losses[-1]):
            stopped = f"the loss was not finite at {rate:.3g}"
            losses.pop()
            break
        if len(losses) > _FEWEST and smoothed[-1] > _EXPLODED * min(smoothed):
            stopped = f"the loss exploded at {rate:.3g}"
            break
    return read(rates[: len(losses)], losses, stopped)


def read(rates: Sequence[float], losses: Sequence[float], stopped: str = "") -> RangeTest:
    """Return what the losses at ``rates`` (ascending, evenly in decades) say. See RangeTest."""
    smoothed = smooth(losses)
    found = (tuple(rates), tuple(losses), tuple(smoothed))
    if len(losses) < _FEWEST:
        return RangeTest(*found, None, None, None, stopped)
    lowest = min(range(len(smoothed)), key=smoothed.__getitem__)
    # A loss that never fell by more than it wavers says nothing of any rate.
    wavers = max(smoothed[: len(smoothed) // 4 or 1]) - min(smoothed[: len(smoothed) // 4 or 1])
    if lowest < 2 or smoothed[0] - smoothed[lowest] <= max(wavers / 2, 0.01 * abs(smoothed[0])):
        return RangeTest(*found, None, None, None, stopped)
    span = max(1, len(losses) // 20)
    slopes = {
        index: smoothed[min(index + span, lowest)] - smoothed[max(index - span, 0)] for index in range(1, lowest + 1)
    }
    steepest, limit = rates[min(slopes, key=slopes.__getitem__)], rates[lowest]
    return RangeTest(*found, steepest, limit, min(math.sqrt(steepest * limit), limit / 3), stopped)


def smooth(losses: Sequence[float]) -> list[float]:
    """Return the exponential moving averages, corrected for their start at 0."""
    averages, average = [], 0.0
    for index, loss in enumerate(losses, start=1):
        average = _MEMORY * average + (1 - _MEMORY) * loss
        averages.append(average / (1 - _MEMORY**index))
    return averages
