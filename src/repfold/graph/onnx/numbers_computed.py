"""Nodes that compute with known numbers, and ``evaluate``, which computes any node on them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import torch

from repfold.graph.onnx.file import require_onnx
from repfold.graph.onnx.numbers import LARGEST, Arguments, Attributes, Given, Known, Numbers, Unknown, is_symbol
from repfold.graph.onnx.numbers_moved import MOVED

LARGEST_POWER = 8  # that a size is raised to


def evaluate(op: str, arguments: Arguments, attributes: Attributes, opset: int) -> tuple[Known, ...] | None:
    """The node's result on known numbers, or None where it is not computed from numbers alone."""
    rule = RULES.get(op)
    if rule is None or any(argument is None for argument in arguments[:1]):
        return None
    symbolic = any(isinstance(argument, Numbers) for argument in arguments)
    try:
        with np.errstate(all="ignore"):
            found = rule(Given(arguments, attributes, opset))
    except (Unknown, ValueError, IndexError, TypeError, OverflowError, AttributeError):
        return None  # left to the reading of tensors, which says what is wrong
    results = found if isinstance(found, tuple) else (found,)
    return tuple(_settled(result) for result in results) if symbolic else results


def _settled(result: Known) -> Known:
    """A plain array where no symbol is left."""
    if isinstance(result, Numbers) and not any(is_symbol(item) for item in result.items.flat):
        return result.items.astype(result.dtype)
    return result


