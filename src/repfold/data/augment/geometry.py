"""Augmentations that move pixels: flip, padded crop, resized crop, and affine maps (shears, shifts, turns)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from repfold.data.augment.augmentation import Augmentation, require
from repfold.data.augment.draws import Draws
from repfold.data.augment.masks import level
from repfold.data.crops import UNIFORMS_PER_BOX, CropSettings, random_boxes


@dataclass(frozen=True)
class Flip(Augmentation):
    """Mirror left and right with ``probability``."""

    name: ClassVar[str] = "flip"
    probability: float = 0.5

    def __post_init__(self) -> None:
        require(0 <= self.probability <= 1, f"flip: probability={self.probability} must lie in [0, 1].")

    def apply(self, x_NCHW: Tensor, draws: Draws) -> Tensor:
        """Return the images, those drawn mirrored."""
        flipped_B = draws.bernoulli(self.probability).to(x_NCHW.device, non_blocking=True)
        return torch.where(flipped_B[:, None, None, None], x_NCHW.flip(3), x_NCHW)


@dataclass(frozen=True)
class Crop(Augmentation):
    """Pad by ``padding`` (a share of the side: 4 pixels at 32) on every side and cut the old size out anywhere.

    ``mode``: "constant" pads with the gray level ``fill``, "reflect" with the mirrored image.
    """

    name: ClassVar[str] = "crop"
    padding: float = 0.125
    mode: str = "constant"
    fill: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.padding < 1, f"crop: padding={self.padding} is a share of the side: give 0 <= padding < 1.")
        require(self.mode in ("constant", "reflect"), f"crop: mode='{self.mode}' must be constant or reflect.")
        require(0 <= self.fill <= 255, f"crop: fill={self.fill} is a gray level: give 0 to 255.")

    def apply(self, x_NCHW: Tensor, draws: Draws) -> Tensor:
        """Return the images, each shifted by up to the padding in both directions."""
        height, width = x_NCHW.shape[-2:]
        down, across = round(self.padding * height), round(self.padding * width)
        offset = (draws.uniform(2) * torch.tensor([2 * down + 1, 2 * across + 1])).long()
        rows = torch.arange(height) + (offset[:, :1] - down)
        columns = torch.arange(width) + (offset[:, 1:] - across)
        if self.mode == "reflect":
            return _take(x_NCHW, _reflected(rows, height), _reflected(columns, width))
        padded = functional.pad(x_NCHW, (across, across, down, down), value=level(x_NCHW, self.fill))
        return _take(padded, rows + down, columns + across)


@dataclass(frozen=True)
class ResizedCrop(Augmentation):
    """Cut out a box of a share in ``scale`` of the area and an aspect in ``ratio``; resize it to the old size.

    For images decoded at the size they are trained at: boxes are smaller than that, so nothing is aliased.
    """

    name: ClassVar[str] = "resized-crop"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        CropSettings("resized", self.scale, self.ratio)  # which refuses what is out of range

    def apply(self, x_NCHW: Tensor, draws: Draws) -> Tensor:
        """Return the images' boxes, resized; uint8 images are rounded."""
        count, _, height, width = x_NCHW.shape
        uniforms = draws.uniform(UNIFORMS_PER_BOX).double().numpy()
        boxes = random_boxes(
            np.tile([height, width], (count, 1)), uniforms, CropSettings("resized", self.scale, self.ratio)
        )
        top, left, rows, columns = torch.from_numpy(boxes).to(torch.float32).unbind(1)
        y = (torch.arange(height) + 0.5) * (rows / height)[:, None] + top[:, None]
        x = (torch.arange(width) + 0.5) * (columns / width)[:, None] + left[:, None]
        grid = torch.stack(
            [
                (2 * x / width - 1)[:, None, :].expand(-1, height, -1),
                (2 * y / height - 1)[:, :, None].expand(-1, -1, width),
            ],
            dim=3,
        ).to(x_NCHW.device, non_blocking=True)
        images = x_NCHW if x_NCHW.is_floating_point() else x_NCHW.float()
        sampled = functional.grid_sample(images, grid.to(images.dtype), padding_mode="border", align_corners=False)
        return sampled if x_NCHW.is_floating_point() else sampled.add_(0.5).to(torch.uint8)


