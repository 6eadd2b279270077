"""ncnn runs its own files (.param and .bin), which pnnx makes of an ONNX file; one image a call, of one size."""

from __future__ import annotations

import importlib.util
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from repfold import atomic
from repfold.deploy.runtimes.onnx_runtime import onnx_file
from repfold.deploy.runtimes.runtime import Material, Precision, Runtime
from repfold.errors import RepFoldError

_LONGEST_SECONDS = 600


def _write(material: Material, precision: Precision, path: Path) -> None:
    shape = ",".join(map(str, (1, *material.x_NCHW.shape[1:])))
    source = onnx_file(material, precision)
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "m.onnx").write_bytes(source.read_bytes())
        command = [str(_converter()), "m.onnx", f"inputshape=[{shape}]", "fp16=0"]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=_LONGEST_SECONDS)
        made = Path(directory) / "m.ncnn.param"
        if done.returncode or not made.exists():
            raise RepFoldError(f"pnnx could not convert it: {(done.stderr or done.stdout).strip()[-200:]}")
        for suffix in (".bin", ".param"):
            with atomic.replacing(path.with_suffix(suffix)) as temporary:
                temporary.write_bytes(made.with_suffix(suffix).read_bytes())


def _converter() -> Path:
    """The program that the package pnnx brings; importing the package would import much besides."""
    found = importlib.util.find_spec("pnnx")
    assert found is not None and found.origin is not None
    return Path(found.origin).with_name("pnnx")


def load(path: str, threads: int, precision: str) -> Callable[[np.ndarray], np.ndarray]:
    """Open ncnn's .param and the .bin beside it."""
    import ncnn

    network = ncnn.Net()
    network.opt.num_threads = threads
    network.opt.use_fp16_packed = network.opt.use_fp16_storage = network.opt.use_fp16_arithmetic = False
    network.opt.use_bf16_storage = precision == "bf16"
    if network.load_param(path) or network.load_model(path.removesuffix(".param") + ".bin"):
        raise RuntimeError(f"ncnn cannot read {path}")

    def call(x_NCHW: np.ndarray) -> np.ndarray:
        extractor = network.create_extractor()
        extractor.input(network.input_names()[0], ncnn.Mat(x_NCHW[0]).clone())
        return np.array(extractor.extract(network.output_names()[0])[1])[None]

    return call


NCNN = Runtime(
    "ncnn",
    ("ncnn",),
    ("ncnn", "pnnx", "onnx", "onnxscript"),
    "repfold[ncnn]",
    ".param",
    ("fp32", "bf16"),
    _write,
    load,
    others=(".bin",),
    largest_batch=1,
)
