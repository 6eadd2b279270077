"""What a training says of its data: which images, how they are framed, and how batches of them are augmented."""

from __future__ import annotations

from dataclasses import dataclass

from repfold.data.augment import Chain
from repfold.data.crops import CropSettings
from repfold.data.mixing import Mixing
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


@dataclass(frozen=True)
class AugmentationSettings:
    """What happens to batches of training images on the device: mirrored with the probability ``flip``, then changed by
    ``chain``, then mixed with one another."""

    flip: float = 0.5
    chain: Chain = Chain()  # noqa: RUF009 - frozen
    mixing: Mixing = Mixing()  # noqa: RUF009 - frozen
