"""The confusion matrix: counts of images by true class (rows) and predicted class (columns), and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True)
class Confusion:
    """Class names and ``matrix_TP``: int64, ``matrix_TP[t, p]`` images of true class t were predicted as p."""

    classes: tuple[str, ...]
    matrix_TP: np.ndarray

    @property
    def share_TP(self) -> np.ndarray:
        """Each row as shares of the true class's images; a class without images has a row of zeros."""
        images_T = self.matrix_TP.sum(axis=1, keepdims=True)
        shares_TP: np.ndarray = self.matrix_TP / np.maximum(images_T, 1)
        return shares_TP


class Pair(NamedTuple):
    """Images of class ``true`` taken for ``predicted``: how many, and which share of the true class's images."""

    true: str
    predicted: str
    images: int
    share: float


class ClassScore(NamedTuple):
    """How one class fared: its images, recall and precision in percent; ``None`` where nothing was there to count."""

    name: str
    images: int
    recall: float | None
    precision: float | None


def confusion_of(content: Any) -> Confusion:
    """Return the confusion of a ``confusion.json``: ``{"classes": [...], "matrix_TP": [[...]]}``.

    Raises: ValueError when it is not a square of counts with a name for each class.
    """
    classes, rows = content["classes"], content["matrix_TP"]
    matrix_TP = np.asarray(rows)
    if matrix_TP.shape != (len(classes), len(classes)) or not len(classes):
        raise ValueError(f"a matrix of shape {matrix_TP.shape} for {len(classes)} classes")
    if matrix_TP.dtype.kind not in "iuf" or not np.isfinite(matrix_TP).all() or (matrix_TP < 0).any():
        raise ValueError("the matrix holds something else than counts")
    return Confusion(tuple(str(name) for name in classes), matrix_TP.astype(np.int64))


def total(confusions: Sequence[Confusion]) -> Confusion | None:
    """Return the sum of confusions over the same classes; ``None`` when there is none or the classes differ."""
    if not confusions or any(one.classes != confusions[0].classes for one in confusions):
        return None
    return Confusion(confusions[0].classes, np.sum([one.matrix_TP for one in confusions], axis=0))


def worst_pairs(confusion: Confusion, most: int = 10) -> tuple[Pair, ...]:
    """Return the pairs of different classes that were confused most often, by count and then by share."""
    share_TP = confusion.share_TP
    wrong_TP = confusion.matrix_TP.copy()
    np.fill_diagonal(wrong_TP, 0)
    true, predicted = np.nonzero(wrong_TP)
    order = np.lexsort((predicted, true, -share_TP[true, predicted], -wrong_TP[true, predicted]))[:most]
    names = confusion.classes
    return tuple(
        Pair(names[t], names[p], int(wrong_TP[t, p]), float(share_TP[t, p]))
        for t, p in zip(true[order].tolist(), predicted[order].tolist(), strict=True)
    )


def class_scores(confusion: Confusion) -> tuple[ClassScore, ...]:
    """Return recall and precision of each class, the lowest recall first."""
    hits_C = np.diagonal(confusion.matrix_TP).tolist()
    images_C = confusion.matrix_TP.sum(axis=1).tolist()
    predicted_C = confusion.matrix_TP.sum(axis=0).tolist()
    scores = [
        ClassScore(name, images, 100 * hits / images if images else None, 100 * hits / predicted if predicted else None)
        for name, hits, images, predicted in zip(confusion.classes, hits_C, images_C, predicted_C, strict=True)
    ]
    return tuple(sorted(scores, key=lambda score: (score.recall is None, score.recall)))
