"""The vocabulary's layers, norms, pools and reductions as ONNX's operators."""

from __future__ import annotations

import math
from typing import Any

import torch

from repfold.graph.graph import STATE, Value
from repfold.graph.onnx.writer import Arguments, NotWritten, Writer, Writing


def _each(given: tuple[int, ...], axes: int) -> list[int]:
    """One number per axis; a single one holds for all."""
    return list(given) * axes if len(given) == 1 else list(given)


def _conv(w: Writer, v: Value, a: Arguments) -> str:
    kernel = list(a["weight"].shape[2:])
    rank = len(kernel)
    shared: Arguments = {
        "kernel_shape": kernel,
        "strides": _each(a["stride"], rank),
        "pads": _each(a["padding"], rank) * 2,
        "dilations": _each(a["dilation"], rank),
        "group": a["groups"],
    }
    if a["transposed"]:
        more = _each(a["output_padding"], rank)
        return w.emit("ConvTranspose", a["x"], a["weight"], a["bias"], **shared, output_padding=more)
    return w.emit("Conv", a["x"], a["weight"], a["bias"], **shared)


def _linear(w: Writer, v: Value, a: Arguments) -> str:
    x, weight, bias = a["x"], a["weight"], a["bias"]
    if len(x.shape) == 2:
        return w.emit("Gemm", x, weight, bias, transB=1)
    y = w.emit("MatMul", x, _transposed(w, weight))
    return y if bias is None else w.emit("Add", y, bias)


def _transposed(w: Writer, weight: Value) -> str:
    if weight.op != STATE:
        return w.emit("Transpose", weight, perm=[1, 0])
    path = weight["path"]
    return w.tensor(f"{path}_transposed", w.state[path].detach().t())


def _batch_norm(w: Writer, v: Value, a: Arguments) -> str:
    if a["training"] or a["running_mean"] is None or a["running_var"] is None:
        raise NotWritten("it normalises by the statistics of each batch: call .eval() first")
    channels = a["x"].shape[1]
    weight = a["weight"] or w.constant([1.0] * channels, v.dtype)
    bias = a["bias"] or w.constant([0.0] * channels, v.dtype)
    rest: Arguments = {"epsilon": a["eps"], "momentum": 1 - (a["momentum"] or 0.0)}
    return w.emit("BatchNormalization", a["x"], weight, bias, a["running_mean"], a["running_var"], **rest)


def _layer_norm(w: Writer, v: Value, a: Arguments) -> str:
    shape = tuple(a["shape"])
    weight = a["weight"] or w.tensor("ones", torch.ones(shape, dtype=v.dtype))
    return w.emit("LayerNormalization", a["x"], weight, a["bias"], axis=-len(shape), epsilon=a["eps"])


def _group_norm(w: Writer, v: Value, a: Arguments) -> str:
    x, groups, channels = a["x"], a["groups"], a["x"].shape[1]
    if w.opset >= 21 and a["weight"] is not None and a["bias"] is not None:
        return w.emit("GroupNormalization", x, a["weight"], a["bias"], num_groups=groups, epsilon=a["eps"])
    ones, zeros = (w.constant([number] * groups, v.dtype) for number in (1.0, 0.0))
    flat = w.emit("Reshape", x, w.vector([0, groups, -1]))
    y = w.emit("Reshape", w.emit("InstanceNormalization", flat, ones, zeros, epsilon=a["eps"]), w.emit("Shape", x))
    column = w.vector([channels] + [1] * (len(v.shape) - 2))
    for op, factor in (("Mul", a["weight"]), ("Add", a["bias"])):
        y = y if factor is None else w.emit(op, y, w.emit("Reshape", factor, column))
    return y


def _instance_norm(w: Writer, v: Value, a: Arguments) -> str:
    if not a["use_input_stats"]:
        return _batch_norm(w, v, {**a, "training": False})
    channels = a["x"].shape[1]
    weight = a["weight"] or w.constant([1.0] * channels, v.dtype)
    bias = a["bias"] or w.constant([0.0] * channels, v.dtype)
    return w.emit("InstanceNormalization", a["x"], weight, bias, epsilon=a["eps"])


def _max_pool(w: Writer, v: Value, a: Arguments) -> str:
    rank = len(a["kernel"])
    window: Arguments = {"kernel_shape": list(a["kernel"]), "strides": _each(a["stride"], rank)}
    rest: Arguments = {"pads": _each(a["padding"], rank) * 2, "dilations": _each(a["dilation"], rank)}
    return w.emit("MaxPool", a["x"], **window, **rest, ceil_mode=int(a["ceil_mode"]))


def _avg_pool(w: Writer, v: Value, a: Arguments) -> str:
    rank, divisor = len(a["kernel"]), a["divisor"]
    window: Arguments = {"kernel_shape": list(a["kernel"]), "strides": _each(a["stride"], rank)}
    rest: Arguments = {"pads": _each(a["padding"], rank) * 2, "ceil_mode": int(a["ceil_mode"])}
    if divisor is not None and a["ceil_mode"]:
        raise NotWritten("its windows have a divisor of their own, and some may be smaller")
    counted = int(a["count_include_pad"] or divisor is not None)
    y = w.emit("AveragePool", a["x"], **window, **rest, count_include_pad=counted)
    return y if divisor is None else w.emit("Mul", y, w.constant(math.prod(a["kernel"]) / divisor, v.dtype))


