"""How good a trained model is: the data that it is to be evaluated on, and its metrics on them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import torch

from repfold import run_files
from repfold.data import DataSettings, Source, open_source
from repfold.errors import RepFoldError, few
from repfold.limits import MOST_PIXELS
from repfold.models import Model, Preprocessing
from repfold.train import recipe_file
from repfold.train.evaluation import Metrics, evaluate
from repfold.train.recipe import Recipe, seed_of_data

Part = Literal["val", "train"]


def evaluate_model(
    model: Model,
    path: Path,
    data: str | None = None,
    *,
    part: Part = "val",
    batch: int = 64,
    max_pixels: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> tuple[Source, Metrics]:
    """Evaluate ``model``, loaded from ``path``, on the data set ``data``: each image once, in float32.

    Args:
        path: a model file or a run directory; ``data``, ``part``, ``max_pixels``: see ``open_data``.
        device: "auto" takes a GPU when there is one.

    Returns: the data, and the metrics on them.

    Raises: RepFoldError when the model does not say how it sees images, the data have other classes than it was
    trained on, or its outputs are not finite.
    """
    if batch < 1:
        raise RepFoldError(f"--batch is {batch}: evaluate at least one image at a time.")
    source = labelled_images(model, path, data, part=part, max_pixels=max_pixels)
    seen = model.description.preprocessing
    assert seen is not None
    loader = source.loader(part, batch, train=False)
    where = "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
    metrics = evaluate(model.network.float().to(where), loader, seen, where)
    if not isfinite(metrics.loss):
        raise RepFoldError(f"{path}: its outputs are not finite numbers, so its weights are not to be trusted.")
    return source, metrics


def labelled_images(
    model: Model, path: Path, data: str | None = None, *, part: Part = "val", max_pixels: int | None = None
) -> Source:
    """Open a part of ``data`` as the model sees it; its classes have to be those that the model was trained on.

    Raises: RepFoldError as ``evaluate_model`` does.
    """
    seen = model.description.preprocessing
    if seen is None:
        raise RepFoldError(f"{path} does not say how images are to be preprocessed: save it with a description.")
    source = open_data(path, data, seen, part, max_pixels)
    _check_classes(model.description.classes, source, path)
    return source


def open_data(
    path: Path, data: str | None, seen: Preprocessing, part: Part = "val", max_pixels: int | None = None
) -> Source:
    """Open a part of ``data``, framed as the model sees images.

    Args:
        path: where the model is from. The data that the recipe of a run directory names, which are meant by None, are
            split and drawn as in training, by whatever path they are given.
        max_pixels: most pixels of an image file; by default as the recipe says.

    Raises: RepFoldError when no data are named.
    """
    how: dict[str, Any] = {}
    if recipe := _recipe_of(path, data):
        data = recipe.data
        max_pixels = max_pixels or recipe.max_pixels
        how = {"val_fraction": recipe.val_fraction, "seed": seed_of_data(recipe), "skip_broken": recipe.skip_broken}
        how["per_class"] = recipe.per_class if any(recipe.per_class) else None
    if not data:
        raise RepFoldError(f"On what? {path} is a model file: name the data too, as in: repfold evaluate MODEL DATA.")
    how |= {"image_size": seen.image_size, "resize": seen.resize, "channels": seen.channels}
    return open_source(DataSettings(data, max_pixels=max_pixels or MOST_PIXELS, **how), parts=(part,))


def are_its_own(path: Path, data: str | None) -> bool:
    """Return whether ``path`` is a run directory, and ``data`` are those that it was trained on."""
    return _recipe_of(path, data) is not None


def _recipe_of(path: Path, data: str | None) -> Recipe | None:
    """The recipe of a run directory, if it is the one that ``data`` are split and drawn by."""
    if not (path / run_files.RECIPE).exists():
        return None
    recipe = recipe_file.read(path / run_files.RECIPE)
    own = data is None or os.path.realpath(data) == os.path.realpath(recipe.data)
    return recipe if own else None


def _check_classes(classes: Sequence[str] | None, source: Source, path: Path) -> None:
    """Raise RepFoldError unless the data's classes are those that the model was trained on, in order."""
    if classes is None or tuple(classes) == source.classes:
        return
    missing = [name for name in source.classes if name not in classes]
    strange = f" It does not know '{missing[0]}'." if missing else ""
    raise RepFoldError(
        f"{path} was trained on {len(classes)} classes ({few(classes)}), but {source.name} has {len(source.classes)} "
        f"({few(source.classes)}).{strange} Evaluate on data with the same classes."
    )
