"""A folder of class folders of images: with train/ and val/ above them, or alone and then split."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from repfold.data.known import KnownImages
from repfold.data.parts import FilePart, Listing
from repfold.errors import RepFoldError

VAL_NAMES = ("val", "valid", "validation", "test")
LAYOUT = "Expected train/<class>/<images> and val/<class>/<images>, or <class>/<images> alone."

# What file managers leave behind; names that begin with a dot are passed over too.
_LITTER = frozenset({"Thumbs.db", "desktop.ini", "Icon\r", "__MACOSX"})
_MOST_NAMED = 10
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")


def read_folder(root: Path) -> Listing:
    """Return the listing of the class folders under ``root``; every file in them counts as an image.

    Raises: RepFoldError when there are no class folders, a class has no files, or train and val differ in classes.
    """
    train_root, val_root = _part_roots(root)
    train_classes, train = _read_part(train_root)
    if val_root is None:
        return Listing(root.name, train_classes, train, None, _passed_over(root))
    val_classes, val = _read_part(val_root)
    if train_classes != val_classes:
        raise RepFoldError(_differing(train_root, train_classes, val_root, val_classes))
    return Listing(root.name, train_classes, train, val, (*_passed_over(train_root), *_passed_over(val_root)))


def holds(root: Path, path: Path) -> bool:
    """Return whether what is written to ``path`` would be read as a class or an image of the folder ``root``."""
    real = Path(os.path.realpath(path))  # Path.resolve raises where links go round in a circle
    return any(real.is_relative_to(os.path.realpath(found)) for found in _part_roots(root) if found is not None)


def _part_roots(root: Path) -> tuple[Path, Path | None]:
    train = root / "train"
    val = next((root / name for name in VAL_NAMES if (root / name).is_dir()), None)
    if train.is_dir():
        return train, val
    if val is not None and {entry.name for entry in _folders(root)} <= set(VAL_NAMES):
        raise RepFoldError(f"{root} has {val.name}/ but no train/. {LAYOUT}")
    return root, None


def _read_part(root: Path) -> tuple[tuple[str, ...], FilePart]:
    folders = _folders(root)
    if unwritable := [folder.name for folder in folders if _no_text(folder.name)]:
        raise RepFoldError(f"A class folder of {root} has a name that is no UTF-8 text: {unwritable[0]!a}. Rename it.")
    if not folders:
        files = any(not _is_litter(name) for name in os.listdir(root))
        what = "holds files but no class folders" if files else "is an empty folder"
        raise RepFoldError(f"{root} {what}. {LAYOUT}")
    members = [_files(root, folder.name) for folder in folders]
    empty = [folder.name for folder, files in zip(folders, members, strict=True) if not files]
    if empty:
        raise RepFoldError(
            f"{len(empty)} class folder(s) of {root} hold no images: {_named(empty)}. Add images or remove the folders."
        )
    labels_N = np.repeat(np.arange(len(folders)), [len(files) for files in members])
    names = tuple(name for files in members for name in files)
    return tuple(folder.name for folder in folders), FilePart(root, names, labels_N, KnownImages(root, names))


def _folders(root: Path) -> list[Path]:
    return sorted((path for path in root.iterdir() if path.is_dir() and not _is_litter(path.name)), key=_name)


def _passed_over(root: Path) -> tuple[str, ...]:
    """Folders that begin with a dot, and hold what looks like images."""
    hidden = sorted(path for path in root.iterdir() if path.name.startswith(".") and path.is_dir())
    return tuple(str(path) for path in hidden if any(looks_like_image(name) for name in os.listdir(path)))


def looks_like_image(name: str) -> bool:
    """Whether a file of this name is an image, judged by its ending; hidden files are none."""
    return Path(name).suffix.lower() in _SUFFIXES and not name.startswith(".")


def _files(root: Path, folder: str) -> list[str]:
    """Return the names, below ``root``, of the files in one class folder and the folders in it."""
    found: list[str] = []
    start = len(str(root / folder)) - len(folder)
    for directory, subfolders, names in os.walk(root / folder):
        subfolders[:] = sorted(name for name in subfolders if not _is_litter(name))
        found.extend(f"{directory[start:]}{os.sep}{name}" for name in sorted(names) if not _is_litter(name))
    return found


def _no_text(name: str) -> bool:
    """Whether a name has bytes that are no UTF-8, which no file that we write could hold."""
    return any("\ud800" <= character <= "\udfff" for character in name)


def _name(path: Path) -> str:
    return path.name


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name in _LITTER


def _differing(train_root: Path, train: Iterable[str], val_root: Path, val: Iterable[str]) -> str:
    only_train, only_val = sorted(set(train) - set(val)), sorted(set(val) - set(train))
    sides = [
        f"only in {root}: {_named(names)}" for root, names in ((train_root, only_train), (val_root, only_val)) if names
    ]
    return f"Training and validation have different classes; {'; '.join(sides)}. Give both the same class folders."


def _named(names: list[str]) -> str:
    rest = len(names) - _MOST_NAMED
    return ", ".join(f"'{name}'" for name in names[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")
