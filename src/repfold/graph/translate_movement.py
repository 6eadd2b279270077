"""PyTorch's operators that move samples, translated to the vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from repfold.graph.call import Call, Translation
from repfold.graph.graph import Value
from repfold.graph.sizes import Expression, Size, minus, plus


def view(call: Call) -> Value | None:
    """A reshape; PyTorch decomposes a linear layer on more than two axes into one between two reshapes."""
    x = call.x
    if "dtype" in call.arguments:  # other numbers in the same bytes
        return None
    shape = call.recorder.shape(call.first)
    if x.op == "linear" and len(x.shape) == 2 and x["x"].op == "view":
        inner = x["x"]["x"]
        if (
            shape[:-1] == inner.shape[:-1]
            and shape[-1] == x["weight"].shape[0]
            and inner.shape[-1] == x["weight"].shape[1]
        ):
            return call.give("linear", x=inner, weight=x["weight"], bias=x["bias"])
    if shape == x.shape:
        return x
    if x.op == "view":
        x = x["x"]
    if shape == x.shape:
        return x
    return call.give("view", x=x, size=shape)


def permute(dims: Callable[[Call, int], tuple[int, ...]]) -> Translation:
    """A translation to one permutation; consecutive ones are joined, and those that change nothing dropped."""

    def translate(call: Call) -> Value:
        x = call.x
        order = dims(call, len(x.shape))
        if order == tuple(range(len(order))):
            return x
        if x.op == "permute":
            inner = tuple(x["dims"][axis] for axis in order)
            if inner == tuple(range(len(inner))):
                return x["x"]  # type: ignore[no-any-return]
            return call.give("permute", x=x["x"], dims=inner)
        return call.give("permute", x=x, dims=order)

    return translate


def transpose_dims(call: Call, rank: int) -> tuple[int, ...]:
    """The permutation that exchanges ``dim0`` and ``dim1``."""
    order = list(range(rank))
    a, b = call["dim0"] % max(rank, 1), call["dim1"] % max(rank, 1)
    if rank:
        order[a], order[b] = order[b], order[a]
    return tuple(order)


def expand(call: Call) -> Value:
    """Broadcast to the output's shape; nothing where that is the input's."""
    shape = call.recorder.shape(call.first)
    return call["self"] if shape == call["self"].shape else call.give("expand", x=call["self"], size=shape)


def slice_(call: Call) -> Value:
    """``x[start:end:step]`` along an axis; indices computed from its size count from the end."""
    x, dim = call.x, call["dim"] % len(call.x.shape)
    start, end, step = call["start"] or 0, call["end"], call["step"]
    start, end = _from_border(start, x.shape[dim]), _from_border(end, x.shape[dim])
    if end is not None and (minus(end, x.shape[dim]) or -1) >= 0:
        end = None
    if end is not None and isinstance(end, int) and end >= 2**62:
        end = None
    if end is not None and minus(end, x.shape[dim]) == 0:
        end = None
    if (start, end, step) == (0, None, 1):
        return x
    return call.give("slice", x=x, dim=dim, start=start, end=end, step=step)


def _from_border(index: object, size: Size) -> Any:
    """An index that was computed from the axis' size as one that counts from its end: h − 1 as −1."""
    if not isinstance(index, Expression) or not isinstance(size, Expression):
        return index
    difference = minus(index, size)
    return difference if difference is not None and difference < 0 else index


def slice_scatter(call: Call) -> Value | None:
    """The source where it overwrites a whole axis, else None."""
    size, end = call["self"].shape[call["dim"]], call["end"]
    beyond = None if end is None else minus(end, size)
    to_the_end = end is None or (isinstance(end, int) and end >= 2**62) or (beyond is not None and beyond >= 0)
    whole = to_the_end and (call["start"] or 0) == 0 and call["step"] == 1
    return call["src"] if whole and call["src"].dtype == call["self"].dtype else None


def copy(call: Call) -> Value:
    """``src`` in the dtype and shape of ``self``."""
    value, shape = call["src"], call.recorder.shape(call.first)
    if value.shape != shape:
        value = replace(call.give("expand", x=value, size=shape), dtype=value.dtype)
        call.recorder.values[-1] = value
    return value if value.dtype == call.first.dtype else call.give("to", x=value, dtype=call.first.dtype)


def select(call: Call) -> Value:
    """One index along an axis, which is removed."""
    return call.give("select", x=call["self"], dim=call["dim"] % len(call["self"].shape), index=call["index"])


def unbind(call: Call) -> list[Any]:
    """All entries along an axis as selections."""
    dim = call["dim"] % len(call["self"].shape)
    return [call.like(item, "select", x=call["self"], dim=dim, index=i) for i, item in enumerate(call.output)]


def split(call: Call) -> list[Any]:
    """Parts along an axis as slices."""
    x, dim = call.x, call["dim"] % len(call.x.shape)
    found, start = [], 0
    sizes = [call.recorder.shape(item)[dim] for item in call.output]
    for i, item in enumerate(call.output):
        end: Any = None if i == len(sizes) - 1 else plus(start, sizes[i])
        if start == 0 and end is None:
            found.append(x)
        else:
            found.append(call.like(item, "slice", x=x, dim=dim, start=start, end=end, step=1))
        start = end
    return found


def cat(call: Call) -> Value:
    """Concatenation; empty one-dimensional tensors, which PyTorch skips, are dropped."""
    xs = tuple(x for x in call["tensors"] if x.shape != (0,))
    rank = len(call.recorder.shape(call.first))
    return xs[0] if len(xs) == 1 else call.give("cat", xs=xs, dim=call["dim"] % rank)


def constant_pad(call: Call) -> Value:
    """Padding by a constant; nothing where all pads are 0."""
    if all(pad == 0 for pad in call["pad"]):
        return call.x
    return call.give("pad", x=call["self"], pads=call["pad"], mode="constant", value=call["value"])


def mode_pad(mode: str) -> Translation:
    """The translation of padding by "reflect", "replicate" or "circular"."""
    return lambda call: call.give("pad", x=call["self"], pads=call["padding"], mode=mode, value=0.0)
