"""From whole batches of uint8 pixels to what networks take, on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def to_input(
    x_NCHW: torch.Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = True,
) -> torch.Tensor:
    """Return (x / 255 − mean) / std of uint8 pixels, computed in float32 and given as ``dtype``."""
    deviation = torch.tensor(std, dtype=torch.float32)
    scale_C11 = (1 / (255 * deviation)).view(-1, 1, 1).to(x_NCHW.device)
    shift_C11 = (-torch.tensor(mean, dtype=torch.float32) / deviation).view(-1, 1, 1).to(x_NCHW.device)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    values = x_NCHW.to(torch.float32, memory_format=layout)
    return values.mul_(scale_C11).add_(shift_C11).to(dtype)
