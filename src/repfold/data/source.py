"""Opening a data set by its name or path: finding out what it is, checking every image, framing both parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from repfold import allowance
from repfold.data import cifar, idx
from repfold.data.collection import Images
from repfold.data.crops import CropSettings, Framing, framing_of
from repfold.data.digits import read_digits
from repfold.data.fingerprint import Fingerprint, fingerprint
from repfold.data.folder import holds, read_folder
from repfold.data.images import BrokenImageError
from repfold.data.loader import Loader
from repfold.data.parts import Advance, Listing, Part
from repfold.data.settings import DataSettings
from repfold.errors import RepFoldError, nearest

Progress = Callable[[int, int], None]
PartName = Literal["train", "val"]
PARTS: tuple[PartName, PartName] = ("train", "val")

BUILT_IN: dict[str, Callable[[], Listing]] = {"digits": read_digits}

# Tried in this order: each looks for file names that the next would misread.
FORMATS: tuple[tuple[Callable[[Path], bool], Callable[[Path], Listing]], ...] = (
    (cifar.recognises, cifar.read_cifar),
    (idx.recognises, idx.read_idx),
    (Path.is_dir, read_folder),
)

_CACHE_SHARE = 0.4  # of the free memory
_MOST_NAMED = 10


@dataclass(frozen=True)
class Source:
    """An opened data set, both parts framed alike.

    ``skipped`` names the broken files that were left out, ``passed_over`` folders that hold images but are no classes,
    since their names begin with a dot. A part that was not asked for has no images.
    ``fingerprint`` differs when the parts that were asked for hold other pictures or labels.
    """

    name: str
    classes: tuple[str, ...]
    framing: Framing
    train: Images
    val: Images
    skipped: tuple[str, ...] = ()
    fingerprint: Fingerprint | None = None
    passed_over: tuple[str, ...] = ()

    @property
    def image_size(self) -> int:
        """The side of the square that the network sees."""
        return self.framing.image_size

    @property
    def resize(self) -> int:
        """The short side that pictures get before evaluation's central square is cut."""
        return self.framing.resize

    @property
    def channels(self) -> int:
        """1 for gray pictures, 3 for colour."""
        return self.framing.channels

    @property
    def crop(self) -> CropSettings:
        """How training images are cropped."""
        return self.framing.crop

    def loader(
        self,
        images: Images | PartName,
        batch: int,
        *,
        train: bool,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        workers: int | None = None,
        pin_memory: bool = False,
        balanced: bool = False,
    ) -> Loader:
        """Return the ``Loader`` of a part, or of a subset of one."""
        selected = {"train": self.train, "val": self.val}[images] if isinstance(images, str) else images
        return Loader(
            selected,
            batch,
            train=train,
            seed=seed,
            rank=rank,
            world=world,
            workers=workers,
            pin_memory=pin_memory,
            balanced=balanced,
        )


@dataclass(frozen=True)
class Survey:
    """What is known of a data set before its pictures are read: the images of each part, and how they will be framed.

    ``broken``: files that are left out. A part that was not asked for has no images.
    """

    listing: Listing
    parts: dict[PartName, Part]
    framing: Framing
    broken: tuple[BrokenImageError, ...]
    advance: Advance

    def count(self, part: PartName) -> int:
        """Return the number of images of a part."""
        return len(self.parts[part].labels_N)


def look_through(
    data: DataSettings, *, parts: Sequence[PartName] = PARTS, on_progress: Progress | None = None
) -> Survey:
    """Look through a data set as ``open_source`` does, with its arguments, without keeping pictures.

    Raises: RepFoldError as ``open_source``.
    """
    listing = list_images(data.spec)
    both = dict(zip(PARTS, listing.parts(data.val_fraction, data.per_class, data.seed), strict=True))
    advance = _counter(sum(both[name].work for name in parts), on_progress)
    surveyed: dict[PartName, Part] = {}
    broken: list[BrokenImageError] = []
    for name in parts:
        surveyed[name], found = both[name].survey(advance, data.max_pixels)
        broken += found
    _refuse(broken, data.skip_broken)
    framing = framing_of(
        np.concatenate([part.sizes() for part in surveyed.values()]),
        all(part.gray() for part in surveyed.values()),
        image_size=data.image_size,
        resize=data.resize,
        crop=data.crop,
        channels=data.channels,
    )
    unasked = {name: both[name].take(np.zeros(0, dtype=np.int64)) for name in PARTS if name not in surveyed}
    return Survey(listing, surveyed | unasked, framing, tuple(broken), advance)


