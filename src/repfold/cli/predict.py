"""``repfold predict``: the classes that a model sees in images, most likely first."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from repfold.cli.engine_flags import EngineFlags
from repfold.cli.images_given import images_given
from repfold.cli.terminal import echo, print_json
from repfold.counted import counted
from repfold.errors import RepFoldError, few
from repfold.limits import MOST_PIXELS

if TYPE_CHECKING:
    from repfold.deploy.prediction import Prediction

_SOME_BROKEN = 2


def predict(
    paths: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    *,
    model: Path | None = None,
    top: int | None = None,
    csv: Path | None = None,
    max_pixels: int = MOST_PIXELS,
    flags: Annotated[EngineFlags, tyro.conf.arg(name="")] = EngineFlags(),  # noqa: B008
    json: bool = False,
) -> None:
    """Name the most likely classes of each image, in a line each.

    Files that cannot be read as images are skipped; they are counted and named at the end, and the exit code is then 2.

    Args:
        paths: The model (a run directory, a model file, or a file of any engine, as .onnx), then the images: files,
            folders, patterns, or - for a list on stdin. Only the images when --model is given.
        model: The model, if it is not the first path.
        top: How many classes to name of each image, at most all: 5 if not given, 1 in a CSV file.
        csv: Write a table of path, class and probability into this file instead of printing.
        max_pixels: Most pixels of an image file: larger ones are broken.
        json: Print one JSON object a line for each image.
    """
    from repfold.deploy.prediction import predict_all

    images = paths
    if model is None and paths:
        model, images = paths[0], paths[1:]
    if model is None or not images or (top is not None and top < 1):
        raise RepFoldError(
            "Give a model and at least one image, as in: repfold predict RUN IMAGE... (--top 1 or more)."
        )
    count = top or (1 if csv is not None else 5)
    opened = flags.open(model, "fastest")
    found = predict_all(images_given(images), opened.model, top=count, max_pixels=max_pixels)
    broken = _write_csv(found, csv) if csv is not None else _print(found, json=json)
    if broken:
        reasons = few([f"{prediction.path} ({prediction.broken})" for prediction in broken], most=10)
        echo(f"repfold: Skipped {len(broken)} that cannot be read as images: {reasons}.", error=True)
        sys.exit(_SOME_BROKEN)


def _print(found: Iterable[Prediction], *, json: bool) -> list[Prediction]:
    """Print what was found as it comes; return what is broken."""
    broken = []
    for prediction in found:
        image, classes = str(prediction.path), prediction.classes
        if prediction.broken is not None:
            broken.append(prediction)
            if json:
                print_json({"image": image, "error": prediction.broken})
        elif json:
            print_json({"image": image, "classes": [{"class": name, "percent": percent} for name, percent in classes]})
        else:
            echo(f"{image}  " + "  ".join(f"{name} {percent:.1f} %" for name, percent in classes))
    return broken


def _write_csv(found: Iterable[Prediction], path: Path) -> list[Prediction]:
    """Write the table, whole; return what is broken."""
    import csv
    import io

    from repfold import atomic

    text, broken, images = io.StringIO(), [], 0
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "class", "probability"])
    for prediction in found:
        images += prediction.broken is None
        broken += [prediction] if prediction.broken is not None else []
        writer.writerows([str(prediction.path), name, f"{percent / 100:.6f}"] for name, percent in prediction.classes)
    atomic.write_text(path, text.getvalue())
    echo(f"{counted(images, 'image')}: {path}")
    return broken
