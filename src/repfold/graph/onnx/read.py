"""The door from ONNX: a file's nodes, one after the other, as a graph.

A node becomes the operator that it is (``layers.py``, ``movement.py``, ``pointwise.py``, ...), a number where it
computes shapes (``numbers.py``), or is kept as it is (``kept.py``). The shape of each value is what PyTorch says of its
operator on sizes that are free where the file leaves them open.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from repfold.errors import RepFoldError
from repfold.graph.graph import Check, Graph, Value, with_sizes
from repfold.graph.onnx.file import load_model, opset_of
from repfold.graph.onnx.reader import Reader
from repfold.graph.onnx.shape_rules import NotRead, TooSlow
from repfold.graph.onnx.shapes import Freedom, Shapes

# Example image sizes to try, where the file's are free: it may be valid for some only.
SECONDS = 20.0
SIDES = (224, 32, 256, 299, 384, 28)


@dataclass(frozen=True)
class Names:
    """The file's names of its inputs and outputs, and of the free sizes of its inputs by (input, axis)."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sizes: Mapping[tuple[int, int], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Imported:
    """An ONNX file as a graph.

    Args:
        state: the tensors of the graph's "state" values, by path.
        arguments: the graph's inputs, in the file's order.
        output: its output, or the tuple of them.
        opset: the version of ONNX's operators that the file is written in.
        remarks: notes for the user on how it was read.
        metadata: the file's metadata_props.
    """

    graph: Graph
    state: dict[str, Tensor]
    arguments: tuple[Value, ...]
    output: Any
    names: Names
    opset: int
    remarks: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_onnx(
    path: str | os.PathLike[str], *, sizes: Mapping[str | tuple[int, int], int] | None = None, seconds: float = SECONDS
) -> Imported:
    """The graph of an ONNX file.

    Args:
        sizes: example numbers for the file's free sizes, by their names or (input, axis); by default batches
            of 2 images of 224.
        seconds: for following free sizes; after that they are fixed to those numbers, and a remark says so.

    Batch and image size stay free where the file leaves them so. Raises: RepFoldError for a file that is not whole,
    valid or of a supported opset, and for one whose shapes depend on the values of its inputs.
    """
    path = Path(path)
    model = load_model(path)
    failures: list[NotRead] = []
    slow: set[Freedom] = set()
    for shapes in _attempts(model, dict(sizes or {}), seconds):
        if shapes.free in slow:
            continue
        try:
            return _read(model, opset_of(model, path), shapes, [str(failure) for failure in failures])
        except NotRead as failure:
            failures.append(failure)
        except TooSlow:
            slow.add(shapes.free)
            failures.append(NotRead(f"following them takes more than {seconds:.0f} s"))
    free = " Where that depends on the size of its input, give one: sizes={'height': 160, ...} (--example)."
    raise RepFoldError(f"{path} cannot be read: {failures[0]}.{free if len(failures) > 1 else ''}")


def read_names(path: str | os.PathLike[str]) -> tuple[Names, int, dict[str, str]]:
    """The names of an ONNX file's inputs, outputs and free sizes; its opset; its metadata. Raises: RepFoldError."""
    model = load_model(Path(path))
    return _names(model), opset_of(model, Path(path)), _metadata(model)


def _metadata(model: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def _names(model: Any) -> Names:
    inputs = _inputs(model)
    sizes = {
        (index, axis): dim.dim_param
        for index, value in enumerate(inputs)
        for axis, dim in enumerate(value.type.tensor_type.shape.dim)
        if dim.dim_param
    }
    return Names(tuple(value.name for value in inputs), tuple(value.name for value in model.graph.output), sizes)


def _attempts(model: Any, sizes: dict[Any, int], seconds: float) -> Iterator[Shapes]:
    """Ways to read the file, in order: free sizes symbolic, with several examples of them; at last fixed."""
    if not any(map(_has_free_size, _inputs(model))):
        yield Shapes(sizes, SIDES[0])
        return
    for side in SIDES[:1] if sizes else SIDES:
        yield Shapes(sizes, side, seconds=seconds)
    yield Shapes(sizes, SIDES[0], seconds=seconds, free="batch")
    yield Shapes(sizes, SIDES[0], free="none")


def _inputs(model: Any) -> list[Any]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def _has_free_size(value: Any) -> bool:
    return any(dim.dim_value < 1 for dim in value.type.tensor_type.shape.dim)


def _read(model: Any, opset: int, shapes: Shapes, failures: list[str]) -> Imported:
    """One attempt, after others that failed. Raises: NotRead, TooSlow."""
    inputs = _inputs(model)
    reader = Reader(model, opset, shapes)
    outputs = reader.read(inputs)
    settled = shapes.settled()
    checks = tuple(Check(condition, reason, fixes=True) for condition, reason in shapes.checks(settled))
    graph = Graph(reader.inputs, tuple(reader.values), outputs, checks=checks, sizes=shapes.sizes)
    graph = with_sizes(graph, settled).pruned()
    used = {value["path"] for value in graph.state}
    remark = {
        "all": "",
        "batch": f"only its batch size is free, of images of {shapes.described()}",
        "none": f"its sizes are fixed to {shapes.described()}",
    }[shapes.free]
    remarks = [f"{remark}: free ones cannot be followed ({failures[0]})"] if remark else []
    return Imported(
        graph,
        {path: tensor for path, tensor in reader.state.items() if path in used},
        graph.inputs,
        graph.outputs[0] if len(outputs) == 1 else graph.outputs,
        _names(model),
        opset,
        (*dict.fromkeys(reader.remarks), *remarks),
        _metadata(model),
    )
