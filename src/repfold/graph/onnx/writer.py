"""An ONNX file in the making: nodes, constants, and the names of values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repfold.graph.graph import STATE, Graph, Value
from repfold.graph.onnx.names import onnx_dtype
from repfold.graph.sizes import Expression

Arguments = dict[str, Any]  # of an operator of the graph, by name
Operand = Value | str | None  # a value, the name of a tensor in the file, or a missing input


class NotWritten(Exception):
    """ONNX has no operator for this; the message says for what."""


class Writer:
    """``names``: the name of each Value so far (a tuple for one of several outputs)."""

    def __init__(self, onnx: Any, graph: Graph, state: Mapping[str, Tensor], opset: int, reserved: set[str]) -> None:
        self.onnx = onnx
        self.graph = graph
        self.state = state
        self.opset = opset
        self.scope = ""
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self.names: dict[Value, str | tuple[str, ...]] = {}
        self.domains: dict[str, int] = {}
        self.taken = reserved
        self._constants: dict[tuple[object, ...], str] = {}
        self._sizes: dict[object, str] = {}

    def fresh(self, wanted: str) -> str:
        """A name that is not used yet."""
        name, count = wanted, 0
        while name in self.taken:
            count += 1
            name = f"{wanted}_{count}"
        self.taken.add(name)
        return name

    def name(self, value: Value) -> str:
        """The name of ``value``; a state Value becomes an initializer on first use."""
        if value not in self.names:
            assert value.op == STATE, f"{value.name} is read before it is computed"
            self.names[value] = self.tensor(value["path"], self.state[value["path"]])
        name = self.names[value]
        assert isinstance(name, str), f"{value.name} has several outputs"
        return name

    def emit(self, op: str, *inputs: Operand, named: str = "", **attributes: Any) -> str:
        """Append a node with one output and return the output's name."""
        given = [self.name(x) if isinstance(x, Value) else x or "" for x in inputs]
        while given and not given[-1]:
            given.pop()
        output = named or self.fresh(f"{op.lower()}_{len(self.nodes)}")
        scope = "/".join(["", *self.scope.split("."), ""]) if self.scope else "/"
        attributes = {name: value for name, value in attributes.items() if value is not None}
        node = self.onnx.helper.make_node(op, given, [output], name=f"{scope}{op}_{len(self.nodes)}", **attributes)
        self.nodes.append(node)
        return output

    def constant(self, items: Any, dtype: torch.dtype | None = None) -> str:
        """A constant that no state holds."""
        tensor = torch.tensor(items, dtype=dtype)
        key = (str(tensor.tolist()), tuple(tensor.shape), tensor.dtype)
        if key not in self._constants:
            self._constants[key] = self.tensor(f"constant_{len(self._constants)}", tensor)
        return self._constants[key]

    def tensor(self, wanted: str, tensor: Tensor) -> str:
        """A new initializer; its name."""
        name = self.fresh(wanted)
        tensor = tensor.detach().cpu().contiguous()
        try:
            data_type = onnx_dtype(self.onnx, tensor.dtype)
        except KeyError as error:
            raise NotWritten(f"{wanted} is of {tensor.dtype}") from error
        raw = tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        self.initializers[name] = self.onnx.helper.make_tensor(name, data_type, tuple(tensor.shape), raw, raw=True)
        return name

    def cast(self, x: Value | str, have: torch.dtype, want: torch.dtype) -> Value | str:
        """Cast ``x`` unless both dtypes are the same."""
        return x if have == want else self.emit("Cast", x, to=onnx_dtype(self.onnx, want))

    def operand(self, argument: object, dtype: torch.dtype) -> Value | str:
        """A Value, a number or a size as something to compute with in ``dtype``."""
        if isinstance(argument, Value):
            return self.cast(argument, argument.dtype, dtype)
        if isinstance(argument, Expression):
            vector, number = self.number(argument)
            return self.cast(self.emit("Squeeze", vector, self.constant([0])), number, dtype)
        return self.constant(argument, dtype)

    def vector(self, sizes: Any) -> str:
        """Whole numbers, some of them computed from sizes, as a list of int64."""
        if not any(isinstance(size, Expression) for size in sizes):
            return self.constant([int(size) for size in sizes], torch.int64)
        parts = [self._whole(size) for size in sizes]
        return parts[0] if len(parts) == 1 else str(self.emit("Concat", *parts, axis=0))

    def _whole(self, size: Any) -> str:
        if not isinstance(size, Expression):
            return self.constant([int(size)], torch.int64)
        vector, dtype = self.number(size)
        return str(self.cast(vector, dtype, torch.int64))

    def number(self, size: Any) -> tuple[str, torch.dtype]:
        """A number as a list of one, int64 or float64."""
        if not isinstance(size, Expression):
            dtype = torch.float64 if isinstance(size, float) else torch.int64
            return self.constant([size], dtype), dtype
        if size.op == "size":
            return self._size_of(*size.operands), torch.int64
        key = size
        if key not in self._sizes:
            self._sizes[key] = self._computed(size)
        return self._sizes[key], _dtype(size)

    def _size_of(self, index: int, axis: int) -> str:
        shape = ("shape", index)
        if shape not in self._sizes:
            self._sizes[shape] = self.emit("Shape", self.graph.inputs[index])
        if (index, axis) not in self._sizes:
            self._sizes[index, axis] = self.emit("Gather", self._sizes[shape], self.constant([axis]), axis=0)
        return self._sizes[index, axis]

    def _computed(self, size: Expression) -> str:
        if size.op not in _NODES and size.op not in _FUNCTIONS:
            raise NotWritten(f"a size is computed by '{size.op}'")
        wanted = torch.float64 if size.op in _REAL or _dtype(size) == torch.float64 else torch.int64
        wanted = torch.float64 if size.op in _ROUNDINGS else wanted
        given = [self.cast(*self.number(operand), wanted) for operand in size.operands]
        if size.op in _FUNCTIONS:
            op = _FUNCTIONS[size.op]
            rounded = self.emit(op, given[0]) if op else given[0]
            return str(self.cast(rounded, wanted, _dtype(size)))
        found = given[0]
        for other in given[1:]:
            found = self._pair(size.op, found, other)
        return str(found)

    def _pair(self, op: str, a: Operand, b: Operand) -> str:
        if op == "//":  # ONNX rounds towards zero, a size's division down
            a = self.emit("Sub", a, self.emit("Mod", a, b))
        return self.emit(_NODES[op], a, b)


Writing = Callable[[Writer, Value, Arguments], str]  # adds the nodes of a value; the name of its output

_NODES = {"+": "Add", "*": "Mul", "//": "Div", "%": "Mod", "/": "Div", "**": "Pow", "max": "Max", "min": "Min"}
_FUNCTIONS = {"float": "", "sqrt": "Sqrt", "int": "", "floor": "Floor", "ceil": "Ceil"}
_ROUNDINGS = ("int", "floor", "ceil")
_REAL = ("/", "float", "sqrt")


def _dtype(size: Any) -> torch.dtype:
    """The dtype of a number computed from sizes: float64 or int64."""
    if not isinstance(size, Expression):
        return torch.float64 if isinstance(size, (float, np.floating)) else torch.int64
    if size.op in _REAL:
        return torch.float64
    if size.op in ("size", *_ROUNDINGS):
        return torch.int64
    real = any(_dtype(operand) == torch.float64 for operand in size.operands)
    return torch.float64 if real else torch.int64
