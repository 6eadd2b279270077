"""Nodes that arrange known numbers, or make new ones of a shape."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from repfold.graph.onnx.numbers import LARGEST, WHOLE, Attributes, Given, Known, Unknown, is_symbol


def _gather(node: Given) -> Known:
    return node.give(np.take(node.items(0), node.items(1).astype(np.int64), axis=node.attributes.get("axis", 0)))


def _slice(node: Given) -> Known:
    x = node.items(0)
    starts, ends = node.ints(1, "starts"), node.ints(2, "ends")
    if starts is None or ends is None:
        raise Unknown
    axes, steps = node.ints(3, "axes") or range(len(starts)), node.ints(4, "steps") or [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        picked: list[Any] = [slice(None)] * x.ndim
        picked[axis] = slice(start, None if step < 0 and end < -x.shape[axis] else end, step)
        x = x[tuple(picked)]
    return node.give(x)


def _concat(node: Given) -> Known:
    return node.give(np.concatenate([node.items(i) for i in range(len(node.arguments))], node.attributes["axis"]))


def _squeeze(node: Given) -> Known:
    axes = node.ints(1, "axes")
    return node.give(np.squeeze(node.items(0), None if axes is None else tuple(axes)))


def _unsqueeze(node: Given) -> Known:
    return node.give(np.expand_dims(node.items(0), tuple(node.ints(1, "axes") or ())))


def _reshape(node: Given) -> Known:
    x, shape = node.items(0), node.ints(1, "shape") or []
    if not node.attributes.get("allowzero", 0):
        shape = [x.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    return node.give(x.reshape(shape))


def _flatten(node: Given) -> Known:
    x, axis = node.items(0), node.attributes.get("axis", 1)
    return node.give(x.reshape(math.prod(x.shape[:axis]), -1))


def _transpose(node: Given) -> Known:
    return node.give(node.items(0).transpose(node.attributes.get("perm")))


def _stated(attributes: Attributes) -> np.ndarray:
    """A Constant node's value, in whichever of its attributes it is."""
    for name, dtype in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", WHOLE),
        ("value_ints", WHOLE),
    ):
        if name in attributes:
            return np.array(attributes[name], dtype)
    value = attributes.get("value")
    if not isinstance(value, np.ndarray):
        raise Unknown
    return value


def _fill(node: Given) -> Known:
    """ConstantOfShape."""
    value = node.attributes.get("value", np.zeros(1, np.float32))
    shape = [int(size) for size in node.constants(0)]
    if math.prod(shape) > LARGEST:
        raise Unknown
    return np.full(shape, value.reshape(()), value.dtype)


def _expand(node: Given) -> Known:
    x = node.items(0)
    shape = np.broadcast_shapes(x.shape, tuple(int(size) for size in node.constants(1)))
    if math.prod(shape) > LARGEST:
        raise Unknown
    return node.give(np.broadcast_to(x, shape).copy())


def _tile(node: Given) -> Known:
    repeats = [int(item) for item in node.constants(1)]
    if math.prod(repeats) * node.items(0).size > LARGEST:
        raise Unknown
    return node.give(np.tile(node.items(0), repeats))


def _range(node: Given) -> Known:
    start, limit, step = (node.items(i).item() for i in range(3))
    if any(map(is_symbol, (start, limit, step))) or step == 0 or (limit - start) / step > LARGEST:
        raise Unknown
    return node.give(np.arange(start, limit, step))


def _split(node: Given) -> tuple[Known, ...]:
    x, axis = node.items(0), node.attributes.get("axis", 0)
    sizes = node.ints(1, "split")
    parts = node.attributes.get("num_outputs") if sizes is None else None
    if sizes is None:
        if parts is None:
            raise Unknown
        sizes = [-(-x.shape[axis] // parts)] * parts
    return tuple(node.give(part) for part in np.split(x, np.cumsum(sizes)[:-1], axis))


MOVED: dict[str, Callable[[Given], Known | tuple[Known, ...]]] = {
    "Constant": lambda node: _stated(node.attributes),
    "Identity": lambda node: node.give(node.items(0)),
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Split": _split,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "ConstantOfShape": _fill,
    "Expand": _expand,
    "Tile": _tile,
    "Range": _range,
    "Shape": lambda node: np.array(node.items(0).shape, WHOLE)[
        node.attributes.get("start", 0) : node.attributes.get("end")
    ],
    "Size": lambda node: np.array(node.items(0).size, WHOLE),
}
