"""ONNX Runtime runs an ONNX file, also a quantized one, on the CPU."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from repfold import atomic
from repfold.deploy.runtimes.runtime import Material, Precision, Runtime
from repfold.errors import RepFoldError


def _write(material: Material, precision: Precision, path: Path) -> None:
    with atomic.replacing(path) as temporary:
        shutil.copyfile(onnx_file(material, precision), temporary)


def onnx_file(material: Material, precision: Precision) -> Path:
    """The ONNX file to compute from. Raises: RepFoldError where there is none."""
    file = material.onnx_of(precision)
    if file is None:
        raise RepFoldError("the network could not be exported to ONNX")
    return file


def load(path: str, threads: int, precision: str) -> Callable[[np.ndarray], np.ndarray]:
    """Open an ONNX file; the precision is the file's own."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x_NCHW: session.run(None, {name: x_NCHW})[0]


ONNX_RUNTIME = Runtime(
    "ONNX Runtime",
    ("onnxruntime",),
    ("onnxruntime", "onnx", "onnxscript"),
    "repfold[onnx]",
    ".onnx",
    ("fp32", "int8"),
    _write,
    load,
)
