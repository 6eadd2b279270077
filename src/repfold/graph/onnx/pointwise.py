"""Reading ONNX's pointwise operators: arithmetic, activations, casts; and softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from repfold.graph.graph import Value
from repfold.graph.onnx.layers import Reading
from repfold.graph.onnx.names import ARITHMETIC, COMPARISONS, UNARY, onnx_dtype, torch_dtype
from repfold.graph.onnx.node import Node
from repfold.graph.onnx.numbers import Numbers


def _unary(op: str) -> Reading:
    name = "self" if op.startswith("aten.") else "x"
    return lambda node: node.give(op, **{name: node.value(0)})


def _comparison(op: str) -> Reading:
    return lambda node: node.give(op, self=node.value(0), other=node.value(1))


def _arithmetic(op: str) -> Reading:
    """Of two values; a scalar constant becomes a number where it is second or the operator commutes."""

    def read(node: Node) -> Value | None:
        if op == "add" and (biased := _with_bias(node)) is not None:
            return biased
        for i, j in ((0, 1), (1, 0)) if op in ("add", "mul") else ((0, 1),):
            if node.known(i) is None and _is_plain_number(node, j, node.value(i)):
                return _applied(node, op, node.value(i), node.number(j))
        return _applied(node, op, node.value(0), node.value(1))

    return read


def _is_plain_number(node: Node, i: int, x: Value) -> bool:
    """Whether input ``i`` is one number that changes neither the rank nor the dtype of ``x``."""
    known, number = node.known(i), node.number(i)
    if known is None or number is None or isinstance(number, bool) or x.dtype == torch.bool:
        return False
    rank = (known.items if isinstance(known, Numbers) else known).ndim
    return rank <= len(x.shape) and (not isinstance(number, float) or math.isfinite(number))


def _applied(node: Node, op: str, x: Value, other: object) -> Value | None:
    if op not in ("div", "pow"):
        return node.give(op, x=x, other=other)
    whole = not x.dtype.is_floating_point
    if op == "div":
        return _whole_quotient(node, x, other) if whole else node.give("div", x=x, other=other)
    if whole or (isinstance(other, Value) and other.dtype != x.dtype):
        return None
    return node.give("pow", x=x, exponent=int(other) if isinstance(other, float) and other == int(other) else other)


def _whole_quotient(node: Node, x: Value, other: object) -> Value:
    kind = "Tensor_mode" if isinstance(other, Value) else "Scalar_mode"
    return node.give(f"aten.div.{kind}", self=x, other=other, rounding_mode="trunc")


def _with_bias(node: Node) -> Value | None:
    """A linear layer: a product with a matrix, of which a sum with a row is the only reader."""
    for i, j in ((0, 1), (1, 0)):
        if node.known(i) is not None or node.reader.readers.get(node.proto.input[i]) != 1:
            continue
        x, row = node.value(i), node.constant(j)
        if x.op == "linear" and x["bias"] is None and row is not None and row.shape == x["weight"].shape[:1]:
            bias = node.reader.tensor(node.proto.input[j], "bias", "", x.scope)
            return node.give("linear", x=x["x"], weight=x["weight"], bias=bias)
    return None


def _several(op: str) -> Reading:
    """Max, Min and Sum of any number of values."""

    def read(node: Node) -> Value:
        found = node.value(0)
        for i in range(1, len(node.proto.input)):
            found = node.give(op, x=found, other=node.value(i))
        return found

    return read


def _clip(node: Node) -> Value | None:
    x = node.value(0)
    bounds = []
    for i, attribute in ((1, "min"), (2, "max")):
        bound = node.number(i) if node.has(i) else node.get(attribute, None)
        if node.has(i) and bound is None:
            return None
        bounds.append(bound)
    low, high = bounds
    return x if low is None and high is None else node.give("clamp", x=x, low=low, high=high)


def _hard_sigmoid(node: Node) -> Value:
    """clip(αx + β, 0, 1); PyTorch's has α = 1/6."""
    x, alpha, beta = node.value(0), node.get("alpha", 0.2), node.get("beta", 0.5)
    if np.float32(alpha) == np.float32(1 / 6) and beta == 0.5:
        return node.give("hardsigmoid", x=x)
    line = node.give("add", x=node.give("mul", x=x, other=alpha), other=beta)
    return node.give("clamp", x=line, low=0.0, high=1.0)


def _selu(node: Node) -> Value:
    alpha, gamma = node.get("alpha", 1.6732632423543772), node.get("gamma", 1.0507009873554805)
    return node.give("aten.elu.default", self=node.value(0), alpha=alpha, scale=gamma, input_scale=1.0)


