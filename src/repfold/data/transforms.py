"""Transforms of whole batches on the device: they take uint8 [B, C, S, S] and draw from a generator.

Take the generator of ``seeding.batch_generator(seed, epoch, step)``. When processes share a batch, ``first`` is the
number of the first image here in the batch of ``total`` (see Draws).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from repfold.data.draws import Draws


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


def random_flip(
    x_NCHW: torch.Tensor,
    generator: torch.Generator,
    *,
    probability: float = 0.5,
    first: int = 0,
    total: int | None = None,
) -> torch.Tensor:
    """Return the batch with each image mirrored left to right with ``probability``."""
    flipped_N = Draws(generator, len(x_NCHW), first, total).chosen(probability)
    mask_N111 = flipped_N.to(x_NCHW.device, non_blocking=True).view(-1, 1, 1, 1)
    return torch.where(mask_N111, x_NCHW.flip(3), x_NCHW)


def random_crop(
    x_NCHW: torch.Tensor,
    padding: int,
    generator: torch.Generator,
    *,
    reflect: bool = True,
    first: int = 0,
    total: int | None = None,
) -> torch.Tensor:
    """Return the batch with each image padded by ``padding`` pixels (mirrored, or black) and cropped back to its size
    at a random offset."""
    height, width = x_NCHW.shape[-2:]
    if padding == 0:
        return x_NCHW
    draws_N2 = Draws(generator, len(x_NCHW), first, total).integers(2 * padding + 1, 2)
    offsets_N2 = draws_N2.to(x_NCHW.device, non_blocking=True) - padding
    rows_NH = offsets_N2[:, :1] + torch.arange(height, device=x_NCHW.device)
    columns_NW = offsets_N2[:, 1:] + torch.arange(width, device=x_NCHW.device)
    inside_N1HW = (_inside(rows_NH, height)[:, :, None] & _inside(columns_NW, width)[:, None, :])[:, None]
    # Channels last, so that each gathered pixel is one contiguous read.
    x_NHWC = x_NCHW.permute(0, 2, 3, 1).contiguous()
    images_N11 = torch.arange(len(x_NCHW), device=x_NCHW.device)[:, None, None]
    cropped_NHWC = x_NHWC[images_N11, _mirrored(rows_NH, height)[:, :, None], _mirrored(columns_NW, width)[:, None, :]]
    cropped_NCHW = cropped_NHWC.permute(0, 3, 1, 2)
    return cropped_NCHW if reflect else cropped_NCHW * inside_N1HW


def _inside(index: torch.Tensor, size: int) -> torch.Tensor:
    return (index >= 0) & (index < size)


def _mirrored(index: torch.Tensor, size: int) -> torch.Tensor:
    """Reflect indices at the first and last pixel, without repeating these; far ones are held at the border."""
    folded = index.abs()
    return (size - 1 - (size - 1 - folded).abs()).clamp(0, size - 1)
