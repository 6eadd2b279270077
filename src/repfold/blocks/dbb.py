"""DBB (Ding et al. 2021, "Diverse Branch Block"): branches of different depth and reach that are one convolution."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from repfold.blocks.conv_norm import ConvSpec, Normed
from repfold.blocks.structure import Inverse, Invertible
from repfold.errors import RepFoldError


class DBB(Invertible):
    """y = BN(conv_KxK(x)) + BN(conv_1x1(x)) + BN(conv_KxK(pad(BN(conv_1x1(x))))) + BN(avg_KxK(pad(BN(conv_1x1(x))))).

    The paper's transforms: conv-BN (I), sum of branches (II), 1x1 -> KxK (III) with the concatenation over groups (IV),
    average pooling (V), and a small kernel in a large one (VI). A depthwise block averages its input directly and
    has no 1x1 branch, as in the published code.

    Args:
        inner_channels: between the 1x1 and the KxK; by default in_channels, twice that for a depthwise block. When it
            equals in_channels, the 1x1 is I + W with W = 0 in the beginning.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, inner_channels: int | None = None, **geometry: Any
    ) -> None:
        super().__init__()
        shape = ConvSpec(in_channels, out_channels, **geometry)
        if shape.dilation not in (1, (1, 1)) or shape.padding_mode != "zeros":
            raise RepFoldError(
                f"A DBB with dilation {shape.dilation} and '{shape.padding_mode}' padding does not exist: its average "
                "pooling has neither dilation nor a padding mode. Use another block, or dilation 1 and zeros."
            )
        size, stride, groups, padding = shape.kernel, shape.stride, shape.groups, shape.pads
        depthwise = groups == in_channels == out_channels
        inner = inner_channels or (2 * in_channels if depthwise else in_channels)
        if depthwise and any(2 * pad > length for pad, length in zip(padding, size, strict=True)):
            raise RepFoldError(
                f"A depthwise DBB of a {size[0]}x{size[1]} kernel with padding {padding} does not exist: its average "
                "pooling takes half the kernel at most. Use another block, or less padding."
            )
        self.kxk = shape.kxk()
        self.under_centre = shape.under_centre()
        self.point = None if depthwise else shape.point()
        first = PointFromIdentity(in_channels, groups) if inner == in_channels else _point(in_channels, inner, groups)
        self.point_kxk = Normed(
            OrderedDict(
                point=first,
                pad=NormAndPad(inner, padding),
                conv=nn.Conv2d(inner, out_channels, size, stride=stride, groups=groups, bias=False),
                norm=nn.BatchNorm2d(out_channels),
            )
        )
        average: OrderedDict[str, nn.Module] = OrderedDict()
        if not depthwise:
            average["point"] = _point(in_channels, out_channels, groups)
            average["pad"] = NormAndPad(out_channels, padding)
        average["pool"] = nn.AvgPool2d(size, stride=stride, padding=padding if depthwise else 0)
        average["norm"] = nn.BatchNorm2d(out_channels)
        self.average = Normed(average)

    def inverse(self) -> Inverse:
        """The KxK branch takes the kernel and its norm the network's; the others start with scale 0."""
        point = () if self.point is None else (self.point.norm,)
        others = (*point, self.point_kxk.norm, self.average.norm)
        return Inverse(self.kxk.conv.weight, norm=self.kxk.norm, quiet=others)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Sum of the branches: [N, I, H, W] -> [N, O, H', W']."""
        y_NCHW: torch.Tensor = self.kxk(x_NCHW) + self.point_kxk(x_NCHW) + self.average(x_NCHW)
        if self.point is not None:
            y_NCHW = y_NCHW + self.point(self.under_centre(x_NCHW))
        return y_NCHW


class PointFromIdentity(nn.Module):
    """y = x + conv_1x1(x), the 1x1 convolution I + W with W = 0 in the beginning."""

    def __init__(self, channels: int, groups: int = 1) -> None:
        super().__init__()
        self.change = _point(channels, channels, groups)
        nn.init.zeros_(self.change.weight)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        y_NCHW: torch.Tensor = x_NCHW + self.change(x_NCHW)
        return y_NCHW


class NormAndPad(nn.Module):
    """BatchNorm, then a border of what it makes of 0: v = β − γμ/sqrt(σ²+ε), so y = pad(BN(x) − v) + v.

    Padding the 1x1's input with zeros and normalising would give the same border in eval mode; this way the KxK that
    follows needs no padding, and training sees the running statistics' v there.
    """

    def __init__(self, channels: int, padding: tuple[int, int]) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        high, wide = padding
        self.borders = (wide, wide, high, high)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] -> [N, C, H + 2·high, W + 2·wide]."""
        y_NCHW: torch.Tensor = self.norm(x_NCHW)
        if not any(self.borders):
            return y_NCHW
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None  # it tracks statistics
        border_C = norm.bias - norm.weight * norm.running_mean / torch.sqrt(norm.running_var + norm.eps)
        border_1C11 = border_C.view(1, -1, 1, 1)
        return F.pad(y_NCHW - border_1C11, self.borders) + border_1C11


def _point(in_channels: int, out_channels: int, groups: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, groups=groups, bias=False)
