"""How a picture becomes the square that the network sees: the settings, the rectangle that is cut out, the cutting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from repfold.errors import RepFoldError
from repfold.limits import LARGEST_SIDE

ATTEMPTS = 10
UNIFORMS_PER_BOX = 2 * ATTEMPTS + 2

SMALL_SIDE = 64  # pictures as CIFAR's, of which networks see all
LARGE_SIDE = 224  # what networks of this field see by default of larger ones
_CENTRE_SHARE = 0.875  # 224 of 256: the usual central crop


@dataclass(frozen=True)
class CropSettings:
    """How training images are cropped.

    ``resized``: a random rectangle of a share ``scale`` of the area and an aspect in ``ratio``, resized to the square
    (Szegedy et al. 2015). ``padded``: the square is padded by ``padding`` (a share of its side) and cropped back at a
    random offset, on the device (``augment.Crop``). ``centre``: nothing random.
    """

    kind: Literal["resized", "padded", "centre"] = "resized"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    padding: float = 0.125

    def __post_init__(self) -> None:
        if self.kind not in ("resized", "padded", "centre"):
            raise RepFoldError(f"Unknown crop '{self.kind}'. Known: resized, padded, centre.")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise RepFoldError(f"The crop's scale must be 0 < low <= high <= 1 (shares of the area), not {self.scale}.")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise RepFoldError(f"The crop's aspect ratio must be 0 < low <= high, not {self.ratio}.")
        if not 0 <= self.padding < 1:
            raise RepFoldError(f"The crop's padding is a share of the side, 0 <= padding < 1, not {self.padding}.")

    def padding_pixels(self, image_size: int) -> int:
        """Return the padding of a square of side ``image_size``: 4 pixels at 32 by default."""
        return round(self.padding * image_size) if self.kind == "padded" else 0

    def working_side(self, image_size: int) -> int:
        """Return the short side (pixels) above which more resolution is lost on every crop of this kind.

        The smallest random crop of a picture of short side w has the side w·√scale[0]; it needs ``image_size`` pixels.
        """
        return math.ceil(image_size / math.sqrt(self.scale[0]))


@dataclass(frozen=True)
class Framing:
    """How pictures become squares of side ``image_size``, with 1 (gray) or 3 (colour) ``channels``.

    For evaluation the short side is brought to ``resize`` and the central square cut; for training see ``crop``.
    """

    image_size: int
    resize: int
    channels: int
    crop: CropSettings

    def __post_init__(self) -> None:
        if not 1 <= self.image_size <= self.resize:
            raise RepFoldError(
                f"image_size is {self.image_size} and resize {self.resize}: both are pixels, and resize (the short "
                "side before the central crop) cannot be smaller than image_size."
            )
        if self.resize > LARGEST_SIDE:
            raise RepFoldError(
                f"image_size is {self.image_size} and resize {self.resize}: {LARGEST_SIDE} px is the most that either "
                "can be."
            )
        if self.channels not in (1, 3):
            raise RepFoldError(f"channels is {self.channels}; pictures have 1 (gray) or 3 (colour).")


def framing_of(
    sizes_N2: np.ndarray,
    gray: bool,
    *,
    image_size: int | None = None,
    resize: int | None = None,
    crop: CropSettings | None = None,
    channels: int | None = None,
) -> Framing:
    """Return the framing of pictures of ``sizes_N2`` (height, width), all of them ``gray`` or not.

    What is None follows from them: ``image_size`` is their own side when they are small squares, else 224; ``crop`` is
    padded for small ones, else resized; ``resize`` is 8/7 of ``image_size`` but no enlargement, and ``image_size``
    where the crop is not resized; ``channels`` is 1 for gray ones, else 3.

    Raises: RepFoldError when there is no picture, and for sizes that cannot be.
    """
    if len(sizes_N2) == 0:
        raise RepFoldError("No image is left to use: every file is broken, or the set is empty.")
    height, width = (int(side) for side in np.median(sizes_N2, axis=0))
    small_squares = bool((sizes_N2 == height).all()) and height <= SMALL_SIDE
    side = image_size or (height if small_squares else LARGE_SIDE)
    crop = crop or CropSettings("padded" if sizes_N2.max() <= SMALL_SIDE else "resized")
    if resize is None:
        whole = crop.kind != "resized"  # the padded crop sees as much of a picture as evaluation does
        resize = side if whole else max(side, min(round(side / _CENTRE_SHARE), min(height, width)))
    return Framing(side, resize, channels if channels is not None else (1 if gray else 3), crop)


def random_boxes(sizes_N2: np.ndarray, uniforms_NU: np.ndarray, settings: CropSettings) -> np.ndarray:
    """Return [N, 4] boxes (top, left, height, width) in pictures of ``sizes_N2`` (height, width).

    Each of ten attempts draws an area and, log-uniformly, an aspect; the first that fits is taken, else the largest
    centred box of an allowed aspect. ``uniforms_NU`` holds ``UNIFORMS_PER_BOX`` numbers in [0, 1) per picture, so that
    a box depends on nothing else.
    """
    height, width = sizes_N2[:, :1].astype(np.float64), sizes_N2[:, 1:].astype(np.float64)
    low, high = settings.scale
    area = height * width * (low + uniforms_NU[:, :ATTEMPTS] * (high - low))
    log_low, log_high = math.log(settings.ratio[0]), math.log(settings.ratio[1])
    ratio = np.exp(log_low + uniforms_NU[:, ATTEMPTS : 2 * ATTEMPTS] * (log_high - log_low))
    tried_w, tried_h = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (tried_w >= 1) & (tried_h >= 1) & (tried_w <= width) & (tried_h <= height)
    first = fits.argmax(axis=1)
    rows = np.arange(len(sizes_N2))
    found = fits[rows, first]
    fallback_h = np.minimum(height[:, 0], np.rint(width[:, 0] / settings.ratio[0])).clip(1)
    fallback_w = np.minimum(width[:, 0], np.rint(height[:, 0] * settings.ratio[1])).clip(1)
    box_h = np.where(found, tried_h[rows, first], fallback_h)
    box_w = np.where(found, tried_w[rows, first], fallback_w)
    free_h, free_w = height[:, 0] - box_h, width[:, 0] - box_w
    top = np.where(found, np.floor(uniforms_NU[:, -2] * (free_h + 1)), free_h // 2)
    left = np.where(found, np.floor(uniforms_NU[:, -1] * (free_w + 1)), free_w // 2)
    return np.stack([top, left, box_h, box_w], axis=1).astype(np.int64)


def centre_boxes(sizes_N2: np.ndarray, image_size: int, resize: int) -> np.ndarray:
    """Return [N, 4] boxes that equal "short side to ``resize``, then the central square of ``image_size``"."""
    side = np.rint(sizes_N2.min(axis=1) * (image_size / resize)).clip(1)
    top, left = (sizes_N2[:, 0] - side) // 2, (sizes_N2[:, 1] - side) // 2
    return np.stack([top, left, side, side], axis=1).astype(np.int64)


def cut(pixels_HWC: np.ndarray, box: np.ndarray, side: int) -> np.ndarray:
    """Return the ``box`` of a picture as uint8 [side, side, C], resampled bilinearly with antialiasing."""
    top, left, height, width = (int(value) for value in box)
    return resample(pixels_HWC[top : top + height, left : left + width], side, side)


def resample(pixels_HWC: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return uint8 pixels resampled to [height, width, C], bilinear with antialiasing, as Pillow's to one gray level.

    PyTorch's uint8 kernel is about three times as fast as Pillow's. The copy that makes a crop contiguous is left to
    NumPy: PyTorch would run it in a parallel region, whose threads compete with those that train.
    """
    if pixels_HWC.shape[:2] == (height, width):
        return pixels_HWC
    source_1CHW = torch.from_numpy(np.ascontiguousarray(pixels_HWC)).permute(2, 0, 1)[None]
    resampled_1CHW = torch.nn.functional.interpolate(
        source_1CHW, (height, width), mode="bilinear", antialias=True, align_corners=False
    )
    return resampled_1CHW[0].permute(1, 2, 0).numpy()
