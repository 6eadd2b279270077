"""Augmentations that change gray levels and colours of uint8 images, to the bit as Pillow does, and colour jitter.

What looks at one pixel and channel at a time is a table of 256 entries for each image; one look-up serves them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from repfold.data.augment.augmentation import Augmentation, require
from repfold.data.augment.draws import Draws

LEVELS = 256


@dataclass(frozen=True)
class ColourJitter(Augmentation):
    """Change brightness, contrast and saturation by factors in 1 ± the given amounts, and turn the hue by ± ``hue``.

    Factors are drawn for each image, the order of the four for each batch. ``hue`` is a share of the colour circle.
    """

    name: ClassVar[str] = "colour-jitter"
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1

    def __post_init__(self) -> None:
        for key in ("brightness", "contrast", "saturation"):
            require(0 <= getattr(self, key) <= 1, f"colour-jitter: {key}={getattr(self, key)} must lie in [0, 1].")
        require(0 <= self.hue <= 0.5, f"colour-jitter: hue={self.hue} must lie in [0, 0.5], half the colour circle.")

    def apply(self, x_NCHW: Tensor, draws: Draws) -> Tensor:
        """Return the images, recoloured; float images pass through 256 levels."""
        device, x = x_NCHW.device, to_levels(x_NCHW)
        changes: list[tuple[Callable[[Tensor, Tensor], Tensor], Tensor]] = [
            (_by_table(_brightness), draws.between(1 - self.brightness, 1 + self.brightness)),
            (_by_table(_contrast), draws.between(1 - self.contrast, 1 + self.contrast)),
            (_colour, draws.between(1 - self.saturation, 1 + self.saturation)),
            (turn_hue, draws.between(-self.hue, self.hue)),
        ]
        order = torch.randperm(len(changes), generator=torch.Generator().manual_seed(draws.seed()))
        for change, amount_B in (changes[index] for index in order.tolist()):
            x = change(x, amount_B.to(device, non_blocking=True))
        return from_levels(x, x_NCHW)


def to_levels(x_NCHW: Tensor) -> Tensor:
    """Return the images as uint8; float ones, in [0, 1], are rounded."""
    return (x_NCHW.clamp(0, 1) * 255 + 0.5).to(torch.uint8) if x_NCHW.is_floating_point() else x_NCHW


def from_levels(x_uint8: Tensor, like: Tensor) -> Tensor:
    """Return uint8 images in the dtype of ``like``, floats in [0, 1]."""
    return x_uint8.to(like.dtype) / 255 if like.is_floating_point() else x_uint8


def look_up(x_BCHW: Tensor, table_BC: Tensor) -> Tensor:
    """Return uint8 images, each level replaced by its entry of ``table_BC``, uint8 [B, C, 256]."""
    return table_BC.gather(2, x_BCHW.flatten(2).long()).view(x_BCHW.shape)


def luminance(x_BCHW: Tensor) -> Tensor:
    """Return uint8 [B, 1, H, W]: (19595 R + 38470 G + 7471 B + 2^15) >> 16, ITU-R 601 as Pillow rounds it."""
    if x_BCHW.shape[1] == 1:
        return x_BCHW
    red, green, blue = x_BCHW.int().unbind(1)
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).to(torch.uint8)[:, None]


def turn_hue(x_BCHW: Tensor, turn_B: Tensor) -> Tensor:
    """Return uint8 images with the hue turned by ``turn_B``, in turns of the colour circle; gray images as they are.

    With value v, chroma c and hue h: channel = v - c · max(0, min(k, 4 - k, 1)), k = (n + 6h) mod 6, n = 5, 3, 1.
    """
    if x_BCHW.shape[1] == 1:
        return x_BCHW
    red, green, blue = x_BCHW.float().unbind(1)
    value = x_BCHW.amax(dim=1).float()
    chroma = value - x_BCHW.amin(dim=1).float()
    safe = chroma.clamp(min=1)
    sector = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sector = sector + 6 * turn_B[:, None, None]
    channels = []
    for n in (5, 3, 1):
        k = (n + sector).remainder(6)
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, dim=1).add_(0.5).to(torch.uint8)


def _blend(base: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    """base + factor · (x - base), cut to 0 ... 255 and rounded down."""
    base = base.float()
    return (base + factor * (x.float() - base)).clamp_(0, 255).to(torch.uint8)


def _levels(x_BCHW: Tensor) -> Tensor:
    return torch.arange(LEVELS, device=x_BCHW.device).expand(len(x_BCHW), 1, LEVELS)


def _brightness(x_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    return _blend(torch.zeros((), device=x_BCHW.device), _levels(x_BCHW), factor_B[:, None, None])


def _contrast(x_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    mean = (luminance(x_BCHW).double().mean(dim=(2, 3)) + 0.5).floor()
    return _blend(mean[:, :, None], _levels(x_BCHW), factor_B[:, None, None])


def _invert(x_BCHW: Tensor, amount_B: Tensor) -> Tensor:
    return (255 - _levels(x_BCHW)).to(torch.uint8)


def _posterize(x_BCHW: Tensor, bits_B: Tensor) -> Tensor:
    step = 2 ** (8 - bits_B.round().long())[:, None, None]
    return (_levels(x_BCHW) // step * step).to(torch.uint8)


def _solarize(x_BCHW: Tensor, threshold_B: Tensor) -> Tensor:
    levels = _levels(x_BCHW)
    return torch.where(levels < threshold_B[:, None, None], levels, 255 - levels).to(torch.uint8)


def _autocontrast(x_BCHW: Tensor, amount_B: Tensor) -> Tensor:
    """Stretch each channel's lowest and highest level to 0 and 255; a channel of one level stays."""
    flat, levels = x_BCHW.flatten(2), _levels(x_BCHW)
    low, high = flat.amin(2, keepdim=True).double(), flat.amax(2, keepdim=True).double()
    scale = 255 / (high - low).clamp(min=1)
    stretched = (levels * scale - low * scale).clamp(0, 255).to(torch.uint8)
    return torch.where(high > low, stretched, levels.to(torch.uint8))


