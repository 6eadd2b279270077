"""PyTorch runs a .pt2 program, without the code that built the network; as it is, or compiled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from repfold.deploy.export import export_pt2
from repfold.deploy.runtimes.runtime import Material, Precision, Runtime


def _write(material: Material, precision: Precision, path: Path) -> None:
    export_pt2(material.plain.network, material.x_NCHW, path, description=material.plain.description)


def load_eager(path: str, threads: int, precision: str) -> Callable[[np.ndarray], np.ndarray]:
    """Open a .pt2 program."""
    import torch

    torch.set_num_threads(threads)
    network = torch.export.load(path).module()

    def call(x_NCHW: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits: np.ndarray = network(torch.from_numpy(x_NCHW)).float().numpy()
        return logits

    return call


def load_compiled(path: str, threads: int, precision: str) -> Callable[[np.ndarray], np.ndarray]:
    """Open a .pt2 program and compile it, which takes seconds at the first call and a C++ compiler."""
    import torch

    torch.set_num_threads(threads)
    network = torch.compile(torch.export.load(path).module())

    def call(x_NCHW: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits: np.ndarray = network(torch.from_numpy(x_NCHW)).float().numpy()
        return logits

    return call


EAGER = Runtime("PyTorch", ("torch",), ("torch",), "torch", ".pt2", ("fp32", "bf16"), _write, load_eager)
COMPILED = Runtime("torch.compile", ("torch",), ("torch",), "torch", ".pt2", ("fp32", "bf16"), _write, load_compiled)