def _together(*arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays to compute with; among sizes, whole floats become ints and so stay exact."""
    if not any(array.dtype == object for array in arrays):
        return list(arrays)
    return [array if array.dtype == object else _as_whole(array) for array in arrays]


def _as_whole(array: np.ndarray) -> np.ndarray:
    items = [int(item) if item == int(item) else float(item) for item in array.reshape(-1).tolist()]
    found = np.empty(len(items), object)
    found[:] = items
    return found.reshape(array.shape)


def _each(symbolic: Callable[..., Any], plain: Callable[..., Any]) -> Callable[[Given], Known]:
    """A function of one number: ``symbolic`` where some are free sizes, ``plain`` of an array where none is."""

    def rule(node: Given) -> Known:
        x = node.items(0)
        return node.give(np.asarray(np.frompyfunc(symbolic, 1, 1)(x), object) if x.dtype == object else plain(x))

    return rule


def _extreme(symbolic: Callable[..., Any], plain: Callable[..., Any]) -> Callable[[Given], Known]:
    """The largest or the smallest of several numbers."""

    def rule(node: Given) -> Known:
        arrays = _together(*(node.items(i) for i in range(len(node.arguments))))
        function = np.frompyfunc(symbolic, 2, 1) if any(a.dtype == object for a in arrays) else plain
        return node.give(np.asarray(reduce(function, arrays)))

    return rule


def _fast(ufunc: Callable[..., Any], dtype: np.dtype | None = None) -> Callable[[Given], Known]:
    """One of NumPy's own functions of two arrays, which broadcast."""

    def rule(node: Given) -> Known:
        a, b = _together(node.items(0), node.items(1))
        if math.prod(np.broadcast_shapes(a.shape, b.shape)) > LARGEST:
            raise Unknown
        return node.give(np.asarray(ufunc(a, b)), dtype)

    return rule


def _div(node: Given) -> Known:
    """Integer division rounds towards zero."""
    a, b = _together(node.items(0), node.items(1))
    if node.dtype(0).kind not in "iu":
        return node.give(np.asarray(a / b))
    if object in (a.dtype, b.dtype):
        return node.give(np.asarray(np.frompyfunc(_quotient, 2, 1)(a, b)))
    return node.give(np.where((a < 0) != (b < 0), -(abs(a) // abs(b)), abs(a) // abs(b)))


def _pow(node: Given) -> Known:
    """Sizes are raised to small powers only: Python's integers would grow until memory is full."""
    a, b = _together(node.items(0), node.items(1))
    if object in (a.dtype, b.dtype) and not all(not is_symbol(item) and abs(item) <= LARGEST_POWER for item in b.flat):
        raise Unknown
    return _fast(np.power)(node)


def _quotient(a: Any, b: Any) -> Any:
    """A number computed from sizes is assumed to have the same sign for all of them."""
    return a // b if bool(a >= 0) == bool(b >= 0) else -(-a // b)


def _mod(node: Given) -> Known:
    if node.attributes.get("fmod", 0):
        raise Unknown
    return node.give(np.asarray(node.items(0) % node.items(1)))


def _cast(node: Given) -> Known:
    dtype = np.dtype(require_onnx().helper.tensor_dtype_to_np_dtype(node.attributes["to"]))
    items = node.items(0)
    if items.dtype != object:
        return items.astype(dtype)
    if dtype.kind not in "fiu":
        raise Unknown
    # A size stays an integer where the file casts it to a float.
    return Numbers(items if dtype.kind == "f" else np.asarray(np.frompyfunc(torch.sym_int, 1, 1)(items), object), dtype)


def _clip(node: Given) -> Known:
    found = node.items(0)
    for i, symbolic, plain in ((1, torch.sym_max, np.maximum), (2, torch.sym_min, np.minimum)):
        if i < len(node.arguments) and node.arguments[i] is not None:
            found, bound = _together(found, node.items(i))
            function = np.frompyfunc(symbolic, 2, 1) if object in (found.dtype, bound.dtype) else plain
            found = np.asarray(function(found, bound))
    return node.give(found)


def _reduce(function: Callable[..., Any]) -> Callable[..., Known]:
    def rule(node: Given, items: np.ndarray | None = None) -> Known:
        items = node.items(0) if items is None else items
        axes = node.ints(1, "axes")
        if axes is None and node.attributes.get("noop_with_empty_axes", 0):
            return node.give(items)
        keep = bool(node.attributes.get("keepdims", 1))
        return node.give(np.asarray(function(items, axis=None if axes is None else tuple(axes), keepdims=keep)))

    return rule


def _where(node: Given) -> Known:
    condition = node.constants(0)
    return node.give(np.where(condition, node.items(1), node.items(2)), node.dtype(1))


def _equal(node: Given) -> Known:
    a, b = np.broadcast_arrays(node.items(0), node.items(1))
    if object not in (a.dtype, b.dtype):
        return np.asarray(a == b)
    return np.array([_same(x, y) for x, y in zip(a.flat, b.flat, strict=True)], bool).reshape(a.shape)


def _same(a: Any, b: Any) -> bool:
    """Whether two sizes are equal. Raises: Unknown where it depends on the input."""
    if not is_symbol(a) and not is_symbol(b):
        return bool(a == b)
    if (not is_symbol(a) and a < 0) or (not is_symbol(b) and b < 0):
        return False
    if is_symbol(a) and is_symbol(b) and a.node.expr == b.node.expr:
        return True
    raise Unknown


RULES: dict[str, Callable[[Given], Known | tuple[Known, ...]]] = {
    **MOVED,
    "Add": _fast(np.add),
    "Sub": _fast(np.subtract),
    "Mul": _fast(np.multiply),
    "Div": _div,
    "Mod": _mod,
    "Pow": _pow,
    "Max": _extreme(torch.sym_max, np.maximum),
    "Min": _extreme(torch.sym_min, np.minimum),
    "Clip": _clip,
    "Neg": lambda node: node.give(-node.items(0)),
    "Abs": lambda node: node.give(np.abs(node.constants(0))),
    "Sqrt": _each(torch.sym_sqrt, np.sqrt),
    "Exp": lambda node: node.give(np.exp(node.constants(0))),
    "Log": lambda node: node.give(np.log(node.constants(0))),
    "Reciprocal": lambda node: node.give(np.asarray(1 / node.items(0))),
    "Floor": _each(math.floor, np.floor),
    "Ceil": _each(math.ceil, np.ceil),
    "Not": lambda node: ~node.constants(0),
    "And": lambda node: node.constants(0) & node.constants(1),
    "Or": lambda node: node.constants(0) | node.constants(1),
    "Equal": _equal,
    "Greater": lambda node: node.constants(0) > node.constants(1),
    "GreaterOrEqual": lambda node: node.constants(0) >= node.constants(1),
    "Less": lambda node: node.constants(0) < node.constants(1),
    "LessOrEqual": lambda node: node.constants(0) <= node.constants(1),
    "Where": _where,
    "Cast": _cast,
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "ReduceMax": lambda node: _reduce(np.max)(node, node.constants(0)),
    "ReduceMin": lambda node: _reduce(np.min)(node, node.constants(0)),
}
