"""A training that takes about a second."""

from __future__ import annotations

import pytest

from repfold.train import Recipe


@pytest.fixture
def recipe() -> Recipe:
    """Six steps an epoch, two epochs, of the smallest network on 200 digits; fp32, one thread: bit-reproducible."""
    return Recipe(
        data="digits",
        per_class=(20, 5),
        model="repvgg-pico",
        preset="32px",
        epochs=2,
        batch=32,
        lr=0.05,
        warmup="3it",
        augment="cutout",
        precision="fp32",
        threads=1,
        device="cpu",
    )
