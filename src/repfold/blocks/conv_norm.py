"""A bias-free convolution followed by BatchNorm: the branch that most structures are made of, and the plain block."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

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


@dataclass(frozen=True)
class Geometry:
    """The geometry that every structure here has: [N, in, H, W] -> [N, out, ceil(H/stride), ceil(W/stride)].

    The kernel's centre tap sees the pixel that a 1x1 kernel of the same stride sees, so the padding is d·(k−1)/2.
    """

    in_channels: int
    out_channels: int
    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    padding_mode: PaddingMode = "zeros"

    def __post_init__(self) -> None:
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise RepFoldError(
                f"kernel_size is {self.kernel_size}, but a block with a 1x1 or identity branch needs a centre tap: "
                "use an odd kernel size (1, 3, 5, ...)."
            )
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise RepFoldError(
                f"{self.in_channels} -> {self.out_channels} channels cannot be parted into {self.groups} groups: both "
                "have to be multiples of it."
            )

    @property
    def padding(self) -> int:
        """Pixels on each side."""
        return self.dilation * (self.kernel_size - 1) // 2

    @property
    def keeps_shape(self) -> bool:
        """Whether an identity branch fits: in = out channels and stride 1."""
        return self.in_channels == self.out_channels and self.stride == 1

    def kxk(self) -> nn.Sequential:
        """The full kernel with its BatchNorm."""
        return conv_norm(self.in_channels, self.out_channels, self.kernel_size, **self._how(padding=self.padding))

    def point(self) -> nn.Sequential:
        """A 1x1 with its BatchNorm, on the pixels under the full kernel's centre tap."""
        return conv_norm(self.in_channels, self.out_channels, 1, stride=self.stride, groups=self.groups)

    def conv(self, *, bias: bool) -> nn.Conv2d:
        """The full kernel alone."""
        return nn.Conv2d(
            self.in_channels, self.out_channels, self.kernel_size, bias=bias, **self._how(padding=self.padding)
        )

    def convolve(self, x_NCHW: Tensor, weight_OIHW: Tensor, bias_O: Tensor | None = None) -> Tensor:
        """The convolution with a kernel that was computed."""
        padding = self.padding
        if padding and self.padding_mode != "zeros":
            x_NCHW, padding = F.pad(x_NCHW, (padding,) * 4, mode=self.padding_mode), 0
        return F.conv2d(x_NCHW, weight_OIHW, bias_O, self.stride, padding, self.dilation, self.groups)

    def _how(self, padding: int) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "padding_mode": self.padding_mode,
        }


def plain(in_channels: int, out_channels: int, **geometry: Any) -> nn.Sequential:
    """One convolution with its BatchNorm and no other branch."""
    return Geometry(in_channels, out_channels, **geometry).kxk()