def _swish(node: Node) -> Value:
    x, alpha = node.value(0), node.get("alpha", 1.0)
    if alpha == 1:
        return node.give("silu", x=x)
    return node.give("mul", x=x, other=node.give("sigmoid", x=node.give("mul", x=x, other=alpha)))


def _softmax(op: str) -> Reading:
    """Before opset 13 the axes from ``axis`` on were taken as one."""

    def read(node: Node) -> Value:
        x, rank = node.value(0), len(node.value(0).shape)
        axis = node.get("axis", -1 if node.opset >= 13 else 1) % rank
        if node.opset >= 13 or axis == rank - 1:
            return node.give(op, x=x, dim=axis)
        sizes = node.sizes(x)
        flat = node.view(x, (math.prod(sizes[:axis]), math.prod(sizes[axis:])))
        return node.view(node.give(op, x=flat, dim=1), sizes)

    return read


def _dropout(node: Node) -> Value | None:
    if node.gives(1) or (node.has(2) and node.number(2) is not False):
        return None
    ratio = node.number(1) if node.has(1) else node.get("ratio", 0.5)
    return None if ratio is None else node.give("dropout", x=node.value(0), p=ratio, kind="dropout", training=False)


def _cast(node: Node) -> Value | None:
    return _to(node, torch_dtype(node.reader.onnx, node.attributes["to"]))


def _cast_like(node: Node) -> Any:
    like = node.value(1).dtype
    constant = node.constant(0)
    if constant is not None:
        onnx = node.reader.onnx
        return constant.astype(onnx.helper.tensor_dtype_to_np_dtype(onnx_dtype(onnx, like)))
    return _to(node, like)


def _to(node: Node, dtype: torch.dtype | None) -> Value | None:
    x = node.value(0)
    return None if dtype is None else x if x.dtype == dtype else node.give("to", x=x, dtype=dtype)


def _where(node: Node) -> Value:
    return node.give("aten.where.self", condition=node.value(0), self=node.value(1), other=node.value(2))


def _constant_of_shape(node: Node) -> Value | None:
    shape, fill = node.ints(0, ""), node.get("value", np.zeros(1, np.float32))
    dtype = {"f": torch.float32, "i": torch.int64, "b": torch.bool}.get(fill.dtype.kind)
    if (
        shape is None
        or dtype is None
        or fill.dtype.itemsize != torch.empty(0, dtype=dtype, device="meta").element_size()
    ):
        return None
    return node.give("aten.full.default", size=tuple(shape), fill_value=fill.reshape(-1)[0].item(), dtype=dtype)


def _range(node: Node) -> Value | None:
    """A range whose length depends on free sizes; known ones were evaluated before."""
    start, limit, step = (node.number(i) for i in range(3))
    known = node.known(0)
    if start is None or limit is None or step is None or known is None or known.dtype not in (np.int64, np.float32):
        return None
    dtype = torch.int64 if known.dtype == np.int64 else torch.float32
    return node.give("aten.arange.start_step", start=start, end=limit, step=step, dtype=dtype)


def _with_attribute(op: str, ours: str, theirs: str, default: object, name: str = "x") -> Reading:
    return lambda node: node.give(op, **{name: node.value(0), ours: node.get(theirs, default)})


POINTWISE: dict[str, Reading] = {
    **{name: _unary(op) for name, op in UNARY.items()},
    **{name: _comparison(op) for name, op in COMPARISONS.items()},
    **{name: _arithmetic(op) for name, op in ARITHMETIC.items() if name not in ("Max", "Min")},
    "Max": _several("maximum"),
    "Min": _several("minimum"),
    "Sum": _several("add"),
    "Identity": lambda node: node.value(0),
    "Clip": _clip,
    "LeakyRelu": _with_attribute("leaky_relu", "slope", "alpha", 0.01),
    "Elu": _with_attribute("elu", "alpha", "alpha", 1.0),
    "Celu": _with_attribute("aten.celu.default", "alpha", "alpha", 1.0, "self"),
    "Gelu": _with_attribute("gelu", "approximate", "approximate", "none"),
    "Selu": _selu,
    "Swish": _swish,
    "HardSigmoid": _hard_sigmoid,
    "Softplus": lambda node: node.give("softplus", x=node.value(0), beta=1.0, threshold=20.0),
    "Softmax": _softmax("softmax"),
    "LogSoftmax": _softmax("log_softmax"),
    "Dropout": _dropout,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Where": _where,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
}
