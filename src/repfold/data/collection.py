"""A labelled set of images, cached decoded in memory or decoded when asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from repfold.data import seeding
from repfold.data.crops import CropSettings


class Pixels(Protocol):
    """Pictures by row, each uint8 [H, W, C]: an array, a list of arrays, or files decoded on demand or on first use."""

    def __getitem__(self, row: int, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Framing:
    """How pictures become squares: the ``image_size`` that the network sees; for evaluation, the short side ``resize``
    before the central square is cut; for training, the ``crop``."""

    image_size: int
    resize: int
    channels: int
    crop: CropSettings


@dataclass(frozen=True)
class OnDemand:
    """Pictures that are decoded each time they are asked for."""

    read: Callable[[int], np.ndarray]

    def __getitem__(self, row: int, /) -> np.ndarray:
        return self.read(row)


@dataclass(frozen=True, eq=False)
class OnFirstUse:
    """Pictures that are decoded when they are first asked for, then ``kept``, as one array when of one size.

    Threads may ask for the same one: both then write the same bytes.
    """

    read: Callable[[int], np.ndarray]
    kept: np.ndarray | list[np.ndarray | None]
    there_M: np.ndarray

    @classmethod
    def of(cls, read: Callable[[int], np.ndarray], sizes_M2: np.ndarray, channels: int) -> OnFirstUse:
        """Return as many pictures as there are ``sizes_M2``, none of them decoded yet."""
        count = len(sizes_M2)
        there_M = np.zeros(count, dtype=bool)
        if count and (sizes_M2 == sizes_M2[:1]).all():
            return cls(read, np.empty((count, *sizes_M2[0], channels), dtype=np.uint8), there_M)
        return cls(read, [None] * count, there_M)

    def __getitem__(self, row: int, /) -> np.ndarray:
        if not self.there_M[row]:
            self.decode(row)
        return self.kept[row]  # type: ignore[return-value]

    def decode(self, row: int) -> None:
        """Decode one picture and keep it. Raises: BrokenImageError when it cannot be decoded."""
        self.kept[row] = self.read(row)
        self.there_M[row] = True


@dataclass(frozen=True, eq=False)
class Images:
    """``len(images)`` pictures with their labels.

    ``rows_N`` are the rows of this set in ``pixels`` and ``sizes_M2`` (height, width), which subsets share.
    ``finished`` is (image_size, resize) when the pictures have already been cut to the square that evaluation sees,
    else None.
    """

    pixels: Pixels
    sizes_M2: np.ndarray
    labels: torch.Tensor
    rows_N: np.ndarray
    channels: int
    finished: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.rows_N)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return picture ``index`` as uint8 [H, W, C]."""
        return self.pixels[int(self.rows_N[index])]

    @property
    def cached(self) -> bool:
        """Whether decoded pictures are kept in memory."""
        return not isinstance(self.pixels, OnDemand)

    @property
    def decoded(self) -> bool:
        """Whether every picture is decoded in memory already."""
        return bool(self.pixels.there_M[self.rows_N].all()) if isinstance(self.pixels, OnFirstUse) else self.cached

    @property
    def cached_bytes(self) -> int:
        """What the decoded pictures take in memory, or will."""
        return int(self.sizes_M2.prod(axis=1).sum()) * self.channels if self.cached else 0

    @property
    def stacked_MHWC(self) -> torch.Tensor | None:
        """All pictures as one uint8 tensor, when they are in memory and of one size."""
        pixels = self.pixels.kept if isinstance(self.pixels, OnFirstUse) else self.pixels
        return torch.from_numpy(pixels) if isinstance(pixels, np.ndarray) and self.decoded else None

    def subset(self, indices: Sequence[int] | np.ndarray) -> Images:
        """Return the images at ``indices``, in that order; the pixels are shared."""
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(self, rows_N=self.rows_N[chosen], labels=self.labels[torch.from_numpy(chosen)])

    def sample(self, count: int, seed: int = 0) -> Images:
        """Return ``count`` images (or all, when there are fewer) drawn without replacement, in their order here."""
        if count >= len(self):
            return self
        drawn = seeding.stream(seed, seeding.SAMPLE).choice(len(self), size=count, replace=False)
        return self.subset(np.sort(drawn))


def in_memory(
    pixels: np.ndarray | list[np.ndarray], labels: np.ndarray, *, finished: tuple[int, int] | None = None
) -> Images:
    """Return ``pixels`` (uint8 [N, H, W, C], or a list of [H, W, C]) with their ``labels`` as a set of images."""
    sizes_N2 = np.array([picture.shape[:2] for picture in pixels], dtype=np.int64).reshape(-1, 2)
    channels = pixels[0].shape[-1] if len(pixels) else 3
    return Images(
        pixels, sizes_N2, torch.from_numpy(labels.astype(np.int64)), np.arange(len(labels)), channels, finished
    )
