"""ACB (Ding et al. 2019, "ACNet"): the kernel's skeleton strengthened by a column and a row of its own."""

from __future__ import annotations

from typing import Any

import torch

from repfold.blocks.conv_norm import ConvSpec, conv_norm
from repfold.blocks.structure import Inverse, Invertible


class ACB(Invertible):
    """y = BN(conv_KxK(x)) + BN(conv_Kx1(x)) + BN(conv_1xK(x)).

    A strip lies on the square's centre column or row, so it is padded along its own line only: the Kx1 along H, the
    1xK along W. Across, it sees what the square's centre sees, also where the square's padding is not (K−1)/2.
    """

    def __init__(self, in_channels: int, out_channels: int, **geometry: Any) -> None:
        super().__init__()
        shape = ConvSpec(in_channels, out_channels, **geometry)
        (rows, columns), (high, wide) = shape.kernel, shape.pads
        self.square = shape.kxk()
        self.under_column = shape.under_centre(along_h=False)
        self.column = conv_norm(in_channels, out_channels, (rows, 1), **shape.how(padding=(high, 0)))
        self.under_row = shape.under_centre(along_w=False)
        self.row = conv_norm(in_channels, out_channels, (1, columns), **shape.how(padding=(0, wide)))

    def inverse(self) -> Inverse:
        """The square takes the kernel and its norm the network's; column and row start with scale 0."""
        return Inverse(self.square.conv.weight, norm=self.square.norm, quiet=(self.column.norm, self.row.norm))

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Sum of the square, column and row branches: [N, I, H, W] -> [N, O, H', W']."""
        y_NCHW: torch.Tensor = (
            self.square(x_NCHW) + self.column(self.under_column(x_NCHW)) + self.row(self.under_row(x_NCHW))
        )
        return y_NCHW
