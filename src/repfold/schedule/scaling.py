"""The linear scaling rule: k times the batch, k times the learning rate (Goyal et al. 2017)."""

from __future__ import annotations

from repfold.errors import RepFoldError


def linear_scaling(lr: float, batch: int, reference: int = 256) -> float:
    """Return the learning rate for ``batch``, given the rate ``lr`` found good for batches of ``reference``.

    lr · batch / reference. Raises: RepFoldError for batches below 1.
    """
    if batch < 1 or reference < 1:
        raise RepFoldError(f"Linear scaling needs batches of at least 1, not {batch} and {reference}.")
    return lr * batch / reference
