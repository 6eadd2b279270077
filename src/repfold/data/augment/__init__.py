"""Augmentation of whole batches on the training device: chains of augmentations, and their names.

    augment = parse("flip+crop+randaugment:layers=2,magnitude=9+cutout")
    x = augment(x, generator, progress=step / steps)

Batches are uint8 (or float in [0, 1]) tensors [B, C, H, W]; sizes are shares of the image; every image gets draws of
its own, from a seeded ``torch.Generator``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from repfold import specs
from repfold.data.augment.augmentation import Augmentation
from repfold.data.augment.color import ColourJitter
from repfold.data.augment.draws import Draws
from repfold.data.augment.geometry import Crop, Flip, ResizedCrop
from repfold.data.augment.masks import Cutout, GridMask, HideAndSeek, RandomErasing
from repfold.data.augment.mixing import Mixed, Mixing
from repfold.data.augment.policies import AutoAugment, RandAugment, TrivialAugment

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "AutoAugment",
    "Chain",
    "ColourJitter",
    "Crop",
    "Cutout",
    "Draws",
    "Flip",
    "GridMask",
    "HideAndSeek",
    "Mixed",
    "Mixing",
    "RandAugment",
    "RandomErasing",
    "ResizedCrop",
    "TrivialAugment",
    "parse",
]


@dataclass(frozen=True)
class Chain(Augmentation):
    """Augmentations one after the other; an empty chain changes nothing."""

    name: ClassVar[str] = "chain"
    links: tuple[Augmentation, ...] = ()

    def apply(self, x_NCHW: Tensor, draws: Draws) -> Tensor:
        """Return the images after all links."""
        for link in self.links:
            x_NCHW = link.apply(x_NCHW, draws)
        return x_NCHW

    def __str__(self) -> str:
        return "+".join(map(str, self.links)) or NOTHING


NOTHING = "none"

AUGMENTATIONS: dict[str, Callable[..., Augmentation]] = {
    "autoaugment": AutoAugment,
    "colour-jitter": ColourJitter,
    "crop": Crop,
    "cutout": Cutout,
    "flip": Flip,
    "gridmask": GridMask,
    "hide-and-seek": HideAndSeek,
    "randaugment": RandAugment,
    "random-erasing": RandomErasing,
    "resized-crop": ResizedCrop,
    "trivialaugment": TrivialAugment,
}


def parse(text: str) -> Chain:
    """Return the augmentations that ``text`` names, joined by "+", each with its arguments; "none" is an empty chain.

    Raises: RepFoldError for an unknown name or argument, with the nearest match, and for values out of range.
    """
    if text.strip() in ("", NOTHING):
        return Chain()
    return Chain(tuple(specs.parse(link, "augmentation", AUGMENTATIONS) for link in specs.split(text, "+")))
