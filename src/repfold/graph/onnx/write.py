"""The way back to ONNX: a graph as a file that computes the same, with the file's own names where it came from one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from repfold import atomic
from repfold.errors import RepFoldError
from repfold.graph.graph import INPUT, STATE, Graph, Value
from repfold.graph.onnx import kept
from repfold.graph.onnx.file import LARGEST, require_onnx
from repfold.graph.onnx.names import onnx_dtype
from repfold.graph.onnx.read import Names
from repfold.graph.onnx.write_kept import names_inside_kept
from repfold.graph.onnx.write_operators import WRITINGS
from repfold.graph.onnx.writer import NotWritten, Writer
from repfold.graph.operators import operator
from repfold.graph.sizes import Expression, Size, evaluate

OPSET = 17  # the first with LayerNormalization; runtimes of the last years know it
AXES = ("batch", "channels", "height", "width")  # names of free sizes that have none yet


def write_onnx(
    graph: Graph,
    state: Mapping[str, Tensor],
    path: str | os.PathLike[str],
    *,
    names: Names | None = None,
    opset: int = OPSET,
    metadata: Mapping[str, str] | None = None,
    check: Callable[[Path], None] = lambda file: None,
) -> None:
    """Write ``graph`` as an ONNX file, its tensors within it; complete or not at all.

    Args:
        state: the tensors of its "state" values, by path; they are the file's initializers of that name.
        names: of inputs, outputs and free sizes (``Imported.names``); by default "x", "output", "batch", "height", ...
        opset: the version of ONNX's operators; 17 where an older one is asked for.
        metadata: texts for the file's metadata_props.
        check: called with the finished file before it replaces an older one, which stays if it raises.

    Raises: RepFoldError where the graph has an operator that ONNX lacks, or is larger than 2 GB.
    """
    onnx = require_onnx()
    names = names or _usual_names(graph)
    size = sum(tensor.numel() * tensor.element_size() for tensor in {id(t): t for t in state.values()}.values())
    if size > LARGEST:
        raise RepFoldError(f"The weights take {size / 1e9:.1f} GB; an ONNX file without others beside it holds 2 GB.")
    reserved = {*names.inputs, *names.outputs, *names_inside_kept(graph)}
    writer = Writer(onnx, graph, state, max(opset, OPSET), reserved)
    for value, name in zip(graph.inputs, names.inputs, strict=True):
        writer.names[value] = name
    for value in graph.values:
        if value.op not in (INPUT, STATE):
            writer.names[value] = _written(writer, value)
    outputs = _named_outputs(writer, graph, names)
    model = _model(writer, graph, names, outputs)
    onnx.helper.set_model_props(model, dict(metadata or {}))
    _save(model, Path(path), check)


def _usual_names(graph: Graph) -> Names:
    inputs = tuple(f"x{i or ''}" for i in range(len(graph.inputs)))
    outputs = tuple(f"output{i or ''}" for i in range(len(graph.outputs)))
    sizes = {
        (i, axis): AXES[axis] if i == 0 and axis < len(AXES) else f"size_{i}_{axis}"
        for i, value in enumerate(graph.inputs)
        for axis, size in enumerate(value.shape)
        if isinstance(size, Expression)
    }
    return Names(inputs, outputs, sizes)


def _written(writer: Writer, value: Value) -> str | tuple[str, ...]:
    writing = WRITINGS.get(value.op)
    if writing is None:
        raise RepFoldError(
            f"{value.name} ({value.op}) has no operator in ONNX that is known here. Export the network with "
            "torch.onnx.export, which knows more of them."
        )
    writer.scope = value.scope
    try:
        return writing(writer, value, {**operator(value.op).defaults, **value.arguments})
    except NotWritten as reason:
        raise RepFoldError(
            f"{value.name} ({value.op}) cannot be written to ONNX of opset {writer.opset}: {reason}."
        ) from reason


def _named_outputs(writer: Writer, graph: Graph, names: Names) -> list[Any]:
    """Give the outputs their names: by renaming a node's output, or by an Identity."""
    made = {name for node in writer.nodes for name in node.output}
    renamed: dict[str, str] = {}
    for value, wanted in zip(graph.outputs, names.outputs, strict=True):
        name = writer.name(value)
        if name in made and name not in renamed:
            renamed[name] = wanted
        else:
            writer.scope = ""
            writer.emit("Identity", name, named=wanted)
    for node in writer.nodes:
        for i, name in enumerate(node.output):
            node.output[i] = renamed.get(name, name)
        kept.rename(node, renamed)
    return [
        writer.onnx.helper.make_tensor_value_info(wanted, onnx_dtype(writer.onnx, value.dtype), _dims(value, names))
        for value, wanted in zip(graph.outputs, names.outputs, strict=True)
    ]


def _dims(value: Value, names: Names) -> list[int | str | None]:
    """A value's sizes: numbers, the names of sizes of inputs, None for what is computed from them."""
    return [
        names.sizes.get(size.operands) if isinstance(size, Expression) and size.op == "size" else _number(size)
        for size in value.shape
    ]


def _number(size: Size) -> int | None:
    return None if isinstance(size, Expression) else int(evaluate(size, {}))


def _model(writer: Writer, graph: Graph, names: Names, outputs: list[Any]) -> Any:
    helper = writer.onnx.helper
    inputs = [
        helper.make_tensor_value_info(name, onnx_dtype(writer.onnx, value.dtype), _dims(value, names))
        for value, name in zip(graph.inputs, names.inputs, strict=True)
    ]
    proto = helper.make_graph(writer.nodes, "repfold", inputs, outputs, list(writer.initializers.values()))
    imports = [helper.make_opsetid("", writer.opset), *(helper.make_opsetid(*item) for item in writer.domains.items())]
    model = helper.make_model(proto, opset_imports=imports, producer_name="repfold")
    model.ir_version = helper.find_min_ir_version_for(imports[:1])
    return model


def _save(model: Any, path: Path, check: Callable[[Path], None]) -> None:
    onnx = require_onnx()
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise AssertionError(f"what was written is not valid ONNX: {error}") from error
    with atomic.replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
        check(temporary)
