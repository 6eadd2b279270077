"""What expand asks of the fold: which kernel a structure folds to, and what a network gives on an example.

Nothing else in this room knows how the fold follows a network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from repfold.fold import FoldError, make_plan
from repfold.fold.compare import run

__all__ = ["FoldError", "kernel_of", "output_of"]


def output_of(network: nn.Module, x: Tensor) -> Any:
    """What the network gives on a copy of ``x``. Raises: FoldError when it cannot run."""
    return run(network, (x,))


def kernel_of(structure: nn.Module, example: Tensor) -> Callable[[], Tensor]:
    """Return a function that computes the kernel of the one convolution that ``structure`` folds to.

    It reads the parameters at each call, in float64 and differentiably.
    """
    plan = make_plan(structure.eval(), (example,), "always")
    (region,) = plan.regions
    return lambda: region.reading.build(plan.recorded.state, torch.float64).weight
