"""How often each of several calls names the class of an image, on the same images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from repfold.data import Loader
from repfold.data.transforms import to_input
from repfold.deploy.runtimes import Call
from repfold.errors import RepFoldError
from repfold.models import Preprocessing


@dataclass(frozen=True)
class Accuracy:
    """``top1`` in percent of the ``images``; ``same``: in percent, how often it names the class that the first does."""

    top1: float
    same: float
    images: int


def accuracies(
    calls: Mapping[str, Call],
    loader: Loader,
    seen: Preprocessing,
    *,
    on_batch: Callable[[int], None] = lambda images: None,
) -> dict[str, Accuracy]:
    """Run every call on each image once; the first is what the others are compared with.

    Args:
        loader: one with ``train=False``.
        on_batch: gets the number of images done.

    Raises: RepFoldError when there are no images, or labels beyond the classes.
    """
    right = dict.fromkeys(calls, 0)
    same = dict.fromkeys(calls, 0)
    images = 0
    for x_uint8, labels in loader.epoch(0):
        x_NCHW = np.ascontiguousarray(to_input(x_uint8, seen.mean, seen.std, channels_last=False).numpy())
        reference_N: np.ndarray | None = None
        for name, call in calls.items():
            logits_NK = call(x_NCHW)
            if int(labels.max()) >= logits_NK.shape[1]:
                raise RepFoldError(f"The data has a class number {int(labels.max())}, the network fewer classes.")
            named_N = logits_NK.argmax(axis=1)
            reference_N = named_N if reference_N is None else reference_N
            # argmax takes NaN for the largest value
            right[name] += int((np.isfinite(logits_NK).all(axis=1) & (named_N == labels.numpy())).sum())
            same[name] += int((named_N == reference_N).sum())
        images += len(labels)
        on_batch(images)
    if not images:
        raise RepFoldError("There are no images to measure the accuracy on.")
    return {name: Accuracy(100 * right[name] / images, 100 * same[name] / images, images) for name in calls}
