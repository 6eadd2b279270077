"""QARepVGG (Chu et al. 2022): RepVGG's branches with their norms rearranged to survive 8-bit quantization."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from repfold.blocks.conv_norm import ConvSpec
from repfold.blocks.structure import Inverse, Invertible


class QARepVGGBranches(Invertible):
    """y = BN(BN(conv_kxk(x)) + conv_1x1(x) + x): no BatchNorm on the 1x1 and the identity, one after the sum.

    The identity exists only where in = out channels and stride = 1.
    """

    def __init__(self, in_channels: int, out_channels: int, **geometry: Any) -> None:
        super().__init__()
        shape = ConvSpec(in_channels, out_channels, **geometry)
        self.kxk = shape.kxk()
        self.under_centre = shape.under_centre()
        self.point = nn.Conv2d(in_channels, out_channels, 1, stride=shape.stride, groups=shape.groups, bias=False)
        self.has_identity = shape.has_identity
        self.norm = nn.BatchNorm2d(out_channels)

    def inverse(self) -> Inverse:
        """The kxk branch takes the kernel, the last norm the network's, and the 1x1 cancels the identity."""
        # The 1x1 takes the identity off, so that the norm in the middle sees what the norm at the end is known to see.
        return Inverse(self.kxk.conv.weight, norm=self.norm, through=self.kxk.norm, absorbs=self.point.weight)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """[N, I, H, W] -> [N, O, H', W']."""
        centre_NCHW = self.under_centre(x_NCHW)
        y_NCHW = self.kxk(x_NCHW) + self.point(centre_NCHW)
        normed_NCHW: torch.Tensor = self.norm(y_NCHW + centre_NCHW if self.has_identity else y_NCHW)
        return normed_NCHW
