"""The classes that a model sees in an image, most likely first."""

from __future__ import annotations

import os

import torch

from repfold.data import preprocess
from repfold.data.transforms import to_input
from repfold.errors import RepFoldError
from repfold.limits import MOST_PIXELS
from repfold.models import Model


def predict(
    path: str | os.PathLike[str], model: Model, *, top: int = 5, max_pixels: int = MOST_PIXELS
) -> list[tuple[str, float]]:
    """Return (class, percent) of the ``top`` classes of the image in ``path``, most likely first.

    Raises: RepFoldError when the image cannot be read, or the model does not say how, or returns no probabilities.
    """
    description, seen = model.description, model.description.preprocessing
    if seen is None:
        raise RepFoldError("The model does not say how images are to be preprocessed: save it with a description.")
    pixels_NCHW = preprocess(path, seen, max_pixels=max_pixels).unsqueeze(0)
    dtype = next(model.network.parameters()).dtype
    with torch.inference_mode():
        logits_K = model.network(to_input(pixels_NCHW, seen.mean, seen.std, dtype=dtype))[0]
        percent_K = 100 * torch.softmax(logits_K.float(), dim=0)
    if not bool(torch.isfinite(percent_K).all()):
        raise RepFoldError(f"{path}: the model's outputs are not finite numbers, so its weights are not to be trusted.")
    if description.classes is not None and len(description.classes) != len(percent_K):
        raise RepFoldError(
            f"The model names {len(description.classes)} classes, but its network has {len(percent_K)}: the "
            "names are of another network."
        )
    values, indices = percent_K.topk(min(top, len(percent_K)))
    names = description.classes or tuple(str(index) for index in range(len(percent_K)))
    return [(names[index], value) for value, index in zip(values.tolist(), indices.tolist(), strict=True)]
