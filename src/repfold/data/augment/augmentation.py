"""What an augmentation is: a value that, called with a batch of images and a generator, returns the batch changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from repfold import specs
from repfold.data.augment.draws import Draws
from repfold.errors import RepFoldError


@dataclass(frozen=True)
class Augmentation(ABC):
    """An augmentation of whole batches: uint8 images, or float ones in [0, 1], [B, C, H, W] on any device.

    Every image gets draws of its own. ``str(augmentation)`` is the text that ``repfold.data.augment.parse`` reads.
    """

    name: ClassVar[str]

    def __call__(
        self,
        x_NCHW: Tensor,
        generator: torch.Generator,
        *,
        progress: float = 0.0,
        first: int = 0,
        total: int | None = None,
    ) -> Tensor:
        """Return the augmented images, of the same dtype and on the same device; ``x_NCHW`` is left as it is.

        ``generator``: best on the CPU, see Draws. ``progress``: the share of the training that is done.
        ``first``, ``total``: which part of a batch shared by several processes these images are.
        """
        return self.apply(x_NCHW, Draws(generator, len(x_NCHW), first, total, progress))

    @abstractmethod
    def apply(self, x_NCHW: Tensor, draws: Draws) -> Tensor:
        """Return the augmented images, with the random numbers of ``draws``."""

    def __str__(self) -> str:
        return specs.to_text(self.name, self)


def require(condition: bool, message: str) -> None:
    """Raise RepFoldError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise RepFoldError(message)
