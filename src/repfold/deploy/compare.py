"""What folding gains: the forms of one network, side by side on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from repfold import engine, models, run_files
from repfold.deploy.bench import time_forms
from repfold.deploy.memory import Load, peak_bytes
from repfold.deploy.subjects import NetworkForms, Subject
from repfold.errors import RepFoldError
from repfold.fold.compare import distance
from repfold.limits import MOST_IMAGES
from repfold.report.timings import Timing, Timings
from repfold.threads import check_threads

# More than this, relative to the largest output, is another function and not another rounding.
NATIVE_TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}


def check_sizes(batches: Sequence[int], threads: int | None) -> None:
    """Raise RepFoldError for batches or a number of threads that nobody times."""
    if not batches or min(batches) < 1 or max(batches) > MOST_IMAGES:
        raise RepFoldError(f"--batch {' '.join(map(str, batches))}: give sizes from 1 to {MOST_IMAGES:,}.")
    if threads is not None:
        check_threads(threads)


def compare_forms(
    network: nn.Module | None,
    plain: nn.Module,
    example_NCHW: torch.Tensor,
    *,
    batches: Sequence[int] = (1, 32),
    rounds: int = 20,
    threads: int | None = None,
    onnx: bool = True,
    compiled: bool = False,
    native: bool = False,
    precision: str = "fp32",
) -> Timings:
    """Time the train form (if there is one), the folded network, and this in ONNX Runtime, compiled, in our engine.

    Args:
        example_NCHW: an input; its image size and dtype are timed, with each of ``batches`` images.
        threads: of every runtime; None leaves PyTorch's and gives the others as many.
        precision: of RepFold's engine, "fp32" or "bf16"; the other forms compute in float32.

    Raises: RepFoldError when the onnx extra or the engine is missing, or one of them cannot run the network.
    """
    with tempfile.TemporaryDirectory() as directory:
        subject = NetworkForms(
            network,
            models.Model(plain, models.Description(form="folded")),
            example_NCHW,
            Path(directory),
            onnx=onnx,
            compiled=compiled,
            engines=("repfold",) if native else (),
            precision=precision,
        )
        counts = () if threads is None else (threads,)
        return time_subjects({"": subject}, batches=batches, threads=counts, rounds=rounds)


def time_subjects(
    subjects: Mapping[str, Subject],
    *,
    batches: Sequence[int] = (1, 32),
    threads: Sequence[int] = (),
    rounds: int = 20,
    memory: bool = False,
) -> Timings:
    """Time all forms of all subjects: those of one batch size and number of threads take turns.

    Args:
        subjects: by what precedes the names of their forms.
        threads: numbers of threads of every runtime; none leaves PyTorch's and gives the others as many.
        memory: measure the peak memory of each form too, in a process of its own.

    Raises: RepFoldError when something is missing, or cannot run a network.
    """
    check_sizes(batches, None)
    for count in threads:
        check_sizes(batches, count)
    rows: list[Timing] = []
    machine: Mapping[str, Any] = {}
    for count in threads or (torch.get_num_threads(),):
        for batch in batches:
            forms: dict[str, Callable[[], Any]] = {}
            loads: dict[str, Load] = {}
            for name, subject in subjects.items():
                prefix = f"{name}: " if name else ""
                forms |= {prefix + form: run for form, run in subject.forms(batch, count).items()}
                if memory:
                    loads |= {prefix + form: load for form, load in subject.loads(batch, count).items()}
            timed = time_forms(forms, batch=batch, rounds=rounds, threads=count)
            machine = machine or timed.machine
            peaks = {form: peak_bytes(load) for form, load in loads.items()}
            rows += [replace(row, threads=count, peak_bytes=peaks.get(row.form)) for row in timed.rows]
    return Timings(machine, tuple(rows))


def why_not_native(plain: nn.Module, example_NCHW: torch.Tensor, precision: str = "fp32") -> str | None:
    """None where RepFold's engine runs the folded network on this machine and agrees with PyTorch, else the reason."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            models.save(plain, Path(directory) / run_files.PLAIN)
            loaded = engine.load(Path(directory) / run_files.PLAIN, threads=1, precision=precision)
            computed = torch.from_numpy(loaded(example_NCHW.detach().cpu().float().numpy())).flatten(1)
        except (engine.EngineError, RepFoldError) as refusal:
            return str(refusal)
    with torch.inference_mode():
        expected = plain(example_NCHW).cpu().float().flatten(1)
    error, _ = distance(computed, expected)
    if error > NATIVE_TOLERANCE[precision]:
        return f"it differs from PyTorch by {error:.1e} (relative)."
    return None
