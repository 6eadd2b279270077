"""From one image file to what the network sees, exactly as evaluation does it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import torch

from repfold.data.parts import read_square
from repfold.limits import MOST_PIXELS


class SquareOf(Protocol):
    """The fields of ``models.Preprocessing`` that decide the pixels."""

    @property
    def image_size(self) -> int: ...
    @property
    def resize(self) -> int: ...
    @property
    def channels(self) -> int: ...


def preprocess(path: str | os.PathLike[str], preprocessing: SquareOf, *, max_pixels: int = MOST_PIXELS) -> torch.Tensor:
    """Return the picture in ``path`` as uint8 [C, S, S]: short side to ``resize``, then the central square.

    It is equal, bit by bit, to what evaluation of a folder sees of the file.

    Raises: BrokenImageError when the file cannot be decoded, or has more than ``max_pixels``.
    """
    seen = preprocessing
    square_HWC = read_square(Path(path), seen.channels, seen.image_size, seen.resize, max_pixels)
    return torch.from_numpy(square_HWC).permute(2, 0, 1).contiguous()
