"""Nodes of an ONNX file that have no reading here: kept as they are, run by ONNX Runtime, and written as they were.

Such a node is a Value of the operator "onnx_node". Its arguments are the values that it takes (None where an optional
one is missing), the node as JSON, its inputs named "x0", "x1", ... and its outputs "y0", ..., and the versions of the
operators that it was written in. A graph inside a node (of an If, say) names what it takes from outside likewise.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repfold.errors import RepFoldError
from repfold.graph.onnx.file import require_onnx
from repfold.graph.onnx.names import onnx_dtype, to_tensor

OP = "onnx_node"


def onnx_node(inputs: tuple[Tensor | None, ...], node: str, opset: int, version: int = 0) -> Any:
    """The node's output, or the tuple of several (None where it is not asked for). There is no gradient through it."""
    outputs = _Run.apply(node, opset, version, *inputs)  # type: ignore[no-untyped-call]
    return outputs[0] if len(outputs) == 1 else outputs


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, node: str, opset: int, version: int, *inputs: Tensor | None) -> tuple[Tensor | None, ...]:
        ctx.node = node
        given = {f"x{i}": _array(x) for i, x in enumerate(inputs) if x is not None}
        signature = tuple((name, str(array.dtype), array.ndim) for name, array in given.items())
        names, run = _runner(node, opset, version, signature)
        found = dict(zip([name for name in names if name], map(to_tensor, run(given)), strict=True))
        device = next((x.device for x in inputs if x is not None), None)
        return tuple(found[name].to(device) if name else None for name in names)

    @staticmethod
    def backward(ctx: Any, *gradients: object) -> Any:
        node = node_from(ctx.node)
        raise RepFoldError(
            f"The ONNX node {node.name or node.op_type} ({node.op_type}) is run as it was in its file, and has no "
            "gradient: freeze what comes before it, or train the network that the file was exported from."
        )


def _array(x: Tensor) -> np.ndarray:
    return x.detach().cpu().contiguous().numpy()


@cache
def _runner(
    node: str, opset: int, version: int, signature: tuple[tuple[str, str, int], ...]
) -> tuple[list[str], Callable[[dict[str, np.ndarray]], list[np.ndarray]]]:
    """The names of the node's outputs, and a function that computes the named ones."""
    onnx = require_onnx()
    proto = node_from(node)
    types = {
        name: onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [None] * rank
        )
        for name, dtype, rank in signature
    }
    model = one_node(proto, list(types.values()), opset, version)
    wanted = [name for name in proto.output if name]
    run = _runtime(model) or _reference(model)
    if run is None:
        raise RepFoldError(
            f"The ONNX node {proto.name or proto.op_type} ({proto.op_type}) is kept as it was in its file, and neither "
            "ONNX Runtime nor onnx itself can run it here: write the graph to ONNX, and run it where the file ran."
        )
    return list(proto.output), lambda given: run(wanted, given)


Run = Callable[[list[str], dict[str, np.ndarray]], list[np.ndarray]]


def _runtime(model: Any) -> Run | None:
    """An ONNX Runtime session for the model; None where it is not installed or rejects the model."""
    try:
        runtime = importlib.import_module("onnxruntime")
    except ModuleNotFoundError:
        return None
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime's exceptions have no common class below Exception
        return None
    return session.run  # type: ignore[no-any-return]


def _reference(model: Any) -> Run | None:
    """onnx's own evaluator, slow; None where it lacks the node."""
    try:
        return require_onnx().reference.ReferenceEvaluator(model).run  # type: ignore[no-any-return]
    except NotImplementedError:
        return None


def one_node(node: Any, inputs: list[Any], opset: int, version: int, constants: tuple[Any, ...] = ()) -> Any:
    """A model of one node, its outputs' types left to be inferred."""
    onnx = require_onnx()
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = onnx.helper.make_graph([node], "node", inputs, outputs, list(constants))
    imports = [onnx.helper.make_opsetid("", opset)]
    if node.domain not in ("", "ai.onnx"):
        imports.append(onnx.helper.make_opsetid(node.domain, version))
    model = onnx.helper.make_model(graph, opset_imports=imports)
    model.ir_version = onnx.helper.find_min_ir_version_for(imports[:1])
    return model


