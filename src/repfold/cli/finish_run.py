"""From a trained run to what is deployed: fold, prove, export, time, report; each file into the run directory."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from repfold import atomic
from repfold.errors import NotWritten, RepFoldError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from repfold.deploy import Timings
    from repfold.models import Description, Model
    from repfold.train import Recipe

# A forward pass that takes longer than this is timed for one image only.
_SLOW_SECONDS = 0.5


@dataclass(frozen=True)
class Stage:
    """What was done, with what result, into which file; ``file`` is None when it could not be done."""

    name: str
    result: str
    file: Path | None


def finish_run(directory: Path, recipe: Recipe, say: Callable[[str], None]) -> list[Stage]:
    """Fold the best network of a run of ``recipe`` and derive what follows from it; return what was done.

    A stage that this network or machine does not allow is told in its result, and the others go on. ``say`` gets the
    name of each stage as it begins.
    """
    from repfold import models
    from repfold.cli.model_source import make_example

    # The code of this recipe has just run; a file that names any other, in a directory from elsewhere, is not believed.
    trained = models.load_model(directory, trust=_is_of(models.read_description(directory), recipe))
    example = make_example(None, trained)
    stages: list[Stage] = []
    say("folding")
    plain, stage = _fold(directory, trained, example)
    stages.append(stage)
    if plain is not None:
        say("exporting")
        stages.append(write_onnx(directory, plain, example))
        say("timing")
        stages.append(_time(directory, trained.network, plain, example))
    say("reporting")
    stages.append(_report(directory))
    return stages


def _is_of(description: Description, recipe: Recipe) -> bool:
    """Whether a file's network is to be built by the code that the recipe names, called as the recipe says."""
    from repfold.train.settings import resolve

    told = description.architecture
    options = json.loads(json.dumps(resolve(recipe).model.plain_options))
    return told is not None and (told.name, told.preset, told.options) == (recipe.model, recipe.preset, options)


def _fold(directory: Path, trained: Model, example: torch.Tensor) -> tuple[nn.Module | None, Stage]:
    from repfold import models
    from repfold.fold import fold

    try:
        plain, certificate = fold(trained.network, example)
    except RepFoldError as error:
        return None, Stage("fold", f"not folded: {error}", None)
    path: Path | None = directory / "plain.safetensors"
    unwritten = ""
    try:
        models.save(plain, directory / "plain.safetensors", description=replace(trained.description, form="folded"))
    except NotWritten:
        raise
    except RepFoldError as error:  # an operation that model files do not hold; ONNX or .pt2 may
        path, unwritten = None, f"; not written: {error}"
    atomic.write_text(directory / "certificate.json", json.dumps(certificate.to_dict(), indent=1) + "\n")
    left = f", {len(certificate.left)} left as they are" if certificate.left else ""
    result = f"{len(certificate.regions)} regions folded{left}; proved, relative error {certificate.error:.1e}"
    result += unwritten
    return plain, Stage("fold", result, path)


def write_onnx(directory: Path, plain: nn.Module, example: torch.Tensor) -> Stage:
    """Export into ``directory/model.onnx``; where that cannot be done, none of an earlier network is left there."""
    from repfold import deploy

    if not has_onnx():
        return Stage("ONNX", "not exported: pip install 'repfold[onnx]' to have it", None)
    path = directory / "model.onnx"
    try:
        error = deploy.export_onnx(plain, example, path).error
    except NotWritten:
        raise
    except RepFoldError as failure:
        path.unlink(missing_ok=True)
        return Stage("ONNX", f"not exported: {failure}", None)
    agrees = f"ONNX Runtime agrees, relative error {error:.1e}" if error is not None else "not compared in this dtype"
    return Stage("ONNX", agrees, path)


def _time(directory: Path, network: nn.Module, plain: nn.Module, example: torch.Tensor) -> Stage:
    from repfold.deploy import compare_forms, why_not_native

    began = time.perf_counter()
    network(example.expand(32, *example.shape[1:]))
    slow = time.perf_counter() - began > _SLOW_SECONDS
    timings = compare_forms(
        network,
        plain,
        example,
        batches=(1,) if slow else (1, 32),
        rounds=10,
        onnx=has_onnx(),
        native=why_not_native(plain, example) is None,
    )
    path = directory / "timings.json"
    atomic.write_text(path, json.dumps(timings.to_dict(), indent=1) + "\n")
    return Stage("timings", _in_words(timings), path)


def _in_words(timings: Timings) -> str:
    batch = min(row.batch for row in timings.rows)
    rows = [row for row in timings.rows if row.batch == batch]
    return "; ".join(f"{row.form} {row.median_ms:.2f} ms" for row in rows) + f" ({batch} image, median of {rows[0].n})"


def _report(directory: Path) -> Stage:
    from repfold.report import write

    path = write([directory], directory / "report.html")
    return Stage("report", "curves, mistakes, certificate, timings", path)


def has_onnx() -> bool:
    """Whether the onnx extra is installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("onnx", "onnxscript", "onnxruntime"))
