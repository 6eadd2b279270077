"""``repfold evaluate``: how good a model is on a data set: each image once, in eval mode, in float32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from repfold.cli.model_flags import CodeFlags
from repfold.cli.terminal import print_json

if TYPE_CHECKING:
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
    flags: Annotated[CodeFlags, tyro.conf.arg(name="")] = CodeFlags(),  # noqa: B008
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
        json: Print one JSON object, with the confusion matrix.
    """
    from repfold.train import evaluate_model

    opened = flags.load(model, form)
    source, metrics = evaluate_model(opened, model, data, part=part, batch=batch, max_pixels=max_pixels, device=device)
    named = {"model": str(model), "form": opened.description.form, "data": source.name, "part": part}
    if not json:
        _print_table(named, metrics)
        return
    numbers = {name: getattr(metrics, name) for name in ("images", "loss", "top1", "top5", "precision", "recall")}
    confusion = {"classes": source.classes, "matrix_TP": metrics.confusion_TP.tolist()}
    print_json({**named, **numbers, "confusion": confusion})


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
