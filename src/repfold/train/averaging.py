"""How a recipe averages weights, as text: ``none``, ``ema:decay=0.999``, ``swa:start=0.75``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from repfold import specs
from repfold.errors import RepFoldError


@dataclass(frozen=True)
class Averaging:
    """How the weights are averaged: from ``start`` (a share of the run) on, after every step or epoch (``each_epoch``).

    ``decay``: that of an exponential average; None: all count the same.

    Raises: RepFoldError for a decay or a start outside of [0, 1).
    """

    decay: float | None
    start: float = 0.0
    each_epoch: bool = False

    def __post_init__(self) -> None:
        for name, value in (("decay", self.decay), ("start", self.start)):
            if value is not None and not 0 <= value < 1:
                raise RepFoldError(f"The {name} of averaged weights is {value}; it must lie in [0, 1).")


def none() -> None:
    """The weights that were trained are those that are evaluated and kept."""


def ema(decay: float = 0.999, start: float = 0.0) -> Averaging:
    """An exponential moving average, taken after every step."""
    return Averaging(decay, start)


def swa(start: float = 0.75) -> Averaging:
    """Stochastic weight averaging: the mean of the weights after each of the last epochs."""
    return Averaging(None, start, each_epoch=True)


AVERAGES: dict[str, Callable[..., Averaging | None]] = {"ema": ema, "none": none, "swa": swa}


def parse(text: str) -> Averaging | None:
    """Return the averaging that ``text`` names, None for none.

    Raises: RepFoldError for an unknown name or option, with the nearest match, and for values out of range.
    """
    return specs.parse(text, "average", AVERAGES)
