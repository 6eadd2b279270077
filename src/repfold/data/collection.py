"""A labelled set of framed images, cached decoded in memory or decoded when asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from repfold.data import seeding
from repfold.data.crops import Framing, framing_of

Decode = Callable[[int], np.ndarray]
Cache = np.ndarray | list[np.ndarray | None]


@dataclass(frozen=True, eq=False)
class Images:
    """``len(images)`` pictures with their labels, and the ``framing`` that makes squares of them.

    Subsets share the pictures: ``rows_N`` are the rows of this set in ``sizes_M2`` (height, width) and ``decoded_M``.
    What is not decoded yet, ``decode`` does (row -> uint8 [H, W, C]); with a ``cache``, one array where all are of one
    size, a picture is kept there from its first use on. ``square``: whether the pictures have already been cut to the
    square that evaluation sees. ``names_M``: the files, below the data's folder, where the pictures are files.
    """

    labels: torch.Tensor
    sizes_M2: np.ndarray
    rows_N: np.ndarray
    framing: Framing
    square: bool
    decode: Decode
    cache: Cache | None
    decoded_M: np.ndarray
    names_M: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.rows_N)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return picture ``index`` as uint8 [H, W, C]. Threads that ask for the same one write the same bytes.

        Raises: BrokenImageError when it cannot be decoded.
        """
        row = int(self.rows_N[index])
        if self.cache is None:
            return self.decode(row)
        if not self.decoded_M[row]:
            self.cache[row] = self.decode(row)
            self.decoded_M[row] = True
        return self.cache[row]  # type: ignore[return-value]

    def name(self, index: int) -> str:
        """Return what picture ``index`` is called: its file, or its number in the data."""
        row = int(self.rows_N[index])
        return f"image {row}" if self.names_M is None else self.names_M[row]

    @property
    def decoded(self) -> bool:
        """Whether every picture is decoded in memory already."""
        return bool(self.decoded_M[self.rows_N].all())

    @property
    def cached_bytes(self) -> int:
        """What the decoded pictures take in memory, or will."""
        return 0 if self.cache is None else int(self.sizes_M2.prod(axis=1).sum()) * self.framing.channels

    @property
    def stacked_MHWC(self) -> torch.Tensor | None:
        """All pictures as one uint8 tensor, when they are in memory and of one size."""
        return torch.from_numpy(self.cache) if isinstance(self.cache, np.ndarray) and self.decoded else None

    def subset(self, indices: Sequence[int] | np.ndarray) -> Images:
        """Return the images at ``indices``, in that order; the pictures are shared."""
        rows = np.asarray(indices, dtype=np.int64)
        return replace(self, rows_N=self.rows_N[rows], labels=self.labels[torch.from_numpy(rows)])

    def sample(self, count: int, seed: int = 0) -> Images:
        """Return ``count`` images (or all, when there are fewer) drawn without replacement, in their order here."""
        if count >= len(self):
            return self
        drawn = seeding.stream(seed, seeding.SAMPLE).choice(len(self), size=count, replace=False)
        return self.subset(np.sort(drawn))


def in_memory(
    pixels: np.ndarray | Sequence[np.ndarray],
    labels: np.ndarray,
    framing: Framing | None = None,
    *,
    square: bool = False,
) -> Images:
    """Return ``pixels`` (uint8 [N, H, W, C], or a list of [H, W, C]) with their ``labels`` as a set of images.

    A ``framing`` of None follows from the pictures. ``square``: they have been cut to its square already.
    """
    sizes_N2 = np.array([picture.shape[:2] for picture in pixels], dtype=np.int64).reshape(-1, 2)
    framing = framing or framing_of(sizes_N2, gray=all(picture.shape[2] == 1 for picture in pixels))
    cache: Cache = pixels if isinstance(pixels, np.ndarray) else list(pixels)
    return _images(_nothing_left, cache, True, sizes_N2, labels, framing, square)


def decoded_when_used(
    decode: Decode,
    sizes_N2: np.ndarray,
    labels: np.ndarray,
    framing: Framing,
    *,
    square: bool,
    cached: bool,
    names: Sequence[str] | None = None,
) -> Images:
    """Return the pictures of ``sizes_N2`` that ``decode`` gives: on their first use if ``cached``, else on each."""
    cache: Cache | None = None
    if cached and len(sizes_N2) and (sizes_N2 == sizes_N2[:1]).all():
        cache = np.empty((len(sizes_N2), *sizes_N2[0], framing.channels), dtype=np.uint8)
    elif cached:
        cache = [None] * len(sizes_N2)
    return replace(_images(decode, cache, False, sizes_N2, labels, framing, square), names_M=names)


def _nothing_left(row: int) -> np.ndarray:
    raise AssertionError(f"picture {row} is in memory already")


def _images(
    decode: Decode,
    cache: np.ndarray | list[np.ndarray | None] | None,
    decoded: bool,
    sizes_N2: np.ndarray,
    labels: np.ndarray,
    framing: Framing,
    square: bool,
) -> Images:
    count = len(labels)
    labels_N = torch.from_numpy(labels.astype(np.int64))
    return Images(labels_N, sizes_N2, np.arange(count), framing, square, decode, cache, np.full(count, decoded))
