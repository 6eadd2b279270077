"""What serves a model best on this machine: engines and precisions, accuracy beside time, and the choice."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from repfold import models, run_files
from repfold.counted import counted
from repfold.data import Loader
from repfold.data.transforms import to_input
from repfold.deploy.accuracy import Accuracy, accuracies
from repfold.deploy.bench import time_forms
from repfold.deploy.candidates import Candidate, prepare
from repfold.deploy.compare import check_sizes
from repfold.deploy.export import export_onnx, has_onnx
from repfold.deploy.runtimes import RUNTIMES, Material, Precision, runtime_named
from repfold.errors import RepFoldError
from repfold.report.timings import Timing

REFERENCE = "folded, PyTorch, fp32"
_MOST_DROP = 100.0


@dataclass(frozen=True)
class Measured:
    """An engine in a precision: its accuracy, its time, and why it is ``refused``, if it is."""

    engine: str
    precision: Precision
    accuracy: Accuracy
    timing: Timing
    refused: str | None = None


@dataclass(frozen=True)
class Choice:
    """What was measured, and which row won.

    ``reference`` is the folded network's own accuracy; ``overlapping`` names the rows whose times, from the 10th to the
    90th percentile, overlap with the winner's: here they cannot be told apart.
    """

    winner: Measured
    overlapping: tuple[str, ...]
    rows: tuple[Measured, ...]
    without: Mapping[str, str]
    reference: Accuracy
    batch: int
    threads: int
    max_drop: float
    machine: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


def choose(
    plain: models.Model,
    loader: Loader,
    folder: Path,
    *,
    int8_onnx: Path | None = None,
    engines: Sequence[str] = tuple(RUNTIMES),
    batch: int = 1,
    threads: int | None = None,
    rounds: int = 20,
    max_drop: float = 0.5,
    on_stage: Callable[[str], None] = lambda name: None,
) -> tuple[Choice, Candidate]:
    """Make every engine's files of a folded network in ``folder``, and measure them; return the choice and its files.

    Args:
        loader: the images that the accuracy is measured on, each once.
        int8_onnx: the quantized network, if there is one.
        max_drop: most points of top-1 that an engine may lose against the folded network.
        on_stage: gets in words what is being done.

    Raises: RepFoldError for sizes and engines that make no sense, and when no engine runs the network well enough.
    """
    check_sizes((batch,), threads)
    for engine in engines:
        runtime_named(engine)
    if not 0 <= max_drop <= _MOST_DROP:
        raise RepFoldError(f"--max-drop {max_drop}: give the points of top-1 that may be lost, from 0 to 100.")
    seen = plain.description.preprocessing
    if seen is None:
        raise RepFoldError(
            "The model does not say how images are to be preprocessed, so nothing can be shipped that goes from a "
            "picture to a class. Train it with `repfold train`, or save it with a description. (`repfold bench` times "
            "engines, and `repfold export` writes files, without it.)"
        )
    threads = threads or torch.get_num_threads()
    x_NCHW = _example(loader, seen)
    candidates, without = _candidates(plain, x_NCHW, folder, int8_onnx, engines, threads, on_stage)
    if not candidates:
        raise RepFoldError(f"No engine runs this network: {'; '.join(f'{k}: {v}' for k, v in without.items())}.")
    on_stage("measuring the accuracy")
    calls = {REFERENCE: _reference(plain), **{candidate.title: candidate.call for candidate in candidates}}
    done = lambda images: on_stage(f"measuring the accuracy: {counted(images, 'image')}")  # noqa: E731
    accurate = accuracies(calls, loader, seen, on_batch=done)
    on_stage("timing")
    timed_NCHW = np.ascontiguousarray(np.resize(x_NCHW.numpy(), (batch, *x_NCHW.shape[1:])))
    forms = {c.title: (lambda call=c.call: call(timed_NCHW)) for c in candidates}
    timings = time_forms(forms, batch=batch, rounds=rounds, threads=threads)
    reference = accurate[REFERENCE]
    rows = [
        Measured(c.engine, c.precision, accurate[c.title], row, _refusal(accurate[c.title], reference, max_drop))
        for c, row in zip(candidates, timings.rows, strict=True)
    ]
    winner = _winner(rows, max_drop)
    overlapping = tuple(r.timing.form for r in rows if r is not winner and r.refused is None and _overlap(r, winner))
    by_time = tuple(sorted(rows, key=lambda row: row.timing.median_ms))
    choice = Choice(winner, overlapping, by_time, without, reference, batch, threads, max_drop, timings.machine)
    return choice, candidates[rows.index(winner)]


def _example(loader: Loader, seen: models.Preprocessing) -> torch.Tensor:
    """The first images, as the network sees them: up to two, so that no file takes the batch for a constant."""
    for x_uint8, _ in loader.epoch(0):
        return to_input(x_uint8[:2], seen.mean, seen.std, channels_last=False).contiguous()
    raise RepFoldError("There are no images to measure the accuracy on.")


def _candidates(
    plain: models.Model,
    x_NCHW: torch.Tensor,
    folder: Path,
    int8_onnx: Path | None,
    engines: Sequence[str],
    threads: int,
    on_stage: Callable[[str], None],
) -> tuple[list[Candidate], dict[str, str]]:
    onnx: Path | None = None
    unwritten: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as directory:
        if has_onnx():
            on_stage("exporting")
            try:
                description = plain.description
                onnx = export_onnx(
                    plain.network, x_NCHW, Path(directory) / run_files.ONNX, description=description
                ).path
            except RepFoldError as error:
                unwritten = {"ONNX": str(error)}
        material = Material(plain, x_NCHW, onnx, int8_onnx)
        candidates, without = prepare(material, folder, threads=threads, engines=engines, on_stage=on_stage)
    return candidates, unwritten | without


def _reference(plain: models.Model) -> Callable[[np.ndarray], np.ndarray]:
    def call(x_NCHW: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits: np.ndarray = plain.network(torch.from_numpy(x_NCHW)).float().numpy()
        return logits

    return call


def _refusal(accuracy: Accuracy, reference: Accuracy, max_drop: float) -> str | None:
    drop = reference.top1 - accuracy.top1
    return f"loses {drop:.2f} points of top-1" if drop > max_drop + 1e-9 else None


def _winner(rows: Sequence[Measured], max_drop: float) -> Measured:
    kept = [row for row in rows if row.refused is None]
    if not kept:
        raise RepFoldError(f"Every engine loses more than {max_drop} points of top-1. Allow more: --max-drop.")
    return min(kept, key=lambda row: row.timing.median_ms)


def _overlap(row: Measured, winner: Measured) -> bool:
    return row.timing.low_ms <= winner.timing.high_ms
