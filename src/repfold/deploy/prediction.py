"""The classes that a model sees in images, most likely first."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from repfold.data import BrokenImageError, preprocess
from repfold.data.transforms import to_input
from repfold.errors import RepFoldError
from repfold.limits import MOST_PIXELS
from repfold.models import Model

_BATCH = 16


@dataclass(frozen=True)
class Prediction:
    """Of the image in ``path``: (class, percent) of the most likely classes; none where it is ``broken``, and why."""

    path: Path
    classes: tuple[tuple[str, float], ...] = ()
    broken: str | None = None


def predict(
    path: str | os.PathLike[str], model: Model, *, top: int = 5, max_pixels: int = MOST_PIXELS
) -> list[tuple[str, float]]:
    """Return (class, percent) of the ``top`` classes of the image in ``path``, most likely first.

    Raises: RepFoldError when the image cannot be read, or the model does not say how, or returns no probabilities.
    """
    (found,) = predict_all([Path(path)], model, top=top, max_pixels=max_pixels)
    if found.broken is not None:
        raise BrokenImageError(found.path, found.broken)
    return list(found.classes)


def predict_all(
    paths: Iterable[Path], model: Model, *, top: int = 5, max_pixels: int = MOST_PIXELS
) -> Iterator[Prediction]:
    """Yield a prediction for each image, in order; files that cannot be read are skipped, and yielded with the reason.

    Raises: RepFoldError when the model does not say how images are preprocessed, or returns no probabilities.
    """
    seen = model.description.preprocessing
    if seen is None:
        raise RepFoldError("The model does not say how images are to be preprocessed: save it with a description.")
    dtype = next((parameter.dtype for parameter in model.network.parameters()), torch.float32)
    remaining = iter(paths)
    while batch := list(islice(remaining, _BATCH)):
        pixels: dict[Path, Tensor] = {}
        reasons: dict[Path, str] = {}
        for path in batch:
            try:
                pixels[path] = preprocess(path, seen, max_pixels=max_pixels)
            except BrokenImageError as error:
                reasons[path] = error.reason
        classes: dict[Path, tuple[tuple[str, float], ...]] = {}
        if pixels:
            x_NCHW = to_input(torch.stack(list(pixels.values())), seen.mean, seen.std, dtype=dtype)
            classes = dict(zip(pixels, _most_likely(model, x_NCHW, list(pixels), top), strict=True))
        for path in batch:
            yield Prediction(path, classes.get(path, ()), reasons.get(path))


def _most_likely(model: Model, x_NCHW: Tensor, paths: list[Path], top: int) -> Iterator[tuple[tuple[str, float], ...]]:
    with torch.inference_mode():
        percent_NK = 100 * torch.softmax(model.network(x_NCHW).float(), dim=1)
    count = percent_NK.shape[1]
    names = model.description.classes or tuple(str(index) for index in range(count))
    if len(names) != count:
        raise RepFoldError(
            f"The model names {len(names)} classes, but its network has {count}: the names are of another network."
        )
    for path, percent_K in zip(paths, percent_NK, strict=True):
        if not bool(torch.isfinite(percent_K).all()):
            raise RepFoldError(
                f"{path}: the model's outputs are not finite numbers, so its weights are not to be trusted."
            )
        values, indices = percent_K.topk(min(top, count))
        yield tuple((names[index], value) for value, index in zip(values.tolist(), indices.tolist(), strict=True))
