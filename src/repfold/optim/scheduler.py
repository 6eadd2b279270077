"""Any schedule as a ``torch.optim.lr_scheduler``, for training loops that expect one."""

from __future__ import annotations

from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from repfold.schedule import Schedule


def lr_scheduler(
    optimizer: Optimizer, schedule: Schedule, steps_per_epoch: int, epochs: float, *, last_step: int = -1
) -> LambdaLR:
    """Return a scheduler that sets each group's rate to its base rate times ``schedule``; step it after each update.

    ``last_step`` is the number of the last update already done, -1 for a fresh run (then as in PyTorch: resuming
    needs ``initial_lr`` in the optimizer's groups).
    """
    multiplier = partial(_multiplier, schedule, steps_per_epoch, epochs)
    return LambdaLR(optimizer, multiplier, last_epoch=last_step)


def _multiplier(schedule: Schedule, steps_per_epoch: int, epochs: float, step: int) -> float:
    return schedule(step, steps_per_epoch, epochs)
