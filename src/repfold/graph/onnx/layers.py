"""Reading ONNX's layers with weights: convolutions, matrix products and norms."""

from __future__ import annotations

from collections.abc import Callable
from operator import le
from typing import Any

import numpy as np
import torch

from repfold.graph.graph import Value
from repfold.graph.onnx.node import Node

Reading = Callable[[Node], Any]


def padding_of(
    node: Node, x: Value, kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]
) -> Any:
    """The node's padding of the last axes as (before, after); numbers of free sizes where "SAME" makes them so."""
    rank, kind = len(kernel), node.get("auto_pad", "NOTSET")
    if kind in ("NOTSET", ""):
        pads = node.get("pads", (0,) * 2 * rank)
        return pads[:rank], pads[rank:]
    if kind == "VALID":
        return (0,) * rank, (0,) * rank
    totals = [
        _same_padding(size, (k - 1) * dilation + 1, stride)
        for size, k, stride, dilation in zip(node.sizes(x)[2:], kernel, strides, dilations, strict=True)
    ]
    small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    return (small, large) if kind == "SAME_UPPER" else (large, small)


def _same_padding(size: Any, span: int, stride: int) -> Any:
    """Total padding of one axis for ⌈size/stride⌉ output samples."""
    if stride == 1:
        return span - 1
    needed = ((size + stride - 1) // stride - 1) * stride + span - size
    return torch.sym_max(needed, 0)


def pad_apart(
    node: Node, x: Value, before: Any, after: Any, value: float, most: tuple[int, ...] | None = None
) -> tuple[Value, tuple[int, ...]]:
    """``x``, padded where the operator cannot do it itself, and the symmetric padding left to the operator.

    ``most``: the largest padding of each axis that the operator can do.
    """
    if alike(before, after) and all(p >= 0 for p in before) and all(map(le, before, most or before)):
        return x, tuple(before)
    pads = tuple(p for pair in zip(before[::-1], after[::-1], strict=True) for p in pair)
    return node.give("pad", x=x, pads=pads, mode="constant", value=value), (0,) * len(before)


def alike(before: Any, after: Any) -> bool:
    """Whether the padding is a fixed number and the same on both sides."""
    return all(isinstance(p, int) for p in (*before, *after)) and tuple(before) == tuple(after)


def _conv(node: Node) -> Value | None:
    x, weight = node.value(0), node.value(1, "weight")
    rank = len(weight.shape) - 2
    if rank not in (1, 2, 3):
        return None
    strides, dilations = node.get("strides", (1,) * rank), node.get("dilations", (1,) * rank)
    kernel: Any = weight.shape[2:]
    before, after = padding_of(node, x, kernel, strides, dilations)
    x, padding = pad_apart(node, x, before, after, 0.0)
    return node.give(
        "conv", x=x, weight=weight, bias=node.optional(2, "bias"), stride=strides, padding=padding, dilation=dilations,
        groups=node.get("group", 1), transposed=False, output_padding=(0,) * rank,
    )  # fmt: skip


def _conv_transpose(node: Node) -> Value | None:
    x, weight = node.value(0), node.value(1, "weight")
    rank = len(weight.shape) - 2
    if (
        rank not in (1, 2, 3)
        or "output_shape" in node.attributes
        or node.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    ):
        return None
    pads = node.get("pads", (0,) * 2 * rank)
    before, after = pads[:rank], pads[rank:]
    padding = before if before == after else (0,) * rank
    y = node.give(
        "conv", x=x, weight=weight, bias=node.optional(2, "bias"), stride=node.get("strides", (1,) * rank),
        padding=padding, dilation=node.get("dilations", (1,) * rank), groups=node.get("group", 1), transposed=True,
        output_padding=node.get("output_padding", (0,) * rank),
    )  # fmt: skip
    if before == after:
        return y
    crop = tuple(-p for pair in zip(before[::-1], after[::-1], strict=True) for p in pair)
    return node.give("pad", x=y, pads=crop, mode="constant", value=0.0)


def _gemm(node: Node) -> Value:
    """α·A·B + β·C, either factor transposed: a linear layer where B is a constant."""
    x = node.give("permute", x=node.value(0), dims=(1, 0)) if node.get("transA", 0) else node.value(0)
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    matrix = node.constant(1)
    bias = node.constant(2)
    row = None if matrix is None else matrix.shape[0 if node.get("transB", 0) else 1]
    fits = bias is not None and alpha == beta == 1 and bias.size == max(bias.shape, default=1) and bias.size in (1, row)
    fits = fits and (bias is None or bias.ndim < 2 or bias.shape[0] == 1)
    whole = matrix is not None and bias is not None and fits
    inner = None
    if whole and bias is not None and row is not None:
        inner = node.value(2, "bias") if bias.shape == (row,) else _row(node, bias, row)
    if matrix is None:
        other = node.value(1)
        y = node.give(
            "matmul", x=x, other=node.give("permute", x=other, dims=(1, 0)) if node.get("transB", 0) else other
        )
    else:
        y = node.give("linear", x=x, weight=_weight(node, matrix, transposed=not node.get("transB", 0)), bias=inner)
    if alpha != 1:
        y = node.give("mul", x=y, other=alpha)
    if node.has(2) and not whole and beta != 0:
        addend = node.value(2, "bias")
        y = node.give("add", x=y, other=addend if beta == 1 else node.give("mul", x=addend, other=beta))
    return y


def _weight(node: Node, matrix: np.ndarray, *, transposed: bool) -> Value:
    """A linear layer's weight [O, I], in the file [I, O] where it is ``transposed``."""
    return (
        node.arranged(1, np.ascontiguousarray(matrix.T), "weight", "transposed")
        if transposed
        else node.value(1, "weight")
    )


def _row(node: Node, bias: np.ndarray, size: int) -> Value:
    return node.arranged(2, np.broadcast_to(bias.reshape(-1), (size,)).copy(), "bias", f"row of {size}")


def _matmul(node: Node) -> Value:
    matrix = node.constant(1)
    if matrix is None or matrix.ndim != 2 or node.known(0) is not None or not node.value(0).shape:
        return node.give("matmul", x=node.value(0), other=node.value(1))
    return node.give("linear", x=node.value(0), weight=_weight(node, matrix, transposed=True), bias=None)


def _batch_norm(node: Node) -> Value | None:
    x = node.value(0)
    if node.get("training_mode", 0) or any(map(node.gives, range(1, 5))):
        return None
    given = {
        "weight": node.value(1, "weight"),
        "bias": node.value(2, "bias"),
        # One tensor of a file may serve as a weight and as a statistic: only one of them is ever trained.
        "running_mean": node.value(3, "running_mean", "statistic"),
        "running_var": node.value(4, "running_var", "statistic of spread"),
    }
    if any(value.dtype != x.dtype for value in given.values()):
        return None
    momentum = round(1 - node.get("momentum", 0.9), 7)
    return node.give("batch_norm", x=x, **given, training=False, momentum=momentum, eps=node.get("epsilon", 1e-5))


def _instance_norm(node: Node) -> Value:
    state = {
        "weight": node.value(1, "weight"),
        "bias": node.value(2, "bias"),
        "running_mean": None,
        "running_var": None,
    }
    return node.give(
        "instance_norm", x=node.value(0), **state, use_input_stats=True, momentum=0.1, eps=node.get("epsilon", 1e-5)
    )


def _layer_norm(node: Node) -> Value | None:
    x, weight, bias = node.value(0), node.value(1, "weight"), node.optional(2, "bias")
    shape = x.shape[node.get("axis", -1) % len(x.shape) :]
    if node.gives(1) or node.gives(2) or weight.shape != shape or (bias is not None and bias.shape != shape):
        return None
    return node.give("layer_norm", x=x, shape=shape, weight=weight, bias=bias, eps=node.get("epsilon", 1e-5))


def _group_norm(node: Node) -> Value:
    """Of opset 21; the earlier definition was deprecated at once."""
    groups, eps = node.attributes["num_groups"], node.get("epsilon", 1e-5)
    weight, bias = node.value(1, "weight"), node.value(2, "bias")
    return node.give("group_norm", x=node.value(0), groups=groups, weight=weight, bias=bias, eps=eps)


def _prelu(node: Node) -> Value | None:
    """One slope per channel, or one for all."""
    x, slope = node.value(0), node.constant(1)
    if slope is None or len(x.shape) < 2:
        return None
    shape = (1,) * (len(x.shape) - slope.ndim) + slope.shape
    if slope.size != 1 and (shape[1] != slope.size or shape[1] != x.shape[1]):
        return None
    return node.give("prelu", x=x, weight=node.arranged(1, slope.reshape(-1), "weight", "a slope a channel"))


LAYERS: dict[str, Reading] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "GroupNormalization": _group_norm,
    "PRelu": _prelu,
}
