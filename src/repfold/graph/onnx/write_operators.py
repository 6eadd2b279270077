"""The vocabulary's operators as ONNX's: arithmetic, activations, movement."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from repfold.graph.graph import Value
from repfold.graph.onnx import kept
from repfold.graph.onnx.names import ARITHMETIC, COMPARISONS, UNARY, onnx_dtype
from repfold.graph.onnx.write_kept import write_kept
from repfold.graph.onnx.write_layers import LAYER_WRITINGS
from repfold.graph.onnx.writer import Arguments, NotWritten, Writer, Writing
from repfold.graph.sizes import Expression

FAR = 2**63 - 1  # an end beyond every axis


def _unary(op: str) -> Writing:
    return lambda w, v, a: w.emit(op, a["x"] if "x" in a else a["self"])


def _with(op: str, **attributes: str) -> Writing:
    """An operator of one value whose arguments are attributes: ONNX's name = ours."""
    return lambda w, v, a: w.emit(
        op, a["x"] if "x" in a else a["self"], **{theirs: a[ours] for theirs, ours in attributes.items()}
    )


def _arithmetic(op: str) -> Writing:
    def write(w: Writer, v: Value, a: Arguments) -> str:
        return w.emit(op, w.operand(a["x"], v.dtype), w.operand(a["exponent" if op == "Pow" else "other"], v.dtype))

    return write


def _comparison(op: str) -> Writing:
    def write(w: Writer, v: Value, a: Arguments) -> str:
        other = a["other"]
        dtype = torch.promote_types(a["self"].dtype, other.dtype) if isinstance(other, Value) else a["self"].dtype
        dtype = torch.bool if op in ("And", "Or", "Xor") else dtype
        return w.emit(op, w.operand(a["self"], dtype), w.operand(other, dtype))

    return write


def _quotient(w: Writer, v: Value, a: Arguments) -> str:
    whole = not v.dtype.is_floating_point
    if a["rounding_mode"] != "trunc" or not whole:
        raise NotWritten(f"its division rounds by '{a['rounding_mode']}'")
    return w.emit("Div", w.operand(a["self"], v.dtype), w.operand(a["other"], v.dtype))


def _clamp(w: Writer, v: Value, a: Arguments) -> str:
    low, high = (None if a[name] is None else w.operand(a[name], v.dtype) for name in ("low", "high"))
    return w.emit("Clip", a["x"], low, high)


def _gelu(w: Writer, v: Value, a: Arguments) -> str:
    if w.opset >= 20:
        return w.emit("Gelu", a["x"], approximate=a["approximate"])
    x = w.name(a["x"])

    def number(n: float) -> str:
        return w.constant(n, v.dtype)

    if a["approximate"] == "none":
        inner = w.emit("Erf", w.emit("Mul", x, number(math.sqrt(0.5))))
    else:
        cubic = w.emit("Mul", w.emit("Mul", w.emit("Mul", x, x), x), number(0.044715))
        inner = w.emit("Tanh", w.emit("Mul", w.emit("Add", x, cubic), number(math.sqrt(2 / math.pi))))
    return w.emit("Mul", w.emit("Mul", x, number(0.5)), w.emit("Add", inner, number(1.0)))


def _softplus(w: Writer, v: Value, a: Arguments) -> str:
    beta = a["beta"]
    if beta == 1:
        return w.emit("Softplus", a["x"])
    factor = w.constant(beta, v.dtype)
    return w.emit("Div", w.emit("Softplus", w.emit("Mul", a["x"], factor)), factor)


def _mish(w: Writer, v: Value, a: Arguments) -> str:
    return (
        w.emit("Mish", a["x"]) if w.opset >= 18 else w.emit("Mul", a["x"], w.emit("Tanh", w.emit("Softplus", a["x"])))
    )


def _elu(w: Writer, v: Value, a: Arguments) -> str:
    if a["input_scale"] != 1:
        raise NotWritten("its argument is scaled")
    return w.emit("Selu", a["self"], alpha=float(a["alpha"]), gamma=float(a["scale"]))


def _prelu(w: Writer, v: Value, a: Arguments) -> str:
    ones = [1] * (len(v.shape) - 2) if a["weight"].shape != (1,) else []
    return w.emit("PRelu", a["x"], w.emit("Reshape", a["weight"], w.vector([-1, *ones])) if ones else a["weight"])


def _view(w: Writer, v: Value, a: Arguments) -> str:
    """Computed sizes are written as 0 ("the same") or -1 ("the rest") where that is enough."""
    given, size = a["x"].shape, list(v.shape)
    written = [0 if isinstance(n, Expression) and given[i : i + 1] == (n,) else n for i, n in enumerate(size)]
    free = [i for i, n in enumerate(written) if isinstance(n, Expression)]
    if len(free) == 1:
        written[free[0]] = -1
    return w.emit("Reshape", a["x"], w.vector(written if len(free) <= 1 else size))


def _slice(w: Writer, v: Value, a: Arguments) -> str:
    end = FAR if a["end"] is None else a["end"]
    return w.emit("Slice", a["x"], *(w.vector([n]) for n in (a["start"] or 0, end, a["dim"], a["step"])))


def _flip(w: Writer, v: Value, a: Arguments) -> str:
    count = len(a["dims"])
    ends = [w.vector(items) for items in ([-1] * count, [-FAR] * count, a["dims"], [-1] * count)]
    return w.emit("Slice", a["x"], *ends)


