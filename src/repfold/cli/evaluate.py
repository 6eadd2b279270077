"""``repfold evaluate``: how good a model is on a data set, class by class: each image once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from repfold.cli.engine_flags import EngineFlags
from repfold.cli.few_classes import TOP5_ABOVE
from repfold.cli.terminal import echo, print_json
from repfold.counted import counted
from repfold.errors import RepFoldError

if TYPE_CHECKING:
    from repfold.data import Source
    from repfold.deploy import Outcome
    from repfold.models import Model
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
    pictures: bool = True,
    flags: Annotated[EngineFlags, tyro.conf.arg(name="")] = EngineFlags(),  # noqa: B008
    json: bool = False,
) -> None:
    """Evaluate a model: loss, top-1, mean precision and recall, and both of every class.

    For a run on its own validation images the worst mistakes are written into its directory, where the report finds
    them, unless it was trained with --no-pictures.

    Args:
        model: A run directory, a model file, or a file of any engine, as .onnx.
        data: The data set; for a run directory the one that it was trained on, split and drawn alike.
        form: Which network of a run directory: with its training-time branches, or the plain folded one.
        part: The validation or the training images.
        batch: Images at a time.
        max_pixels: Most pixels of an image file, larger ones are broken; for a run directory as its recipe says.
        device: Where PyTorch runs; auto takes a GPU when there is one.
        pictures: Write no mistakes, whose pictures would be a part of the run.
        json: Print one JSON object, with the figures of every class and the confusion matrix.
    """
    from repfold.deploy.artefact import ArtefactNetwork
    from repfold.train import evaluate_model, model_evaluation

    opened = flags.open(model, form)
    where = "cpu" if isinstance(opened.model.network, ArtefactNetwork) else device
    source, metrics = evaluate_model(
        opened.model, model, data, part=part, batch=batch, max_pixels=max_pixels, device=where
    )
    own = pictures and part == "val" and model_evaluation.are_its_own(model, data) and not _without_pictures(model)
    mistakes = _look(model, opened.model, source, flags) if own else None
    named = {"model": str(model), "form": opened.model.description.form, "data": source.name, "part": part}
    if not json:
        _print_tables(named, opened.computes, source.classes, metrics)
        if mistakes is not None:
            page = f" (repfold report {model} writes it)" if mistakes.file is not None else ""
            echo(f"\nmistakes: {mistakes.result}{page}")
        return
    numbers = {name: getattr(metrics, name) for name in ("images", "loss", "top1", "top5", "precision", "recall")}
    rows = _rows_of_classes(source.classes, metrics)
    confusion = {"classes": source.classes, "matrix_TP": metrics.confusion_TP.tolist()}
    kept = {"mistakes": None if mistakes is None or mistakes.file is None else str(mistakes.file)}
    print_json({**named, "computes": opened.computes, **numbers, "classes": rows, "confusion": confusion, **kept})


def _without_pictures(run: Path) -> bool:
    """Whether a run was trained with --no-pictures: whoever passes the run on wants it to stay so."""
    from repfold import run_files

    command = run_files.environment_of(run).get("command")
    return isinstance(command, list) and "--no-pictures" in command


def _look(run: Path, evaluated: Model, source: Source, flags: EngineFlags) -> Outcome:
    """Write the worst mistakes of a run as the end of its training does: those of its folded network, if it has one."""
    from repfold import run_files
    from repfold.deploy.finish import Outcome, look

    try:
        model = flags.load(run, "plain") if (run / run_files.PLAIN).exists() else evaluated
        return look(run, model.network.cpu(), model.description, lambda seen: source.val)
    except RepFoldError as error:
        return Outcome("mistakes", str(error), None)


def _print_tables(named: dict[str, str], computes: str, classes: tuple[str, ...], metrics: Metrics) -> None:
    from rich.table import Table

    from repfold.cli.console import Console

    console = Console()
    form = f"{named['form']} form, " if computes.startswith("PyTorch") else ""
    console.print(
        f"{named['model']} ({form}{computes}) on the {named['part']} images of {named['data']}, "
        f"{counted(metrics.images, 'image')}:",
        highlight=False,
        soft_wrap=True,
    )
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    rows = [
        ("loss", f"{metrics.loss:.4f}"),
        ("top-1", f"{metrics.top1:.2f} %"),
        ("top-5", f"{metrics.top5:.2f} %"),
        ("mean precision", f"{metrics.precision:.2f} %"),
        ("mean recall", f"{metrics.recall:.2f} %"),
    ]
    for name, value in rows:
        if name != "top-5" or len(classes) > TOP5_ABOVE:
            table.add_row(name, value)
    console.print(table)
    console.print()
    console.print(_table_of_classes(classes, _rows_of_classes(classes, metrics)))


def _rows_of_classes(classes: tuple[str, ...], metrics: Metrics) -> list[dict[str, Any]]:
    """Of each class its images, recall and precision in percent, and the number of what it is most often taken for.

    None stands for a share of nothing, and where no image of the class was taken for another.
    """
    from repfold.report.confusion import Confusion, class_scores, worst_pairs

    confusion = Confusion(classes, metrics.confusion_TP.numpy())
    most_often = {pair.true: pair for pair in reversed(worst_pairs(confusion, len(classes) ** 2))}
    rows = []
    for score in sorted(class_scores(confusion), key=lambda score: classes.index(score.name)):
        pair = most_often.get(score.name)
        taken_for = {
            "taken_for": classes.index(pair.predicted) if pair else None,
            "taken_for_images": pair.images if pair else 0,
        }
        figures = {"images": score.images, "recall": score.recall, "precision": score.precision}
        rows.append({"class": score.name, **figures, **taken_for})
    return rows


def _table_of_classes(classes: tuple[str, ...], rows: list[dict[str, Any]]) -> object:
    from rich.table import Table

    table = Table("class", box=None)
    for title in ("images", "recall %", "precision %", "most often taken for"):
        table.add_column(title, justify="left" if title.startswith("most") else "right")
    for name, row in zip(classes, rows, strict=True):
        wrong = row["taken_for"]
        taken = f"{classes[wrong]} ({row['taken_for_images']})" if wrong is not None else ""
        figures = ("-" if row[key] is None else f"{row[key]:.2f}" for key in ("recall", "precision"))
        table.add_row(name, str(row["images"]), *figures, taken)
    return table
