"""From one image file to what the network sees, exactly as evaluation does it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import torch

from repfold.data.parts import read_square


class SquareOf(Protocol):
    """The fields of ``models.Preprocessing`` that decide the pixels."""

    @property
    def image_size(self) -> int: ...
    @property
    def resize(self) -> int: ...
    @property
    def channels(self) -> int: ...


def preprocess(path: str | os.PathLike[str], preprocessing: SquareOf) -> torch.Tensor:
    """Return the picture in ``path`` as uint8 [C, S, S]: short side to ``resize``, then the central square of
    ``image_size``; equal, bit by bit, to what evaluation of a folder sees of the file.

    Raises: BrokenImageError when the file cannot be decoded.
    """
    square_HWC = read_square(Path(path), preprocessing.channels, preprocessing.image_size, preprocessing.resize)
    return torch.from_numpy(square_HWC).permute(2, 0, 1).contiguous()
