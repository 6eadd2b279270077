"""``repfold evaluate``: how good a model is on a data set: each image once, in eval mode, in float32."""

from __future__ import annotations

import os
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from repfold.errors import RepFoldError
from repfold.limits import MOST_PIXELS

if TYPE_CHECKING:
    from repfold.data import Source
    from repfold.models import Description, Preprocessing
    from repfold.train import Metrics


def evaluate(
    model: Annotated[Path, tyro.conf.Positional],
    data: Annotated[str | None, tyro.conf.Positional] = None,
    /,
    *,
    form: Literal["train", "plain"] = "train",
    part: Literal["val", "train"] = "val",
    batch: int = 64,
    max_pixels: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    factory: str | None = None,
    trust: bool = False,
    json: bool = False,
) -> None:
    """Evaluate a model: loss, top-1 and top-5, mean precision and recall over the classes.

    Args:
        model: A run directory or a model file.
        data: The data set; for a run directory the one that it was trained on, split and drawn alike.
        form: Which network of a run directory: with its training-time branches, or the plain folded one.
        part: The validation or the training images.
        batch: Images at a time.
        max_pixels: Most pixels of an image file, larger ones are broken; for a run directory as its recipe says.
        device: Where to run; auto takes a GPU when there is one.
        factory: Your own package.module:factory that builds a model file's network.
        trust: Run the code that a run or a model file names: only for what you trained yourself.
        json: Print one JSON object, with the confusion matrix.
    """
    import torch

    from repfold.models import load_model
    from repfold.train import evaluate as evaluate_network

    if batch < 1:
        raise RepFoldError(f"--batch is {batch}: evaluate at least one image at a time.")
    opened = load_model(model, form=form, factory=factory, trust=trust)
    seen = opened.description.preprocessing
    if seen is None:
        raise RepFoldError(f"{model} does not say how images are to be preprocessed: save it with a description.")
    source = open_data(model, data, seen, part, max_pixels)
    check_classes(opened.description, source, str(model))
    loader = source.loader(part, batch, train=False)
    where = "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
    metrics = evaluate_network(opened.network.float().to(where), loader, seen, where)
    if not isfinite(metrics.loss):
        raise RepFoldError(f"{model}: its outputs are not finite numbers, so its weights are not to be trusted.")
    named = {"model": str(model), "form": opened.description.form, "data": source.name, "part": part}
    _print_json(named, source, metrics) if json else _print_table(named, metrics)


def open_data(
    model: Path,
    data: str | None,
    seen: Preprocessing,
    part: Literal["val", "train"],
    max_pixels: int | None = None,
) -> Source:
    """Open ``data``, framed as the model sees images; by default what the run's recipe was trained on."""
    from repfold.data import open_source
    from repfold.train import recipe_file

    recipe_path = model / "recipe.toml"
    how: dict[str, Any] = {}
    if model.is_dir() and recipe_path.exists():
        recipe = recipe_file.read(recipe_path)
        # However its path is written: the same data is split and drawn as in training.
        if data is None or os.path.realpath(data) == os.path.realpath(recipe.data):
            data = recipe.data
            max_pixels = max_pixels or recipe.max_pixels
            how = {"val_fraction": recipe.val_fraction, "seed": recipe.seed, "skip_broken": recipe.skip_broken}
            how["per_class"] = recipe.per_class if any(recipe.per_class) else None
    if not data:
        raise RepFoldError(f"On what? {model} is a model file: name the data too, as in: repfold evaluate MODEL DATA.")
    how["max_pixels"] = max_pixels or MOST_PIXELS
    return open_source(
        data, image_size=seen.image_size, resize=seen.resize, channels=seen.channels, parts=(part,), **how
    )


def check_classes(description: Description, source: Source, model: str) -> None:
    """Raise RepFoldError unless the data's classes are those that the model was trained on, in order."""
    if description.classes is None or description.classes == source.classes:
        return
    missing = [name for name in source.classes if name not in description.classes]
    strange = f" It does not know '{missing[0]}'." if missing else ""
    raise RepFoldError(
        f"{model} was trained on {_listed(description.classes)}, but {source.name} has {_listed(source.classes)}."
        f"{strange} Evaluate on data with the same classes."
    )


def _listed(classes: tuple[str, ...]) -> str:
    return f"{len(classes)} classes ({', '.join(classes[:3])}{', ...' if len(classes) > 3 else ''})"


def _numbers(metrics: Metrics) -> dict[str, float]:
    names = ("images", "loss", "top1", "top5", "precision", "recall")
    return {name: getattr(metrics, name) for name in names}


def _print_json(named: dict[str, str], source: Source, metrics: Metrics) -> None:
    from json import dumps

    confusion = {"classes": source.classes, "matrix_TP": metrics.confusion_TP.tolist()}
    print(dumps({**named, **_numbers(metrics), "confusion": confusion}))


def _print_table(named: dict[str, str], metrics: Metrics) -> None:
    from rich.table import Table

    from repfold.cli.console import Console

    console = Console()
    console.print(
        f"{named['model']} ({named['form']} form) on the {named['part']} images of {named['data']}, "
        f"{metrics.images:,} images:",
        highlight=False,
        soft_wrap=True,
    )
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value, unit in (
        ("loss", f"{metrics.loss:.4f}", ""),
        ("top-1", f"{metrics.top1:.2f}", " %"),
        ("top-5", f"{metrics.top5:.2f}", " %"),
        ("mean precision", f"{metrics.precision:.2f}", " %"),
        ("mean recall", f"{metrics.recall:.2f}", " %"),
    ):
        table.add_row(name, value + unit)
    console.print(table)
