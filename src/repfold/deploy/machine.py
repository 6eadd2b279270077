"""The machine that a measurement was made on."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

import torch

from repfold import allowance, processor


def describe_machine() -> dict[str, Any]:
    """Processor, cores, threads, instruction set, versions, and the GPU if there is one; JSON-able."""
    return {
        "processor": processor.name() or "unknown",
        "cores": allowance.cores(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnxruntime": _version("onnxruntime"),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
