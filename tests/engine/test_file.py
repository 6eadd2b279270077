"""The loader: what it refuses, and that a broken file is an error and never a crash."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.engine_models import Graph, images, plain_network, relative_error

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
    return next(value for value in description["graph"]["values"] if value["op"] == "conv")


def arguments(**changed: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda h, d: first_layer(d)["arguments"].update(changed)


def of_tensor(name: str, **changed: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda h, d: h[name].update(changed)


CHANGES: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], None], str]] = {
    "no description": (lambda h, d: h.pop("__metadata__"), "without RepFold's description"),
    "another format": (lambda h, d: d.update(format="onnx"), "not a RepFold model file"),
    "older version": (lambda h, d: d.update(version=1), "load and save it again"),
    "newer version": (lambda h, d: d.update(version=3), "newer format version"),
    "training form": (lambda h, d: d.update(graph=None), "fold it first"),
    "no such tensor": (lambda h, d: h.pop("layers.0.weight"), "layers.0.weight"),
    "wrong shape": (of_tensor("layers.0.bias", shape=[2, 4]), "layers.0.bias"),
    "huge shape": (of_tensor("layers.0.weight", shape=[2**31, 2**31, 2**31, 3]), "more bytes than"),
    "offsets beyond": (of_tensor("layers.0.weight", data_offsets=[0, 10**9]), "data_offsets"),
    "offsets reversed": (of_tensor("layers.0.weight", data_offsets=[864, 0]), "disagree"),
    "integer weights": (of_tensor("layers.0.weight", dtype="I32"), "must be floating point"),
    "unknown operator": (lambda h, d: first_layer(d).update(op="lstm"), "'layers.0' is a 'lstm'"),
    "transposed": (arguments(transposed=True), "'layers.0.bias' has not the shape"),
    "no stride": (lambda h, d: first_layer(d)["arguments"].pop("stride"), "'layers.0' lacks its stride"),
    "no groups": (arguments(groups=0), "'groups' of layer 'layers.0'"),
    "zero stride": (arguments(stride=[0]), "'stride' of layer 'layers.0'"),
    "a stride of text": (arguments(stride=["size", 0, 2]), "'stride' of layer 'layers.0'"),
    "a stride that is no list": (arguments(stride=2), "'stride' of layer 'layers.0'"),
    "half a stride": (arguments(stride=[{"size": ["/", 1, 2]}]), "'stride' of layer 'layers.0'"),
    "computed weights": (arguments(weight={"value": "x"}), "a bias of another shape"),
    "a flag that is a number": (arguments(transposed=0), "true or false"),
    "unknown value": (arguments(x={"value": "y"}), "'y' before"),
    "a number for an image": (arguments(x=3), "no tensor"),
    "two values of one name": (lambda h, d: d["graph"]["values"][2].update(name="x"), "'x'"),
    "no layers": (lambda h, d: d["graph"].update(values=d["graph"]["values"][:1], outputs=["x"]), "no layers"),
    "no output": (lambda h, d: d["graph"].update(outputs=[]), "'output' is more or less than one"),
    "no checks": (lambda h, d: d["graph"].pop("checks"), "lacks its checks"),
    "no sizes": (lambda h, d: d["graph"].update(sizes=[]), "takes no images"),
}

SIZES: dict[str, tuple[Any, str]] = {
    "unknown operation": (["^", 1, 2], "unknown '\\^'"),
    "division by zero": (["//", 1, ["-", 0]], "unknown '-'"),
    "modulo zero": (["%", 1, 0], "divided by zero"),
    "another input": (["size", 1, 0], "the input of a size"),
    "another axis": (["size", 0, 4], "the axis of a size"),
    "half a leaf": (["size", 0], "no axis"),
    "text": ("2", "neither a number"),
    "no operands": (["+"], "neither a number"),
    "beyond every integer": (["**", 10, 400], "an integer from"),
    "no number": (["/", ["**", 10, 400], ["**", 10, 400]], "an integer from"),
}


@pytest.mark.parametrize("name", SIZES)
def test_refuses_sizes_that_are_none(name: str, model: Path) -> None:
    size, message = SIZES[name]
    rewrite(model, arguments(padding=[{"size": size}]))
    with pytest.raises(engine.EngineError, match=message):
        engine.load(model, threads=1)


@pytest.mark.parametrize("name", CHANGES)
def test_refuses_at_load_and_says_why(name: str, model: Path) -> None:
    change, message = CHANGES[name]
    rewrite(model, change)
    with pytest.raises(engine.EngineError, match=message):
        engine.load(model, threads=1).plan(1, 3, 16, 16)


OPERATORS: dict[str, tuple[str, dict[str, Any], str]] = {
    "an operator of PyTorch's": ("aten.sort.default", {"dim": 1}, "is a 'aten.sort.default'"),
    "dropout": ("dropout", {"p": 0.5, "kind": "dropout", "training": True}, "training mode"),
    "an axis that is not there": ("select", {"dim": 4, "index": 0}, "'dim' of layer"),
    "a place beyond the end": ("select", {"dim": 1, "index": 8}, "'index' of layer"),
    "an axis twice": ("permute", {"dims": [0, 1, 1, 2]}, "names an axis twice"),
    "some of the axes": ("permute", {"dims": [0, 1]}, "some of the axes"),
    "nothing of the image": ("slice", {"dim": 2, "start": 5, "end": 5, "step": 1}, "nothing is left"),
    "other channels": ("view", {"size": [1, 7, 4, 4]}, "reshapes 128 values to 112"),
    "sizes beyond counting": ("view", {"size": [2**30] * 8}, "reshapes 128 values"),
    "a repetition that is none": ("expand", {"size": [1, 9, 4, 4]}, "no repetition"),
    "a huge repetition": ("expand", {"size": [2**30, 2**30, 1, 1]}, "no repetition"),
    "a wide reflection": ("pad", {"pads": [8, 0], "mode": "reflect", "value": 0.0}, "too small for the padding"),
    "a padding of five axes": ("pad", {"pads": [0] * 10, "mode": "constant", "value": 0.0}, "axes that are not there"),
    "a shuffle by five": ("pixel_shuffle", {"factor": 5}, "25 does not divide"),
    "three groups": ("group_norm", {"groups": 3, "weight": None, "bias": None, "eps": 1e-5}, "groups do not divide"),
    "another norm": ("layer_norm", {"shape": [9], "weight": None, "bias": None, "eps": 1e-5}, "other axes"),
    "a matrix of another size": ("matmul", {"other": {"value": "x"}}, "batches of matrices"),
    "images of two sizes": ("add", {"other": {"value": "x"}}, "combines 1x8x4x4 and 1x3x4x4"),
    "an unknown interpolation": (
        "resize", {"size": [4, 4], "mode": "area", "align_corners": False, "scale": None}, "interpolation by 'area'"
    ),
    "a slope of no channel": ("prelu", {"weight": {"value": "x"}}, "slopes"),
    "one of many results": ("item", {"index": 0}, "several results"),
    "a sum of an axis that is not there": ("sum", {"dims": [4], "keepdim": False}, "'dims'"),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_refuses_operators_and_names_the_layer(name: str, tmp_path: Path) -> None:
    graph = Graph(images(1, 3, 4, 4))
    op, given, message = OPERATORS[name]
    at = graph.call(op, graph.conv("x", 8), np.zeros((1, 1)), "stage.odd", **given)
    graph.save(tmp_path / "m.safetensors", at)
    with pytest.raises(engine.EngineError, match=message) as refused:
        engine.load(tmp_path / "m.safetensors")
    assert "stage.odd" in str(refused.value)


def test_strides_beyond_any_image(tmp_path: Path) -> None:
    """Five cuts to every 2**29th row are one, of a stride that no integer holds."""
    graph = Graph(images(1, 3, 4, 4))
    at = graph.conv("x", 8)
    for _ in range(5):
        at = graph.call("slice", at, graph.values[at][:, :, :1], dim=2, start=0, end=None, step=2**29)
    expected = graph.save(tmp_path / "m.safetensors", at)
    assert relative_error(engine.load(tmp_path / "m.safetensors", threads=1)(graph.x), expected) < 2e-6


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
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(engine.EngineError, match="regular file"):
            engine.load(path)


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


def test_refuses_what_a_repetition_makes_uncountable(tmp_path: Path) -> None:
    """Views repeat a value for nothing; indices and kernels of them would be real."""
    path, most = tmp_path / "m.safetensors", 2**29
    graph = Graph(images(1, 3, 4, 4))
    at = graph.conv("x", 8)
    graph.tensors["place"] = np.zeros(1, np.int64)
    place = graph.call("expand", graph.value("state", np.zeros(1), path="place"), np.zeros(1), size=[most])
    taken = graph.value(
        "aten.index.Tensor", np.zeros((1, 1)), "stage.odd", self={"value": at}, indices=[None, {"value": place}]
    )
    graph.save(path, taken)
    with pytest.raises(engine.EngineError, match=r"stage\.odd.*so many indices"):
        engine.load(path)
    graph = Graph(images(1, 3, 4, 4))
    at = graph.conv("x", 8)
    kernel = graph.call("expand", at, np.zeros(1), size=[most, 8, 4, 4])
    made = graph.call(
        "conv", at, np.zeros((1, 1)), "stage.odd", weight={"value": kernel}, bias=None, stride=[1, 1], padding=[0, 0],
        dilation=[1, 1], groups=1, transposed=False, output_padding=[0, 0],
    )  # fmt: skip
    graph.save(path, made)
    with pytest.raises(engine.EngineError, match=r"stage\.odd.*unheard-of size"):
        engine.load(path)
