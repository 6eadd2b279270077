"""DiracNets (Zagoruyko and Komodakis 2017): a skip connection inside the kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from repfold.blocks.conv_norm import ConvSpec
from repfold.blocks.structure import Inverse, Invertible


class DiracConv2d(Invertible):
    """A convolution with the kernel diag(α)·δ + diag(β)·W/‖W‖, the norm taken of each filter.

    δ passes input channel c of a group to its output channel c, for as many channels as both sides have. α and β
    are one per filter; the paper trains them without weight decay.

    Args:
        alpha, beta: the values to start from. Published: 1 and 0.1 (the default), or 5 and 0.001.
    """

    has_norms = False
    enriches_1x1 = True

    delta_OIHW: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        alpha: float = 1.0,
        beta: float = 0.1,
        bias: bool = False,
        **geometry: Any,
    ) -> None:
        super().__init__()
        self.shape = ConvSpec(in_channels, out_channels, **geometry)
        initial = self.shape.conv(bias=bias)
        self.weight, self.bias = initial.weight, initial.bias
        self.alpha = nn.Parameter(torch.full((out_channels,), alpha))
        self.beta = nn.Parameter(torch.full((out_channels,), beta))
        self.register_buffer("delta_OIHW", _delta(self.shape, self.weight.shape))

    def inverse(self) -> Inverse:
        """W takes the kernel, which ``settle`` splits into W, α and β, and the bias is its own."""
        return Inverse(self.weight, bias=self.bias)

    @torch.no_grad()
    def settle(self) -> None:
        """W = K − α·δ and β = ‖W‖, where W holds the kernel K; a filter that is α·δ alone keeps some W, with β = 0."""
        rest_OIHW = self.weight - self.alpha.view(-1, 1, 1, 1) * self.delta_OIHW
        length_O = rest_OIHW.flatten(1).norm(dim=1)
        self.weight.copy_(torch.where(length_O.view(-1, 1, 1, 1) > 0, rest_OIHW, torch.ones_like(rest_OIHW)))
        self.beta.copy_(length_O)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """[N, I, H, W] -> [N, O, H', W']."""
        weight = self.weight
        norm_O111 = weight.square().sum((1, 2, 3), keepdim=True).sqrt()
        alpha_O111, beta_O111 = self.alpha.view(-1, 1, 1, 1), self.beta.view(-1, 1, 1, 1)
        return self.shape.convolve(x_NCHW, alpha_O111 * self.delta_OIHW + beta_O111 * weight / norm_O111, self.bias)


def _delta(shape: ConvSpec, size: torch.Size) -> torch.Tensor:
    delta_OIHW = torch.zeros(size)
    out_of_group, in_of_group = shape.out_channels // shape.groups, shape.in_channels // shape.groups
    channels = torch.arange(min(out_of_group, in_of_group))
    row, column = ((length - 1) // 2 for length in shape.kernel)
    for group in range(shape.groups):
        delta_OIHW[group * out_of_group + channels, channels, row, column] = 1
    return delta_OIHW
