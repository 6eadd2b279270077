"""The RepVGG block (Ding et al. 2021): a kxk, a 1x1 and an identity branch, each with its BatchNorm, then ReLU."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from repfold.blocks.conv_norm import PaddingMode, centred_padding, conv_norm
from repfold.blocks.squeeze_excite import SqueezeExcite
from repfold.errors import RepFoldError

SePlace = Literal["before", "after"]


class RepVGGBlock(nn.Module):
    """y = act(BN(conv_kxk(x)) + BN(conv_1x1(x)) + BN(x)): [N, in, H, W] -> [N, out, ceil(H/stride), ceil(W/stride)].

    The identity branch exists only where in = out channels and stride = 1. The kxk branch is padded to keep its
    centre tap where the 1x1 looks, so every branch sees the same geometry under any dilation and padding mode.

    Args:
        se: squeeze-excite "before" the activation (RepVGG-D2se), "after" it (RepVGG-plus), or none.
        se_ratio: out_channels // se_ratio hidden channels in the squeeze-excite.
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
        se: SePlace | None = None,
        se_ratio: int = 16,
    ) -> None:
        super().__init__()
        if se not in ("before", "after", None):
            raise RepFoldError(f"se is {se!r}; it says where the squeeze-excite goes: 'before', 'after' or None.")
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
        hidden = max(1, out_channels // se_ratio)
        self.se_before = SqueezeExcite(out_channels, hidden) if se == "before" else nn.Identity()
        self.activation = nn.ReLU()
        self.se_after = SqueezeExcite(out_channels, hidden) if se == "after" else nn.Identity()

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        y_NCHW = self.kxk(x_NCHW) + self.point(x_NCHW)
        if self.identity is not None:
            y_NCHW = y_NCHW + self.identity(x_NCHW)
        return self.se_after(self.activation(self.se_before(y_NCHW)))
