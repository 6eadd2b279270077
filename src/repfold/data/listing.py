"""What a source holds before any image is chosen or decoded: its classes and its two parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from repfold.data.partition import draw_per_class, stratified_split
from repfold.data.parts import Part


class Split(NamedTuple):
    """How a source without a validation part of its own is split."""

    val_fraction: float
    seed: int


@dataclass(frozen=True)
class Listing:
    """The classes of a source, in the order of the labels, its parts, and folders that might be classes but are not."""

    name: str
    classes: tuple[str, ...]
    train: Part
    val: Part
    passed_over: tuple[str, ...] = ()

    def draw(self, per_class: tuple[int, int], seed: int) -> Listing:
        """Return the listing of (training, validation) ``per_class`` images of every class, drawn under ``seed``."""
        train_count, val_count = per_class
        train_rows = draw_per_class(self.train.labels_N, self.classes, train_count, seed=seed, part="train")
        val_rows = draw_per_class(self.val.labels_N, self.classes, val_count, seed=seed, part="val")
        return replace(self, train=self.train.take(train_rows), val=self.val.take(val_rows))


def split_whole(name: str, classes: Sequence[str], whole: Part, split: Split) -> Listing:
    """Return the listing of a source that has no validation part: ``whole``, split class by class."""
    train_rows, val_rows = stratified_split(whole.labels_N, classes, val_fraction=split.val_fraction, seed=split.seed)
    return Listing(name, tuple(classes), whole.take(train_rows), whole.take(val_rows))
