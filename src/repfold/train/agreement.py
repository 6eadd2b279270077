"""What the processes of a run agree on between steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from repfold.signals import KNOWN
from repfold.train.distributed import Ranks


@dataclass(frozen=True)
class Agreement:
    """``outcomes``: loss and share classified right of each step, means over the processes; ``checkpoint``: whether to
    write one; ``signal``: the one to stop for, or 0."""

    outcomes: tuple[tuple[float, float], ...]
    checkpoint: bool
    signal: int


def agree(ranks: Ranks, outcomes: Sequence[Tensor], *, checkpoint: bool, signal: int) -> Agreement:
    """Return what follows from what each process has; waits for the device, and for the other processes.

    Args:
        outcomes: what ``step`` returned, of the last steps.
        checkpoint: whether one is due; that of the leading process counts.
        signal: which one this process was sent, or 0.
    """
    own = torch.stack(list(outcomes)).flatten().tolist()
    totals = ranks.total([*own, checkpoint and ranks.leads, *(signal == number for number in KNOWN)])
    means = [total / ranks.world for total in totals[: len(own)]]
    due, votes = totals[len(own)], totals[len(own) + 1 :]
    return Agreement(
        outcomes=tuple(zip(means[0::2], means[1::2], strict=True)),
        checkpoint=due > 0,
        signal=next((int(number) for number, count in zip(KNOWN, votes, strict=True) if count), 0),
    )
