"""What runs a network's file: how the file is made, how it is opened, and what computes in which precision."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from repfold.models import Model

Call = Callable[[np.ndarray], np.ndarray]  # float32 images [N, C, H, W] -> float32 logits [N, K]
Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")


@dataclass(frozen=True)
class Material:
    """What files are made of: the folded network, an input, its ONNX file, and the quantized one if there is one."""

    plain: Model
    x_NCHW: Tensor
    onnx: Path | None
    int8_onnx: Path | None = None

    def onnx_of(self, precision: Precision) -> Path | None:
        """The ONNX file to compute from in ``precision``."""
        return self.int8_onnx if precision == "int8" else self.onnx


@dataclass(frozen=True)
class Runtime:
    """One way to run a network.

    Attributes:
        title: its name, as its makers write it.
        packages: what pip installs to run it, beside numpy.
        modules: what has to be importable to make and run its files.
        install: the extra of RepFold, or the package, that brings ``modules``.
        suffix: of its file; ``others``: of the files that belong to it, of the same stem.
        precisions: what it can compute in, on a machine that can.
        write: makes the file.
        load: opens the file with so many threads in a precision. A function without surroundings: a folder that is
            shipped holds its source, so that what was measured and what is served are one text.
        reads: endings of other files that it opens.
        largest_batch: images that a call takes; None for any number.
    """

    title: str
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    install: str
    suffix: str
    precisions: tuple[Precision, ...]
    write: Callable[[Material, Precision, Path], None]
    load: Callable[[str, int, str], Call]
    others: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    largest_batch: int | None = None

    def missing(self) -> str | None:
        """Return why this runtime cannot be used here; None where it is installed."""
        lacking = [name for name in self.modules if importlib.util.find_spec(name) is None]
        return f"'{lacking[0]}' is not installed: pip install '{self.install}'" if lacking else None

    def open(self, path: Path, *, threads: int, precision: str = "fp32") -> Call:
        """Open a file; calls of more images than it takes are divided."""
        call = self.load(str(path), threads, precision)
        most = self.largest_batch
        if most is None:
            return call
        return lambda x_NCHW: np.concatenate([call(x_NCHW[at : at + most]) for at in range(0, len(x_NCHW), most)])
