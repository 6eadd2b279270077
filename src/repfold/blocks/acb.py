"""ACB (Ding et al. 2019, "ACNet"): the kernel's skeleton strengthened by a column and a row of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from repfold.blocks.conv_norm import Geometry, conv_norm
from repfold.errors import RepFoldError


class ACB(nn.Module):
    """y = BN(conv_KxK(x)) + BN(conv_Kx1(x)) + BN(conv_1xK(x)).

    A strip lies on the square's centre column or row: the Kx1 is padded along H only, the 1xK along W only.

    Args:
        padding: of the square kernel; by default it keeps the image's size. The strips' short side then needs
            padding − d·(K−1)/2: where that is negative, the strips' input is cropped instead.
    """

    def __init__(self, in_channels: int, out_channels: int, *, padding: int | None = None, **geometry: Any) -> None:
        super().__init__()
        shape = Geometry(in_channels, out_channels, **geometry)
        along = shape.padding if padding is None else padding
        across = along - shape.padding
        if across > 0 and shape.padding_mode != "zeros":
            raise RepFoldError(
                f"padding {padding} of a {shape.kernel_size}x{shape.kernel_size} kernel would pad the strips across "
                f"their line, where '{shape.padding_mode}' padding shows other pixels than the square sees."
            )
        self.crop = max(0, -across)
        how: dict[str, Any] = {
            "stride": shape.stride,
            "dilation": shape.dilation,
            "groups": shape.groups,
            "padding_mode": shape.padding_mode,
        }
        size, across = shape.kernel_size, max(0, across)
        self.square = conv_norm(in_channels, out_channels, size, padding=along, **how)
        self.column = conv_norm(in_channels, out_channels, (size, 1), padding=(along, across), **how)
        self.row = conv_norm(in_channels, out_channels, (1, size), padding=(across, along), **how)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        column_NCHW = row_NCHW = x_NCHW
        if self.crop:
            column_NCHW = x_NCHW[:, :, :, self.crop : -self.crop]
            row_NCHW = x_NCHW[:, :, self.crop : -self.crop, :]
        return self.square(x_NCHW) + self.column(column_NCHW) + self.row(row_NCHW)
