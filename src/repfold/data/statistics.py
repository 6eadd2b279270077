"""The mean and standard deviation of a set's channels."""

from __future__ import annotations

import numpy as np

from repfold.data.collection import Images
from repfold.data.images import BrokenImageError, in_parallel


def channel_statistics(
    images: Images, *, sample: int = 5000, seed: int = 0
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (mean, standard deviation) of each channel over all pixels, of values in 0..1.

    At most ``sample`` images, drawn under ``seed``, are read; every image weighs the same, whatever its size. A channel
    that never varies gets a deviation of 1, so that dividing by it is harmless.
    """
    sampled = images.sample(sample, seed)
    channels = images.framing.channels
    total, squares = np.zeros(channels), np.zeros(channels)
    values = np.arange(256) / 255
    for picture_HWC in in_parallel(sampled.__getitem__, len(sampled)):
        if isinstance(picture_HWC, BrokenImageError):
            raise picture_HWC
        pixels_PC = picture_HWC.reshape(-1, channels)
        for channel in range(channels):
            # A histogram of 256 levels makes the sums exact and spares a float copy of the picture.
            share = np.bincount(pixels_PC[:, channel], minlength=256) / len(pixels_PC)
            total[channel] += share @ values
            squares[channel] += share @ values**2
    mean = total / max(1, len(sampled))
    variance = (squares / max(1, len(sampled)) - mean**2).clip(0)
    deviation = np.where(variance > 1e-12, np.sqrt(variance), 1.0)
    return tuple(float(value) for value in mean), tuple(float(value) for value in deviation)
