"""Opening an ONNX file of unknown origin: whole, checked, and without reading anything outside its own folder."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from repfold.errors import RepFoldError, first_line

OLDEST_OPSET = 9
LARGEST = 2**31 - 1  # bytes; what the format itself, protobuf, can hold
MOST_NODES = 200_000


def require_onnx() -> Any:
    """The onnx library. Raises: RepFoldError where it is not installed."""
    try:
        for part in ("checker", "inliner", "reference", "shape_inference", "version_converter"):
            importlib.import_module(f"onnx.{part}")
        return importlib.import_module("onnx")
    except ModuleNotFoundError as error:
        raise RepFoldError(
            f"Reading and writing ONNX needs the package '{error.name}', which is not installed. Install the extra: "
            "pip install 'repfold[onnx]'."
        ) from error


def load_model(path: Path) -> Any:
    """The file's ModelProto with its external data loaded and its functions inlined.

    Raises: RepFoldError for a file that is no ONNX, incomplete, too large, too old or too new, or has data elsewhere.
    """
    onnx = require_onnx()
    content = _read(path, 0, None)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # protobuf's exception moves between its versions
        raise RepFoldError(f"{path} is no ONNX file, or not all of one: {first_line(error, 300)}") from error
    if not model.graph.node:
        raise RepFoldError(f"{path} is no ONNX file, or not all of one: it holds no node.")
    opset = opset_of(model, path)
    newest = onnx.defs.onnx_opset_version()
    if opset < OLDEST_OPSET:
        raise RepFoldError(
            f"{path} is of opset {opset}; {OLDEST_OPSET} and newer can be read. Convert it first: "
            f"onnx.save(onnx.version_converter.convert_version(onnx.load('{path}'), 17), 'newer.onnx')."
        )
    if opset > newest:
        raise RepFoldError(
            f"{path} is of opset {opset}, the installed onnx {onnx.__version__} knows {newest}: pip install -U onnx."
        )
    if sum(1 for _ in nodes_of(model.graph)) > MOST_NODES:
        raise RepFoldError(f"{path} has more than {MOST_NODES:,} nodes, which no network to be folded has.")
    size = len(content)
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            size += _bring_in(tensor, path, onnx, LARGEST - size)
    try:
        onnx.checker.check_model(model)
        return onnx.inliner.inline_local_functions(model) if model.functions else model
    except Exception as error:  # the checker is C++ and reports in several classes
        raise RepFoldError(f"{path} is not valid ONNX: {first_line(error, 300)}") from error


def opset_of(model: Any, path: Path) -> int:
    """The version of ONNX's own operators that the file is written in."""
    versions = [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")]
    if not versions:
        raise RepFoldError(f"{path} does not say which opset of ONNX it is written in, so it cannot be read.")
    return int(versions[0])


def nodes_of(graph: Any) -> Iterator[Any]:
    """Every node, also those of the graphs that a node holds."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from nodes_of(inner)


def _tensors(model: Any) -> Iterator[Any]:
    """Every tensor in the file: initializers and attributes, also of nested graphs and functions."""
    yield from _tensors_of(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _tensors_of_node(node)


def _tensors_of(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _tensors_of_node(node)


def _tensors_of_node(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors_of(graph)


def _bring_in(tensor: Any, path: Path, onnx: Any, room: int) -> int:
    """Load a tensor's external data into it; return their number of bytes."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    source = _beside(path, entries.get("location", ""), tensor.name)
    if any(dim < 0 for dim in tensor.dims):
        raise RepFoldError(f"{path}: the tensor '{tensor.name}' has the shape {list(tensor.dims)}.")
    try:
        offset, bits = int(entries.get("offset", 0)), _bits(tensor.data_type, onnx)
        length: int = (math.prod(tensor.dims) * bits + 7) // 8
        stated = int(entries.get("length", length))
    except (KeyError, ValueError, TypeError) as error:
        raise RepFoldError(f"{path}: the external data of '{tensor.name}' are not described: {error}") from error
    if offset < 0 or stated != length:
        raise RepFoldError(
            f"{path}: '{tensor.name}' of shape {list(tensor.dims)} takes {length} bytes; "
            f"the file says {stated}, from {offset} on."
        )
    if length > room:
        raise RepFoldError(f"{path} and its external data are larger than 2 GB, which is more than can be read.")
    tensor.raw_data = _read(source, offset, length)
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]
    return length


def _bits(data_type: int, onnx: Any) -> int:
    names = {onnx.TensorProto.DataType.Value(name): bits for name, bits in (("UINT4", 4), ("INT4", 4))}
    dtype = onnx.helper.tensor_dtype_to_np_dtype(data_type)
    if dtype.hasobject:
        raise ValueError("text cannot lie outside of the file")
    return names.get(data_type, int(dtype.itemsize) * 8)


def _beside(path: Path, location: str, name: str) -> Path:
    """The file ``location`` in the folder of ``path``. Raises: RepFoldError where it is outside of the folder."""
    folder = path.parent.resolve()
    found = folder / location
    inside = location and not os.path.isabs(location) and ".." not in Path(location.replace("\\", "/")).parts
    if not inside or "\0" in location or not found.resolve().is_relative_to(folder):
        raise RepFoldError(
            f"{path}: the data of '{name}' are declared to be in '{location}', which is not in the file's own folder. "
            "Only files beside it are read: a model from elsewhere must not choose what is."
        )
    return found


def _read(path: Path, offset: int, length: int | None) -> bytes:
    """``length`` bytes of a plain file, or all. Raises: RepFoldError where there are fewer."""
    if not path.is_file():
        raise RepFoldError(f"{path} is not a file.")
    size = path.stat().st_size
    wanted = size if length is None else length
    if wanted > LARGEST:
        raise RepFoldError(f"{path} is larger than 2 GB, which is more than can be read.")
    if offset + wanted > size:
        raise RepFoldError(f"{path} has {size} bytes, but {wanted} from {offset} are asked for: it is not whole.")
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(wanted)
