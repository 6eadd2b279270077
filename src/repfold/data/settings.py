"""Which images a training is of, and how they are framed."""

from __future__ import annotations

from dataclasses import dataclass

from repfold.data.crops import CropSettings
from repfold.limits import MOST_PIXELS


@dataclass(frozen=True)
class DataSettings:
    """The arguments of ``open_source``; what is None is left to the images."""

    spec: str
    image_size: int | None = None
    resize: int | None = None
    crop: CropSettings | None = None
    channels: int | None = None
    val_fraction: float = 0.2
    per_class: tuple[int, int] | None = None
    seed: int = 0
    skip_broken: bool = False
    max_pixels: int = MOST_PIXELS