def open_source(
    data: str | Path | DataSettings,
    *,
    parts: Sequence[PartName] = PARTS,
    cache_bytes: int | None = None,
    on_progress: Progress | None = None,
) -> Source:
    """Open "digits", a folder of class folders, CIFAR-10/100, or MNIST-style IDX files, whichever ``data`` names.

    Decoded pictures of ``parts`` are cached when they fit ``cache_bytes`` (None: a share of the free memory).
    ``on_progress(done, total)`` counts steps of checking and decoding.

    Raises: RepFoldError when nothing is found, classes are empty or differ, or (unless they are to be skipped) files
    cannot be decoded; all of these are named and counted.
    """
    settings = data if isinstance(data, DataSettings) else DataSettings(data)
    found = look_through(settings, parts=parts, on_progress=on_progress)
    listing, framing, broken = found.listing, found.framing, list(found.broken)
    budget = _cache_budget() if cache_bytes is None else cache_bytes
    framed: dict[PartName, Images] = {}
    for name in reversed(PARTS):  # validation first: it is the smaller, and read most often
        part = found.parts[name]
        framed[name], spoilt = part.frame(framing, name == "train", budget, found.advance)
        broken += spoilt
        budget -= framed[name].cached_bytes
        if name in parts:
            _refuse(spoilt, settings.skip_broken)
            _refuse_empty_classes(framed[name], listing.classes, name, broken)
    return Source(
        name=listing.name,
        classes=listing.classes,
        framing=framing,
        train=framed["train"],
        val=framed["val"],
        skipped=tuple(str(error.path) for error in broken),
        fingerprint=fingerprint([found.parts[name] for name in parts]),
        passed_over=listing.passed_over,
    )


def refuse_inside(spec: str | Path, out: Path) -> None:
    """Raise RepFoldError when files written to ``out`` would later be taken for classes or images of ``spec``."""
    path = Path(spec).expanduser()
    if not str(spec) or str(spec) in BUILT_IN or not path.is_dir():
        return
    reader = next(read for recognises, read in FORMATS if recognises(path))
    if reader is read_folder and holds(path, out):
        raise RepFoldError(
            f"{out} lies in the data, {path}: its files would be taken for images of a class. Choose a path "
            "outside of it: --out RUN."
        )


def list_images(spec: str | Path) -> Listing:
    """Return what the source ``spec`` holds, decided by looking at its files."""
    if str(spec) in BUILT_IN:
        return BUILT_IN[str(spec)]()
    path = Path(spec).expanduser()
    if not path.exists():
        hint = f" {nearest(str(spec), BUILT_IN)}" if path.name == str(spec) else ""
        raise RepFoldError(f"No data at '{spec}': there is no such file or folder.{hint} Give an existing path.")
    try:
        for recognises, read in FORMATS:
            if recognises(path):
                return read(path)
    except OSError as error:
        raise RepFoldError(f"'{spec}' cannot be read: {error}. Check that you may read it, and its disk.") from error
    raise RepFoldError(
        f"'{spec}' is not a data set: expected a folder of class folders of images, CIFAR's files or their .tar.gz, "
        f"an IDX image file (as train-images-idx3-ubyte.gz), or one of: {', '.join(BUILT_IN)}."
    )


def _cache_budget() -> int:
    """Bytes for decoded images; ``torchrun``'s processes on this machine share them, as each keeps its own cache."""
    return int(allowance.free_memory() * _CACHE_SHARE) // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


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
