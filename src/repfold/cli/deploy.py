"""``repfold deploy``: a folder that can be shipped, with the engine that runs the model fastest on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from repfold.cli.model_flags import ModelFlags
from repfold.cli.terminal import echo, print_json
from repfold.counted import counted

if TYPE_CHECKING:
    from repfold.deploy import Choice


def deploy(
    model: Annotated[str, tyro.conf.Positional],
    /,
    *,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    data: str | None = None,
    max_drop: float = 0.5,
    batch: int = 1,
    threads: int | None = None,
    engines: tuple[str, ...] = (),
    int8: Path | None = None,
    licence: str | None = None,
    rounds: int = 20,
    flags: Annotated[ModelFlags, tyro.conf.arg(name="")] = ModelFlags(),  # noqa: B008
    json: bool = False,
) -> None:
    """Measure every engine and precision on a model, and write a folder with the fastest that is accurate enough.

    The folder holds the model, predict.py (from image files to names of classes, with that engine, NumPy and Pillow
    alone), model.json, a model card and what was measured.

    Args:
        model: A run directory, or a model file that says its preprocessing.
        output: The folder to write; an earlier one is replaced.
        data: Images to measure the accuracy on; for a run directory those that it was validated on.
        max_drop: Points of top-1 that may be lost against the folded network in float32.
        batch: Images at once, as they will be served.
        threads: Threads to serve with; PyTorch's default if not given.
        engines: Engines to measure: repfold, onnxruntime, openvino, ncnn, torch, torch.compile. All if not given.
        int8: The quantized model, from `repfold quantize`; for a run directory int8.onnx in it.
        licence: The model's licence, for the card.
        rounds: Measurements of each engine; the engines take turns.
        json: Print one JSON object: what deploy.json holds.
    """
    from repfold.cli.console import Console
    from repfold.deploy import deploy_model
    from repfold.train.model_evaluation import labelled_images

    opened, _ = flags.open(model)
    images = labelled_images(opened, Path(model), data)
    with Console(stderr=True).status("folding") as status:
        choice = deploy_model(
            opened,
            images.loader("val", 32, train=False),
            output,
            source=Path(model),
            data=images.name,
            licence=licence,
            int8_onnx=int8,
            engines=engines or None,
            batch=batch,
            threads=threads,
            rounds=rounds,
            max_drop=max_drop,
            on_stage=status.update,
        )
    print_json(choice.to_dict()) if json else _print(choice, output)


def _print(choice: Choice, folder: Path) -> None:
    import json

    from rich.table import Table

    from repfold.cli.console import Console
    from repfold.deploy.card import overlap_words
    from repfold.deploy.ship import MODEL

    table = Table("engine", box=None)
    for title in ("median ms", "10 %", "90 %", "top-1 %"):
        table.add_column(title, justify="right")
    table.add_column()
    for row in choice.rows:
        times = (f"{value:.2f}" for value in (row.timing.median_ms, row.timing.low_ms, row.timing.high_ms))
        remark = "shipped" if row is choice.winner else row.refused or ""
        table.add_row(row.timing.form, *times, f"{row.accuracy.top1:.2f}", remark)
    Console().print(table)
    for name, reason in choice.without.items():
        echo(f"not {name}: {reason}")
    images, threads = choice.reference.images, choice.threads
    echo(
        f"{overlap_words(choice)} Batch {choice.batch}, {counted(threads, 'thread')}, "
        f"n = {choice.winner.timing.n}; top-1 on {counted(images, 'image')}, the folded network's "
        f"{choice.reference.top1:.2f} %."
    )
    described = json.loads((folder / MODEL).read_text(encoding="utf-8"))
    weights = described["started_from"] or {}
    if weights.get("licence") and not described["licence"]:
        echo(
            f"It started from {weights['source']}, licence of these weights: {weights['licence']}. The card says so; "
            "say with --licence what the model's own is."
        )
    echo(f"\nIn {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    echo(f"Try it: python {folder / 'predict.py'} IMAGE")