def to_keep(node: Any) -> tuple[Any, list[str]]:
    """The node as it is kept, and the names of its inputs, those of the graphs inside it last."""
    onnx = require_onnx()
    names = [*node.input, *_taken_inside(node)]
    kept = onnx.NodeProto()
    kept.CopyFrom(node)
    rename(kept, {name: f"x{i}" for i, name in reversed(list(enumerate(names))) if name})
    for i, name in enumerate(node.input):
        kept.input[i] = f"x{i}" if name else ""
    for i, name in enumerate(node.output):
        kept.output[i] = f"y{i}" if name else ""
    return kept, names


def to_json(node: Any) -> str:
    """A NodeProto as one line of JSON, which ``node_from`` reads."""
    from google.protobuf.json_format import MessageToJson

    written: str = MessageToJson(node, indent=None)
    return written


@cache
def node_from(text: str) -> Any:
    """The node that ``to_json`` wrote; not to be changed. Raises: RepFoldError where the text is no node."""
    from google.protobuf.json_format import Parse, ParseError

    try:
        return Parse(text, require_onnx().NodeProto())
    except ParseError as error:
        raise RepFoldError(f"A node that is kept from an ONNX file cannot be read: {error}") from error


def rename(node: Any, names: Mapping[str, str]) -> None:
    """Give other names to what a node takes, also from within the graphs inside it, in place."""
    for i, name in enumerate(node.input):
        node.input[i] = names.get(name, name)
    for graph in graphs_of(node):
        for inner in graph.node:
            rename(inner, names)
        for output in graph.output:
            output.name = names.get(output.name, output.name)


def _taken_inside(node: Any) -> list[str]:
    """The names that the graphs inside a node take from outside of it."""
    found: dict[str, None] = {}
    for graph in graphs_of(node):
        own = {value.name for value in (*graph.input, *graph.initializer)}
        for inner in graph.node:
            found.update(
                dict.fromkeys(name for name in (*inner.input, *_taken_inside(inner)) if name and name not in own)
            )
            own.update(inner.output)
        found.update(dict.fromkeys(output.name for output in graph.output if output.name not in own))
    return list(found)


def names_inside(node: Any) -> set[str]:
    """The names that the graphs inside a node give."""
    found: set[str] = set()
    for graph in graphs_of(node):
        found.update(value.name for value in (*graph.input, *graph.initializer))
        for inner in graph.node:
            found |= {*inner.output} | names_inside(inner)
    return found


def graphs_of(node: Any) -> list[Any]:
    """The graphs directly inside a node, as those of If and Loop."""
    onnx = require_onnx()
    single = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return single + [graph for a in node.attribute for graph in a.graphs]


def infer(
    node: Any,
    inputs: Mapping[str, tuple[torch.dtype, tuple[Any, ...]]],
    constants: Mapping[str, np.ndarray],
    opset: int,
    version: int,
) -> list[tuple[int, list[Any] | None]]:
    """(TensorProto.DataType, sizes) of each output, as onnx infers them from those of ``inputs``.

    A size is a number, a name among those of ``inputs``, or None where it is not known.
    """
    onnx = require_onnx()
    types = [
        onnx.helper.make_tensor_value_info(name, onnx_dtype(onnx, dtype), list(shape))
        for name, (dtype, shape) in inputs.items()
        if name not in constants
    ]
    held = tuple(onnx.numpy_helper.from_array(array, name) for name, array in constants.items())
    model = onnx.shape_inference.infer_shapes(one_node(node, types, opset, version, held), data_prop=True)
    found = {output.name: output.type.tensor_type for output in model.graph.output}
    return [type_of(found[name]) if name else (0, None) for name in node.output]


def type_of(found: Any) -> tuple[int, list[Any] | None]:
    """(TensorProto.DataType, sizes) of a TypeProto.Tensor; None for sizes that it lacks."""
    if not found.HasField("shape"):
        return found.elem_type, None
    sizes = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in found.shape.dim]
    return found.elem_type, sizes
