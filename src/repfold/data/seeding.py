"""Random numbers as pure functions of a seed and a position in the training: a resumed run draws the same ones."""

from __future__ import annotations

import numpy as np
import torch

# One number a use, so that no two uses share a stream.
SPLIT, SUBSET, ORDER, CROP, AUGMENT, SAMPLE = range(6)


def stream(seed: int, *key: int) -> np.random.Generator:
    """Return the random stream of ``key`` (a use, then an epoch, a step, ...) under ``seed``."""
    return np.random.default_rng(_sequence(seed, key))


def batch_generator(seed: int, epoch: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator of the device-side transforms of one batch: a pure function of its three numbers.

    Every rank of a distributed run gets the same generator; the transforms draw for the whole global batch and each
    rank takes the share of its own images.
    """
    state = _sequence(seed, (AUGMENT, epoch, step)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0]) >> 1)


def _sequence(seed: int, key: tuple[int, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence(entropy=seed % 2**64, spawn_key=key)
