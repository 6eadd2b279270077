"""The engines that RepFold's is compared with, each behind the same call; those not installed are left out.

pip install openvino MNN ncnn pnnx          # for the comparison only
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from repfold import engine, models

Run = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Folded:
    """One folded network in the forms that the engines load."""

    name: str
    safetensors: Path
    onnx: Path
    image_size: int


def repfold_engine(net: Folded, x_NCHW: np.ndarray, threads: int, precision: str) -> Run:
    loaded = engine.load(net.safetensors, threads=threads, precision=precision)
    return lambda: loaded(x_NCHW)


def openvino(net: Folded, x_NCHW: np.ndarray, threads: int, precision: str) -> Run:
    import openvino as ov

    options = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
    }
    core = ov.Core()
    model = core.read_model(net.onnx)
    model.reshape(list(x_NCHW.shape))
    request = core.compile_model(model, "CPU", options).create_infer_request()
    return lambda: np.array(request.infer({0: x_NCHW}, share_inputs=True)[0])


def onnxruntime(net: Folded, x_NCHW: np.ndarray, threads: int, precision: str) -> Run:
    import onnxruntime as ort

    if precision != "fp32":
        raise NotImplementedError("ONNX Runtime computes no bf16 on a CPU")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(net.onnx, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x_NCHW}
    return lambda: session.run(None, feed)[0]


def torch_compile(net: Folded, x_NCHW: np.ndarray, threads: int, precision: str) -> Run:
    torch.set_num_threads(threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    network = models.load(net.safetensors).eval().to(dtype=dtype, memory_format=torch.channels_last)
    torch._inductor.config.freezing = True  # folds the layout of the weights into the graph
    compiled = torch.compile(network, dynamic=False)
    x = torch.from_numpy(x_NCHW).to(dtype=dtype, memory_format=torch.channels_last)

    def run() -> np.ndarray:
        with torch.inference_mode():
            return compiled(x).float().numpy()

    return run


def mnn(net: Folded, x_NCHW: np.ndarray, threads: int, precision: str) -> Run:
    import MNN

    if precision != "fp32":
        raise NotImplementedError("on x86 MNN computes in float32, as its error shows")
    converted = net.onnx.with_suffix(".mnn")
    if not converted.exists():
        # Not its command mnnconvert, which installs packages of its own accord to report its use.
        convert = [sys.executable, "-c", "import sys, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"]
        command = [*convert, "-f", "ONNX", "--modelFile", net.onnx, "--MNNModel", converted, "--bizCode", "repfold"]
        subprocess.run(command, check=True, capture_output=True)
    config = {"backend": "CPU", "numThread": threads, "precision": "high"}
    runtime = MNN.nn.create_runtime_manager((config,))
    module = MNN.nn.load_module_from_file(str(converted), [], [], runtime_manager=runtime)
    x = MNN.expr.const(x_NCHW, list(x_NCHW.shape), MNN.expr.data_format.NCHW)
    x = MNN.expr.convert(x, MNN.expr.data_format.NC4HW4)
    return lambda: np.array(MNN.expr.convert(module.forward(x), MNN.expr.data_format.NCHW).read())


def ncnn(net: Folded, x_NCHW: np.ndarray, threads: int, precision: str) -> Run:
    import ncnn as library

    if precision != "fp32":
        raise NotImplementedError("ncnn stores bf16, but computes in float32")
    traced = net.onnx.with_name(f"{net.name.replace('-', '_')}.pt")  # pnnx writes its files under such a name
    parameters = traced.with_suffix(".ncnn.param")
    if not parameters.exists():
        example = torch.zeros(1, *x_NCHW.shape[1:])
        torch.jit.trace(models.load(net.safetensors).eval(), example).save(str(traced))
        shape = f"inputshape=[{','.join(map(str, example.shape))}]"
        subprocess.run(["pnnx", str(traced), shape, "fp16=0"], check=True, capture_output=True, cwd=traced.parent)
    loaded = library.Net()
    loaded.opt.num_threads = threads
    loaded.load_param(str(parameters))
    loaded.load_model(str(parameters.with_suffix(".bin")))

    def run() -> np.ndarray:
        results = []
        for image in x_NCHW:  # it knows no batches
            extractor = loaded.create_extractor()
            extractor.input("in0", library.Mat(image))
            results.append(np.array(extractor.extract("out0")[1]))
        return np.stack(results)

    return run


OURS = "RepFold"
ENGINES: dict[str, Callable[[Folded, np.ndarray, int, str], Run]] = {
    OURS: repfold_engine,
    "OpenVINO": openvino,
    "ONNX Runtime": onnxruntime,
    "torch.compile": torch_compile,
    "MNN": mnn,
    "ncnn": ncnn,
}


def build(net: Folded, x_NCHW: np.ndarray, threads: int, precision: str, names: list[str]) -> dict[str, Run]:
    """The engines that can run this here. Why the others cannot is printed once a configuration."""
    runs = {}
    for name in names:
        try:
            run = ENGINES[name](net, x_NCHW, threads, precision)
            run()
            runs[name] = run
        except NotImplementedError:
            continue
        except Exception as error:  # a peer's own failure must not end the comparison of the others
            print(f"  without {name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    return runs
