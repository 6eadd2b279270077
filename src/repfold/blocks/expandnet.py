"""ExpandNets (Guo et al. 2020): a layer replaced by several linear ones in a row, with more channels between them.

No norm and no activation inside. All the padding is on the first layer: padding later would put zeros where the
folded convolution sees the first layer's values.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from repfold.blocks.conv_norm import ConvSpec, Size2
from repfold.blocks.structure import Inverse, Invertible
from repfold.errors import RepFoldError


class ExpandConv2d(Invertible):
    """A KxK convolution as a row of convolutions.

    Args:
        kind: "cl": 1x1 (in -> r·in), KxK (-> r·out), 1x1 (-> out). "ck": a row of 3x3 that reaches as far as the KxK,
            K = 5, 7, ..., with r·in channels after the first and r·out after the others; the stride is on the last.
        rate: r, the factor between outer and inner channels.
        bias: of every layer.
    """

    has_norms = False
    enriches_1x1 = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kind: Literal["cl", "ck"] = "cl",
        rate: int = 4,
        bias: bool = False,
        **geometry: Any,
    ) -> None:
        super().__init__()
        shape = ConvSpec(in_channels, out_channels, **geometry)
        if kind not in _KINDS:
            raise RepFoldError(f"kind is {kind!r}; convolutions are expanded as 'cl' or 'ck'.")
        if rate < 1:
            raise RepFoldError(f"rate is {rate}; the inner layers need at least one channel for each outer one.")
        rows = _KINDS[kind](shape, rate)
        layers = []
        for index, (width_in, width_out, size, stride, dilation) in enumerate(rows):
            layers.append(
                nn.Conv2d(
                    width_in,
                    width_out,
                    size,
                    stride=stride,
                    dilation=dilation,
                    padding=shape.pads if index == 0 else 0,
                    padding_mode=shape.padding_mode,
                    groups=shape.groups,
                    bias=bias,
                )
            )
        self.layers = nn.Sequential(*layers)

    def inverse(self) -> Inverse:
        """Of kind "cl"; a row of 3x3s makes few kernels."""
        _, between, last = self._convolutions()
        return Inverse(bias=last.bias, absorbs=between.weight)

    @torch.no_grad()
    def settle(self) -> None:
        """Outer 1x1s with orthonormal columns and rows, so that the kernel between them can be any; bias at the end."""
        first, *_, last = layers = self._convolutions()
        for layer in (first, last):
            for weight in layer.weight.chunk(layer.groups):
                nn.init.orthogonal_(weight)
        for layer in layers[:-1]:
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def _convolutions(self) -> list[nn.Conv2d]:
        return [layer for layer in self.layers if isinstance(layer, nn.Conv2d)]

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """[N, I, H, W] -> [N, O, H', W']."""
        y_NCHW: torch.Tensor = self.layers(x_NCHW)
        return y_NCHW


# One layer of a row: in and out channels, kernel size, stride, dilation.
_Layer = tuple[int, int, Size2, Size2, Size2]


def _wide_inside(shape: ConvSpec, rate: int) -> list[_Layer]:
    wide_in, wide_out = rate * shape.in_channels, rate * shape.out_channels
    return [
        (shape.in_channels, wide_in, 1, 1, 1),
        (wide_in, wide_out, shape.kernel_size, shape.stride, shape.dilation),
        (wide_out, shape.out_channels, 1, 1, 1),
    ]


def _small_kernels(shape: ConvSpec, rate: int) -> list[_Layer]:
    high, wide = shape.kernel
    count = (high - 1) // 2
    if count < 2 or high != wide or high % 2 == 0:
        raise RepFoldError(f"A {high}x{wide} kernel cannot be a row of 3x3: kind 'ck' is for 5x5 and larger.")
    wide_in, wide_out = rate * shape.in_channels, rate * shape.out_channels
    widths = [shape.in_channels, wide_in, *[wide_out] * (count - 2), shape.out_channels]
    return [(widths[i], widths[i + 1], 3, shape.stride if i == count - 1 else 1, shape.dilation) for i in range(count)]


_KINDS = {"cl": _wide_inside, "ck": _small_kernels}


class ExpandLinear(nn.Module):
    """A linear layer as three ("fc"): in -> r·in -> r·out -> out: [N, in] -> [N, out]."""

    def __init__(self, in_features: int, out_features: int, *, rate: int = 4, bias: bool = True) -> None:
        super().__init__()
        if rate < 1:
            raise RepFoldError(f"rate is {rate}; the inner layers need at least one feature for each outer one.")
        self.layers = nn.Sequential(
            nn.Linear(in_features, rate * in_features, bias=bias),
            nn.Linear(rate * in_features, rate * out_features, bias=bias),
            nn.Linear(rate * out_features, out_features, bias=bias),
        )

    def forward(self, x_NF: torch.Tensor) -> torch.Tensor:
        """[N, in_features] -> [N, out_features]."""
        y_NF: torch.Tensor = self.layers(x_NF)
        return y_NF
