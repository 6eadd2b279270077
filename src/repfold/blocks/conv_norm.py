"""What structures are made of: the geometry of their branches, a convolution with BatchNorm, and the plain block."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from repfold.errors import RepFoldError

Size2 = int | tuple[int, int]
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class Normed(nn.Sequential):
    """Layers in a row, the last of which is the BatchNorm ``norm``."""

    norm: nn.BatchNorm2d


class ConvNorm(Normed):
    """A convolution and its BatchNorm."""

    conv: nn.Conv2d


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
) -> ConvNorm:
    """Conv2d without bias, then BatchNorm2d: [N, in, H, W] -> [N, out, H', W']."""
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
    return ConvNorm(OrderedDict(conv=conv, norm=nn.BatchNorm2d(out_channels)))


@dataclass(frozen=True)
class ConvSpec:
    """The arguments of the convolution that every structure here stands for, sizes along H and W or one for both.

    ``padding`` None is d·(k−1)/2, with which [N, in, H, W] -> [N, out, ceil(H/stride), ceil(W/stride)]. A 1x1 or an
    identity branch sees what the kernel's centre tap sees (of an even kernel the one before its middle): with less
    padding its input is cropped, with more it is padded.
    """

    in_channels: int
    out_channels: int
    kernel_size: Size2 = 3
    stride: Size2 = 1
    dilation: Size2 = 1
    groups: int = 1
    padding_mode: PaddingMode = "zeros"
    padding: Size2 | None = None

    def __post_init__(self) -> None:
        if self.padding is None and not all(size % 2 for size in self.kernel):
            raise RepFoldError(
                f"kernel_size is {self.kernel_size}, which no padding centres on a pixel: use an odd kernel size "
                "(1, 3, 5, ...), or give the padding."
            )
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise RepFoldError(
                f"{self.in_channels} -> {self.out_channels} channels cannot be parted into {self.groups} groups: both "
                "have to be multiples of it."
            )

    @property
    def kernel(self) -> tuple[int, int]:
        """Taps along H and W."""
        return _pair(self.kernel_size)

    @property
    def pads(self) -> tuple[int, int]:
        """Pixels added on each side, along H and W."""
        if self.padding is not None:
            return _pair(self.padding)
        high, wide = (d * (size - 1) // 2 for d, size in zip(_pair(self.dilation), self.kernel, strict=True))
        return high, wide

    @property
    def has_identity(self) -> bool:
        """Whether an identity branch fits: in = out channels and stride 1."""
        return self.in_channels == self.out_channels and _pair(self.stride) == (1, 1)

    def under_centre(self, *, along_h: bool = True, along_w: bool = True) -> nn.Module:
        """x -> what the centre taps along these axes see: the input of a branch whose kernel has one tap there."""
        borders: list[int] = []
        sizes = zip(_pair(self.dilation), self.kernel, self.pads, (along_h, along_w), strict=True)
        for dilation, size, pad, along in reversed(list(sizes)):  # F.pad begins with the last axis
            before = (size - 1) // 2
            borders += [pad - dilation * before, pad - dilation * (size - 1 - before)] if along else [0, 0]
        return Reframe(borders, self.padding_mode) if any(borders) else nn.Identity()

    def kxk(self) -> ConvNorm:
        """The full kernel with its BatchNorm."""
        return conv_norm(self.in_channels, self.out_channels, self.kernel_size, **self.how(padding=self.pads))

    def point(self) -> ConvNorm:
        """A 1x1 with its BatchNorm, for what ``under_centre`` gives."""
        return conv_norm(self.in_channels, self.out_channels, 1, stride=self.stride, groups=self.groups)

    def conv(self, *, bias: bool) -> nn.Conv2d:
        """The full kernel alone."""
        return nn.Conv2d(
            self.in_channels, self.out_channels, self.kernel_size, bias=bias, **self.how(padding=self.pads)
        )

    def convolve(self, x_NCHW: Tensor, weight_OIHW: Tensor, bias_O: Tensor | None = None) -> Tensor:
        """The convolution with a kernel that was computed."""
        padding = high, wide = self.pads
        if any(padding) and self.padding_mode != "zeros":
            x_NCHW, padding = F.pad(x_NCHW, (wide, wide, high, high), mode=self.padding_mode), (0, 0)
        return F.conv2d(x_NCHW, weight_OIHW, bias_O, self.stride, padding, self.dilation, self.groups)

    def how(self, padding: Size2) -> dict[str, Any]:
        """The keyword arguments of a convolution of this geometry with another padding (and any kernel)."""
        return {
            "stride": self.stride,
            "padding": padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "padding_mode": self.padding_mode,
        }


class Reframe(nn.Module):
    """x with ``borders`` = (left, right, top, bottom) pixels more, made by the padding mode; negative ones cut off."""

    def __init__(self, borders: list[int], padding_mode: PaddingMode) -> None:
        super().__init__()
        self.added = [max(0, border) for border in borders]
        self.cut = [min(0, border) for border in borders]
        self.mode = "constant" if padding_mode == "zeros" else padding_mode

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H + top + bottom, W + left + right]."""
        if any(self.added):
            x_NCHW = F.pad(x_NCHW, self.added, mode=self.mode)
        return F.pad(x_NCHW, self.cut) if any(self.cut) else x_NCHW


def plain(in_channels: int, out_channels: int, **geometry: Any) -> ConvNorm:
    """One convolution with its BatchNorm and no other branch."""
    return ConvSpec(in_channels, out_channels, **geometry).kxk()


def _pair(size: Size2) -> tuple[int, int]:
    """Along H and W."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])
