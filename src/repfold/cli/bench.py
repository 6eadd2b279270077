"""``repfold bench``: what folding gains on this machine: forms, engines and files, timed in turns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from repfold.cli.model_flags import ModelFlags, parse_shape
from repfold.cli.terminal import print_json
from repfold.counted import counted
from repfold.errors import RepFoldError

if TYPE_CHECKING:
    from repfold.deploy import Timings
    from repfold.deploy.subjects import Subject


def bench(
    models: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    *,
    batch: tuple[int, ...] = (1, 32),
    threads: tuple[int, ...] = (),
    engines: tuple[str, ...] = (),
    rounds: int = 20,
    memory: bool = False,
    onnx: bool = True,
    compile: bool = False,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    plot: Path | None = None,
    flags: Annotated[ModelFlags, tyro.conf.arg(name="")] = ModelFlags(),  # noqa: B008
    json: bool = False,
) -> None:
    """Time models' forms (with training-time branches, folded, in engines), and files of other runtimes as they are.

    Args:
        models: Run directories, model files, models' names, package.module:factory; files .onnx .pt2 .xml .param.
        batch: Batch sizes to time.
        threads: Numbers of threads of every runtime to time; PyTorch's default if not given.
        engines: Further engines for the folded networks: repfold, openvino, ncnn.
        rounds: Measurements of each form; the forms take turns.
        memory: Measure the peak memory too, of a process that loads and runs the form alone.
        onnx: Leave ONNX Runtime out.
        compile: Time torch.compile of the folded network too.
        output: Where to write the timings as JSON. For one run directory timings.json in it.
        plot: Where to draw images a second over batch sizes, .svg.
        json: Print one JSON object: the machine and the timings.
    """
    import tempfile

    from repfold import atomic, run_files
    from repfold.deploy import check_sizes, time_subjects
    from repfold.deploy.runtimes import runtime_named
    from repfold.report.throughput import save_throughput

    for count in threads or (None,):
        check_sizes(batch, count)
    if not models:
        raise RepFoldError("Time what? Give a run directory, a model or a file: repfold bench runs/photos model.onnx.")
    if len(set(models)) < len(models):
        raise RepFoldError("A model is given twice.")
    if plot is not None and plot.suffix != ".svg":
        raise RepFoldError(f"--plot {plot}: it is drawn as .svg. Rename it.")
    for engine in engines:
        runtime_named(engine)
    with tempfile.TemporaryDirectory() as directory:
        how = {"onnx": onnx, "compiled": compile, "engines": engines}
        subjects = {name: _subject(name, flags, Path(directory) / str(i), how) for i, name in enumerate(models)}
        named = subjects if len(models) > 1 else {"": subjects[models[0]]}
        timings = time_subjects(named, batches=batch, threads=threads, rounds=rounds, memory=memory)
    if output is None and len(models) == 1 and Path(models[0]).is_dir():
        output = Path(models[0]) / run_files.TIMINGS
    if output is not None:
        atomic.write_json(output, timings.to_dict(), indent=1)
    if plot is not None:
        save_throughput(timings, plot)
    print_json(timings.to_dict()) if json else _print_table(timings)


def _subject(name: str, flags: ModelFlags, directory: Path, how: Mapping[str, object]) -> Subject:
    from repfold import models
    from repfold.deploy.subjects import NetworkForms, artefact, is_artefact

    if is_artefact(name):
        return artefact(name, parse_shape(flags.example))
    directory.mkdir()
    opened, x_NCHW = flags.open(name)
    plain = models.fold_model(opened, x_NCHW)
    branched = None if plain is opened else opened.network
    return NetworkForms(branched, plain, x_NCHW, directory, opening=flags.opening(name), **how)  # type: ignore[arg-type]


def _print_table(timings: Timings) -> None:
    from rich.table import Table

    from repfold.cli.console import Console

    table = Table("form", box=None)
    measured = any(row.peak_bytes is not None for row in timings.rows)
    for title in ("batch", "threads", "median ms", "10 %", "90 %", "images/s", *(["peak MB"] if measured else []), "n"):
        table.add_column(title, justify="right")
    for row in timings.rows:
        times = [f"{value:.2f}" for value in (row.median_ms, row.low_ms, row.high_ms)]
        peak = [] if not measured else [f"{row.peak_bytes / 1e6:.0f}" if row.peak_bytes is not None else "–"]
        sizes = (str(row.batch), str(row.threads))
        table.add_row(row.form, *sizes, *times, f"{row.images_per_second:.0f}", *peak, str(row.n))
    console = Console()
    console.print(table)
    machine = timings.machine
    console.print(
        f"{machine['processor']}, {counted(machine['cores'], 'core')}, PyTorch {machine['torch']}", highlight=False
    )
