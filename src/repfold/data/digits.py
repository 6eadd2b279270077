"""1,797 real handwritten digits, 8x8 gray, shipped in ``digits.npz``.

The test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI Machine Learning Repository
1998, https://doi.org/10.24432/C50P49), in its order, as scikit-learn's ``load_digits`` has it. Licence: CC BY 4.0.
"""

from __future__ import annotations

from importlib import resources

import numpy as np

from repfold.data.parts import ArrayPart, Listing

LEVELS = 16  # a pixel counts the inked points of a 4x4 block: 0..16


def read_digits() -> Listing:
    """Return the digits with the classes "0".."9", all in one part."""
    with (resources.files("repfold.data") / "digits.npz").open("rb") as file, np.load(file) as stored:
        levels_NHW, labels_N = stored["images"], stored["labels"].astype(np.int64)
    pixels_NHWC = np.rint(levels_NHW * (255 / LEVELS)).astype(np.uint8)[..., None]
    return Listing("digits", tuple("0123456789"), ArrayPart(pixels_NHWC, labels_N), None)
