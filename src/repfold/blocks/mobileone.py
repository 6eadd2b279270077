"""MobileOne (Vasu et al. 2022): several kernels side by side, a 1x1 and an identity branch, each with its BatchNorm."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from repfold.blocks.conv_norm import ConvSpec
from repfold.blocks.structure import Inverse, Invertible
from repfold.errors import RepFoldError


class MobileOneBranches(Invertible):
    """y = Σ_k BN(conv_k(x)) + BN(conv_1x1(x)) + BN(x): the 1x1 only for larger kernels, the identity where it fits.

    Depthwise with groups = in_channels, pointwise with kernel_size = 1.

    Args:
        branches: k, the number of full kernels; 4 in MobileOne-S0, else 1.
    """

    enriches_1x1 = True
    replacement_options = MappingProxyType({"branches": 4})  # as in MobileOne-S0

    def __init__(self, in_channels: int, out_channels: int, *, branches: int = 1, **geometry: Any) -> None:
        super().__init__()
        if branches < 1:
            raise RepFoldError(f"branches is {branches}; a MobileOne block has at least one full kernel.")
        shape = ConvSpec(in_channels, out_channels, **geometry)
        self.kxk = nn.ModuleList(shape.kxk() for _ in range(branches))
        self.under_centre = shape.under_centre()
        self.point = shape.point() if shape.kernel != (1, 1) else None
        self.identity = nn.BatchNorm2d(out_channels) if shape.has_identity else None

    def inverse(self) -> Inverse:
        """The first kxk branch takes the kernel and its norm the network's; the others start with scale 0."""
        first: Any = self.kxk[0]
        norms = (module for module in self.modules() if isinstance(module, nn.BatchNorm2d))
        return Inverse(
            first.conv.weight, norm=first.norm, quiet=tuple(norm for norm in norms if norm is not first.norm)
        )

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Sum of the branches: [N, I, H, W] -> [N, O, H', W']."""
        y_NCHW: torch.Tensor = self.kxk[0](x_NCHW)
        for branch in self.kxk[1:]:
            y_NCHW = y_NCHW + branch(x_NCHW)
        centre_NCHW = self.under_centre(x_NCHW)
        if self.point is not None:
            y_NCHW = y_NCHW + self.point(centre_NCHW)
        if self.identity is not None:
            y_NCHW = y_NCHW + self.identity(centre_NCHW)
        return y_NCHW
