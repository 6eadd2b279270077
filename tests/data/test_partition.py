"""Splits and subsets: stratified, seeded, disjoint, and clear about what is missing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repfold.data.partition import draw_per_class, stratified_split
from repfold.errors import RepFoldError

counts = st.lists(st.integers(2, 30), min_size=1, max_size=6)


def labels_of(counts: list[int], seed: int) -> tuple[np.ndarray, list[str]]:
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(seed).permutation(labels), [f"class {label}" for label in range(len(counts))]


@given(counts, st.floats(0.05, 0.95), st.integers(0, 2**63))
def test_a_split_shares_out_every_class(counts: list[int], fraction: float, seed: int) -> None:
    labels, classes = labels_of(counts, seed % 1000)
    train, val = stratified_split(labels, classes, val_fraction=fraction, seed=seed)
    assert np.array_equal(np.sort(np.concatenate([train, val])), np.arange(len(labels)))
    for label, count in enumerate(counts):
        held = int((labels[val] == label).sum())
        assert 1 <= held <= count - 1
        assert abs(held - count * fraction) <= 1
    again = stratified_split(labels, classes, val_fraction=fraction, seed=seed)
    assert np.array_equal(again[0], train)


def test_another_seed_splits_otherwise() -> None:
    labels, classes = labels_of([40, 40], 0)
    first, second = (stratified_split(labels, classes, val_fraction=0.25, seed=seed)[1] for seed in (0, 1))
    assert not np.array_equal(first, second)


@given(counts, st.integers(0, 99))
def test_a_subset_has_so_many_of_each_class(counts: list[int], seed: int) -> None:
    labels, classes = labels_of(counts, seed)
    count = min(counts)
    rows = draw_per_class(labels, classes, count, seed=seed, part="train")
    assert len(np.unique(rows)) == len(rows)
    assert np.bincount(labels[rows]).tolist() == [count] * len(counts)


def test_what_cannot_be_drawn_is_refused() -> None:
    labels, classes = labels_of([5, 1], 0)
    with pytest.raises(RepFoldError, match=r"'class 1' has 1 image.*two or more"):
        stratified_split(labels, classes, val_fraction=0.2, seed=0)
    with pytest.raises(RepFoldError, match=r"3 train images a class, but class 'class 1' has 1.*at most 1"):
        draw_per_class(labels, classes, 3, seed=0, part="train")
    with pytest.raises(RepFoldError, match="between 0 and 1"):
        stratified_split(labels, classes, val_fraction=1.0, seed=0)
    with pytest.raises(RepFoldError, match="at least 1"):
        draw_per_class(labels, classes, 0, seed=0, part="val")
