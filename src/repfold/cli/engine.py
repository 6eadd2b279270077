"""``repfold engine``: what the native engine does with a model, layer by layer, and what is fastest here."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from repfold.cli.model_flags import ModelFlags
from repfold.cli.terminal import echo, print_json
from repfold.counted import counted

if TYPE_CHECKING:
    from repfold.engine import Engine


def engine(
    action: Annotated[Literal["info", "tune"], tyro.conf.Positional],
    model: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    batch: int = 1,
    image_size: int | None = None,
    threads: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    json: bool = False,
) -> None:
    """RepFold's own engine. "info" prints its plan for a folded model: each layer's algorithm, and the buffers.

    "tune" times every algorithm of every convolution on this machine, and keeps what is fastest in the user's cache,
    for repfold.engine.load(FILE, tuned=True).

    Args:
        action: What to do: info or tune.
        model: A folded model file, a run directory (its plain.safetensors), or an ONNX file.
        batch: Images at once.
        image_size: Side of the square images. The model's own by default, else 224.
        threads: Threads to compute with. All CPUs by default.
        precision: Number format of activations and weights.
        json: Print one JSON object.
    """
    from contextlib import suppress

    from repfold import engine as engines
    from repfold import regular, run_files
    from repfold.errors import RepFoldError
    from repfold.threads import check_threads

    if threads is not None:
        check_threads(threads)
    path = model / run_files.PLAIN if model.is_dir() else model
    if path.exists() and not path.is_file():  # reading a FIFO, say, would wait for ever
        raise RepFoldError(f"{path} is no ordinary file. Give a folded model file, or the run directory that holds it.")
    try:
        with suppress(FileNotFoundError):  # which the engine reports
            regular.opened(path).close()
        if action == "tune":
            return _tune(path, batch, image_size, threads, precision, json=json)
        loaded = _load(path, threads, precision)
        size = image_size or loaded.image_size or 224
        plan = loaded.plan(batch, loaded.channels or 3, size, size)
    except regular.IrregularFileError as error:
        raise RepFoldError(f"{path} is no model file: {error}.") from error
    except engines.EngineError as error:
        raise RepFoldError(str(error)) from error
    if json:
        print_json(plan)
    else:
        _print_plan(plan)


def _load(path: Path, threads: int | None, precision: str) -> Engine:
    """The engine of a model file, or of what an ONNX file holds."""
    import tempfile

    from repfold import engine as engines
    from repfold import models

    if not models.is_onnx(path):
        return engines.load(path, threads=threads, precision=precision)
    read, example = ModelFlags().open(str(path))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        models.save(models.fold_model(read, example).network, file)
        return engines.load(file, threads=threads, precision=precision)  # which keeps the file open


def _tune(path: Path, batch: int, side: int | None, threads: int | None, precision: str, *, json: bool) -> None:
    from rich.progress import Progress

    from repfold import engine as engines
    from repfold import models
    from repfold.cli.console import Console
    from repfold.errors import RepFoldError

    if models.is_onnx(path):
        raise RepFoldError(f"{path} is ONNX. Fold it into a model file first: repfold fold {path} -o FILE.safetensors")
    loaded = engines.load(path, threads=threads, precision=precision)
    size = side or loaded.image_size or 224
    shape = (batch, loaded.channels or 3, size, size)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("timing", total=1.0)
        found = engines.tune(
            path,
            shape=shape,
            threads=threads,
            precision=precision,
            advance=lambda share: progress.update(task, completed=share),
        )
    if json:
        print_json({"images": shape, **asdict(found)})
        return
    for name, algorithm in found.choices.items():
        echo(f"{name}: {algorithm}")
    times = f"{found.usual_ms:.2f} ms by the cost model, {found.tuned_ms:.2f} ms with the fastest of each layer"
    if found.choices:
        echo(f"{times}; kept for load(tuned=True): {counted(len(found.choices), 'layer')} by another algorithm")
    else:
        echo(f"{times}; which is hardly faster, so that the choices of the cost model stay")


def _print_plan(plan: dict[str, Any]) -> None:
    from rich.table import Table

    from repfold.cli.console import Console

    n, channels, height, width = plan["input"]
    table = Table("layer", "out", "algorithm", "split", "Mmadds", "MB", box=None)
    for layer in plan["layers"]:
        split = f"{layer['split']}, {layer['block']} tiles" if "split" in layer else ""
        algorithm = layer["algorithm"] if layer["kind"] == "convolution" else layer["kind"]
        algorithm += ", in bands" if layer["in_bands"] else ""
        macs = f"{layer['multiply_adds'] / 1e6:,.1f}" if "multiply_adds" in layer else ""
        weights = f"{layer['weight_bytes'] / 1e6:.2f}" if "weight_bytes" in layer else ""
        table.add_row(layer["name"], "x".join(map(str, layer["out"])), algorithm, split, macs, weights)
    buffers = {name: f"{size / 1e6:.1f} MB" for name, size in plan["buffers"].items()}
    console = Console()
    console.print(
        f"{n} x {channels} x {height} x {width}, {plan['precision']}, {plan['kernels']} kernels, "
        f"{counted(plan['threads'], 'thread')}"
    )
    console.print(table)
    console.print(
        f"weights {buffers['weights']}, activations and scratch {buffers['activations']} "
        f"(largest activation {buffers['largest_activation']})"
    )
