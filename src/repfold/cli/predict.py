"""``repfold predict``: the classes that a model sees in images, most likely first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from repfold.errors import RepFoldError
from repfold.limits import MOST_PIXELS

if TYPE_CHECKING:
    from repfold.models import Model


def predict(
    paths: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    *,
    model: Path | None = None,
    top: int = 5,
    max_pixels: int = MOST_PIXELS,
    factory: str | None = None,
    trust: bool = False,
    json: bool = False,
) -> None:
    """Name the most likely classes of each image.

    Args:
        paths: The model (a run directory or a model file) and the images; only the images when --model is given.
        model: The model, if it is not the first path.
        top: How many classes to name of each image; all of them when there are fewer.
        max_pixels: Most pixels of an image file: larger ones are refused.
        factory: Your own package.module:factory that builds a model file's network.
        trust: Run the code that a run or a model file names: only for what you trained yourself.
        json: Print one JSON object.
    """
    from json import dumps

    from repfold.models import load_model

    images = paths
    if model is None and paths:
        model, images = paths[0], paths[1:]
    if model is None or not images or top < 1:
        raise RepFoldError(
            "Give a model and at least one image, as in: repfold predict RUN IMAGE... (--top 1 or more)."
        )
    opened = load_model(model, form="fastest", factory=factory, trust=trust)
    predictions = [_predict_one(path, opened, top, max_pixels) for path in images]
    if json:
        print(dumps({"model": str(model), "predictions": predictions}))
    else:
        _print_predictions(predictions)


def _predict_one(path: Path, model: Model, top: int, max_pixels: int) -> dict[str, Any]:
    """The ``top`` classes of one image with their probabilities in percent."""
    import torch

    from repfold.data import preprocess
    from repfold.data.transforms import to_input

    description = model.description
    if description.preprocessing is None:
        raise RepFoldError("The model does not say how images are to be preprocessed: save it with a description.")
    parameter = next(model.network.parameters())
    seen = description.preprocessing
    x_NCHW = to_input(
        preprocess(path, seen, max_pixels=max_pixels).unsqueeze(0), seen.mean, seen.std, dtype=parameter.dtype
    )
    with torch.inference_mode():
        percent = 100 * torch.softmax(model.network(x_NCHW)[0].float(), dim=0)
    if not bool(torch.isfinite(percent).all()):
        raise RepFoldError(f"{path}: the model's outputs are not finite numbers, so its weights are not to be trusted.")
    if description.classes is not None and len(description.classes) != len(percent):
        raise RepFoldError(
            f"The model names {len(description.classes)} classes, but its network tells {len(percent)} apart: the "
            "names are of another network."
        )
    values, indices = percent.topk(min(top, len(percent)))
    names = description.classes or tuple(str(index) for index in range(len(percent)))
    classes = [{"class": names[i], "percent": v} for v, i in zip(values.tolist(), indices.tolist(), strict=True)]
    return {"image": str(path), "classes": classes}


def _print_predictions(predictions: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from repfold.cli.console import Console

    console = Console()
    for prediction in predictions:
        table = Table(title=prediction["image"], title_justify="left", box=None, show_header=False)
        table.add_column(justify="right")
        for entry in prediction["classes"]:
            table.add_row(f"{entry['percent']:.1f} %", entry["class"])
        console.print(table)