def _select(w: Writer, v: Value, a: Arguments) -> str:
    return w.emit("Gather", a["x"], w.operand(a["index"], torch.int64), axis=a["dim"])


def _cat(w: Writer, v: Value, a: Arguments) -> str:
    return w.emit("Concat", *(w.operand(x, v.dtype) for x in a["xs"]), axis=a["dim"])


def _pad(w: Writer, v: Value, a: Arguments) -> str:
    mode = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}[a["mode"]]
    if mode == "wrap" and w.opset < 19:
        raise NotWritten("wrapping needs opset 19")
    pads, rank = a["pads"], len(v.shape)
    missing = (0,) * (rank - len(pads) // 2)
    pads = (*missing, *pads[0::2][::-1], *missing, *pads[1::2][::-1])
    value = w.constant(a["value"] or 0.0, v.dtype) if mode == "constant" else None
    return w.emit("Pad", a["x"], w.vector(pads), value, mode=mode)


def _pixel_unshuffle(w: Writer, v: Value, a: Arguments) -> str:
    """SpaceToDepth, its channels sorted by where they come from."""
    x, b = a["x"], a["factor"]
    channels = x.shape[1]
    order = [k * channels + c for c in range(channels) for k in range(b * b)]
    return w.emit("Gather", w.emit("SpaceToDepth", x, blocksize=b), w.vector(order), axis=1)


def _channel_shuffle(w: Writer, v: Value, a: Arguments) -> str:
    groups, channels = a["groups"], a["x"].shape[1]
    each = channels // groups
    return w.emit("Gather", a["x"], w.vector([(i % groups) * each + i // groups for i in range(channels)]), axis=1)


def _full(w: Writer, v: Value, a: Arguments) -> str:
    return w.emit("Expand", w.operand(a["fill_value"], v.dtype), w.vector(a["size"]))


def _arange(w: Writer, v: Value, a: Arguments) -> str:
    return w.emit("Range", *(w.operand(a[name], v.dtype) for name in ("start", "end", "step")))


def _repeat(w: Writer, v: Value, a: Arguments) -> str:
    more = tuple(range(len(v.shape) - len(a["self"].shape)))
    x = w.emit("Unsqueeze", a["self"], w.vector(more)) if more else a["self"]
    return w.emit("Tile", x, w.vector(a["repeats"]))


def _dropout(w: Writer, v: Value, a: Arguments) -> str:
    if a["training"]:
        raise NotWritten("it drops values: it was recorded in training")
    return w.emit("Dropout", a["x"], w.constant(a["p"], torch.float32)) if a["kind"] == "dropout" else w.name(a["x"])


def _where(w: Writer, v: Value, a: Arguments) -> str:
    return w.emit("Where", a["condition"], w.operand(a["self"], v.dtype), w.operand(a["other"], v.dtype))


WRITINGS: dict[str, Callable[[Writer, Value, Arguments], str | tuple[str, ...]]] = {
    **{ours: _unary(op) for op, ours in UNARY.items()},
    **{ours: _arithmetic(op) for op, ours in ARITHMETIC.items()},
    **{ours: _comparison(op) for op, ours in COMPARISONS.items()},
    **LAYER_WRITINGS,
    kept.OP: write_kept,
    "aten.div.Tensor_mode": _quotient,
    "aten.div.Scalar_mode": _quotient,
    # activations
    "clamp": _clamp,
    "leaky_relu": _with("LeakyRelu", alpha="slope"),
    "elu": _with("Elu", alpha="alpha"),
    "aten.celu.default": _with("Celu", alpha="alpha"),
    "aten.elu.default": _elu,
    "prelu": _prelu,
    "silu": lambda w, v, a: w.emit("Mul", a["x"], w.emit("Sigmoid", a["x"])),
    "gelu": _gelu,
    "hardsigmoid": lambda w, v, a: w.emit("HardSigmoid", a["x"], alpha=1 / 6, beta=0.5),
    "softplus": _softplus,
    "mish": _mish,
    "rsqrt": lambda w, v, a: w.emit("Reciprocal", w.emit("Sqrt", a["x"])),
    "softmax": _with("Softmax", axis="dim"),
    "log_softmax": _with("LogSoftmax", axis="dim"),
    # movement
    "view": _view,
    "permute": lambda w, v, a: w.emit("Transpose", a["x"], perm=a["dims"]),
    "expand": lambda w, v, a: w.emit("Expand", a["x"], w.vector(v.shape)),
    "slice": _slice,
    "flip": _flip,
    "select": _select,
    "cat": _cat,
    "pad": _pad,
    "pixel_shuffle": lambda w, v, a: w.emit("DepthToSpace", a["x"], blocksize=a["factor"], mode="CRD"),
    "pixel_unshuffle": _pixel_unshuffle,
    "channel_shuffle": _channel_shuffle,
    "to": lambda w, v, a: w.emit("Cast", a["x"], to=onnx_dtype(w.onnx, a["dtype"])),
    "item": lambda w, v, a: w.names[a["x"]][a["index"]],
    "aten.full.default": _full,
    "aten.arange.start_step": _arange,
    "aten.repeat.default": _repeat,
    "aten.index_select.default": lambda w, v, a: w.emit("Gather", a["self"], a["index"], axis=a["dim"]),
    "aten.where.self": _where,
    # the identity in evaluation
    "dropout": _dropout,
    "train_only": lambda w, v, a: w.name(a["x"]),
    "detach": lambda w, v, a: w.name(a["x"]),
}
