"""DO-Conv (Cao et al. 2020, "Depthwise Over-parameterized Convolutional Layer"): a kernel factored in two."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from repfold.blocks.conv_norm import ConvSpec
from repfold.blocks.structure import Inverse, Invertible


class DOConv2d(Invertible):
    """A convolution with the kernel W'[o,i,m] = Σ_s (D[i,m,s] + δ_ms) · W[o,i,s], m and s over the K·K taps.

    D is zero in the beginning, so the layer starts as the convolution with the kernel W. Exact for any geometry, as
    only the weights change. A 1x1 kernel has one tap and no D.
    """

    has_norms = False

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = False, **geometry: Any) -> None:
        super().__init__()
        self.shape = ConvSpec(in_channels, out_channels, **geometry)
        initial = self.shape.conv(bias=bias)
        self.weight, self.bias = initial.weight, initial.bias
        taps = math.prod(self.shape.kernel)
        self.depthwise = nn.Parameter(torch.zeros(in_channels, taps, taps)) if taps > 1 else None

    def inverse(self) -> Inverse:
        """W takes the kernel and the bias, as D starts at zero."""
        return Inverse(self.weight, bias=self.bias)  # D is zero

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """[N, I, H, W] -> [N, O, H', W'], by the composed kernel."""
        weight_OIHW = self.weight
        if self.depthwise is not None:
            # g: group; o, i: output and input channel in it; s, m: taps.
            weight_goIs = weight_OIHW.unflatten(0, (self.shape.groups, -1)).flatten(3)
            depthwise_gIms = self.depthwise.unflatten(0, (self.shape.groups, -1))
            change_goIm = torch.einsum("gims,gois->goim", depthwise_gIms, weight_goIs)
            weight_OIHW = weight_OIHW + change_goIm.reshape(weight_OIHW.shape)
        return self.shape.convolve(x_NCHW, weight_OIHW, self.bias)
