"""Whether the certificate and the folded file of a run are what its best network folds to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from repfold import models, run_files
from repfold.counted import counted
from repfold.errors import RepFoldError
from repfold.fold import Certificate, fold
from repfold.fold.certificate import TOLERANCE
from repfold.fold.compare import distance

# What depends on the machine, in its last digits.
_MEASURED = frozenset({"error", "error_float64", "absolute_error"})
Told = tuple[str, Any, str]


def check_fold(directory: Path, factory: str | None, trust: bool) -> Iterator[Told]:
    """Fold the best network again; yield (file, result, detail) for the certificate and the folded file."""
    present = [name for name in (run_files.CERTIFICATE, run_files.PLAIN) if (directory / name).exists()]
    for name in (run_files.CERTIFICATE, run_files.PLAIN):
        if name not in present:
            yield name, "skipped", "there is none: the run was not folded"
    if not present:
        return
    try:
        trained = models.load_model(directory / run_files.BEST, factory=factory, trust=trust)
        x_NCHW = models.example_input(trained)  # that of ``repfold fold``
        plain, proof = fold(trained.network, x_NCHW)
    except RepFoldError as error:
        for name in present:
            yield name, "failed", f"{run_files.BEST} cannot be folded again: {error}"
        return
    if run_files.CERTIFICATE in present:
        yield run_files.CERTIFICATE, *_certificate(directory / run_files.CERTIFICATE, trained.network, x_NCHW, proof)
    if run_files.PLAIN in present:
        yield run_files.PLAIN, *_plain(directory / run_files.PLAIN, trained.network, plain, x_NCHW)


def _certificate(path: Path, network: nn.Module, x_NCHW: Tensor, proof: Certificate) -> tuple[str, str]:
    try:
        written = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        return "failed", f"cannot be read: {error}"
    if _unmeasured(written) != _unmeasured(json.loads(json.dumps(proof.to_dict()))):
        _, proof = fold(network, x_NCHW, policy="always")
        if _unmeasured(written) != _unmeasured(json.loads(json.dumps(proof.to_dict()))):
            return "failed", f"not what {run_files.BEST} folds to"
    said = written.get("error")
    if type(said) is not float or not said <= TOLERANCE[torch.float32]:
        return "failed", f"says an error of {said!r}"
    return (
        "passed",
        f"{counted(len(proof.regions), 'region')} folded again, relative error {proof.error:.1e} (written: {said:.1e})",
    )


def _plain(path: Path, network: nn.Module, refolded: nn.Module, x_NCHW: Tensor) -> tuple[str, str]:
    try:
        written = models.load_model(path).network
        with torch.no_grad():
            expected, again, found = (net(x_NCHW) for net in (network, refolded, written))
    except (RepFoldError, RuntimeError) as error:
        return "failed", f"cannot be run: {error}"
    if found.shape != expected.shape:
        return "failed", f"returns {list(found.shape)}, the trained network {list(expected.shape)}"
    relative, _ = distance(found, expected)
    if relative > TOLERANCE[torch.float32]:
        return "failed", f"differs from {run_files.BEST} by {relative:.1e} (relative)"
    same = (
        "at the same bits as the fold of now" if torch.equal(found, again) else "as the fold of now, but for rounding"
    )
    return "passed", f"computes what {run_files.BEST} does, relative error {relative:.1e}; {same}"


def _unmeasured(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unmeasured(entry) for key, entry in value.items() if key not in _MEASURED}
    return [_unmeasured(entry) for entry in value] if isinstance(value, list) else value
