"""The digits that scikit-learn ships: 1,797 real handwritten digits, 8x8 gray (UCI, Alpaydin and Kaynak 1998)."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from repfold.data.listing import Listing, Split, split_whole
from repfold.data.parts import ArrayPart

LEVELS = 16  # a pixel counts the inked points of a 4x4 block: 0..16


def read_digits(split: Split) -> Listing:
    """Return the digits with the classes "0".."9", split class by class."""
    bunch = load_digits()
    pixels_NHWC = np.rint(bunch.images * (255 / LEVELS)).astype(np.uint8)[..., None]
    return split_whole("digits", [str(digit) for digit in range(10)], ArrayPart(pixels_NHWC, bunch.target), split)
