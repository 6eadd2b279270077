"""Which images belong to a part of a set: the stratified split and the subset of so many images a class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from repfold.data import seeding
from repfold.errors import RepFoldError


def stratified_split(
    labels_N: np.ndarray, classes: Sequence[str], *, val_fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows for training and for validation, each in ascending order.

    Of every class of n images, round(n · ``val_fraction``) are drawn for validation, at least one and not all.
    Raises: RepFoldError when the fraction is not between 0 and 1 or a class has a single image.
    """
    if not 0 < val_fraction < 1:
        raise RepFoldError(f"val_fraction must lie between 0 and 1, not {val_fraction}: the share kept for validation.")
    random = seeding.stream(seed, seeding.SPLIT)
    val: list[np.ndarray] = []
    for label, name in enumerate(classes):
        members = np.flatnonzero(labels_N == label)
        if len(members) < 2:
            raise RepFoldError(
                f"Class '{name}' has {len(members)} image: a split into training and validation needs two or more. "
                "Add images, remove the class, or give train/ and val/ folders."
            )
        count = min(max(round(len(members) * val_fraction), 1), len(members) - 1)
        val.append(random.permutation(members)[:count])
    in_val = np.zeros(len(labels_N), dtype=bool)
    in_val[np.concatenate(val)] = True
    return np.flatnonzero(~in_val), np.flatnonzero(in_val)


def draw_per_class(labels_N: np.ndarray, classes: Sequence[str], count: int, *, seed: int, part: str) -> np.ndarray:
    """Return ``count`` rows of every class, drawn under ``seed``, in ascending order.

    Raises: RepFoldError when a class has fewer; ``part`` ("train" or "val") is named in it.
    """
    if count < 1:
        raise RepFoldError(f"per_class asks for {count} {part} images a class; it must be at least 1.")
    random = seeding.stream(seed, seeding.SUBSET, 0 if part == "train" else 1)
    drawn: list[np.ndarray] = []
    for label, name in enumerate(classes):
        members = np.flatnonzero(labels_N == label)
        if len(members) < count:
            raise RepFoldError(
                f"per_class asks for {count} {part} images a class, but class '{name}' has {len(members)}. "
                f"Ask for at most {_smallest(labels_N, len(classes))}."
            )
        drawn.append(random.permutation(members)[:count])
    return np.sort(np.concatenate(drawn))


def _smallest(labels_N: np.ndarray, classes: int) -> int:
    return int(np.bincount(labels_N, minlength=classes).min())
