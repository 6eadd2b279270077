"""From a trained run to what is deployed: fold, prove, export, time, report; each file into the run directory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from repfold import atomic, models, run_files
from repfold.counted import counted
from repfold.data import Images
from repfold.deploy.compare import compare_forms, why_not_native
from repfold.deploy.export import export_onnx, has_onnx
from repfold.deploy.mistakes import write_mistakes
from repfold.errors import NotWritten, RepFoldError
from repfold.fold import fold
from repfold.report import write
from repfold.report.timings import Timings

# A forward pass that takes longer than this is timed for one image only.
_SLOW_SECONDS = 0.5


@dataclass(frozen=True)
class Outcome:
    """What came of one stage, and the file that it wrote; ``file`` is None when it could not."""

    name: str
    result: str
    file: Path | None


def finish_run(
    directory: Path,
    *,
    trust: bool = False,
    validation: Callable[[models.Preprocessing], Images] | None = None,
    on_stage: Callable[[str], None] = lambda name: None,
) -> list[Outcome]:
    """Fold the best network of a trained run and derive model file, certificate, ONNX, timings and report from it.

    Args:
        trust: run the code that the run's model file names.
        validation: opens the images whose worst mistakes the report shows; without it there are no pictures in it.
        on_stage: gets the name of each stage as it begins: "folding", "exporting", "timing", "looking at mistakes",
            "reporting".

    Returns: what came of each stage. One that this network or machine does not allow says so, and the others go on.

    Raises: RepFoldError when the run has no network that can be loaded, NotWritten when a file cannot be written.
    """
    trained = models.load_model(directory, trust=trust)
    example = models.example_input(trained)
    on_stage("folding")
    plain, outcome = _fold(directory, trained, example)
    outcomes = [outcome]
    if plain is not None:
        on_stage("exporting")
        exported = write_onnx(directory, plain, example, trained.description)
        on_stage("timing")
        # What cannot be exported is not timed in ONNX Runtime either.
        timed = _time(directory, trained.network, plain, example, onnx=exported.file is not None)
        outcomes += [exported, timed]
    if validation is not None:
        on_stage("looking at mistakes")
        outcomes.append(look(directory, plain or trained.network, trained.description, validation))
    on_stage("reporting")
    report = write([directory], directory / run_files.REPORT)
    return [*outcomes, Outcome("report", "curves, mistakes, certificate, timings", report)]


def _fold(directory: Path, trained: models.Model, example: torch.Tensor) -> tuple[nn.Module | None, Outcome]:
    try:
        plain, certificate = fold(trained.network, example)
    except RepFoldError as error:
        return None, Outcome("fold", f"not folded: {error}", None)
    path: Path | None = directory / run_files.PLAIN
    unwritten = ""
    try:
        models.save(plain, directory / run_files.PLAIN, description=replace(trained.description, form="folded"))
    except NotWritten:
        raise
    except RepFoldError as error:  # an operation that model files do not hold; ONNX or .pt2 may
        path, unwritten = None, f"; not written: {error}"
    atomic.write_json(directory / run_files.CERTIFICATE, certificate.to_dict(), indent=1)
    left = f", {len(certificate.left)} left as they are" if certificate.left else ""
    result = (
        f"{counted(len(certificate.regions), 'region')} folded{left}; proved, relative error {certificate.error:.1e}"
    )
    return plain, Outcome("fold", result + unwritten, path)


def write_onnx(directory: Path, plain: nn.Module, example: torch.Tensor, description: models.Description) -> Outcome:
    """Export into ``directory/model.onnx``; where that cannot be done, none of an earlier network is left there."""
    if not has_onnx():
        return Outcome("ONNX", "not exported: pip install 'repfold[onnx]' to have it", None)
    path = directory / run_files.ONNX
    try:
        error = export_onnx(plain, example, path, description=description).error
    except NotWritten:
        raise
    except RepFoldError as failure:
        path.unlink(missing_ok=True)
        return Outcome("ONNX", f"not exported: {failure}", None)
    agrees = f"ONNX Runtime agrees, relative error {error:.1e}" if error is not None else "not compared in this dtype"
    return Outcome("ONNX", agrees, path)


def look(
    directory: Path,
    network: nn.Module,
    description: models.Description,
    validation: Callable[[models.Preprocessing], Images],
) -> Outcome:
    """Write ``mistakes.json`` of a run; where that cannot be done, none of an earlier network is left there."""
    try:
        if description.preprocessing is None:
            raise RepFoldError("the network does not say how images are to be preprocessed")
        wrong, of = write_mistakes(directory, network, description, validation(description.preprocessing))
    except NotWritten:
        raise
    except RepFoldError as error:  # the data may be gone by now
        (directory / run_files.MISTAKES).unlink(missing_ok=True)
        return Outcome("mistakes", f"not looked at: {error}", None)
    return Outcome(
        "mistakes", f"{wrong:,} of {counted(of, 'image')}, the worst in the report", directory / run_files.MISTAKES
    )


def _time(directory: Path, network: nn.Module, plain: nn.Module, example: torch.Tensor, *, onnx: bool) -> Outcome:
    began = time.perf_counter()
    network(example.expand(32, *example.shape[1:]))
    slow = time.perf_counter() - began > _SLOW_SECONDS
    timings = compare_forms(
        network,
        plain,
        example,
        batches=(1,) if slow else (1, 32),
        rounds=10,
        onnx=onnx,
        native=why_not_native(plain, example) is None,
    )
    path = directory / run_files.TIMINGS
    atomic.write_json(path, timings.to_dict(), indent=1)
    return Outcome("timings", _in_words(timings), path)


def _in_words(timings: Timings) -> str:
    """The times of one image: "train form 4.8, folded 1.6, ONNX Runtime 0.12 ms"."""
    rows = timings.of_batch(timings.batches()[0])
    names = (row.form.removesuffix(", PyTorch").removeprefix("folded, ") for row in rows)
    times = ", ".join(f"{name} {row.median_ms:.2f}" for name, row in zip(names, rows, strict=True))
    return f"{times} ms (median of {rows[0].n})"
