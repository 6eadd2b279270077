"""RepVGG (Ding et al. 2021): a kxk, a 1x1 and an identity branch, each with its BatchNorm."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from repfold.blocks.block import Block, SePlace
from repfold.blocks.conv_norm import PaddingMode, centred_padding, conv_norm


class RepVGGBranches(nn.Module):
    """y = BN(conv_kxk(x)) + BN(conv_1x1(x)) + BN(x): [N, in, H, W] -> [N, out, ceil(H/stride), ceil(W/stride)].

    The identity branch exists only where in = out channels and stride = 1. The kxk branch is padded to keep its
    centre tap where the 1x1 looks, so every branch sees the same geometry under any dilation and padding mode.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        self.kxk = conv_norm(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=centred_padding(kernel_size, dilation),
            dilation=dilation,
            groups=groups,
            padding_mode=padding_mode,
        )
        self.point = conv_norm(in_channels, out_channels, 1, stride=stride, groups=groups)
        has_identity = in_channels == out_channels and stride == 1
        self.identity = nn.BatchNorm2d(out_channels) if has_identity else None

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        y_NCHW = self.kxk(x_NCHW) + self.point(x_NCHW)
        return y_NCHW if self.identity is None else y_NCHW + self.identity(x_NCHW)


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
