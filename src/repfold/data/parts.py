"""One part (training or validation) of a source before it is framed: pictures in memory, or files to decode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch

from repfold import allowance
from repfold.data.collection import Framing, Images, OnDemand, in_memory
from repfold.data.crops import centre_boxes, cut, resample
from repfold.data.images import BrokenImageError, Header, read_header, read_image
from repfold.limits import MOST_PIXELS

Advance = Callable[[int], None]
Answer = TypeVar("Answer")

_ROWS_A_TASK = 16  # several, since a small picture decodes faster than a thread is handed its task


class Part(Protocol):
    """Labelled pictures that can be chosen from, surveyed, and made into ``Images``."""

    @property
    def labels_N(self) -> np.ndarray:
        """The label of every picture."""

    @property
    def work(self) -> int:
        """Steps of progress that surveying and framing report."""

    def take(self, rows: np.ndarray) -> Part:
        """Return the part that holds ``rows`` alone."""

    def limited(self, max_pixels: int) -> Part:
        """Return the part in which pictures of more pixels are broken ones."""

    def survey(self, advance: Advance) -> tuple[Part, list[BrokenImageError]]:
        """Look at every picture's header; return the part without the broken ones, and these."""

    def sizes(self) -> np.ndarray:
        """Return [N, 2] heights and widths; only of a surveyed part."""

    def gray(self) -> bool:
        """Return whether every picture is gray; only of a surveyed part."""

    def frame(
        self, framing: Framing, train: bool, budget: int, advance: Advance
    ) -> tuple[Images, list[BrokenImageError]]:
        """Return the pictures ready for the loader, cached when they need at most ``budget`` bytes, and those that
        turned out to be broken."""


@dataclass(frozen=True, eq=False)
class ArrayPart:
    """Pictures of one size in memory, uint8 [N, H, W, C]."""

    pixels_NHWC: np.ndarray
    labels_N: np.ndarray

    @property
    def work(self) -> int:
        return 0

    def take(self, rows: np.ndarray) -> ArrayPart:
        return ArrayPart(self.pixels_NHWC[rows], self.labels_N[rows])

    def limited(self, max_pixels: int) -> ArrayPart:
        return self

    def survey(self, advance: Advance) -> tuple[Part, list[BrokenImageError]]:
        return self, []

    def sizes(self) -> np.ndarray:
        return np.tile(np.array(self.pixels_NHWC.shape[1:3], dtype=np.int64), (len(self.labels_N), 1))

    def gray(self) -> bool:
        return self.pixels_NHWC.shape[3] == 1

    def frame(
        self, framing: Framing, train: bool, budget: int, advance: Advance
    ) -> tuple[Images, list[BrokenImageError]]:
        pixels_NHWC = _with_channels(self.pixels_NHWC, framing.channels)
        side = framing.image_size
        if (train and framing.crop.kind == "resized") or len(pixels_NHWC) * side * side * framing.channels > budget:
            return in_memory(pixels_NHWC, self.labels_N), []
        boxes = centre_boxes(self.sizes(), side, framing.resize)
        squares = np.empty((len(pixels_NHWC), side, side, framing.channels), dtype=np.uint8)
        for row, box in enumerate(boxes):
            squares[row] = cut(pixels_NHWC[row], box, side)
        return in_memory(squares, self.labels_N, finished=(side, framing.resize)), []


@dataclass(frozen=True, eq=False)
class FilePart:
    """Image files. ``headers`` are known once it has been surveyed."""

    paths: tuple[Path, ...]
    labels_N: np.ndarray
    headers: tuple[Header, ...] = ()
    max_pixels: int = MOST_PIXELS

    @property
    def work(self) -> int:
        return 2 * len(self.paths)

    def take(self, rows: np.ndarray) -> FilePart:
        headers = tuple(self.headers[row] for row in rows) if self.headers else ()
        return replace(
            self, paths=tuple(self.paths[row] for row in rows), labels_N=self.labels_N[rows], headers=headers
        )

    def limited(self, max_pixels: int) -> FilePart:
        return replace(self, max_pixels=max_pixels)

    def survey(self, advance: Advance) -> tuple[Part, list[BrokenImageError]]:
        found: list[Header] = []
        broken: list[BrokenImageError] = []
        healthy: list[int] = []
        for row, header in enumerate(_in_parallel(self._header, len(self.paths))):
            if isinstance(header, BrokenImageError):
                broken.append(header)
            else:
                found.append(header)
                healthy.append(row)
            advance(1)
        kept = self.take(np.array(healthy, dtype=np.int64))
        return replace(kept, headers=tuple(found)), broken

    def _header(self, row: int) -> Header:
        return read_header(self.paths[row], self.max_pixels)

    def sizes(self) -> np.ndarray:
        return np.array([(header.height, header.width) for header in self.headers], dtype=np.int64).reshape(-1, 2)

    def gray(self) -> bool:
        return all(header.gray for header in self.headers)

    def frame(
        self, framing: Framing, train: bool, budget: int, advance: Advance
    ) -> tuple[Images, list[BrokenImageError]]:
        keeps_whole = train and framing.crop.kind == "resized"
        side = framing.image_size
        if keeps_whole:
            sizes_N2 = working_sizes(self.sizes(), framing.crop.working_side(side))
        else:
            sizes_N2 = np.full((len(self.paths), 2), side, dtype=np.int64)

        def read(row: int) -> np.ndarray:
            if keeps_whole:
                height, width = sizes_N2[row]
                return _reduced(self.paths[row], framing.channels, height, width, self.max_pixels)
            return read_square(self.paths[row], framing.channels, side, framing.resize, self.max_pixels)

        finished = None if keeps_whole else (side, framing.resize)
        if sizes_N2.prod(axis=1).sum() * framing.channels > budget:
            advance(len(self.paths))
            labels = torch.from_numpy(self.labels_N.astype(np.int64))
            rows = np.arange(len(self.paths))
            return Images(OnDemand(read), sizes_N2, labels, rows, framing.channels, finished), []
        pixels, healthy, broken = _decode(read, sizes_N2, framing.channels, advance)
        return in_memory(pixels, self.labels_N[healthy], finished=finished), broken


