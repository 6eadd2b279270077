"""Batches whose images are each a mixture of two: MixUp and CutMix, on uint8 or float images, with honest metrics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from repfold.data.augment.draws import Draws
from repfold.data.augment.masks import boxes_mask
from repfold.errors import RepFoldError


@dataclass(frozen=True)
class Mixed:
    """A batch in which image i is ``share_B[i]`` of the image labelled ``labels_B[i]``, the rest of its partner.

    ``share_B`` is float32 in [0, 1]: λ. An unmixed batch has shares of 1.
    """

    x_NCHW: Tensor
    labels_B: Tensor
    partners_B: Tensor
    share_B: Tensor

    def targets(self, classes: int) -> Tensor:
        """Return the soft targets, float32 [B, classes]: λ for the label plus 1 - λ for the partner's."""
        own = functional.one_hot(self.labels_B, classes)
        other = functional.one_hot(self.partners_B, classes)
        return other + self.share_B[:, None] * (own - other)


@dataclass(frozen=True)
class Mixing:
    """How images are mixed: the α of MixUp and of CutMix (0 is off) and the share of images that get mixed.

    With both on, each batch gets one of them, drawn evenly.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.mixup < float("inf") and 0 <= self.cutmix < float("inf")):
            raise RepFoldError(
                f"Mixing needs alpha above 0, or 0 to turn it off; not mixup={self.mixup}, cutmix={self.cutmix}."
            )
        if not 0 <= self.probability <= 1:
            raise RepFoldError(f"The probability of mixing must lie in [0, 1], not {self.probability}.")

    def __call__(
        self,
        x_NCHW: Tensor,
        labels_B: Tensor,
        generator: torch.Generator,
        *,
        first: int = 0,
        total: int | None = None,
    ) -> Mixed:
        """Return the batch, mixed; ``first`` and ``total``: which part of a shared batch it is (see Draws)."""
        draws = Draws(generator, len(x_NCHW), first, total)
        if not self.mixup and not self.cutmix:
            return _unmixed(x_NCHW, labels_B)
        use_mixup = draws.seed() % 2 == 0 if self.mixup and self.cutmix else bool(self.mixup)
        if use_mixup:
            return mixup(x_NCHW, labels_B, draws, alpha=self.mixup, probability=self.probability)
        return cutmix(x_NCHW, labels_B, draws, alpha=self.cutmix, probability=self.probability)


def mixup(x_NCHW: Tensor, labels_B: Tensor, draws: Draws, *, alpha: float, probability: float = 1.0) -> Mixed:
    """Return λ·x + (1 - λ)·partner with λ ~ Beta(α, α) for each image (Zhang et al. 2018); uint8 images are rounded.

    The partner is the preceding image of the (shuffled) batch.

    Raises: RepFoldError when alpha <= 0.
    """
    share_B = _shares(draws, alpha, probability).to(x_NCHW.device)
    weight = share_B[:, None, None, None]
    if x_NCHW.is_floating_point():
        mixed = torch.lerp(x_NCHW.roll(1, 0), x_NCHW, weight.to(x_NCHW.dtype))
    else:
        own = x_NCHW.float()
        mixed = torch.lerp(own.roll(1, 0), own, weight).add_(0.5).to(torch.uint8)
    return Mixed(mixed, labels_B, labels_B.roll(1, 0), share_B)


def cutmix(x_NCHW: Tensor, labels_B: Tensor, draws: Draws, *, alpha: float, probability: float = 1.0) -> Mixed:
    """Return images with a rectangle of 1 - λ of the area pasted from a partner, λ ~ Beta(α, α) (Yun et al. 2019).

    Rectangles have the image's aspect and a centre anywhere in it; what lies outside is cut off, and the share is that
    of the pixels really kept. The partner is the preceding image of the (shuffled) batch.

    Raises: RepFoldError when alpha <= 0.
    """
    height, width = x_NCHW.shape[-2:]
    side_B = (1 - _shares(draws, alpha, probability)).sqrt()
    mask_B1HW, area_B = boxes_mask(
        height, width, draws.uniform(2), (side_B * height).long(), (side_B * width).long(), x_NCHW.device
    )
    mixed = torch.where(mask_B1HW, x_NCHW.roll(1, 0), x_NCHW)
    return Mixed(mixed, labels_B, labels_B.roll(1, 0), 1 - (area_B / (height * width)).to(x_NCHW.device))


def _unmixed(x_NCHW: Tensor, labels_B: Tensor) -> Mixed:
    return Mixed(x_NCHW, labels_B, labels_B, torch.ones(len(labels_B), device=x_NCHW.device))


def _shares(draws: Draws, alpha: float, probability: float) -> Tensor:
    """Return λ ~ Beta(α, α) for each image, and 1 for those that are not mixed; float32 [B]."""
    if not alpha > 0:
        raise RepFoldError(f"Mixing needs alpha above 0, not {alpha}: 0.2 for MixUp and 1 for CutMix are usual.")
    # NumPy's Beta, since PyTorch's takes no generator.
    everyone = np.random.default_rng(draws.seed()).beta(alpha, alpha, draws.total or draws.count)
    share_B = torch.from_numpy(everyone[draws.first : draws.first + draws.count].astype(np.float32))
    return share_B if probability >= 1 else torch.where(draws.bernoulli(probability), share_B, 1.0)
