"""The random numbers of one batch's augmentation: every image gets its own, whichever process holds it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """Draws for ``count`` images that are numbers ``first``, ``first + 1``, ... of a batch of ``total``.

    The numbers are drawn for the whole batch and the rows of these images returned, so that processes that share a
    batch and a seed give an image the numbers it would get from one process alone. They are drawn where the
    ``generator`` lives; with one on the CPU they are the same on any device, and nothing waits for the device.

    ``progress`` is the share of the training that is done, for augmentations that grow with it.
    """

    generator: torch.Generator
    count: int
    first: int = 0
    total: int | None = None
    progress: float = 0.0

    def uniform(self, *shape: int) -> Tensor:
        """Return float32 [count, *shape], uniform in [0, 1)."""
        everyone = torch.rand(
            (self.total or self.count, *shape), generator=self.generator, device=self.generator.device
        )
        return everyone[self.first : self.first + self.count].cpu()

    def integers(self, high: int, *shape: int) -> Tensor:
        """Return int64 [count, *shape], uniform in 0 ... high - 1."""
        return (self.uniform(*shape) * high).long().clamp_(max=high - 1)

    def between(self, low: float, high: float, *shape: int) -> Tensor:
        """Return float32 [count, *shape], uniform between ``low`` and ``high``."""
        return low + (high - low) * self.uniform(*shape)

    def bernoulli(self, probability: float) -> Tensor:
        """Return bool [count], each true with ``probability``."""
        return self.uniform() < probability

    def signs(self) -> Tensor:
        """Return float32 [count], -1 or 1."""
        return self.integers(2).float() * 2 - 1

    def seed(self) -> int:
        """Return a number for another source of randomness, the same for all processes of the batch."""
        return int(torch.randint(2**62, (1,), generator=self.generator, device=self.generator.device))