def working_sizes(sizes_N2: np.ndarray, short_side: int) -> np.ndarray:
    """Return the sizes of pictures reduced to ``short_side`` where they are larger; smaller ones stay."""
    factor = np.minimum(1.0, short_side / sizes_N2.min(axis=1, initial=2**31 - 1, keepdims=True))
    return np.rint(sizes_N2 * factor).astype(np.int64).clip(1)


def read_square(path: Path, channels: int, image_size: int, resize: int, max_pixels: int = MOST_PIXELS) -> np.ndarray:
    """Return what evaluation sees of a file: the short side brought to ``resize``, then the central square; uint8
    [image_size, image_size, channels]."""
    pixels_HWC = read_image(path, channels, short_side=resize, max_pixels=max_pixels)
    box = centre_boxes(np.array([pixels_HWC.shape[:2]]), image_size, resize)[0]
    return cut(pixels_HWC, box, image_size)


def _reduced(path: Path, channels: int, height: int, width: int, max_pixels: int) -> np.ndarray:
    # The size is the header's, so that a crop's box never depends on whether the picture was cached.
    picture_HWC = read_image(path, channels, short_side=min(height, width), max_pixels=max_pixels)
    return resample(picture_HWC, height, width)


def _decode(
    read: Callable[[int], np.ndarray], sizes_N2: np.ndarray, channels: int, advance: Advance
) -> tuple[np.ndarray | list[np.ndarray], np.ndarray, list[BrokenImageError]]:
    """Decode all pictures; return them (as one array when of one size), the rows that decoded, and the failures."""
    count = len(sizes_N2)
    one_size = bool((sizes_N2 == sizes_N2[:1]).all())
    stacked = np.empty((count, *sizes_N2[0], channels), dtype=np.uint8) if one_size and count else None
    ragged: list[np.ndarray] = []
    healthy: list[int] = []
    broken: list[BrokenImageError] = []
    for row, picture in enumerate(_in_parallel(read, count)):
        if isinstance(picture, BrokenImageError):
            broken.append(picture)
        else:
            if stacked is None:
                ragged.append(picture)
            else:
                stacked[len(healthy)] = picture
            healthy.append(row)
        advance(1)
    return ragged if stacked is None else stacked[: len(healthy)], np.array(healthy, dtype=np.int64), broken


def _in_parallel(task: Callable[[int], Answer], count: int) -> Iterator[Answer | BrokenImageError]:
    """Yield ``task(row)``, or the error of a broken file, for each row in order; threads do the work, since Pillow
    decodes without holding the interpreter's lock."""

    def attempt(row: int) -> Answer | BrokenImageError:
        try:
            return task(row)
        except BrokenImageError as error:
            return error

    def attempt_some(first: int) -> list[Answer | BrokenImageError]:
        return [attempt(row) for row in range(first, min(first + _ROWS_A_TASK, count))]

    workers = allowance.cores()
    with ThreadPoolExecutor(workers, thread_name_prefix="repfold-decode") as pool:
        # In groups, so that what is decoded but not yet consumed stays bounded.
        group = 4 * workers * _ROWS_A_TASK
        for first in range(0, count, group):
            for answers in pool.map(attempt_some, range(first, min(first + group, count), _ROWS_A_TASK)):
                yield from answers


def _with_channels(pixels_NHWC: np.ndarray, channels: int) -> np.ndarray:
    if pixels_NHWC.shape[3] == channels:
        return pixels_NHWC
    if channels == 3:
        return np.repeat(pixels_NHWC, 3, axis=3)
    # ITU-R 601-2 luma, as Pillow's conversion to "L" has it.
    weights = np.array([19595, 38470, 7471], dtype=np.uint32)
    return ((pixels_NHWC.astype(np.uint32) @ weights + 0x8000) >> 16).astype(np.uint8)[..., None]