def _adaptive_avg_pool(w: Writer, v: Value, a: Arguments) -> str:
    given, size = a["x"].shape[2:], a["size"]
    if all(n == 1 for n in size):
        return w.emit("GlobalAveragePool", a["x"])
    if not all(isinstance(n, int) and isinstance(m, int) and n % m == 0 for n, m in zip(given, size, strict=True)):
        raise NotWritten(f"it pools {list(map(str, given))} to {list(size)}, by windows of several sizes")
    window = [n // m for n, m in zip(given, size, strict=True)]
    return w.emit("AveragePool", a["x"], kernel_shape=window, strides=window)


def _reduce(op: str) -> Writing:
    """Over ``dims``; since opset 18 (the sum: 13) they are an input."""

    def write(w: Writer, v: Value, a: Arguments) -> str:
        x, dims = (a["x"], a["dims"]) if "x" in a else (a["self"], a["dim"])
        axes, keep = list(dims or range(len(x.shape))), int(a["keepdim"])
        if w.opset >= 18 or op == "ReduceSum":
            return w.emit(op, x, w.vector(axes), keepdims=keep)
        return w.emit(op, x, axes=axes, keepdims=keep)

    return write


def _norm(w: Writer, v: Value, a: Arguments) -> str:
    if a["ord"] not in (1, 2) or a["dtype"] not in (None, v.dtype):
        raise NotWritten(f"it is the norm of order {a['ord']}")
    return _reduce(f"ReduceL{int(a['ord'])}")(w, v, a)


def _arg_extreme(op: str) -> Writing:
    def write(w: Writer, v: Value, a: Arguments) -> str:
        if a["dim"] is None:
            raise NotWritten("its index counts all axes at once")
        return w.emit(op, a["self"], axis=a["dim"], keepdims=int(a["keepdim"]))

    return write


def _attention(w: Writer, v: Value, a: Arguments) -> str:
    """softmax(s·Q·Kᵀ + mask)·V."""
    query, key, mask = a["query"], a["key"], a["mask"]
    rank, features = len(key.shape), key.shape[-1]
    scale = a["scale"] if a["scale"] is not None else 1 / math.sqrt(features) if isinstance(features, int) else None
    if a["is_causal"] or scale is None:
        raise NotWritten("it is causal, or its number of features is free")
    turned = w.emit("Transpose", key, perm=[*range(rank - 2), rank - 1, rank - 2])
    scores = w.emit("MatMul", w.emit("Mul", query, w.constant(scale, v.dtype)), turned)
    if mask is not None and mask.dtype == torch.bool:
        scores = w.emit("Where", mask, scores, w.constant(-math.inf, v.dtype))
    elif mask is not None:
        scores = w.emit("Add", scores, mask)
    return w.emit("MatMul", w.emit("Softmax", scores, axis=-1), a["value"])


RESIZES: dict[str, dict[str, Any]] = {
    "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    "nearest-exact": {
        "mode": "nearest",
        "coordinate_transformation_mode": "half_pixel",
        "nearest_mode": "round_prefer_ceil",
    },
    **{mode: {"mode": "linear"} for mode in ("linear", "bilinear", "trilinear")},
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.75},
}


def _resize(w: Writer, v: Value, a: Arguments) -> str:
    if a["mode"] not in RESIZES:
        raise NotWritten(f"ONNX has no {a['mode']} interpolation like PyTorch's")
    how = dict(RESIZES[a["mode"]])
    how.setdefault("coordinate_transformation_mode", "align_corners" if a["align_corners"] else "half_pixel")
    if a["scale"] is not None and all(factor is not None for factor in a["scale"]):
        return w.emit("Resize", a["x"], None, w.constant([1.0, 1.0, *a["scale"]], torch.float32), **how)
    return w.emit("Resize", a["x"], None, None, w.vector([*a["x"].shape[:2], *a["size"]]), **how)


LAYER_WRITINGS: dict[str, Writing] = {
    "conv": _conv,
    "linear": _linear,
    "matmul": lambda w, v, a: w.emit("MatMul", a["x"], a["other"]),
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "adaptive_avg_pool": _adaptive_avg_pool,
    "mean": _reduce("ReduceMean"),
    "sum": _reduce("ReduceSum"),
    "aten.amax.default": _reduce("ReduceMax"),
    "aten.amin.default": _reduce("ReduceMin"),
    "aten.logsumexp.default": _reduce("ReduceLogSumExp"),
    "aten.linalg_vector_norm.default": _norm,
    "aten.argmax.default": _arg_extreme("ArgMax"),
    "aten.argmin.default": _arg_extreme("ArgMin"),
    "scaled_dot_product_attention": _attention,
    "resize": _resize,
}
