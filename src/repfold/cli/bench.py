"""``repfold bench``: what folding gains on this machine: train form, folded, ONNX Runtime, timed in turns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from repfold.cli.model_flags import ModelFlags
from repfold.cli.terminal import print_json

if TYPE_CHECKING:
    from repfold.deploy import Timings


def bench(
    model: Annotated[str, tyro.conf.Positional],
    /,
    *,
    batch: tuple[int, ...] = (1, 32),
    rounds: int = 20,
    threads: int | None = None,
    onnx: bool = True,
    compile: bool = False,
    engines: tuple[Literal["repfold"], ...] = (),
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    flags: Annotated[ModelFlags, tyro.conf.arg(name="")] = ModelFlags(),  # noqa: B008
    json: bool = False,
) -> None:
    """Time a model's forms: with its training-time branches, folded, and in ONNX Runtime.

    Args:
        model: A run directory, a model file, a model's name, or package.module:factory.
        batch: Batch sizes to time.
        rounds: Measurements of each form; the forms take turns.
        threads: Threads of every runtime; PyTorch's default if not given.
        onnx: Leave ONNX Runtime out.
        compile: Time torch.compile of the folded network too.
        engines: Further engines to time: repfold, RepFold's own.
        output: Where to write the timings as JSON. For a run directory timings.json in it.
        json: Print one JSON object: the machine and the timings.
    """
    from repfold import atomic, deploy, models, run_files

    deploy.check_sizes(batch, threads)
    opened, x_NCHW = flags.open(model)
    plain = models.fold_model(opened, x_NCHW)
    timings = deploy.compare_forms(
        None if plain is opened else opened.network,
        plain.network,
        x_NCHW,
        batches=batch,
        rounds=rounds,
        threads=threads,
        onnx=onnx,
        compiled=compile,
        native="repfold" in engines,
    )
    if output is None and Path(model).is_dir():
        output = Path(model) / run_files.TIMINGS
    if output is not None:
        atomic.write_json(output, timings.to_dict(), indent=1)
    print_json(timings.to_dict()) if json else _print_table(timings)


def _print_table(timings: Timings) -> None:
    from rich.table import Table

    from repfold.cli.console import Console

    table = Table("form", box=None)
    for title in ("batch", "median ms", "10 %", "90 %", "images/s", "n"):
        table.add_column(title, justify="right")
    for row in timings.rows:
        times = [f"{value:.2f}" for value in (row.median_ms, row.low_ms, row.high_ms)]
        table.add_row(row.form, str(row.batch), *times, f"{row.images_per_second:.0f}", str(row.n))
    console = Console()
    console.print(table)
    machine = timings.machine
    console.print(f"{machine['processor']}, {machine['threads']} threads, PyTorch {machine['torch']}", highlight=False)
