"""One reading of an ONNX file: the values so far, and how each node adds to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from repfold.errors import RepFoldError
from repfold.graph.graph import INPUT, STATE, Value
from repfold.graph.onnx import kept
from repfold.graph.onnx.file import require_onnx
from repfold.graph.onnx.layers import LAYERS
from repfold.graph.onnx.movement import MOVEMENT
from repfold.graph.onnx.names import to_tensor, torch_dtype
from repfold.graph.onnx.node import Entry, Node, Unsettled, attributes_of
from repfold.graph.onnx.numbers import Known, Numbers
from repfold.graph.onnx.numbers_computed import evaluate
from repfold.graph.onnx.parts import PARTS
from repfold.graph.onnx.paths import DOTTED, Paths, plain, scope_of
from repfold.graph.onnx.pointwise import POINTWISE
from repfold.graph.onnx.pooling import POOLS
from repfold.graph.onnx.resizing import RESIZING
from repfold.graph.onnx.shape_rules import NotRead, TooSlow
from repfold.graph.onnx.shapes import Shapes

# ONNX operator -> its reading; a node without one, or whose reading returns None, is kept as it is.
READINGS: dict[str, Callable[[Node], Any]] = {**LAYERS, **MOVEMENT, **PARTS, **RESIZING, **POOLS, **POINTWISE}
RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
OWN = ("", "ai.onnx")  # the domain of ONNX's own operators


class Reader:
    """One reading of a file: the values so far, by the names that the file gives them."""

    def __init__(self, model: Any, opset: int, shapes: Shapes) -> None:
        self.onnx = require_onnx()
        self.model = model
        self.opset = opset
        self.shapes = shapes
        self.values: list[Value] = []
        self.entries: dict[str, Entry] = {"": None}
        self.state: dict[str, Tensor] = {}
        self.paths = Paths()
        self.constants: dict[tuple[str, str], Value] = {}  # by name in the file and layout
        self.inputs: tuple[Value, ...] = ()
        self.remarks: list[str] = []
        self.scope = ""
        self.readers = _count_readers(model)
        self.versions = {item.domain: item.version for item in model.opset_import}

    def read(self, inputs: list[Any]) -> tuple[Value, ...]:
        """Read every node and return the outputs. ``inputs``: those of the file that are no constants."""
        for tensor in self.model.graph.initializer:
            self.entries[tensor.name] = self.array(tensor)
        if self.model.graph.sparse_initializer:
            raise NotRead("it holds sparse tensors")
        self.inputs = tuple(self._input(index, value) for index, value in enumerate(inputs))
        with self.shapes.running():
            for index, proto in enumerate(self.model.graph.node):
                with _naming_node(proto):
                    self._read_node(Node(self, proto, attributes_of(proto, self.onnx), index))
            return tuple(self._output(value.name) for value in self.model.graph.output)

    def array(self, tensor: Any) -> np.ndarray:
        """The values of a TensorProto."""
        try:
            return np.asarray(self.onnx.numpy_helper.to_array(tensor))
        except Exception as error:  # numpy_helper trusts the shape that the file states
            raise NotRead(f"the tensor '{tensor.name}' is not whole ({error})") from error

    def add(self, op: str, arguments: dict[str, Any], *, name: str = "") -> Value:
        """Append a Value, whose shape and dtype follow from the operator."""
        return self._append(op, arguments, self.shapes.of(op, arguments), name)

    def constant(self, array: np.ndarray, wanted: str) -> Value:
        """A new state Value at a path like ``wanted``."""
        try:
            with torch.utils._python_dispatch._disable_current_modes():
                tensor = to_tensor(array)
        except TypeError as error:
            raise NotRead(f"the constant '{wanted}' is of {array.dtype}, which PyTorch lacks") from error
        path = self.paths.give(wanted)
        learned = path.rpartition(".")[-1] in ("weight", "bias") and tensor.is_floating_point()
        self.state[path] = nn.Parameter(tensor) if learned else tensor
        return self._append(STATE, {"path": path}, self.shapes.like(tensor), path.replace(".", "_"))

    def keep(self, node: Node) -> tuple[Value | None, ...]:
        """The node as it is, its outputs' types inferred by onnx."""
        proto, names = kept.to_keep(node.proto)
        if proto.op_type in RANDOM:
            self.remarks.append(f"it draws random numbers ({proto.op_type})")
        inputs = tuple(self.tensor(name) for name in names)
        version = self.versions.get(proto.domain, 0)
        small = {
            f"x{i}": known for i, name in enumerate(names) if isinstance(known := self.entries.get(name), np.ndarray)
        }
        small = {name: array for name, array in small.items() if array.size <= 1024}
        arguments = {"inputs": inputs, "node": kept.to_json(proto), "opset": self.opset, "version": version}
        types = {f"x{i}": self.shapes.fake(value) for i, value in enumerate(inputs) if value is not None}
        fakes = self.shapes.kept(proto, types, small, self._stated(node.proto), self.opset, version)
        if len(fakes) == 1:
            return (self._append(kept.OP, arguments, fakes[0], proto.op_type),)
        both = self._append(kept.OP, arguments, fakes, proto.op_type)
        return tuple(
            self._append("item", {"x": both, "index": i}, fake, "") if fake is not None else None
            for i, fake in enumerate(fakes)
        )

    def tensor(self, name: str, role: str = "", layout: str = "", scope: str = "") -> Value | None:
        """The Value of a name in the file, made from a constant or number where needed; None for "".

        ``role`` is its name in a layer at ``scope``; ``layout`` distinguishes the Values of one constant.
        """
        known = self.entries[name]
        if known is None or isinstance(known, Value):
            return known
        if isinstance(known, tuple):
            raise NotRead(f"'{name}' is a sequence of tensors, which only some nodes can read")
        if isinstance(known, Numbers):
            return self._computed(known)
        if (name, layout) not in self.constants:
            self.constants[name, layout] = self.constant(known, self.path(name, role, scope))
        return self.constants[name, layout]

    def path(self, name: str, role: str, scope: str) -> str:
        """The path of a constant: its name in the file where that is a path, else its role in its layer."""
        as_in_file = DOTTED.fullmatch(name) is not None and name not in self.paths.given
        return plain(name) if as_in_file or not (role and scope) else f"{scope}.{role}"

    def arranged(self, name: str, layout: str, array: np.ndarray, role: str, scope: str) -> Value:
        """``array``, which is the file's constant ``name`` in another layout; made once for each layout."""
        if (name, layout) not in self.constants:
            self.constants[name, layout] = self.constant(array, self.path(name, role, scope))
        return self.constants[name, layout]

    def sizes(self, value: Value) -> tuple[Any, ...]:
        """The sizes of a value, free ones as PyTorch's symbols."""
        return tuple(self.shapes.fake(value).shape)

    def _computed(self, numbers: Numbers) -> Value:
        dtype = {"f": torch.float32, "b": torch.bool}.get(numbers.dtype.kind, torch.int64)
        dtype = torch.float64 if numbers.dtype == np.float64 else torch.int32 if numbers.dtype == np.int32 else dtype
        parts = tuple(
            self.add("aten.full.default", {"size": (1,), "fill_value": item, "dtype": dtype})
            for item in numbers.items.flat
        )
        vector = parts[0] if len(parts) == 1 else self.add("cat", {"xs": parts, "dim": 0})
        return vector if numbers.items.ndim == 1 else self.add("view", {"x": vector, "size": numbers.items.shape})

    def _append(self, op: str, arguments: dict[str, Any], fake: object, name: str = "") -> Value:
        base = name or op.removeprefix("aten.").split(".")[0]
        shape, dtype = self.shapes.described_as(fake)
        value = Value(op, self.shapes.stored(arguments), shape, dtype, f"{base}_{len(self.values)}", self.scope)
        self.values.append(value)
        self.shapes.remember(value, fake)
        return value

    def _input(self, index: int, value: Any) -> Value:
        stated = value.type.tensor_type
        dtype = torch_dtype(self.onnx, stated.elem_type) if value.type.HasField("tensor_type") else None
        if dtype is None or not stated.HasField("shape"):
            raise NotRead(f"its input '{value.name}' is no tensor of known rank and of a dtype that PyTorch has")
        sizes = [dim.dim_value if dim.dim_value > 0 else dim.dim_param for dim in stated.shape.dim]
        found = self._append(INPUT, {"index": index}, self.shapes.input(index, sizes, dtype), f"x{index or ''}")
        self.entries[value.name] = found
        return found

    def _output(self, name: str) -> Value:
        value = self.tensor(name)
        assert value is not None
        return value

    def _read_node(self, node: Node) -> None:
        self.scope = scope_of(node.proto)
        own = node.proto.domain in OWN
        found: Any = self._numbers(node) if own else None
        if found is None and own:
            found = self._reading(node)
        if found is None:
            found = self.keep(node)
        results = found if isinstance(found, tuple) else (found,)
        for name, result in zip(node.proto.output, results, strict=False):
            if name:
                self.entries[name] = result

    def _reading(self, node: Node) -> Any:
        reading = READINGS.get(node.proto.op_type)
        if node.proto.op_type in LAYERS:
            self.scope = node.layer()
        try:
            return None if reading is None else reading(node)
        except Unsettled:
            return None

    def _numbers(self, node: Node) -> tuple[Known, ...] | None:
        known = [self.entries[name] for name in node.proto.input]
        if node.proto.op_type in ("Shape", "Size") and isinstance(known[0], Value):
            sizes = self.sizes(known[0])
            return (
                _numbers(
                    sizes[node.get("start", 0) : node.get("end", None)]
                    if node.proto.op_type == "Shape"
                    else math.prod(sizes)
                ),
            )
        if any(isinstance(item, (Value, tuple)) for item in known):
            return None
        return evaluate(node.proto.op_type, tuple(known), node.attributes, self.opset)  # type: ignore[arg-type]

    def _stated(self, proto: Any) -> dict[str, Any]:
        """The types that the file declares for a node's outputs, by their index."""
        stated = {value.name: value for value in (*self.model.graph.value_info, *self.model.graph.output)}
        return {f"y{i}": stated[name] for i, name in enumerate(proto.output) if name in stated}


def _numbers(sizes: object) -> Known:
    """Sizes, or their product, as numbers of a file."""
    items = np.array(sizes, object)
    free = any(isinstance(item, torch.SymInt) for item in items.flat)
    return Numbers(items, np.dtype(np.int64)) if free else items.astype(np.int64)


def _count_readers(model: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in [n for node in model.graph.node for n in node.input] + [value.name for value in model.graph.output]:
        counts[name] = counts.get(name, 0) + 1
    return counts


@contextmanager
def _naming_node(proto: Any) -> Iterator[None]:
    """Within it, errors name the node. Raises: NotRead."""
    try:
        yield
    except (RepFoldError, TooSlow):
        raise
    except Exception as error:  # a file can hold anything, and PyTorch's operators run on it
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise NotRead(f"the node {proto.name or proto.output[0]} ({proto.op_type}): {lines[0][:200]}") from error
