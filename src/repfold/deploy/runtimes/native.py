"""RepFold's own engine runs the folded model file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from repfold import models
from repfold.deploy.runtimes.runtime import Material, Precision, Runtime


def _write(material: Material, precision: Precision, path: Path) -> None:
    models.save(material.plain.network, path, description=material.plain.description)


def load(path: str, threads: int, precision: str) -> Callable[[np.ndarray], np.ndarray]:
    """Open a folded model file; this imports no PyTorch."""
    from repfold import engine

    return engine.load(path, threads=threads, precision=precision)


NATIVE = Runtime("RepFold", ("repfold",), ("repfold",), "repfold", ".safetensors", ("fp32", "bf16"), _write, load)
