"""``repfold predict``: the classes that a model sees in images, most likely first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from repfold.cli.model_flags import CodeFlags
from repfold.cli.terminal import print_json
from repfold.errors import RepFoldError
from repfold.limits import MOST_PIXELS


def predict(
    paths: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    *,
    model: Path | None = None,
    top: int = 5,
    max_pixels: int = MOST_PIXELS,
    flags: Annotated[CodeFlags, tyro.conf.arg(name="")] = CodeFlags(),  # noqa: B008
    json: bool = False,
) -> None:
    """Name the most likely classes of each image.

    Args:
        paths: The model (a run directory or a model file) and the images; only the images when --model is given.
        model: The model, if it is not the first path.
        top: How many classes to name of each image; all of them when there are fewer.
        max_pixels: Most pixels of an image file: larger ones are refused.
        json: Print one JSON object.
    """
    from repfold.deploy import predict as predict_image

    images = paths
    if model is None and paths:
        model, images = paths[0], paths[1:]
    if model is None or not images or top < 1:
        raise RepFoldError(
            "Give a model and at least one image, as in: repfold predict RUN IMAGE... (--top 1 or more)."
        )
    opened = flags.load(model, "fastest")
    found = [(str(path), predict_image(path, opened, top=top, max_pixels=max_pixels)) for path in images]
    if json:
        predictions = [
            {"image": image, "classes": [{"class": name, "percent": percent} for name, percent in classes]}
            for image, classes in found
        ]
        print_json({"model": str(model), "predictions": predictions})
    else:
        _print_predictions(found)


def _print_predictions(found: list[tuple[str, list[tuple[str, float]]]]) -> None:
    from rich.table import Table

    from repfold.cli.console import Console

    console = Console()
    for image, classes in found:
        table = Table(title=image, title_justify="left", box=None, show_header=False)
        table.add_column(justify="right")
        for name, percent in classes:
            table.add_row(f"{percent:.1f} %", name)
        console.print(table)
