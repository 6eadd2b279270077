"""``repfold bench``: what folding gains on this machine: train form, folded, ONNX Runtime, timed in turns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from repfold.errors import RepFoldError
from repfold.limits import MOST_IMAGES
from repfold.threads import check_threads

if TYPE_CHECKING:
    from torch import nn

    from repfold.deploy import Timings


def bench(
    model: Annotated[str, tyro.conf.Positional],
    /,
    *,
    batch: tuple[int, ...] = (1, 32),
    rounds: int = 20,
    threads: int | None = None,
    example: str | None = None,
    weights: Path | None = None,
    num_classes: int | None = None,
    onnx: bool = True,
    compile: bool = False,
    engines: tuple[Literal["repfold"], ...] = (),
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    factory: str | None = None,
    trust: bool = False,
    json: bool = False,
) -> None:
    """Time a model's forms: with its training-time branches, folded, and in ONNX Runtime.

    Args:
        model: A run directory, a model file, a model's name, or package.module:factory.
        batch: Batch sizes to time.
        rounds: Measurements of each form; the forms take turns.
        threads: Threads of every runtime; PyTorch's default if not given.
        example: Shape of an input, such as 1,3,224,224 (its first number is replaced by the batch).
        weights: Checkpoint to load into a network given by name.
        num_classes: Number of classes of a network given by name.
        onnx: Time ONNX Runtime too.
        compile: Time torch.compile of the folded network too.
        engines: Further engines to time: repfold, RepFold's own.
        output: Where to write the timings as JSON. For a run directory timings.json in it.
        factory: Your own package.module:factory that builds a model file's network.
        trust: Run the code that a run or a model file names: only for what you trained yourself.
        json: Print one JSON object: the machine and the timings.
    """
    from json import dumps

    from repfold import atomic, run_files
    from repfold.cli.model_source import make_example, open_model, parse_shape
    from repfold.deploy import compare_forms
    from repfold.fold import fold

    if not batch or min(batch) < 1 or max(batch) > MOST_IMAGES:
        raise RepFoldError(f"--batch {' '.join(map(str, batch))}: give sizes from 1 to {MOST_IMAGES:,}.")
    if threads is not None:
        check_threads(threads)
    source = open_model(model, factory=factory, trust=trust, weights=weights, num_classes=num_classes)
    network: nn.Module | None = source.network
    plain = source.network
    x_NCHW = make_example(parse_shape(example), source)
    if source.description.form == "folded":
        network = None
    else:
        plain, _ = fold(source.network, x_NCHW)
    timings = compare_forms(
        network,
        plain,
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
        atomic.write_text(output, dumps(timings.to_dict(), indent=1) + "\n")
    print(dumps(timings.to_dict())) if json else _print_table(timings)


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
