"""ONNX files made by hand, and what ONNX Runtime gives for them: the oracle of the door from ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from repfold.graph.interpret import execute
from repfold.graph.onnx.read import Imported, read_onnx
from repfold.graph.onnx.write import write_onnx

Shape = tuple[int | str, ...]


def write_model(
    path: Path,
    nodes: list[Any],
    inputs: dict[str, Shape],
    outputs: list[str],
    constants: dict[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    types: dict[str, int] | None = None,
    domains: dict[str, int] | None = None,
) -> Path:
    """A file of ``nodes``; inputs are float32 where ``types`` does not say otherwise, as are outputs."""
    types = types or {}
    given = [helper.make_tensor_value_info(n, types.get(n, TensorProto.FLOAT), shape) for n, shape in inputs.items()]
    asked = [helper.make_tensor_value_info(n, types.get(n, TensorProto.FLOAT), None) for n in outputs]
    held = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(*item) for item in (domains or {}).items())]
    model = helper.make_model(helper.make_graph(nodes, "test", given, asked, held), opset_imports=imports)
    model.ir_version = 10
    model = onnx.shape_inference.infer_shapes(model)  # a file must state its outputs' shapes
    for output in model.graph.output:
        if not output.type.tensor_type.HasField("shape"):
            output.type.tensor_type.shape.CopyFrom(given[0].type.tensor_type.shape)
    onnx.save(model, path)
    return path


def one_node(
    path: Path, op: str, shape: Shape, *constants: np.ndarray | None, opset: int = 17, dtype: int = 0, **attributes: Any
) -> Path:
    """A file of one node, of an input and constants (None: left out); ``dtype``: the output's, if not float32."""
    named = {f"c{i}": array for i, array in enumerate(constants) if array is not None}
    inputs = ["x", *(f"c{i}" if array is not None else "" for i, array in enumerate(constants))]
    node = helper.make_node(op, inputs, ["y"], **attributes)
    return write_model(path, [node], {"x": shape}, ["y"], named, opset=opset, types={"y": dtype or TensorProto.FLOAT})


def by_runtime(path: Path, *inputs: torch.Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    found: list[np.ndarray] = session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))
    return found


def numbers(*sizes: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


def weights(*sizes: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(sizes).astype(np.float32)


def agree(expected: list[np.ndarray], found: list[np.ndarray]) -> None:
    """Equal in shape and dtype, and to 1e-5 of the largest number."""
    assert len(expected) == len(found)
    for theirs, ours in zip(expected, found, strict=True):
        assert (theirs.shape, theirs.dtype) == (ours.shape, ours.dtype)
        scale = max(1.0, float(np.abs(theirs[np.isfinite(theirs)]).max(initial=0.0)))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * scale)


def same_as_runtime(path: Path, *calls: tuple[torch.Tensor, ...]) -> Imported:
    """Reads a file; its graph, and the file that is written of it, give what it gives itself."""
    imported = read_onnx(path)
    written = path.with_suffix(".written.onnx")
    write_onnx(imported.graph, imported.state, written, names=imported.names, opset=imported.opset)
    onnx.checker.check_model(str(written), full_check=True)
    for inputs in calls:
        expected = by_runtime(path, *inputs)
        with torch.no_grad():
            agree(expected, [y.numpy() for y in execute(imported.graph, inputs, imported.state)])
        agree(expected, by_runtime(written, *inputs))
    return imported


def operators(imported: Imported) -> list[str]:
    return [value.op for value in imported.graph.values if value.op not in ("input", "state")]
