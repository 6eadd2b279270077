"""The loader: what it refuses, and that a broken file is an error and never a crash."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_models import Graph, images, plain_network, relative_error

from repfold import engine


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change the safetensors header and RepFold's description in it."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    description = json.loads(header["__metadata__"]["repfold"])
    change(header, description)
    if "__metadata__" in header:
        header["__metadata__"]["repfold"] = json.dumps(description)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    plain_network(tmp_path / "m.safetensors", images(1, 3, 16, 16), (8, 16))
    return tmp_path / "m.safetensors"


def first_layer(description: dict[str, Any]) -> dict[str, Any]:
    return description["graph"]["modules"]["layers.0"]


CHANGES: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], None], str]] = {
    "no description": (lambda h, d: h.pop("__metadata__"), "without RepFold's description"),
    "another format": (lambda h, d: d.update(format="onnx"), "not a RepFold model file"),
    "newer version": (lambda h, d: d.update(version=2), "newer format version"),
    "training form": (lambda h, d: d.update(graph=None), "fold it first"),
    "no such tensor": (lambda h, d: h.pop("layers.0.weight"), "layers.0.weight"),
    "wrong shape": (lambda h, d: first_layer(d)["arguments"].update(out_channels=9), "layers.0.weight"),
    "huge shape": (lambda h, d: h["layers.0.weight"].update(shape=[2**31, 2**31, 2**31, 3]), "more bytes than"),
    "offsets beyond": (lambda h, d: h["layers.0.weight"].update(data_offsets=[0, 10**9]), "data_offsets"),
    "offsets reversed": (lambda h, d: h["layers.0.weight"].update(data_offsets=[864, 0]), "disagree"),
    "integer weights": (lambda h, d: h["layers.0.weight"].update(dtype="I32"), "must be floating point"),
    "unknown layer": (lambda h, d: first_layer(d).update({"class": "LSTM"}), "'layers.0' is a 'LSTM'"),
    "reflect padding": (
        lambda h, d: first_layer(d)["arguments"].update(padding_mode="reflect"),
        "padding mode 'reflect'",
    ),
    "no groups": (lambda h, d: first_layer(d)["arguments"].update(groups=0), "'groups' of layer 'layers.0'"),
    "zero stride": (lambda h, d: first_layer(d)["arguments"].update(stride=0), "'stride' of layer 'layers.0'"),
    "unknown node": (lambda h, d: d["graph"]["nodes"][1]["args"].__setitem__(0, {"node": "y"}), "'y' before"),
    "two outputs of one name": (lambda h, d: d["graph"]["nodes"][2].update(name="n1"), "'n1'"),
    "no layers": (lambda h, d: d["graph"].update(nodes=[]), "no output"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_refuses_at_load_and_says_why(name: str, model: Path) -> None:
    change, message = CHANGES[name]
    rewrite(model, change)
    with pytest.raises(engine.EngineError, match=message):
        engine.load(model, threads=1).plan(1, 3, 16, 16)


SLICE = {"slice": [None, None, None]}
FUNCTIONS: dict[str, tuple[str, list[Any]]] = {
    "concatenation": ("torch.cat", []),
    "sine": ("torch.sin", []),
    "matrix product": ("operator.matmul", []),
    "one image": ("operator.getitem", [0]),
    "half the channels": ("operator.getitem", [{"tuple": [SLICE, {"slice": [None, None, 2]}]}]),
    "a crop": ("operator.getitem", [{"tuple": [SLICE, SLICE, {"slice": [1, None, None]}]}]),
    "reflection": ("torch.nn.functional.pad", [{"tuple": [1, 1]}, "reflect"]),
    "a padding that crops": ("torch.nn.functional.pad", [{"tuple": [0, -1]}]),
    "a padding of ones": ("torch.nn.functional.pad", [{"tuple": [1, 1]}, "constant", 1.0]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_refuses_functions_and_names_the_node(name: str, tmp_path: Path) -> None:
    graph = Graph(images(1, 3, 4, 4))
    target, arguments = FUNCTIONS[name]
    at = graph.call("call_function", target, [{"node": graph.conv("x", 8)}, *arguments], np.zeros((1, 1)))
    graph.save(tmp_path / "m.safetensors", at)
    with pytest.raises(engine.EngineError, match=r"'n2'.*cannot run"):
        engine.load(tmp_path / "m.safetensors")


def test_wrong_arguments_teach(model: Path, tmp_path: Path) -> None:
    for arguments, message in [
        ({"precision": "fp8"}, "fp32, bf16"),
        ({"kernels": "sse"}, "scalar"),
        ({"convolution": "9x9"}, "4x4"),
        ({"threads": 0}, "threads"),
    ]:
        with pytest.raises(engine.EngineError, match=message):
            engine.load(model, **arguments)
    loaded = engine.load(model, threads=1)
    for shape, message in [((1, 4, 16, 16), "3 channels"), ((0, 3, 16, 16), "at least 1"), ((3, 16, 16), "shape")]:
        with pytest.raises(engine.EngineError, match=message):
            loaded(np.zeros(shape, np.float32))
    loaded.close()
    with pytest.raises(engine.EngineError, match="closed"):
        loaded(images(1, 3, 16, 16))
    with pytest.raises(engine.EngineError, match="No such file"):
        engine.load(tmp_path / "missing.safetensors")
    with pytest.raises(engine.EngineError, match="regular file"):
        engine.load(tmp_path)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F64"])
def test_reads_other_float_types(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    graph = Graph(images(1, 2, 6, 6))
    expected = graph.save(path, graph.conv("x", 4, bias=False))
    values = graph.tensors["layers.0.weight"]
    stored = {
        "F16": values.astype(np.float16).tobytes(),
        "BF16": (values.view(np.uint32) >> 16).astype(np.uint16).tobytes(),
        "F64": values.astype(np.float64).tobytes(),
    }[dtype]
    rewrite(path, lambda h, d: h["layers.0.weight"].update(dtype=dtype, data_offsets=[0, len(stored)]))
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    path.write_bytes(content[: 8 + length] + stored)
    error = relative_error(engine.load(path, threads=1)(graph.x), expected)
    assert error < {"F16": 2e-3, "BF16": 2e-2, "F64": 1e-6}[dtype]


def test_mutated_files_never_crash(model: Path) -> None:
    """A short run of what native/fuzz_loader.cpp does at length: bytes changed, cut and doubled."""
    content, random = model.read_bytes(), np.random.default_rng(0)
    header = 8 + struct.unpack("<Q", content[:8])[0]
    opened = 0
    for _ in range(300):
        mutated = bytearray(content)
        for _ in range(random.integers(1, 8)):
            mutated[random.integers(0, header)] = random.integers(0, 256)
        if random.random() < 0.2:
            del mutated[random.integers(0, len(mutated)) :]
        model.write_bytes(mutated)
        try:
            engine.load(model, threads=1).plan(1, 3, 16, 16)
            opened += 1
        except engine.EngineError as error:
            assert str(error)
    assert opened < 300