def _equalize(x_BCHW: Tensor, amount_B: Tensor) -> Tensor:
    """Even out each channel's histogram h.

    Level i becomes (s/2 + Σ_{j<i} h_j) / s, s = (Σ h - h_highest) / 255, all in integers; s = 0 changes nothing.
    """
    count, channels = x_BCHW.shape[:2]
    shelf = torch.arange(count * channels, device=x_BCHW.device).view(count, channels, 1) * LEVELS
    histogram = torch.bincount((x_BCHW.flatten(2) + shelf).flatten(), minlength=count * channels * LEVELS)
    histogram = histogram.view(count, channels, LEVELS)
    pixels = x_BCHW.shape[2] * x_BCHW.shape[3]
    highest = x_BCHW.flatten(2).amax(2, keepdim=True).long()
    step = (pixels - histogram.gather(2, highest)) // 255
    below = histogram.cumsum(2) - histogram
    even = ((step // 2 + below) // step.clamp(min=1)).clamp_(max=255)
    return torch.where(step > 0, even, _levels(x_BCHW)).to(torch.uint8)


def _by_table(table: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x_BCHW, amount_B: look_up(x_BCHW, table(x_BCHW, amount_B).expand(-1, x_BCHW.shape[1], -1))


def _colour(x_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    return _blend(luminance(x_BCHW), x_BCHW, factor_B[:, None, None, None])


def _sharpness(x_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Blend with the image smoothed by [1 1 1; 1 5 1; 1 1 1] / 13, whose border pixels are those of the image."""
    if min(x_BCHW.shape[2:]) < 3:
        return x_BCHW
    levels = x_BCHW.short()
    rows = levels[:, :, :-2] + levels[:, :, 1:-1] + levels[:, :, 2:]
    sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = x_BCHW.clone()
    smooth[..., 1:-1, 1:-1] = ((sums + 4 * levels[..., 1:-1, 1:-1]).float() / 13 + 0.5).to(torch.uint8)
    return _blend(smooth, x_BCHW, factor_B[:, None, None, None])


# Operations as tables, (uint8 images, B amounts) -> uint8 [B, C or 1, 256]. Amounts: factors around 1, bits kept, the
# level from which on levels are inverted; none for the last three.
TABLES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "posterize": _posterize,
    "solarize": _solarize,
    "invert": _invert,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}

# Operations that look at more than one channel or pixel, (uint8 images, B factors around 1) -> uint8 images.
BLENDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"colour": _colour, "sharpness": _sharpness}
