"""Which images a training is of, and how they are framed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from repfold.data.crops import CropSettings
from repfold.limits import MOST_PIXELS


@dataclass(frozen=True)
class DataSettings:
    """A data set by its name or path, and what is made of it.

    Attributes:
        spec: "digits", or the path of images.
        image_size, resize, crop, channels: how pictures become squares; None: as the pictures are, see ``framing_of``.
        val_fraction: of a set without validation images; these become them, drawn by ``seed``.
        per_class: so many training and validation images of each class are drawn; None: all.
        skip_broken: leave files out that cannot be decoded.
        max_pixels: files of more are broken ones.
    """

    spec: str | Path
    image_size: int | None = None
    resize: int | None = None
    crop: CropSettings | None = None
    channels: int | None = None
    val_fraction: float = 0.2
    per_class: tuple[int, int] | None = None
    seed: int = 0
    skip_broken: bool = False
    max_pixels: int = MOST_PIXELS
