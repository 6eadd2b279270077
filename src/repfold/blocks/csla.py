"""CSLA (Ding et al. 2022, "Re-parameterizing Your Optimizers rather than Architectures"): constant-scale branches."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from repfold.blocks.conv_norm import ConvSpec
from repfold.blocks.structure import Inverse, Invertible
from repfold.modules import DiagonalKernels


class CSLABranches(DiagonalKernels, Invertible):
    """y = s ⊙ conv_kxk(x) + t ⊙ conv_1x1(x) + u ⊙ x, with s and t constant and u trainable, one value per channel.

    The sum is linear in its weights all through training: gradient re-parameterization trains the folded kernel to
    the very same function. The identity exists only where in = out channels and stride = 1. Weight decay takes u for
    the diagonal kernel that it is, as the authors' code does: the folded kernel decays as a whole.

    Args:
        kxk_scale, point_scale, identity_scale: s, t and the initial u: numbers, or one value per channel.
        train_scales: make s and t parameters too, as in the network that searches for them.
        bias: of the full kernel, scaled with it; without one a BatchNorm usually follows.
    """

    has_norms = False
    diagonal_kernels = ("identity_scale_O11",)

    kxk_scale_O11: torch.Tensor
    point_scale_O11: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kxk_scale: float | torch.Tensor = 1.0,
        point_scale: float | torch.Tensor = 1.0,
        identity_scale: float | torch.Tensor = 1.0,
        train_scales: bool = False,
        bias: bool = False,
        **geometry: Any,
    ) -> None:
        super().__init__()
        shape = ConvSpec(in_channels, out_channels, **geometry)
        self.kxk = shape.conv(bias=bias)
        self.under_centre = shape.under_centre()
        self.point = nn.Conv2d(in_channels, out_channels, 1, stride=shape.stride, groups=shape.groups, bias=False)
        self.register_buffer("kxk_scale_O11", _per_channel(kxk_scale, out_channels))
        self.register_buffer("point_scale_O11", _per_channel(point_scale, out_channels))
        if train_scales:
            self.search_scales()
        identity = _per_channel(identity_scale, out_channels)
        self.identity_scale_O11 = nn.Parameter(identity) if shape.has_identity else None

    def search_scales(self) -> None:
        """Make the constants s and t parameters."""
        for name in ("kxk_scale_O11", "point_scale_O11"):
            scale_O11 = getattr(self, name)
            delattr(self, name)
            self.register_parameter(name, nn.Parameter(scale_O11))

    def inverse(self) -> Inverse:
        """The full kernel takes the kernel less what the constant branches add, and the bias."""
        return Inverse(self.kxk.weight, bias=self.kxk.bias, absorbs=self.kxk.weight)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Sum of the scaled branches: [N, I, H, W] -> [N, O, H', W']."""
        centre_NCHW = self.under_centre(x_NCHW)
        y_NCHW: torch.Tensor = self.kxk_scale_O11 * self.kxk(x_NCHW) + self.point_scale_O11 * self.point(centre_NCHW)
        return y_NCHW if self.identity_scale_O11 is None else y_NCHW + self.identity_scale_O11 * centre_NCHW


def _per_channel(value: float | torch.Tensor, channels: int) -> torch.Tensor:
    return torch.as_tensor(value, dtype=torch.get_default_dtype()).flatten().expand(channels).clone().view(-1, 1, 1)
