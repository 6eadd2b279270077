"""A sheet of pictures before and after augmentation: a column an image, a row an augmentation or a draw of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from repfold import atomic
from repfold.data.augment import AUGMENTATIONS, Chain, Mixing, parse

MARGIN, SMALLEST_TILE = 4, 64
Row = tuple[str, Tensor]


def rows_of_each(x_NCHW: Tensor, seed: int) -> list[Row]:
    """Return the images, then one row for each known augmentation and for MixUp and CutMix."""
    rows = [("before", x_NCHW)]
    for name in AUGMENTATIONS:
        rows.append((name, parse(name)(x_NCHW, torch.Generator().manual_seed(seed), progress=1.0)))
    labels = torch.arange(len(x_NCHW))
    for name, mixing in (("mixup", Mixing(mixup=0.2)), ("cutmix", Mixing(cutmix=1.0))):
        rows.append((name, mixing(x_NCHW, labels, torch.Generator().manual_seed(seed)).x_NCHW))
    return rows


def rows_of_draws(x_NCHW: Tensor, augment: Chain, mixing: Mixing, seed: int, draws: int) -> list[Row]:
    """Return the images, then ``draws`` rows of what training would see of them."""
    rows, labels = [("before", x_NCHW)], torch.arange(len(x_NCHW))
    generator = torch.Generator().manual_seed(seed)
    for draw in range(draws):
        augmented = augment(x_NCHW, generator, progress=1.0)
        rows.append((f"draw {draw + 1}", mixing(augmented, labels, generator).x_NCHW))
    return rows


def write_sheet(rows: Sequence[Row], path: Path) -> None:
    """Write the rows, uint8 [N, C, H, W] each under its name, as a picture; the suffix of ``path`` gives its format.

    Small images are enlarged by a whole factor.
    """
    _, channels, height, width = rows[0][1].shape
    scale = -(-SMALLEST_TILE // min(height, width))
    font = ImageFont.load_default(size=14)
    label = max(int(font.getlength(name)) for name, _ in rows) + 2 * MARGIN
    down, across = height * scale + MARGIN, width * scale + MARGIN
    sheet = Image.new("RGB", (label + len(rows[0][1]) * across, len(rows) * down + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (name, x_NCHW) in enumerate(rows):
        pen.text((MARGIN, MARGIN + row * down), name, fill="black", font=font)
        for column, pixels_HWC in enumerate(x_NCHW.permute(0, 2, 3, 1).cpu().numpy()):
            colours = np.repeat(pixels_HWC, 3, axis=2) if channels == 1 else pixels_HWC
            tile = Image.fromarray(np.ascontiguousarray(colours))
            tile = tile.resize((width * scale, height * scale), Image.Resampling.NEAREST)
            sheet.paste(tile, (label + column * across, MARGIN + row * down))
    with atomic.replacing(path) as temporary:
        sheet.save(temporary)
