"""Pictures that survive JPEG and resampling nearly unchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Write = Callable[..., Path]


def picture(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    """A smooth random picture, uint8 [H, W, channels]: smooth, so that JPEG and resampling change it little."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, channels), dtype=np.uint8)
    planes = [
        np.asarray(Image.fromarray(coarse[..., channel]).resize((width, height), Image.Resampling.BICUBIC))
        for channel in range(channels)
    ]
    return np.stack(planes, axis=-1)
