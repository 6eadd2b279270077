"""The max-norm constraint: after each step no filter is longer than c (Oyedotun et al. 2020, with LeakyReLU)."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def constrain(network: nn.Module, limit: float) -> None:
    """Shorten, in place, every filter w_k of a convolution to w_k · min(1, c/‖w_k‖), ``limit`` being c."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            # renorm does just this for each slice along an axis, and leaves shorter ones bit for bit.
            module.weight.copy_(torch.renorm(module.weight, p=2, dim=0, maxnorm=limit))
