"""RepVGG (Ding et al. 2021, "RepVGG: Making VGG-style ConvNets Great Again"): kxk + 1x1 + identity, each with BN."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from repfold.blocks.block import Block, SePlace
from repfold.blocks.conv_norm import ConvSpec
from repfold.blocks.structure import Inverse, Invertible


class RepVGGBranches(Invertible):
    """y = BN(conv_kxk(x)) + BN(conv_1x1(x)) + BN(x); the last term only where in = out channels and stride = 1."""

    def __init__(self, in_channels: int, out_channels: int, **geometry: Any) -> None:
        super().__init__()
        shape = ConvSpec(in_channels, out_channels, **geometry)
        self.kxk = shape.kxk()
        self.under_centre = shape.under_centre()
        self.point = shape.point()
        self.identity = nn.BatchNorm2d(out_channels) if shape.has_identity else None

    def inverse(self) -> Inverse:
        """The kxk branch takes the kernel and its norm the network's; the others start with scale 0."""
        identity = () if self.identity is None else (self.identity,)
        return Inverse(self.kxk.conv.weight, norm=self.kxk.norm, quiet=(self.point.norm, *identity))

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Sum of the branches: [N, I, H, W] -> [N, O, H', W']."""
        centre_NCHW = self.under_centre(x_NCHW)
        y_NCHW: torch.Tensor = self.kxk(x_NCHW) + self.point(centre_NCHW)
        if self.identity is not None:
            y_NCHW = y_NCHW + self.identity(centre_NCHW)
        return y_NCHW


class RepVGGBlock(Block):
    """RepVGGBranches and ReLU, with a squeeze-excite ``se`` "before" or "after" it; ``geometry`` as theirs."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        se: SePlace | None = None,
        se_ratio: int = 16,
        **geometry: Any,
    ) -> None:
        branches = RepVGGBranches(in_channels, out_channels, **geometry)
        super().__init__(branches, out_channels, se=se, se_ratio=se_ratio)
