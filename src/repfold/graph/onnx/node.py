"""One node of an ONNX file, as the readers of operators see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from repfold.graph.graph import Value
from repfold.graph.onnx.numbers import Known, Numbers
from repfold.graph.onnx.paths import DOTTED, plain

Entry = Value | Known | tuple[Value, ...] | None  # the value of a name in the file; a tuple is a sequence


class Reader(Protocol):
    """What readers of nodes need of the reader of the file."""

    onnx: Any
    opset: int
    readers: dict[str, int]
    entries: dict[str, Entry]
    scope: str

    def add(self, op: str, arguments: dict[str, Any], *, name: str = "") -> Value:
        """Append an operator to the graph; its shape follows from the arguments."""

    def tensor(self, name: str, role: str = "", layout: str = "", scope: str = "") -> Value | None:
        """The Value of the name, None for ""; ``role`` and ``scope`` name a constant whose name is no path."""

    def arranged(self, name: str, layout: str, array: np.ndarray, role: str, scope: str) -> Value:
        """``array``, which is the file's constant ``name`` in another layout; made once for each layout."""

    def sizes(self, value: Value) -> tuple[Any, ...]:
        """The sizes of a value, free ones as PyTorch's symbols."""


class Unsettled(Exception):
    """An argument is computed from tensors where a number is needed: the node is kept as it is."""


@dataclass(frozen=True)
class Node:
    """``attributes``: by name, a number, a text, an array or a tuple of these; ``index``: its position in the file."""

    reader: Reader
    proto: Any
    attributes: Mapping[str, Any]
    index: int

    def get(self, attribute: str, default: object) -> Any:
        """An attribute, or ``default`` where the node lacks it."""
        return self.attributes.get(attribute, default)

    @property
    def opset(self) -> int:
        """The version of ONNX's operators that the file declares."""
        return self.reader.opset

    def has(self, i: int) -> bool:
        """Whether the input is given."""
        return i < len(self.proto.input) and bool(self.proto.input[i])

    def gives(self, i: int) -> bool:
        """Whether the output exists and anything reads it."""
        return i < len(self.proto.output) and self.reader.readers.get(self.proto.output[i], 0) > 0

    def value(self, i: int, role: str = "", layout: str = "") -> Value:
        """The input as a Value; ``role``: its name in the layer, for a constant."""
        scope = self.layer() if role else ""
        found = self.reader.tensor(self.proto.input[i], role, layout, scope)
        if found is None:
            raise ValueError(f"its input {i} is missing")
        return found

    def sequence(self, i: int) -> tuple[Value, ...]:
        """The input, a sequence, as a tuple of values. Raises: Unsettled where it is none."""
        found = self.reader.entries[self.proto.input[i]]
        if not isinstance(found, tuple):
            raise Unsettled("a sequence")
        return found

    def optional(self, i: int, role: str = "", layout: str = "") -> Value | None:
        """``value``, or None where the input is not given."""
        return self.value(i, role, layout) if self.has(i) else None

    def arranged(self, i: int, array: np.ndarray, role: str, layout: str) -> Value:
        """A constant input in another layout than the file's."""
        return self.reader.arranged(self.proto.input[i], layout, array, role, self.layer())

    def layer(self) -> str:
        """The path of the node's layer: that of its weight, else its scope, else its own name."""
        weight = self.proto.input[1] if len(self.proto.input) > 1 else ""
        if DOTTED.fullmatch(weight) and isinstance(self.reader.entries[weight], np.ndarray):
            return plain(weight.rpartition(".")[0])
        return self.reader.scope or plain(self.proto.name) or f"{self.proto.op_type}_{self.index}"

    def known(self, i: int) -> Known | None:
        """The input where it is a constant or known numbers, else None."""
        found = self.reader.entries[self.proto.input[i]] if self.has(i) else None
        return None if isinstance(found, (Value, tuple)) else found

    def constant(self, i: int) -> np.ndarray | None:
        """The input where it is a constant of the file, else None."""
        found = self.known(i)
        return found if isinstance(found, np.ndarray) else None

    def number(self, i: int) -> Any:
        """The input as one number, possibly symbolic; None where it is anything else."""
        found = self.known(i)
        if found is None:
            return None
        items = found.items if isinstance(found, Numbers) else found
        if items.size != 1 or items.dtype.kind not in "fiubO":
            return None
        return items.reshape(-1)[0] if isinstance(found, Numbers) else items.item()

    def ints(self, i: int, attribute: str) -> list[Any] | None:
        """Integers from an input, in older opsets an attribute; None where they are not given.

        Raises: Unsettled where they are computed from tensors.
        """
        if attribute in self.attributes:
            return list(self.attributes[attribute])
        if not self.has(i):
            return None
        found = self.known(i)
        if found is None:
            raise Unsettled(attribute)
        items = found.items if isinstance(found, Numbers) else found
        return [
            item if isinstance(found, Numbers) and not isinstance(item, np.generic) else int(item)
            for item in items.flat
        ]

    def fixed(self, i: int, attribute: str) -> list[int] | None:
        """``ints``, none of which may be symbolic. Raises: Unsettled."""
        found = self.ints(i, attribute)
        if found is not None and any(isinstance(item, torch.SymInt) for item in found):
            raise Unsettled(attribute)
        return found

    def sizes(self, value: Value) -> tuple[Any, ...]:
        """The sizes of a value, symbolic ones among them."""
        return self.reader.sizes(value)

    def give(self, op: str, /, **arguments: Any) -> Value:
        """A new Value of the graph's operator ``op``."""
        return self.reader.add(op, arguments)

    def view(self, x: Value, size: tuple[object, ...]) -> Value:
        """``x`` in another shape."""
        value = self.give("view", x=x["x"] if x.op == "view" else x, size=size)
        return x if value.shape == x.shape else value


def attributes_of(proto: Any, onnx: Any) -> dict[str, Any]:
    """A node's attributes; a float as the shortest number that is it in float32: 0.1 and not 0.10000000149."""
    return {
        a.name: _attribute(onnx.helper.get_attribute_value(a), a, onnx) for a in proto.attribute if not a.ref_attr_name
    }


def _attribute(value: Any, proto: Any, onnx: Any) -> Any:
    if proto.type == onnx.AttributeProto.FLOAT:
        return float(str(np.float32(value)))
    if proto.type == onnx.AttributeProto.FLOATS:
        return tuple(float(str(np.float32(item))) for item in value)
    if proto.type == onnx.AttributeProto.TENSOR:
        return np.asarray(onnx.numpy_helper.to_array(value))
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return tuple(value) if proto.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.STRINGS) else value
