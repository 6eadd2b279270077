"""A network in whatever file it was written, opened as a model: PyTorch's own files and those of every runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from repfold import models, run_files
from repfold.deploy.runtimes import Call, Runtime, open_artefact, runtime_named, runtime_of
from repfold.errors import RepFoldError
from repfold.models import Description, Model
from repfold.models.carried import KEYS, described

# What a run directory holds for a runtime, by the ending of its files.
_IN_A_RUN = {".safetensors": run_files.PLAIN, ".onnx": run_files.ONNX}
_QUANTIZED = frozenset({"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger"})


@dataclass(frozen=True)
class Opened:
    """A model, and what it computes with: "PyTorch, fp32" or "ONNX Runtime, int8"."""

    model: Model
    computes: str


class ArtefactNetwork(nn.Module):
    """The call of a runtime as a module: images [N, C, H, W] to logits [N, K], on the CPU in float32."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call = call

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Run the runtime."""
        logits_NK = self._call(np.ascontiguousarray(x_NCHW.detach().cpu().float().numpy()))
        return torch.from_numpy(np.array(logits_NK, dtype=np.float32))


class _Rounded(nn.Module):
    """A network of PyTorch in bfloat16 under autocast."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Run the network: [N, C, H, W] to [N, K] in float32."""
        with torch.autocast(x_NCHW.device.type, torch.bfloat16):
            logits_NK: Tensor = self.network(x_NCHW)
        return logits_NK.float()


def open_artefact_model(
    path: Path,
    load: Callable[[Path], Model],
    *,
    engine: str | None = None,
    precision: str = "fp32",
    threads: int | None = None,
) -> Opened:
    """Open a run directory, a model file, or a file of any runtime.

    Args:
        load: opens model files and run directories for PyTorch.
        engine: the runtime, by its name in ``RUNTIMES``; None: that of the file's name, and PyTorch for model files.
        precision: "fp32" or "bf16"; a quantized file computes in its own.
        threads: of the runtime; None: PyTorch's number.

    Raises: RepFoldError when the runtime cannot run the file, and for a run that holds no file for it.
    """
    is_ours = path.is_dir() or path.suffix == ".safetensors"
    if is_ours and engine in (None, "torch"):
        model = load(path)
        network = _Rounded(model.network) if precision == "bf16" else model.network
        return Opened(Model(network, model.description), f"PyTorch, {precision}")
    if not path.exists():
        raise RepFoldError(f"{path} does not exist. Give a run directory or the file of a model.")
    runtime = runtime_named(engine) if engine is not None else runtime_of(path)
    file = _file_of(path, runtime)
    call = open_artefact(file, runtime=runtime, threads=threads or torch.get_num_threads(), precision=precision)
    actual = "int8" if _is_quantized(file) else precision
    if actual == "bf16" and "bf16" not in runtime.precisions:
        raise RepFoldError(f"{runtime.title} computes in fp32 or in what its file says, not in bf16: leave that out.")
    return Opened(Model(ArtefactNetwork(call), description_of(file)), f"{runtime.title}, {actual}")


def description_of(file: Path) -> Description:
    """Return what an artefact says of its network; what it does not say is looked for in the run that it lies in."""
    read = _TEXTS.get(file.suffix, _no_texts)
    found = models.read_description(file) if file.suffix == ".safetensors" else described(read(file))
    if found.preprocessing is None and (file.parent / run_files.PLAIN).exists():
        return models.read_description(file.parent, form="plain")
    return found


def _file_of(path: Path, runtime: Runtime) -> Path:
    if not path.is_dir():
        return path
    name = _IN_A_RUN.get(runtime.suffix)
    if name is None or not (path / name).exists():
        wanted = name or f"file for it ({runtime.suffix})"
        raise RepFoldError(
            f"{path} holds no {wanted}, which {runtime.title} runs. Write one with repfold export or deploy, and give "
            "its path."
        )
    return path / name


def _no_texts(file: Path) -> Mapping[str, str]:
    return {}


def _onnx_texts(file: Path) -> Mapping[str, str]:
    import onnx

    return {entry.key: entry.value for entry in onnx.load(str(file), load_external_data=False).metadata_props}


def _pt2_texts(file: Path) -> Mapping[str, str]:
    texts: dict[str, str] = dict.fromkeys(KEYS, "")
    torch.export.load(file, extra_files=texts)
    return {key: text for key, text in texts.items() if text}


def _ir_texts(file: Path) -> Mapping[str, str]:
    import openvino

    model = openvino.Core().read_model(str(file))
    known = {key: key.split(".") for key in KEYS}
    return {key: str(model.get_rt_info(path).value) for key, path in known.items() if model.has_rt_info(path)}


_TEXTS: dict[str, Callable[[Path], Mapping[str, str]]] = {".onnx": _onnx_texts, ".pt2": _pt2_texts, ".xml": _ir_texts}


def _is_quantized(file: Path) -> bool:
    if file.suffix != ".onnx":
        return False
    import onnx

    graph = onnx.load(str(file), load_external_data=False).graph
    return any(node.op_type in _QUANTIZED for node in graph.node)
