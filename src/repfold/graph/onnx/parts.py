"""Reading ONNX's operators that slice, select and join values, and sequences of values."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from repfold.graph.graph import Value
from repfold.graph.onnx.layers import Reading
from repfold.graph.onnx.node import Node
from repfold.graph.onnx.shape_rules import is_number

FAR = 2**31 - 1  # an end at or beyond it means the end of the axis


def _concat(node: Node) -> Value:
    xs = tuple(node.value(i) for i in range(len(node.proto.input)))
    xs = tuple(x for x in xs if x.shape != (0,))
    return xs[0] if len(xs) == 1 else node.give("cat", xs=xs, dim=node.attributes["axis"] % len(xs[0].shape))


def _split(node: Node) -> tuple[Value, ...]:
    x, parts = node.value(0), len(node.proto.output)
    axis = node.get("axis", 0) % len(x.shape)
    size, lengths = node.sizes(x)[axis], node.ints(1, "split")
    if lengths is None:
        each = (size + parts - 1) // parts
        lengths = [each] * (parts - 1) + [size - each * (parts - 1)]
    found, start = [], 0
    for i, length in enumerate(lengths):
        end = None if i == len(lengths) - 1 else start + length
        whole = len(lengths) == 1
        found.append(x if whole else node.give("slice", x=x, dim=axis, start=start, end=end, step=1))
        start = start + length
    return tuple(found)


def _split_to_sequence(node: Node) -> Any:
    """One output, the tuple of parts: of the given sizes, or of one sample each."""
    x, split = node.value(0), node.constant(1)
    axis = node.get("axis", 0) % len(x.shape)
    size = node.sizes(x)[axis]
    if not isinstance(size, int) or (node.has(1) and split is None):
        return None
    if split is None and not node.get("keepdims", 1):
        return (tuple(node.give("select", x=x, dim=axis, index=i) for i in range(size)),)
    split = np.array(1) if split is None else split
    each = int(split.reshape(-1)[0])
    starts = range(0, size, each) if not split.ndim else np.cumsum([0, *split[:-1]])
    ends = [*starts[1:], size]
    pairs = zip(starts, ends, strict=True)
    return (tuple(node.give("slice", x=x, dim=axis, start=int(a), end=int(b), step=1) for a, b in pairs),)


def _sequence_at(node: Node) -> Any:
    index = node.number(1)
    return None if index is None else node.sequence(0)[index]


def _concat_from_sequence(node: Node) -> Value | None:
    xs = node.sequence(0)
    axis = node.attributes["axis"]
    return None if node.get("new_axis", 0) else node.give("cat", xs=xs, dim=axis % len(xs[0].shape))


def _slice(node: Node) -> Value | None:
    x = node.value(0)
    starts, ends = node.ints(1, "starts"), node.ints(2, "ends")
    assert starts is not None and ends is not None
    axes = node.fixed(3, "axes") or list(range(len(starts)))
    steps = node.fixed(4, "steps") or [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis = axis % len(x.shape)
        if step < 0:
            if step != -1 or not is_number(start, -1) or not isinstance(end, int) or end > -FAR:
                return None
            x = node.give("flip", x=x, dims=(axis,))
            continue
        end = None if isinstance(end, int) and end >= FAR else end
        size = node.sizes(x)[axis]
        start, end = _from_border(start, size), _from_border(end, size)
        if isinstance(size, int) and isinstance(end, int) and end >= size:
            end = None
        if (start, end, step) != (0, None, 1):
            x = node.give("slice", x=x, dim=axis, start=start, end=end, step=step)
    return x


def _from_border(index: object, size: object) -> Any:
    """An index computed from the axis' size as one that counts from its end: h − 1 as −1, h itself as None."""
    if not isinstance(index, torch.SymInt):
        return index
    difference = (index - size) if isinstance(size, torch.SymInt) else index
    known = difference.node.expr if isinstance(difference, torch.SymInt) else difference
    if isinstance(difference, int) or known.is_Integer:
        return None if int(known) == 0 else int(known) if int(known) < 0 else index
    return index


def _gather(node: Node) -> Value | None:
    x, indices = node.value(0), node.constant(1)
    if indices is None or indices.size == 0:
        return None
    axis = node.get("axis", 0) % len(x.shape)
    size = node.sizes(x)[axis]
    if not indices.ndim:
        return node.give("select", x=x, dim=axis, index=int(indices))
    if not isinstance(size, int) and (indices < 0).any():
        return None
    wrapped = np.where(indices < 0, indices + (size if isinstance(size, int) else 0), indices).astype(np.int64)
    flat = wrapped.reshape(-1)
    if (np.diff(flat) == 1).all():
        end = None if is_number(size, int(flat[-1]) + 1) else int(flat[-1]) + 1
        y = (
            x
            if flat[0] == 0 and end is None
            else node.give("slice", x=x, dim=axis, start=int(flat[0]), end=end, step=1)
        )
    else:
        index = node.arranged(1, flat, "indices", f"flat, of {size}")
        y = node.give("aten.index_select.default", self=x, dim=axis, index=index)
    if indices.ndim == 1:
        return y
    sizes = node.sizes(x)
    return node.view(y, (*sizes[:axis], *indices.shape, *sizes[axis + 1 :]))


PARTS: dict[str, Reading] = {
    "Concat": _concat,
    "Split": _split,
    "SplitToSequence": _split_to_sequence,
    "SequenceAt": _sequence_at,
    "SequenceConstruct": lambda node: (tuple(node.value(i) for i in range(len(node.proto.input))),),
    "ConcatFromSequence": _concat_from_sequence,
    "Slice": _slice,
    "Gather": _gather,
}
