"""What folding gains: the forms of one network, side by side on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from repfold import engine, models, run_files
from repfold.deploy.bench import onnx_form, pytorch_form, time_forms
from repfold.deploy.export import export_onnx
from repfold.errors import RepFoldError
from repfold.fold.compare import distance
from repfold.limits import MOST_IMAGES
from repfold.report.timings import Timings
from repfold.threads import check_threads

TRAIN_FORM, FOLDED = "train form, PyTorch", "folded, PyTorch"
COMPILED, ONNX_RUNTIME = "folded, torch.compile", "folded, ONNX Runtime"
NATIVE = "folded, RepFold's engine"
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
    check_sizes(batches, threads)
    threads = threads or torch.get_num_threads()
    parts = []
    with tempfile.TemporaryDirectory() as directory:
        path = export_onnx(plain, example_NCHW, Path(directory) / run_files.ONNX).path if onnx else None
        for batch in batches:
            x_NCHW = torch.randn(batch, *example_NCHW.shape[1:], dtype=example_NCHW.dtype, device=example_NCHW.device)
            forms: dict[str, Callable[[], Any]] = {}
            if network is not None:
                forms[TRAIN_FORM] = pytorch_form(network, x_NCHW)
            forms[FOLDED] = pytorch_form(plain, x_NCHW)
            if compiled:
                forms[COMPILED] = pytorch_form(plain, x_NCHW, compiled=True)
            if path is not None:
                forms[ONNX_RUNTIME] = onnx_form(path, x_NCHW, threads=threads)
            if native:
                file = Path(directory) / run_files.PLAIN
                forms[NATIVE] = native_form(plain, x_NCHW, file, threads=threads, precision=precision)
            parts.append(time_forms(forms, batch=batch, rounds=rounds, threads=threads))
    return Timings(parts[0].machine, tuple(row for part in parts for row in part.rows))


def native_form(
    plain: nn.Module, x_NCHW: torch.Tensor, path: Path, *, threads: int, precision: str = "fp32"
) -> Callable[[], Any]:
    """A forward pass of a folded network in RepFold's engine, which reads it from ``path``."""
    models.save(plain, path)
    try:
        loaded = engine.load(path, threads=threads, precision=precision)
        images = x_NCHW.detach().cpu().float().numpy()
        loaded(images)
    except engine.EngineError as error:
        raise RepFoldError(str(error)) from error
    return lambda: loaded(images)


def why_not_native(plain: nn.Module, example_NCHW: torch.Tensor, precision: str = "fp32") -> str | None:
    """None where RepFold's engine runs the folded network on this machine and agrees with PyTorch, else the reason."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            path = Path(directory) / run_files.PLAIN
            found = native_form(plain, example_NCHW, path, threads=1, precision=precision)()
            computed = torch.from_numpy(found).flatten(1)
        except RepFoldError as refusal:
            return str(refusal)
    with torch.inference_mode():
        expected = plain(example_NCHW).cpu().float().flatten(1)
    error, _ = distance(computed, expected)
    if error > NATIVE_TOLERANCE[precision]:
        return f"it differs from PyTorch by {error:.1e} (relative)."
    return None
