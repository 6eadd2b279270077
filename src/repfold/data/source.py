"""Opening a data set by its name or path: finding out what it is, checking every image, framing both parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from repfold.data import cifar, idx
from repfold.data.collection import Framing, Images
from repfold.data.crops import CropSettings, suited_to
from repfold.data.digits import read_digits
from repfold.data.fingerprint import Fingerprint, fingerprint
from repfold.data.folder import holds, read_folder
from repfold.data.images import BrokenImageError
from repfold.data.listing import Listing, Split
from repfold.data.memory import cache_budget
from repfold.data.parts import Advance, Part
from repfold.errors import RepFoldError, nearest
from repfold.limits import LARGEST_SIDE, MOST_PIXELS

Progress = Callable[[int, int], None]
PartName = Literal["train", "val"]

BUILT_IN: dict[str, Callable[[Split], Listing]] = {"digits": read_digits}

# Tried in this order: each looks for file names that the next would misread.
FORMATS: tuple[tuple[Callable[[Path], bool], Callable[[Path, Split], Listing]], ...] = (
    (cifar.recognises, cifar.read_cifar),
    (idx.recognises, idx.read_idx),
    (Path.is_dir, read_folder),
)

LARGE_SIDE = 224  # what networks of this field see by default, when pictures are larger than CIFAR's
_CENTRE_SHARE = 0.875  # 224 of 256: the usual central crop
_MOST_NAMED = 10


@dataclass(frozen=True)
class Source:
    """An opened data set. Pictures are framed for ``image_size``, ``resize`` and ``crop``: give the same to the loader.

    ``skipped`` names the broken files that were left out, ``passed_over`` folders that hold images but are no classes,
    since their names begin with a dot. A part that was not asked for has no images.
    ``fingerprint`` differs when the parts that were asked for hold other pictures or labels.
    """

    name: str
    classes: tuple[str, ...]
    channels: int
    train: Images
    val: Images
    image_size: int
    resize: int
    crop: CropSettings
    skipped: tuple[str, ...] = ()
    fingerprint: Fingerprint | None = None
    passed_over: tuple[str, ...] = ()


def open_source(
    spec: str | Path,
    *,
    image_size: int | None = None,
    resize: int | None = None,
    crop: CropSettings | None = None,
    channels: int | None = None,
    val_fraction: float = 0.2,
    per_class: tuple[int, int] | None = None,
    seed: int = 0,
    skip_broken: bool = False,
    parts: Sequence[PartName] = ("train", "val"),
    cache_bytes: int | None = None,
    max_pixels: int = MOST_PIXELS,
    on_progress: Progress | None = None,
) -> Source:
    """Open "digits", a folder of class folders, CIFAR-10/100, or MNIST-style IDX files, whichever ``spec`` is.

    What is None follows from the pictures: ``image_size`` is their own side when they are small squares, else 224;
    ``crop`` is padded for small ones, else resized; ``channels`` is 1 when all are gray, else 3; ``resize`` (the
    short side before evaluation's central crop) is 8/7 of ``image_size`` but no enlargement. ``per_class`` draws so
    many training and validation images of each class. Decoded pictures are cached when they fit ``cache_bytes`` (None:
    a share of the free memory). Files of more than ``max_pixels`` are broken ones. ``on_progress(done, total)`` counts
    steps of checking and decoding.

    Raises: RepFoldError when nothing is found, classes are empty or differ, or (unless ``skip_broken``) files cannot
    be decoded; all of these are named and counted.
    """
    listing = list_images(spec, Split(val_fraction, seed))
    if per_class is not None:
        listing = listing.draw(per_class, seed)
    chosen: dict[PartName, Part] = {"train": listing.train.limited(max_pixels), "val": listing.val.limited(max_pixels)}
    advance = _counter(sum(chosen[part].work for part in parts), on_progress)
    broken: list[BrokenImageError] = []
    for part in parts:
        chosen[part], found = chosen[part].survey(advance)
        broken += found
    _refuse(broken, skip_broken)
    surveyed = [chosen[part] for part in parts]
    framing = _framing(surveyed, image_size, resize, crop, channels)
    budget = cache_budget() if cache_bytes is None else cache_bytes
    nothing = np.zeros(0, dtype=np.int64)
    framed: dict[PartName, Images] = {}
    for part in ("val", "train"):  # validation first: it is the smaller, and read most often
        kept = chosen[part] if part in parts else chosen[part].take(nothing)
        framed[part], found = kept.frame(framing, part == "train", budget, advance)
        broken += found
        budget -= framed[part].cached_bytes
        if part in parts:
            _refuse(found, skip_broken)
            _refuse_empty_classes(framed[part], listing.classes, part, broken)
    return Source(
        name=listing.name,
        classes=listing.classes,
        channels=framing.channels,
        train=framed["train"],
        val=framed["val"],
        image_size=framing.image_size,
        resize=framing.resize,
        crop=framing.crop,
        skipped=tuple(str(error.path) for error in broken),
        fingerprint=fingerprint(surveyed),
        passed_over=listing.passed_over,
    )


def refuse_inside(spec: str | Path, place: Path) -> None:
    """Raise RepFoldError when files written to ``place`` would later be taken for classes or images of ``spec``."""
    path = Path(spec).expanduser()
    if not str(spec) or str(spec) in BUILT_IN or not path.is_dir():
        return
    reader = next(read for recognises, read in FORMATS if recognises(path))
    if reader is read_folder and holds(path, place):
        raise RepFoldError(
            f"{place} lies in the data, {path}: its files would be taken for images of a class. Choose a place outside "
            "of it: --out RUN."
        )


def list_images(spec: str | Path, split: Split) -> Listing:
    """Return what the source ``spec`` holds, decided by looking at its files."""
    if str(spec) in BUILT_IN:
        return BUILT_IN[str(spec)](split)
    path = Path(spec).expanduser()
    if not path.exists():
        hint = f" {nearest(str(spec), BUILT_IN)}" if path.name == str(spec) else ""
        raise RepFoldError(f"No data at '{spec}': there is no such file or folder.{hint} Give an existing path.")
    try:
        for recognises, read in FORMATS:
            if recognises(path):
                return read(path, split)
    except OSError as error:
        raise RepFoldError(f"'{spec}' cannot be read: {error}. Check that you may read it, and its disk.") from error
    raise RepFoldError(
        f"'{spec}' is not a data set: expected a folder of class folders of images, CIFAR's files or their .tar.gz, "
        f"an IDX image file (as train-images-idx3-ubyte.gz), or one of: {', '.join(BUILT_IN)}."
    )


def _framing(
    parts: Sequence[Part], image_size: int | None, resize: int | None, crop: CropSettings | None, channels: int | None
) -> Framing:
    sizes_N2 = np.concatenate([part.sizes() for part in parts])
    if len(sizes_N2) == 0:
        raise RepFoldError("No image is left to use: every file is broken, or the set is empty.")
    height, width = (int(side) for side in np.median(sizes_N2, axis=0))
    small_squares = bool((sizes_N2 == height).all()) and height <= 64
    side = image_size or (height if small_squares else LARGE_SIDE)
    crop = crop or suited_to(*(int(longest) for longest in sizes_N2.max(axis=0)))
    if resize is None:
        whole = crop.kind != "resized"  # the padded crop sees as much of a picture as evaluation does
        resize = side if whole else max(side, min(round(side / _CENTRE_SHARE), min(height, width)))
    if side < 1 or resize < side:
        raise RepFoldError(
            f"image_size is {side} and resize {resize}: both are pixels, and resize (the short side before the central "
            "crop) cannot be smaller than image_size."
        )
    if resize > LARGEST_SIDE:
        raise RepFoldError(
            f"image_size is {side} and resize {resize}: {LARGEST_SIDE} px is the most that either can be."
        )
    gray = all(part.gray() for part in parts)
    if channels not in (None, 1, 3):
        raise RepFoldError(f"channels is {channels}; pictures have 1 (gray) or 3 (colour).")
    return Framing(side, resize, channels or (1 if gray else 3), crop)


def _counter(total: int, on_progress: Progress | None) -> Advance:
    done = 0

    def advance(steps: int) -> None:
        nonlocal done
        done += steps
        if on_progress is not None:
            on_progress(done, total)

    return advance


def _refuse(broken: Sequence[BrokenImageError], skip_broken: bool) -> None:
    if not broken or skip_broken:
        return
    named = "".join(f"\n  {error.path}: {error.reason}" for error in broken[:_MOST_NAMED])
    rest = f"\n  ... and {len(broken) - _MOST_NAMED} more" if len(broken) > _MOST_NAMED else ""
    raise RepFoldError(
        f"{len(broken)} file(s) cannot be used as images:{named}{rest}\n"
        "Repair or remove them, or go on without them: --skip-broken (skip_broken=True)."
    )


def _refuse_empty_classes(
    images: Images, classes: Sequence[str], part: str, broken: Sequence[BrokenImageError]
) -> None:
    counts = np.bincount(images.labels.numpy(), minlength=len(classes))
    empty = [f"'{classes[label]}'" for label in np.flatnonzero(counts == 0).tolist()]
    if empty and broken:
        raise RepFoldError(
            f"Without the {len(broken)} broken files no {part} image is left of {', '.join(empty[:_MOST_NAMED])}. "
            "Repair the files or remove the class."
        )
