"""RepGhost (Chen et al. 2022): feature reuse by addition, so that the ghost branch folds into its depthwise kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from repfold.blocks.conv_norm import ConvSpec
from repfold.blocks.structure import Structure
from repfold.errors import RepFoldError


class RepGhostBranches(Structure):
    """y = BN(depthwise(x)) + BN(x): [N, C, H, W] -> [N, C, H, W]."""

    def __init__(self, in_channels: int, out_channels: int, *, groups: int | None = None, **geometry: Any) -> None:
        super().__init__()
        shape = ConvSpec(in_channels, out_channels, groups=in_channels if groups is None else groups, **geometry)
        if not shape.has_identity or shape.groups != in_channels:
            raise RepFoldError(
                f"A RepGhost block of {in_channels} -> {out_channels} channels, stride {shape.stride} and "
                f"{shape.groups} groups does not exist: it is depthwise, and adds its input to its output."
            )
        self.kxk = shape.kxk()
        self.under_centre = shape.under_centre()
        self.identity = nn.BatchNorm2d(out_channels)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Sum of both branches: [N, I, H, W] -> [N, O, H', W']."""
        y_NCHW: torch.Tensor = self.kxk(x_NCHW) + self.identity(self.under_centre(x_NCHW))
        return y_NCHW
