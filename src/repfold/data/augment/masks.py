"""Augmentations that hide parts of an image: Cutout, Random Erasing, GridMask, Hide-and-Seek.

Sizes are shares of the image's side or area, so that one setting serves every resolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from repfold.data.augment.augmentation import Augmentation, require
from repfold.data.augment.draws import Draws

GRAY = 128


@dataclass(frozen=True)
class Cutout(Augmentation):
    """Hide one square of side ``size`` (of the image's shorter side) centred anywhere (DeVries and Taylor 2017).

    What lies outside the image is cut off, as in the paper: half the side hides 19 % of the image on average.
    """

    name: ClassVar[str] = "cutout"
    size: float = 0.5
    fill: int = GRAY

    def __post_init__(self) -> None:
        require(0 < self.size <= 1, f"cutout: size={self.size} is a share of the image's side: give 0 < size <= 1.")
        _require_gray("cutout", self.fill)

    def apply(self, x_NCHW: Tensor, draws: Draws) -> Tensor:
        """Return the images, each with its square filled."""
        height, width = x_NCHW.shape[-2:]
        side_B = torch.full((draws.count,), max(round(self.size * min(height, width)), 1))
        mask, _ = boxes_mask(height, width, draws.uniform(2), side_B, side_B, x_NCHW.device)
        return x_NCHW.masked_fill(mask, level(x_NCHW, self.fill))


@dataclass(frozen=True)
class RandomErasing(Augmentation):
    """With ``probability``, fill one rectangle inside the image with noise (Zhong et al. 2020).

    Its area is a share in ``area`` of the image's, its aspect log-uniform in ``aspect``; of ten draws the first that
    fits is taken, none if none does. ``fill`` "noise": uniform for each pixel; "gray": mid-gray.
    """

    name: ClassVar[str] = "random-erasing"
    probability: float = 0.5
    area: tuple[float, float] = (0.02, 0.4)
    aspect: tuple[float, float] = (0.3, 3.3)
    fill: str = "noise"

    def __post_init__(self) -> None:
        _require_probability(self.name, self.probability)
        require(0 < self.area[0] <= self.area[1] < 1, f"random-erasing: area={self.area} must be 0 < low <= high < 1.")
        require(0 < self.aspect[0] <= self.aspect[1], f"random-erasing: aspect={self.aspect} must be 0 < low <= high.")
        require(self.fill in ("noise", "gray"), f"random-erasing: fill='{self.fill}' must be noise or gray.")

    def apply(self, x_NCHW: Tensor, draws: Draws) -> Tensor:
        """Return the images, those drawn with their rectangle filled."""
        height, width = x_NCHW.shape[-2:]
        area = draws.between(*self.area, 10) * height * width
        aspect = draws.between(math.log(self.aspect[0]), math.log(self.aspect[1]), 10).exp()
        rows, columns = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
        fits = (rows >= 1) & (columns >= 1) & (rows <= height) & (columns <= width)
        attempt = fits.float().argmax(dim=1, keepdim=True)  # the first that fits
        erased = fits.gather(1, attempt)[:, 0] & draws.bernoulli(self.probability)
        rows = rows.gather(1, attempt)[:, 0].long() * erased
        columns = columns.gather(1, attempt)[:, 0].long() * erased
        free = torch.stack([height - rows, width - columns], dim=1) + 1
        corner = (draws.uniform(2) * free).long()
        mask = _box_mask(height, width, corner, torch.stack([rows, columns], dim=1), x_NCHW.device)
        if self.fill == "gray":
            return x_NCHW.masked_fill(mask, level(x_NCHW, GRAY))
        return torch.where(mask, _noise(x_NCHW, draws), x_NCHW)


@dataclass(frozen=True)
class GridMask(Augmentation):
    """Hide a grid of squares: of each period d, the first ``ratio``·d in both directions (Chen et al. 2020).

    d is drawn for each image as a share in ``period`` of the shorter side, and so is the grid's offset; a ratio of 0.5
    hides 25 %. The probability grows linearly with the training's progress to ``probability`` at the share ``ramp``.
    """

    name: ClassVar[str] = "gridmask"
    period: tuple[float, float] = (96 / 224, 1.0)
    ratio: float = 0.5
    probability: float = 0.7
    ramp: float = 0.8
    fill: int = GRAY

    def __post_init__(self) -> None:
        _require_probability(self.name, self.probability)
        require(0 < self.period[0] <= self.period[1], f"gridmask: period={self.period} must be 0 < low <= high.")
        require(0 < self.ratio < 1, f"gridmask: ratio={self.ratio} must lie between 0 and 1.")
        require(0 <= self.ramp <= 1, f"gridmask: ramp={self.ramp} is a share of the training: give 0 <= ramp <= 1.")
        _require_gray(self.name, self.fill)

    def probability_at(self, progress: float) -> float:
        """Return the probability of a mask when the share ``progress`` of the training is done."""
        return self.probability * min(progress / self.ramp, 1.0) if self.ramp else self.probability

    def apply(self, x_NCHW: Tensor, draws: Draws) -> Tensor:
        """Return the images, those drawn with their grid filled."""
        height, width = x_NCHW.shape[-2:]
        side = min(height, width)
        period = draws.between(self.period[0] * side, self.period[1] * side).round().clamp_(min=2)
        hidden = (period * self.ratio).round().clamp_(min=1)
        offset = (draws.uniform(2) * period[:, None]).floor()
        hidden = hidden * draws.bernoulli(self.probability_at(draws.progress))
        rows = (torch.arange(height) + offset[:, :1]) % period[:, None] < hidden[:, None]
        columns = (torch.arange(width) + offset[:, 1:]) % period[:, None] < hidden[:, None]
        return x_NCHW.masked_fill(_product(rows, columns, x_NCHW.device), level(x_NCHW, self.fill))


@dataclass(frozen=True)
class HideAndSeek(Augmentation):
    """Divide each image into cells and hide each with ``probability`` (Singh and Lee 2017).

    The side of the cells is drawn for each image from ``cells``, shares of the shorter side; 0 hides nothing.
    """

    name: ClassVar[str] = "hide-and-seek"
    cells: tuple[float, ...] = (0.0, 16 / 224, 32 / 224, 44 / 224, 56 / 224)
    probability: float = 0.5
    fill: int = GRAY

    def __post_init__(self) -> None:
        _require_probability(self.name, self.probability)
        require(
            bool(self.cells) and min(self.cells) >= 0 and max(self.cells) <= 1,
            f"hide-and-seek: cells={self.cells} are shares of the image's side: give numbers from 0 to 1.",
        )
        _require_gray(self.name, self.fill)

    def apply(self, x_NCHW: Tensor, draws: Draws) -> Tensor:
        """Return the images with their hidden cells filled."""
        height, width = x_NCHW.shape[-2:]
        pixels = torch.tensor([round(share * min(height, width)) for share in self.cells])
        cell = pixels[draws.integers(len(pixels))]
        smallest = max(int(pixels[pixels > 0].min()), 1) if bool((pixels > 0).any()) else max(height, width)
        down, across = -(-height // smallest), -(-width // smallest)
        hidden = (draws.uniform(down, across) < self.probability) & (cell > 0)[:, None, None]
        rows = torch.arange(height) // cell.clamp(min=smallest)[:, None]
        columns = torch.arange(width) // cell.clamp(min=smallest)[:, None]
        image = torch.arange(draws.count)[:, None, None]
        mask = hidden[image, rows[:, :, None], columns[:, None, :]][:, None]
        return x_NCHW.masked_fill(mask.to(x_NCHW.device, non_blocking=True), level(x_NCHW, self.fill))


def boxes_mask(
    height: int, width: int, centre_B2: Tensor, rows_B: Tensor, columns_B: Tensor, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return bool [B, 1, height, width], true in boxes of ``rows_B`` x ``columns_B``, and their areas in pixels [B].

    ``centre_B2``: uniform in [0, 1), the centre's row and column as shares; what lies outside the image is cut off.
    """
    centre = (centre_B2 * torch.tensor([height, width])).long()
    size = torch.stack([rows_B, columns_B], dim=1)
    limit = torch.tensor([height, width])
    begin = (centre - size // 2).clamp_(min=0)
    end = torch.minimum(centre - size // 2 + size, limit)
    area = (end - begin).prod(dim=1)
    return _box_mask(height, width, begin, end - begin, device), area


def level(x_NCHW: Tensor, gray: int) -> float:
    """Return the gray level (0 to 255) in the images' own scale: floats are in [0, 1]."""
    return gray / 255 if x_NCHW.is_floating_point() else gray


def _box_mask(height: int, width: int, corner_B2: Tensor, size_B2: Tensor, device: torch.device) -> Tensor:
    row, column = torch.arange(height), torch.arange(width)
    end = corner_B2 + size_B2
    rows = (row >= corner_B2[:, :1]) & (row < end[:, :1])
    columns = (column >= corner_B2[:, 1:]) & (column < end[:, 1:])
    return _product(rows, columns, device)


def _product(rows_BH: Tensor, columns_BW: Tensor, device: torch.device) -> Tensor:
    rows_BH, columns_BW = rows_BH.to(device, non_blocking=True), columns_BW.to(device, non_blocking=True)
    return rows_BH[:, None, :, None] & columns_BW[:, None, None, :]


def _noise(x_NCHW: Tensor, draws: Draws) -> Tensor:
    noise = draws.uniform(*x_NCHW.shape[1:]).to(x_NCHW.device, non_blocking=True)
    return noise.to(x_NCHW.dtype) if x_NCHW.is_floating_point() else (noise * 256).to(torch.uint8)


def _require_probability(name: str, probability: float) -> None:
    require(0 <= probability <= 1, f"{name}: probability={probability} must lie in [0, 1].")


def _require_gray(name: str, fill: int) -> None:
    require(0 <= fill <= 255, f"{name}: fill={fill} is a gray level: give 0 to 255.")
