"""OpenVINO runs its IR (.xml and .bin), which its own converter makes of an ONNX file, also of a quantized one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from repfold import atomic
from repfold.deploy.runtimes.onnx_runtime import onnx_file
from repfold.deploy.runtimes.runtime import Material, Precision, Runtime
from repfold.models import carried


def _write(material: Material, precision: Precision, path: Path) -> None:
    import openvino

    model = openvino.convert_model(str(onnx_file(material, precision)))
    for key, text in carried(material.plain.description).items():
        model.set_rt_info(text, key.split("."))
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory) / path.name
        openvino.save_model(model, str(made), compress_to_fp16=False)
        for suffix in (".bin", ".xml"):
            with atomic.replacing(path.with_suffix(suffix)) as temporary:
                temporary.write_bytes(made.with_suffix(suffix).read_bytes())


def load(path: str, threads: int, precision: str) -> Callable[[np.ndarray], np.ndarray]:
    """Open OpenVINO's IR, or ONNX. Raises: RuntimeError where the processor does not multiply bf16."""
    import openvino

    wanted = openvino.Type.bf16 if precision == "bf16" else openvino.Type.f32
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": wanted}
    network = openvino.Core().compile_model(path, "CPU", settings)
    if network.get_property("INFERENCE_PRECISION_HINT") != wanted:
        raise RuntimeError("OpenVINO does not compute in bf16 on this processor")
    return lambda x_NCHW: network(x_NCHW)[0]


OPENVINO = Runtime(
    "OpenVINO",
    ("openvino",),
    ("openvino", "onnx", "onnxscript"),
    "repfold[openvino]",
    ".xml",
    ("fp32", "bf16", "int8"),
    _write,
    load,
    others=(".bin",),
    reads=(".onnx",),
)
