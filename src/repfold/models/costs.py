"""What the networks of MODELS cost for one image, counted once (benchmarks/model_costs.py) and kept in costs.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources

from repfold.errors import RepFoldError, nearest
from repfold.models.create import MODELS
from repfold.published import PUBLISHED, Published

KEYS = ("parameters", "multiply_adds", "folded_parameters", "folded_multiply_adds")
# Whose images are small; the others are for photos of 224 px.
_SMALL = ("-cifar", "-pico", "mgnet-")


@dataclass(frozen=True)
class ModelCosts:
    """Of one network with 1000 classes and an image of ``image_size`` px, in the ``preset`` that suits it.

    The folded form is that of eval mode: auxiliary classifiers are left out. ``weights``: where they can be had.
    """

    name: str
    image_size: int
    preset: str
    parameters: int
    multiply_adds: int
    folded_parameters: int
    folded_multiply_adds: int
    weights: tuple[Published, ...]


def image_of(name: str) -> tuple[int, str]:
    """The side of the image, px, and the preset that a network is counted with."""
    return (32, "32px") if any(mark in name for mark in _SMALL) else (224, "imagenet")


def find(pattern: str | None = None) -> tuple[ModelCosts, ...]:
    """Return the networks that a pattern fits: a whole name, shell wildcards, or a part of the name; None: all.

    Raises: RepFoldError, with the nearest name, when it fits none.
    """
    counted = json.loads((resources.files("repfold.models") / "costs.json").read_text(encoding="utf-8"))
    names = [name for name in MODELS if pattern is None or _fits(name, pattern.lower())]
    if pattern in MODELS:
        names = [str(pattern)]
    if not names:
        raise RepFoldError(f"No model is called like '{pattern:.80}'. {nearest(str(pattern), MODELS)}")
    return tuple(
        ModelCosts(
            name, *image_of(name), weights=PUBLISHED.get(name, ()), **dict(zip(KEYS, counted[name], strict=True))
        )
        for name in names
    )


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or pattern in name
