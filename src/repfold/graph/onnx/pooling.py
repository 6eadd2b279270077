"""Pools and reductions of an ONNX file."""

from __future__ import annotations

import math
from operator import le
from typing import Any

import torch

from repfold.graph.graph import Value
from repfold.graph.onnx.layers import Reading, alike, pad_apart, padding_of
from repfold.graph.onnx.node import Node


def _max_pool(node: Node) -> Value | None:
    x, kernel = node.value(0), node.attributes["kernel_shape"]
    rank = len(kernel)
    strides, dilations = node.get("strides", (1,) * rank), node.get("dilations", (1,) * rank)
    if rank not in (1, 2, 3) or node.gives(1) or not x.dtype.is_floating_point:
        return None
    before, after = padding_of(node, x, kernel, strides, dilations)
    most = tuple(k // 2 for k in kernel)
    ceil = bool(node.get("ceil_mode", 0))
    if ceil and not (alike(before, after) and all(map(le, before, most))):
        spans = [(k - 1) * dilation + 1 for k, dilation in zip(kernel, dilations, strict=True)]
        after, ceil = _rounded_up(node.sizes(x)[2:], before, after, spans, strides), False
    x, padding = pad_apart(node, x, before, after, -math.inf, most)
    return node.give(
        "max_pool", x=x, kernel=kernel, stride=strides, padding=padding, dilation=dilations, ceil_mode=ceil
    )


def _rounded_up(sizes: Any, before: Any, after: Any, spans: list[int], strides: Any) -> tuple[Any, ...]:
    """The padding after each axis that gives as many windows as ``ceil_mode``.

    The last window begins before the padding that comes after.
    """
    found = []
    for n, a, b, span, stride in zip(sizes, before, after, spans, strides, strict=True):
        last = torch.sym_min((n + a + b - span + stride - 1) // stride, (n + a - 1) // stride)
        found.append(last * stride + span - n - a)
    return tuple(found)


def _avg_pool(node: Node) -> Value | None:
    x, kernel = node.value(0), node.attributes["kernel_shape"]
    rank = len(kernel)
    strides, dilations = node.get("strides", (1,) * rank), node.get("dilations", (1,) * rank)
    if rank not in (1, 2, 3) or any(dilation != 1 for dilation in dilations):
        return None
    before, after = padding_of(node, x, kernel, strides, dilations)
    counted, ceil = bool(node.get("count_include_pad", 0)), bool(node.get("ceil_mode", 0))
    padded, padding = pad_apart(node, x, before, after, 0.0, tuple(k // 2 for k in kernel))
    if ceil and padded is not x:
        return None
    window = {"kernel": kernel, "stride": strides, "padding": padding, "ceil_mode": ceil, "divisor": None}
    y = node.give("avg_pool", x=padded, **window, count_include_pad=counted or not any(padding))
    if counted or padded is x:
        return y
    # The share of each window that is not padding: the same pool of ones.
    size = (1, 1, *node.sizes(x)[2:])
    ones = node.give("aten.full.default", size=size, fill_value=1.0, dtype=x.dtype)
    share = node.give("avg_pool", x=pad_apart(node, ones, before, after, 0.0)[0], **window, count_include_pad=True)
    return node.give("div", x=y, other=share)


def _global(op: str, name: str) -> Reading:
    return lambda node: node.give(
        op, **{name: node.value(0)}, **_dims(op, tuple(range(2, len(node.value(0).shape)))), keepdim=True
    )


def _dims(op: str, dims: tuple[int, ...]) -> dict[str, Any]:
    """The reduced axes under the operator's name for them."""
    return {"dim": dims} if op.startswith("aten.") else {"dims": dims}


def _reduced_axes(node: Node, x: Value) -> tuple[int, ...] | None:
    """The axes to reduce, None for none of them."""
    axes = node.fixed(1, "axes")
    if not axes and node.get("noop_with_empty_axes", 0):
        return None
    return tuple(sorted(axis % len(x.shape) for axis in axes)) if axes else tuple(range(len(x.shape)))


def _reduce(op: str, name: str = "x", **rest: Any) -> Reading:
    def read(node: Node) -> Value | None:
        x = node.value(0)
        axes = _reduced_axes(node, x)
        if axes is None:
            return x if op in ("mean", "sum") or op.startswith("aten.am") else None
        if not axes or (not x.dtype.is_floating_point and not op.startswith("aten.am")):
            return None
        return node.give(op, **{name: x}, **rest, **_dims(op, axes), keepdim=bool(node.get("keepdims", 1)))

    return read


def _sum_of_squares(node: Node) -> Value | None:
    x = node.value(0)
    axes = _reduced_axes(node, x)
    if not axes or not x.dtype.is_floating_point:
        return None
    return node.give("sum", x=node.give("mul", x=x, other=x), dims=axes, keepdim=bool(node.get("keepdims", 1)))


def _arg_max(op: str) -> Reading:
    def read(node: Node) -> Value | None:
        if node.get("select_last_index", 0):
            return None
        x = node.value(0)
        axis = node.get("axis", 0) % len(x.shape)
        return node.give(op, self=x, dim=axis, keepdim=bool(node.get("keepdims", 1)))

    return read


POOLS: dict[str, Reading] = {
    "MaxPool": _max_pool,
    "AveragePool": _avg_pool,
    "GlobalAveragePool": _global("mean", "x"),
    "GlobalMaxPool": _global("aten.amax.default", "self"),
    "ReduceMean": _reduce("mean"),
    "ReduceSum": _reduce("sum"),
    "ReduceMax": _reduce("aten.amax.default", "self"),
    "ReduceMin": _reduce("aten.amin.default", "self"),
    "ReduceL1": _reduce("aten.linalg_vector_norm.default", "self", ord=1, dtype=None),
    "ReduceL2": _reduce("aten.linalg_vector_norm.default", "self", ord=2, dtype=None),
    "ReduceLogSumExp": _reduce("aten.logsumexp.default", "self"),
    "ReduceSumSquare": _sum_of_squares,
    "ArgMax": _arg_max("aten.argmax.default"),
    "ArgMin": _arg_max("aten.argmin.default"),
}
