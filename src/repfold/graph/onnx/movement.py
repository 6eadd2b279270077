"""Reading ONNX's operators that move values: reshapes, permutations, padding, pixel shuffles."""

from __future__ import annotations

import math
from typing import Any

from repfold.graph.graph import Value
from repfold.graph.onnx.layers import Reading
from repfold.graph.onnx.node import Node
from repfold.graph.onnx.shape_rules import is_number, written_alike


def _reshape(node: Node) -> Value | None:
    x, shape = node.value(0), node.ints(1, "shape")
    if shape is None:
        return None
    sizes = node.sizes(x)
    copied = not node.get("allowzero", 0)
    shape = [sizes[i] if copied and is_number(size, 0) else size for i, size in enumerate(shape)]
    inferred = [i for i, size in enumerate(shape) if is_number(size, -1)]
    for i in inferred:
        shape[i] = _whole(sizes, [size for size in shape if not is_number(size, -1)])
    return node.view(x, tuple(shape))


def _whole(sizes: tuple[Any, ...], known: list[Any]) -> Any:
    """Product of ``sizes`` over that of ``known``; equal factors cancel, so that expressions stay short."""
    rest, divisor = list(sizes), []
    for size in known:
        same = next((i for i, other in enumerate(rest) if written_alike(size, other)), None)
        if same is None:
            divisor.append(size)
        else:
            rest.pop(same)
    return math.prod(rest) // math.prod(divisor) if divisor else math.prod(rest)


def _flatten(node: Node) -> Value:
    x = node.value(0)
    sizes, axis = node.sizes(x), node.get("axis", 1)
    axis = axis + len(sizes) if axis < 0 else axis
    return node.view(x, (math.prod(sizes[:axis]), math.prod(sizes[axis:])))


def _squeeze(node: Node) -> Value:
    x, axes = node.value(0), node.fixed(1, "axes")
    sizes = node.sizes(x)
    gone = {axis % len(sizes) for axis in axes} if axes else {i for i, size in enumerate(sizes) if is_number(size, 1)}
    return node.view(x, tuple(size for i, size in enumerate(sizes) if i not in gone))


def _unsqueeze(node: Node) -> Value:
    x, axes = node.value(0), node.fixed(1, "axes") or []
    rank = len(x.shape) + len(axes)
    new, old = {axis % rank for axis in axes}, iter(node.sizes(x))
    return node.view(x, tuple(1 if axis in new else next(old) for axis in range(rank)))


def _transpose(node: Node) -> Value:
    x = node.value(0)
    dims = node.get("perm", tuple(range(len(x.shape)))[::-1])
    return x if dims == tuple(range(len(x.shape))) else node.give("permute", x=x, dims=dims)


def _expand(node: Node) -> Value | None:
    """Broadcasts both ways: where the requested size is 1, that of the value stays."""
    x, shape = node.value(0), node.ints(1, "shape")
    if shape is None:
        return None
    sizes = list(node.sizes(x))
    rank = max(len(sizes), len(shape))
    own = [1] * (rank - len(sizes)) + sizes
    asked = [1] * (rank - len(shape)) + list(shape)
    size = tuple(
        mine if is_number(theirs, 1) or not is_number(mine, 1) else theirs
        for mine, theirs in zip(own, asked, strict=True)
    )
    if len(size) == len(sizes) and all(map(written_alike, size, sizes)):
        return x
    return node.give("expand", x=x, size=size)


def _tile(node: Node) -> Value | None:
    repeats = node.ints(1, "repeats")
    return None if repeats is None else node.give("aten.repeat.default", self=node.value(0), repeats=tuple(repeats))


def _pad(node: Node) -> Value | None:
    x, pads, mode = node.value(0), node.ints(1, "pads"), node.get("mode", "constant")
    value = node.number(2) if node.has(2) else node.get("value", 0.0)
    axes = node.fixed(3, "axes")
    rank = len(x.shape)
    if pads is None or mode not in _MODES or (mode == "constant" and value is None):
        return None
    padded = [axis % rank for axis in axes] if axes is not None else list(range(rank))
    around: dict[int, tuple[Any, Any]] = {axis: (pads[i], pads[i + len(padded)]) for i, axis in enumerate(padded)}
    first = min((axis for axis, pair in around.items() if not all(is_number(p, 0) for p in pair)), default=None)
    if first is None:
        return x
    if mode != "constant" and (first < 2 or rank - 2 > 3 or any(isinstance(p, int) and p < 0 for p in pads)):
        return None
    first = 2 if mode != "constant" else first
    listed = tuple(p for axis in reversed(range(first, rank)) for p in around.get(axis, (0, 0)))
    return node.give("pad", x=x, pads=listed, mode=_MODES[mode], value=value if mode == "constant" else 0.0)


_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def _depth_to_space(node: Node) -> Value:
    x, b = node.value(0), node.attributes["blocksize"]
    if node.get("mode", "DCR") == "CRD":
        return node.give("pixel_shuffle", x=x, factor=b)
    n, c, h, w = node.sizes(x)
    blocks = node.give("view", x=x, size=(n, b, b, c // (b * b), h, w))
    moved = node.give("permute", x=blocks, dims=(0, 3, 4, 1, 5, 2))
    return node.give("view", x=moved, size=(n, c // (b * b), h * b, w * b))


def _space_to_depth(node: Node) -> Value:
    x, b = node.value(0), node.attributes["blocksize"]
    if node.get("mode", "DCR") == "CRD":
        return node.give("pixel_unshuffle", x=x, factor=b)
    n, c, h, w = node.sizes(x)
    blocks = node.give("view", x=x, size=(n, c, h // b, b, w // b, b))
    moved = node.give("permute", x=blocks, dims=(0, 3, 5, 1, 2, 4))
    return node.give("view", x=moved, size=(n, c * b * b, h // b, w // b))


MOVEMENT: dict[str, Reading] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Expand": _expand,
    "Tile": _tile,
    "Pad": _pad,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
