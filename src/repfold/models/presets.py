"""How much a family's networks shrink the image, and where."""

from __future__ import annotations

from repfold.errors import RepFoldError, nearest

# Strides of the stem and of the first block of stages 1..4.
PRESETS: dict[str, tuple[int, int, int, int, int]] = {
    "imagenet": (2, 2, 2, 2, 2),
    "32px": (1, 1, 2, 2, 2),
}


def strides_of(preset: str) -> tuple[int, int, int, int, int]:
    """The strides of a preset. Raises: RepFoldError for an unknown one, with the nearest."""
    if preset not in PRESETS:
        raise RepFoldError(f"Unknown preset '{preset}'. {nearest(preset, PRESETS)}")
    return PRESETS[preset]