def sample_nearest(x_NCHW: Tensor, affine_B6: Tensor, fill: int) -> Tensor:
    """Return images whose pixel (column j, row i) is that at (a·x + b·y + c, d·x + e·y + f), x = j + ½, y = i + ½.

    ``affine_B6`` holds a ... f in pixels, as in Pillow's ``Image.transform``. Coordinates are rounded down to the pixel
    that they lie in; what comes from outside the image has the gray level ``fill``.
    """
    count, channels, height, width = x_NCHW.shape
    a, b, c, d, e, f = affine_B6.to(x_NCHW.device, non_blocking=True)[:, :, None, None].unbind(1)
    x = torch.arange(width, device=x_NCHW.device) + 0.5
    y = (torch.arange(height, device=x_NCHW.device) + 0.5)[:, None]
    column, row = (a * x + (b * y + c)).floor().long(), (d * x + (e * y + f)).floor().long()
    outside = (column < 0) | (column >= width) | (row < 0) | (row >= height)
    index = row.clamp_(0, height - 1).mul_(width).add_(column.clamp_(0, width - 1))
    index = index.view(count, 1, height * width).expand(-1, channels, -1)
    sampled = x_NCHW.flatten(2).gather(2, index).view(x_NCHW.shape)
    return sampled.masked_fill_(outside[:, None], level(x_NCHW, fill))


def _shear_x(amount: Tensor, height: int, width: int) -> Tensor:
    return _rows(1, amount, 0, 0, 1, 0)


def _shear_y(amount: Tensor, height: int, width: int) -> Tensor:
    return _rows(1, 0, 0, amount, 1, 0)


def _translate_x(amount: Tensor, height: int, width: int) -> Tensor:
    return _rows(1, 0, (amount * width).round(), 0, 1, 0)


def _translate_y(amount: Tensor, height: int, width: int) -> Tensor:
    return _rows(1, 0, 0, 0, 1, (amount * height).round())


def _rotate(amount: Tensor, height: int, width: int) -> Tensor:
    sine, cosine = (-amount * math.pi / 180).sin(), (amount * math.pi / 180).cos()
    x, y = width / 2, height / 2
    return _rows(cosine, sine, x - cosine * x - sine * y, -sine, cosine, y + sine * x - cosine * y)


def _rows(*entries: Tensor | float) -> Tensor:
    count = max(entry.numel() for entry in entries if isinstance(entry, Tensor))
    return torch.stack([torch.as_tensor(entry, dtype=torch.float32).expand(count) for entry in entries], dim=1)


# Operations as affine maps (B amounts, height, width) -> [B, 6]. Amounts: shears as a slope, shifts as a share of the
# side (whole pixels are moved), turns in degrees, counter-clockwise.
AFFINES: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "shear-x": _shear_x,
    "shear-y": _shear_y,
    "translate-x": _translate_x,
    "translate-y": _translate_y,
    "rotate": _rotate,
}


def _take(x_NCHW: Tensor, rows_BH: Tensor, columns_BW: Tensor) -> Tensor:
    """Return [B, C, H, W], pixel (i, j) of image b being (rows_BH[b, i], columns_BW[b, j])."""
    count, channels, _, width = x_NCHW.shape
    index = (rows_BH[:, :, None] * width + columns_BW[:, None, :]).to(x_NCHW.device, non_blocking=True)
    flat = index.flatten(1)[:, None].expand(-1, channels, -1)
    return x_NCHW.flatten(2).gather(2, flat).view(count, channels, rows_BH.shape[1], columns_BW.shape[1])


def _reflected(positions: Tensor, size: int) -> Tensor:
    """Return positions mirrored at the first and last pixel, which are not repeated."""
    period = max(2 * (size - 1), 1)
    folded = positions.remainder(period)
    return torch.minimum(folded, period - folded) if size > 1 else torch.zeros_like(positions)
