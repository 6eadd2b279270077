"""ONNX's Resize and Upsample, as far as PyTorch's interpolation is the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from repfold.graph.graph import Value
from repfold.graph.onnx.layers import Reading
from repfold.graph.onnx.node import Node, Unsettled
from repfold.graph.onnx.shape_rules import written_alike

HALF_PIXEL = ("half_pixel", "pytorch_half_pixel")
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def _resize(node: Node) -> Value | None:
    x = node.value(0)
    rank = len(x.shape) - 2
    plain = not node.get("antialias", 0) and node.get("keep_aspect_ratio_policy", "stretch") == "stretch"
    if rank not in (1, 2, 3) or not plain or "axes" in node.attributes or not x.dtype.is_floating_point:
        return None
    scales, sizes = _scales(node, 2), node.ints(3, "sizes") if node.has(3) else None
    return _interpolated(node, x, scales, sizes, _mode(node, rank, scales))


def _upsample(node: Node) -> Value | None:
    """Before opset 10: nearest samples, by positions that begin at the border."""
    x, rank = node.value(0), len(node.value(0).shape) - 2
    scales = _scales(node, 1)
    nearest = node.get("mode", "nearest") == "nearest" and rank in (1, 2, 3) and scales is not None
    return _interpolated(node, x, scales, None, ("nearest", False)) if nearest else None


def _scales(node: Node, i: int) -> list[float] | None:
    """The factor of each axis, None where sizes are given instead."""
    if node.opset == 10:
        i = 1
    if not node.has(i):
        return None
    found = node.constant(i)
    if found is None:
        raise Unsettled("scales")
    return [float(str(np.float32(item))) for item in found.reshape(-1)] or None


def _mode(node: Node, rank: int, scales: list[float] | None) -> tuple[str, bool] | None:
    """PyTorch's mode and whether corners are aligned, None where it has no such interpolation."""
    mode = node.get("mode", "nearest")
    positions = node.get("coordinate_transformation_mode", "half_pixel" if node.opset > 10 else "asymmetric")
    whole = scales is not None and all(factor >= 1 and factor == int(factor) for factor in scales)
    if mode == "nearest":
        rounding = node.get("nearest_mode", "round_prefer_floor" if node.opset > 10 else "floor")
        if positions == "asymmetric" and rounding == "floor":
            return "nearest", False
        if positions in HALF_PIXEL and (
            rounding == "round_prefer_ceil" or (rounding == "round_prefer_floor" and whole)
        ):
            return "nearest-exact", False
        return None
    if positions not in (*HALF_PIXEL, "align_corners") or node.get("exclude_outside", 0):
        return None
    if mode == "linear":
        return LINEAR[rank], positions == "align_corners"
    fits = mode == "cubic" and rank == 2 and node.get("cubic_coeff_a", -0.75) == -0.75
    return ("bicubic", positions == "align_corners") if fits else None


def _interpolated(
    node: Node, x: Value, scales: list[float] | None, sizes: list[Any] | None, mode: tuple[str, bool] | None
) -> Value | None:
    given = node.sizes(x)
    if mode is None or _apart(node, given, scales, sizes):
        return None
    if scales is not None:
        if scales[:2] != [1, 1]:
            return None
        size = tuple(_scaled(n, factor) for n, factor in zip(given[2:], scales[2:], strict=True))
        return node.give(
            "resize", x=x, size=size, mode=mode[0], align_corners=mode[1], scale=None if mode[1] else tuple(scales[2:])
        )
    if sizes is None or not all(map(written_alike, given[:2], sizes[:2])):
        return None
    return node.give("resize", x=x, size=tuple(sizes[2:]), mode=mode[0], align_corners=mode[1], scale=None)


def _apart(node: Node, given: tuple[object, ...], scales: list[float] | None, sizes: list[Any] | None) -> bool:
    """Whether ONNX differs from PyTorch: aligned corners of a rounded size, half a pixel where one sample comes out."""
    positions = node.get("coordinate_transformation_mode", "")
    if scales is not None and positions == "align_corners":
        return any(factor != int(factor) for factor in scales)
    made = (
        sizes[2:] if sizes is not None else [_scaled(n, f) for n, f in zip(given[2:], (scales or [])[2:], strict=True)]
    )
    return positions == "pytorch_half_pixel" and any(isinstance(size, int) and size == 1 for size in made)


def _scaled(size: Any, factor: float) -> Any:
    """⌊size·factor⌋."""
    return size * int(factor) if factor == int(factor) else math.floor(size * factor)


RESIZING: dict[str, Reading] = {"Resize": _resize, "Upsample": _upsample}
