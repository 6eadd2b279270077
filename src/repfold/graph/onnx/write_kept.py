"""Writing kept nodes: unchanged where they mean the same in the opset of the file, else converted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from repfold.errors import first_line
from repfold.graph.graph import Graph, Value
from repfold.graph.onnx import kept
from repfold.graph.onnx.names import onnx_dtype
from repfold.graph.onnx.writer import Arguments, NotWritten, Writer


def names_inside_kept(graph: Graph) -> set[str]:
    """The names that graphs inside of kept nodes use: no value outside may have one."""
    nodes = [kept.node_from(value["node"]) for value in graph.values if value.op == kept.OP]
    return {name for node in nodes for name in kept.names_inside(node)}


def write_kept(w: Writer, v: Value, a: Arguments) -> str | tuple[str, ...]:
    """Write a node that was kept from a file; its opset is raised where the written file's is newer."""
    node = w.onnx.NodeProto()
    node.CopyFrom(kept.node_from(a["node"]))
    names = {f"x{i}": w.name(x) for i, x in enumerate(a["inputs"]) if x is not None}
    names |= {name: w.fresh(f"{v.name}_{i}") for i, name in enumerate(node.output) if name}
    made = tuple(names.get(name, "") for name in node.output)
    if node.domain not in ("", "ai.onnx"):
        w.domains[node.domain] = a["version"]
    nodes = [node] if all(_means_the_same(w, inner, a["opset"]) for inner in _all_nodes(node)) else _lifted(w, node, a)
    for item in nodes:
        for name in item.output:
            if name and name not in names:
                names[name] = w.fresh(f"{v.name}_{name}")
    for item in nodes:
        kept.rename(item, names)
        for i, name in enumerate(item.output):
            item.output[i] = names.get(name, "")
        w.nodes.append(item)
    return made[0] if len(made) == 1 else made


def _all_nodes(node: Any) -> Iterator[Any]:
    yield node
    for graph in kept.graphs_of(node):
        for inner in graph.node:
            yield from _all_nodes(inner)


def _means_the_same(w: Writer, node: Any, opset: int) -> bool:
    """Whether the node's operator is the same in the opset that it was written in and in the file's."""
    if opset == w.opset or node.domain not in ("", "ai.onnx"):
        return True
    then, now = (w.onnx.defs.get_schema(node.op_type, version, "") for version in (opset, w.opset))
    return bool(then.since_version == now.since_version)


def _lifted(w: Writer, node: Any, a: Arguments) -> list[Any]:
    """The node as onnx's own converter writes it in the file's opset, constants of it as nodes."""
    types = [
        w.onnx.helper.make_tensor_value_info(f"x{i}", onnx_dtype(w.onnx, x.dtype), [_size(size) for size in x.shape])
        for i, x in enumerate(a["inputs"])
        if x is not None
    ]
    model = kept.one_node(node, types, a["opset"], a["version"])
    try:
        lifted = w.onnx.version_converter.convert_version(w.onnx.shape_inference.infer_shapes(model), w.opset)
    except Exception as error:  # the converter is C++ and reports in several classes
        raise NotWritten(
            f"it is the node {node.name or node.op_type} ({node.op_type}), kept from a file of opset "
            f"{a['opset']}, which onnx's converter cannot lift ({first_line(error, 99)}); convert the file"
        ) from error
    constants = [
        w.onnx.helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in lifted.graph.initializer
    ]
    return constants + list(lifted.graph.node)


def _size(size: Any) -> int | None:
    return size if isinstance(size, int) else None
