"""A bias-free convolution followed by BatchNorm: the branch that most blocks are made of."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from torch import nn

from repfold.errors import RepFoldError

Size2 = int | tuple[int, int]
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: Size2,
    *,
    stride: Size2 = 1,
    padding: Size2 = 0,
    dilation: Size2 = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
) -> nn.Sequential:
    """Conv2d without bias (``.conv``), then BatchNorm2d (``.norm``): [N, in, H, W] -> [N, out, H', W']."""
    conv = nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=False,
        padding_mode=padding_mode,
    )
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(out_channels)))


def centred_padding(kernel_size: int, dilation: int = 1) -> int:
    """Return the padding d·(k−1)/2 that puts the kernel's centre tap on the pixel that a 1x1 kernel would see.

    Raises: RepFoldError for an even or non-positive kernel, which has no centre tap.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise RepFoldError(
            f"kernel_size is {kernel_size}, but a block with a 1x1 or identity branch needs a centre tap: "
            "use an odd kernel size (1, 3, 5, ...)."
        )
    return dilation * (kernel_size - 1) // 2
