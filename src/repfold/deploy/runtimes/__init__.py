"""The runtimes that a network can be deployed with, one a file; and any of their files opened as one call."""

from __future__ import annotations

import os
from pathlib import Path

from repfold import regular
from repfold.deploy.export import quiet
from repfold.deploy.runtimes.native import NATIVE
from repfold.deploy.runtimes.ncnn import NCNN
from repfold.deploy.runtimes.onnx_runtime import ONNX_RUNTIME
from repfold.deploy.runtimes.openvino import OPENVINO
from repfold.deploy.runtimes.pytorch import COMPILED, EAGER
from repfold.deploy.runtimes.runtime import PRECISIONS, Call, Material, Precision, Runtime
from repfold.errors import RepFoldError, first_line, nearest

__all__ = [
    "PRECISIONS",
    "RUNTIMES",
    "Call",
    "Material",
    "Precision",
    "Runtime",
    "engine_of",
    "open_artefact",
    "runtime_named",
    "runtime_of",
]

RUNTIMES: dict[str, Runtime] = {
    "repfold": NATIVE,
    "onnxruntime": ONNX_RUNTIME,
    "openvino": OPENVINO,
    "ncnn": NCNN,
    "torch": EAGER,
    "torch.compile": COMPILED,
}

_BY_SUFFIX = {".safetensors": "repfold", ".onnx": "onnxruntime", ".xml": "openvino", ".param": "ncnn", ".pt2": "torch"}
ARTEFACTS = tuple(_BY_SUFFIX)


def runtime_named(name: str) -> Runtime:
    """Return a runtime. Raises: RepFoldError for an unknown one."""
    if name not in RUNTIMES:
        raise RepFoldError(f"Unknown engine '{name}'. {nearest(name, RUNTIMES)}")
    return RUNTIMES[name]


def runtime_of(path: str | os.PathLike[str]) -> Runtime:
    """Return the runtime that reads files named so. Raises: RepFoldError when none does."""
    return RUNTIMES[engine_of(path)]


def engine_of(path: str | os.PathLike[str]) -> str:
    """Return the name of the runtime that reads files named so. Raises: RepFoldError when none does."""
    suffix = Path(path).suffix
    if suffix not in _BY_SUFFIX:
        raise RepFoldError(f"No engine reads {path}: its name has to end in {', '.join(ARTEFACTS)}.")
    return _BY_SUFFIX[suffix]


def open_artefact(
    path: str | os.PathLike[str], *, runtime: Runtime | None = None, threads: int = 1, precision: str = "fp32"
) -> Call:
    """Open a network's file, written for any runtime, as one call: float32 images [N, C, H, W] to logits [N, K].

    Args:
        runtime: what runs it; by default the one that its name's ending means.
        precision: "fp32" or "bf16"; a quantized file computes in its own.

    Raises: RepFoldError when the runtime is not installed, or cannot run the file.
    """
    path, runtime = Path(path), runtime or runtime_of(path)
    if (missing := runtime.missing()) is not None:
        raise RepFoldError(f"{path} needs {runtime.title}, and {missing}.")
    try:
        regular.opened(path).close()
        with quiet():
            return runtime.open(path, threads=threads, precision=precision)
    except Exception as error:  # each runtime has exceptions of its own
        known = path.suffix in (runtime.suffix, *runtime.reads)
        takes = "" if known else f". It takes files that end in {runtime.suffix}"
        raise RepFoldError(f"{runtime.title} cannot open {path}: {first_line(error).rstrip('.')}{takes}.") from error
