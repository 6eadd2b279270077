"""The learning rate of a run: a base rate, and the schedule that multiplies it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from repfold.errors import RepFoldError
from repfold.schedule.schedule import Schedule


@dataclass(frozen=True)
class LearningRate:
    """``base`` times the multiplier of ``schedule``, which includes the warm-up."""

    base: float
    schedule: Schedule

    def __call__(self, step: int, steps_per_epoch: int, epochs: float) -> float:
        """Return the learning rate of update ``step`` (from 0). Raises: as the schedule."""
        return self.base * self.schedule(step, steps_per_epoch, epochs)

    def __str__(self) -> str:
        return f"lr {self.base:g} · {self.schedule}"


def linear_scaling(lr: float, batch: int, reference: int = 256) -> float:
    """Return the learning rate for ``batch``, given the rate ``lr`` found good for batches of ``reference``.

    lr · batch / reference: k times the batch, k times the rate (Goyal et al. 2017).

    Raises: RepFoldError for batches below 1.
    """
    if batch < 1 or reference < 1:
        raise RepFoldError(f"Linear scaling needs batches of at least 1, not {batch} and {reference}.")
    return lr * batch / reference


def fine_tuning_lr(images: float, batch: float) -> float:
    """Return the rate for fine-tuning with SGD, linearly scaled from batch 256 to ``batch``.

    0.001 up to 1,000 training images, 0.01 from 100,000 on (the guide of PaddleClas, section 2.2.9), in between
    log-linear.
    """
    decades = min(max(math.log10(max(images, 1)) - 3, 0.0), 2.0)
    return 0.001 * 10 ** (decades / 2) * batch / 256
