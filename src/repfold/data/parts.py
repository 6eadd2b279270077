"""What a source holds before it is framed: its classes and its parts, pictures in memory or files to decode."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from repfold.data.collection import Images, decoded_when_used, in_memory
from repfold.data.crops import Framing, centre_boxes, cut, resample
from repfold.data.images import BrokenImageError, in_parallel, read_header, read_image
from repfold.data.known import COLUMNS, DECODED, GRAY, HEIGHT, MTIME, SIZE, WIDTH, KnownImages
from repfold.data.partition import draw_per_class, stratified_split
from repfold.limits import MOST_PIXELS

Advance = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class ArrayPart:
    """Pictures of one size in memory, uint8 [N, H, W, C]; its methods are those of ``FilePart``."""

    pixels_NHWC: np.ndarray
    labels_N: np.ndarray

    @property
    def work(self) -> int:
        return 0

    def take(self, rows: np.ndarray) -> ArrayPart:
        return ArrayPart(self.pixels_NHWC[rows], self.labels_N[rows])

    def survey(self, advance: Advance, max_pixels: int = MOST_PIXELS) -> tuple[ArrayPart, list[BrokenImageError]]:
        return self, []

    def sizes(self) -> np.ndarray:
        return np.tile(np.array(self.pixels_NHWC.shape[1:3], dtype=np.int64), (len(self.labels_N), 1))

    def gray(self) -> bool:
        return bool(self.pixels_NHWC.shape[3] == 1)

    def digests(self) -> tuple[int, bytes, bytes]:
        digest = hashlib.sha256(np.ascontiguousarray(self.pixels_NHWC).data)
        digest.update(self.labels_N.astype(np.int64).tobytes())
        return self.pixels_NHWC.nbytes, digest.digest(), b""

    def frame(
        self, framing: Framing, train: bool, budget: int, advance: Advance
    ) -> tuple[Images, list[BrokenImageError]]:
        pixels_NHWC = _with_channels(self.pixels_NHWC, framing.channels)
        side = framing.image_size
        if (train and framing.crop.kind == "resized") or len(pixels_NHWC) * side * side * framing.channels > budget:
            return in_memory(pixels_NHWC, self.labels_N, framing), []
        boxes = centre_boxes(self.sizes(), side, framing.resize)
        squares = np.empty((len(pixels_NHWC), side, side, framing.channels), dtype=np.uint8)
        for row, box in enumerate(boxes):
            squares[row] = cut(pixels_NHWC[row], box, side)
        return in_memory(squares, self.labels_N, framing, square=True), []


@dataclass(frozen=True, eq=False)
class FilePart:
    """Image files: ``names`` below ``root``. ``facts_NF`` (see ``known``) are there once it has been surveyed."""

    root: Path
    names: tuple[str, ...]
    labels_N: np.ndarray
    known: KnownImages
    facts_NF: np.ndarray | None = None
    max_pixels: int = MOST_PIXELS

    @property
    def work(self) -> int:
        """Steps of progress that surveying and framing report."""
        return 2 * len(self.names)

    def take(self, rows: np.ndarray) -> FilePart:
        """Return the part that holds ``rows`` alone."""
        return replace(
            self,
            names=tuple(self.names[row] for row in rows),
            labels_N=self.labels_N[rows],
            facts_NF=None if self.facts_NF is None else self.facts_NF[rows],
        )

    def survey(self, advance: Advance, max_pixels: int = MOST_PIXELS) -> tuple[FilePart, list[BrokenImageError]]:
        """Look at every picture's header; return the part without the broken ones, and these.

        Pictures of more than ``max_pixels`` are broken, here and when they are decoded.
        """
        facts_NF = self.known.look_up(self.names)
        facts_NF[facts_NF[:, HEIGHT] * facts_NF[:, WIDTH] > max_pixels, HEIGHT] = 0  # known under another limit
        unseen = np.flatnonzero(facts_NF[:, HEIGHT] == 0)
        advance(len(self.names) - len(unseen))
        broken: list[BrokenImageError] = []
        try:
            headers = in_parallel(lambda at: read_header(self.root / self.names[unseen[at]], max_pixels), len(unseen))
            for row, header in zip(unseen, headers, strict=True):
                if isinstance(header, BrokenImageError):
                    broken.append(header)
                else:
                    facts_NF[row, [HEIGHT, WIDTH, GRAY]] = header.height, header.width, header.gray
                advance(1)
        finally:  # what is known of a large folder is kept when the user has no patience for the rest
            self._remember(facts_NF)
        healthy = np.flatnonzero(facts_NF[:, HEIGHT])
        return replace(self, facts_NF=facts_NF, max_pixels=max_pixels).take(healthy), broken

    def sizes(self) -> np.ndarray:
        """Return [N, 2] heights and widths; only of a surveyed part."""
        return self._facts()[:, [HEIGHT, WIDTH]]

    def gray(self) -> bool:
        """Return whether every picture is gray; only of a surveyed part."""
        return bool(self._facts()[:, GRAY].all())

    def digests(self) -> tuple[int, bytes, bytes]:
        """Return the bytes that the pictures take, and digests of what they are and of when the files changed."""
        stamps_N2 = self._facts()[:, [SIZE, MTIME]]
        content = hashlib.sha256("\0".join(self.names).encode(errors="surrogateescape"))
        content.update(np.stack([stamps_N2[:, 0], self.labels_N.astype(np.int64)]).tobytes())
        times = hashlib.sha256(stamps_N2[:, 1].tobytes())
        return int(stamps_N2[:, 0].sum()), content.digest(), times.digest()

    def frame(
        self, framing: Framing, train: bool, budget: int, advance: Advance
    ) -> tuple[Images, list[BrokenImageError]]:
        """Return the pictures ready for the loader, cached within ``budget`` bytes, and those that are broken."""
        keeps_whole = train and framing.crop.kind == "resized"
        side, channels = framing.image_size, framing.channels
        if keeps_whole:
            sizes_N2 = working_sizes(self.sizes(), framing.crop.working_side(side))
        else:
            sizes_N2 = np.full((len(self.names), 2), side, dtype=np.int64)

        # Not the whole part, which would live as long as its images.
        root, names, limit = self.root, self.names, self.max_pixels

        def decode(row: int) -> np.ndarray:
            if keeps_whole:
                height, width = sizes_N2[row]
                return _reduced(root / names[row], channels, height, width, limit)
            return read_square(root / names[row], channels, side, framing.resize, limit)

        cached = sizes_N2.prod(axis=1).sum() * channels <= budget
        images = decoded_when_used(
            decode, sizes_N2, self.labels_N, framing, square=not keeps_whole, cached=bool(cached), names=names
        )
        if not cached:
            advance(len(self.names))
            return images, []
        healthy, broken = self._decode_unproved(images, advance)
        return images.subset(healthy), broken

    def _decode_unproved(self, images: Images, advance: Advance) -> tuple[np.ndarray, list[BrokenImageError]]:
        """Decode what never was, and keep it; return the rows that are whole, and the failures.

        What is known to decode waits for its first use, so that it does not hold the first step back.
        """
        facts_NF = self._facts()
        unproved = np.flatnonzero(facts_NF[:, DECODED] == 0)
        advance(len(self.names) - len(unproved))
        broken: list[BrokenImageError] = []
        try:
            decoded = in_parallel(lambda at: images[unproved[at]], len(unproved))
            for row, found in zip(unproved, decoded, strict=True):
                if isinstance(found, BrokenImageError):
                    broken.append(found)
                else:
                    facts_NF[row, DECODED] = 1
                advance(1)
        finally:
            self._remember(facts_NF)
        return np.flatnonzero(facts_NF[:, DECODED]), broken

    def _remember(self, facts_NF: np.ndarray) -> None:
        self.known.learn(self.names, facts_NF)
        self.known.write()

    def _facts(self) -> np.ndarray:
        if self.facts_NF is None:
            assert not self.names, "the part has not been surveyed"
            return np.zeros((0, COLUMNS), dtype=np.int64)
        return self.facts_NF


Part = ArrayPart | FilePart


@dataclass(frozen=True)
class Listing:
    """What the reader of a format found: classes in the order of the labels, parts, folders that are no classes.

    ``val`` is None where all pictures are in one part.
    """

    name: str
    classes: tuple[str, ...]
    train: Part
    val: Part | None
    passed_over: tuple[str, ...] = ()

    def parts(self, val_fraction: float, per_class: tuple[int, int] | None, seed: int) -> tuple[Part, Part]:
        """Return the training and validation parts, split class by class where they are one.

        With ``per_class`` they hold so many (training, validation) images of every class, drawn under ``seed``.

        Raises: RepFoldError when a class has too few images.
        """
        train, val = self.train, self.val
        if val is None:
            rows = stratified_split(train.labels_N, self.classes, val_fraction=val_fraction, seed=seed)
            train, val = train.take(rows[0]), train.take(rows[1])
        if per_class is not None:
            train = train.take(draw_per_class(train.labels_N, self.classes, per_class[0], seed=seed, part="train"))
            val = val.take(draw_per_class(val.labels_N, self.classes, per_class[1], seed=seed, part="val"))
        return train, val


def working_sizes(sizes_N2: np.ndarray, short_side: int) -> np.ndarray:
    """Return the sizes of pictures reduced to ``short_side`` where they are larger; smaller ones stay."""
    factor = np.minimum(1.0, short_side / sizes_N2.min(axis=1, initial=2**31 - 1, keepdims=True))
    reduced_N2: np.ndarray = np.rint(sizes_N2 * factor).astype(np.int64).clip(1)
    return reduced_N2


def read_square(path: Path, channels: int, image_size: int, resize: int, max_pixels: int = MOST_PIXELS) -> np.ndarray:
    """Return what evaluation sees of a file: uint8 [image_size, image_size, channels].

    The short side is brought to ``resize``, then the central square is cut.
    """
    pixels_HWC = read_image(path, channels, short_side=resize, max_pixels=max_pixels)
    box = centre_boxes(np.array([pixels_HWC.shape[:2]]), image_size, resize)[0]
    return cut(pixels_HWC, box, image_size)


def _reduced(path: Path, channels: int, height: int, width: int, max_pixels: int) -> np.ndarray:
    # The size is the header's, so that a crop's box never depends on whether the picture was cached.
    picture_HWC = read_image(path, channels, short_side=min(height, width), max_pixels=max_pixels)
    return resample(picture_HWC, height, width)


def _with_channels(pixels_NHWC: np.ndarray, channels: int) -> np.ndarray:
    if pixels_NHWC.shape[3] == channels:
        return pixels_NHWC
    if channels == 3:
        return np.repeat(pixels_NHWC, 3, axis=3)
    # ITU-R 601-2 luma, as Pillow's conversion to "L" has it.
    weights = np.array([19595, 38470, 7471], dtype=np.uint32)
    return ((pixels_NHWC.astype(np.uint32) @ weights + 0x8000) >> 16).astype(np.uint8)[..., None]
