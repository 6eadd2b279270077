"""Squeeze-and-excitation (Hu et al. 2018): each channel is scaled by a gate computed from the channel means."""

from __future__ import annotations

import torch
from torch import nn


class SqueezeExcite(nn.Module):
    """x · sigmoid(up(relu(down(mean_HW(x))))) with 1x1 convolutions: [N, C, H, W] -> [N, C, H, W], any H and W."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, hidden, kernel_size=1)
        self.up = nn.Conv2d(hidden, channels, kernel_size=1)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        mean_NC11 = x_NCHW.mean(dim=(2, 3), keepdim=True)
        gate_NC11 = torch.sigmoid(self.up(torch.relu(self.down(mean_NC11))))
        return x_NCHW * gate_NC11
