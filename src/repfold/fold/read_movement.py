"""Readers of pools, padding, slices, shuffles and identities."""

from __future__ import annotations

import torch

from repfold.algebra import (
    AffineConv,
    Axis,
    Geometry,
    average_pool,
    identity,
    pixel_shuffle,
    pixel_unshuffle,
)
from repfold.fold.context import Context, each_axis
from repfold.fold.pieces import Apply, Concat, Opaque, Piece, Reading, Unfoldable
from repfold.graph.graph import Value
from repfold.graph.sizes import Size, minus


def read_avg_pool(context: Context, value: Value) -> Piece:
    """A depthwise convolution of equal taps. Raises: Unfoldable where the divisor varies at the border."""
    n = len(value["kernel"])
    kernel, stride, padding = (each_axis(value[name], n) for name in ("kernel", "stride", "padding"))
    if value["ceil_mode"]:
        raise Unfoldable("average pooling with ceil_mode divides by fewer samples at the border")
    if not value["count_include_pad"] and any(padding):
        raise Unfoldable("average pooling with count_include_pad=False divides by fewer samples at the border")
    if len(value["x"].shape) != n + 2:
        return Opaque()
    axes = tuple(Axis(k, s, p, p) for k, s, p in zip(kernel, stride, padding, strict=True))
    pool = average_pool(_channels(value["x"]), axes, value.arguments.get("divisor"))
    return _fixed(value["x"], pool, is_free=False)


def _fixed(source: Value, conv: AffineConv, *, is_free: bool = True) -> Apply:
    """A map whose numbers are no parameters."""
    return Apply(source, Reading(conv.geometry, lambda state, dtype: conv.to(dtype)), is_free=is_free)


def _channels(value: Value) -> int:
    if len(value.shape) < 2 or not isinstance(value.shape[1], int):
        raise Unfoldable("its channels are not fixed")
    return value.shape[1]


def read_pad(context: Context, value: Value) -> Piece:
    """A padding of the spatial axes as one tap per channel. Raises: Unfoldable for another constant than 0."""
    pads, x = value["pads"], value["x"]
    if not all(isinstance(pad, int) for pad in pads):
        raise Unfoldable("its padding depends on the image's size")
    pairs = list(zip(pads[0::2], pads[1::2], strict=True))[::-1]  # PyTorch gives the last axis first
    if len(pairs) > len(x.shape) - 2:
        return Opaque()
    if value["mode"] == "constant" and value["value"] not in (0, 0.0):
        raise Unfoldable("it pads with a value other than 0")
    free = len(x.shape) - 2 - len(pairs)
    axes = (Axis(),) * free + tuple(Axis(low=low, high=high) for low, high in pairs)
    return _taps(x, axes, "zeros" if value["mode"] == "constant" else value["mode"])


def _taps(x: Value, axes: tuple[Axis, ...], mode: str = "zeros") -> Apply:
    """One tap per channel on a padded, cropped or strided input."""
    channels = _channels(x)
    geometry = Geometry(channels, channels, axes, groups=channels, mode=mode)
    return _fixed(x, AffineConv(torch.ones(geometry.weight_shape, dtype=torch.float64), None, geometry))


def read_slice(context: Context, value: Value) -> Piece:
    """x[:, :, a:-b:s, …] as a crop and a stride, where the slice does not fix the size of the image."""
    x, dim = value["x"], value["dim"]
    if dim < 2:
        return Opaque()
    axis = _slice_axis(value["start"], value["end"], value["step"], x.shape[dim])
    if axis is None:
        return Opaque("a slice that fixes the size of the image")
    axes = [Axis()] * (len(x.shape) - 2)
    axes[dim - 2] = axis
    return _taps(x, tuple(axes))


def _slice_axis(start: object, end: object, step: int, size: Size) -> Axis | None:
    high = minus(end, size) if isinstance(end, int) and end > 0 else end or 0
    if not isinstance(start, int) or not isinstance(high, int) or start < 0 or high > 0:
        return None
    return Axis(1, step, -start, high)


def read_identity(context: Context, value: Value) -> Piece:
    """The identity; in training, where it is dropout, Unfoldable is raised."""
    if value.arguments.get("training"):
        raise Unfoldable("it is in train mode, where it is random; call eval()")
    x, last = value["x"], context.channels_last(value["x"])
    channels = x.shape[-1 if last else 1] if len(x.shape) > 1 else None
    return _fixed(x, identity(channels, 0 if last else len(x.shape) - 2)) if isinstance(channels, int) else Opaque()


def read_detach(context: Context, value: Value) -> Piece:
    """Opaque, so that no fold lets gradients pass."""
    return Opaque("gradients stop here; a fold would let them through")


def read_view(context: Context, value: Value) -> Piece:
    """A change of the leading axes of a value whose channels are the last."""
    x = value["x"]
    if not x.shape or not value.shape or x.shape[-1] != value.shape[-1] or not isinstance(x.shape[-1], int):
        return Opaque()
    return _fixed(x, identity(x.shape[-1], 0)) if len(x.shape) > 1 < len(value.shape) else Opaque()


def read_pixel_shuffle(context: Context, value: Value) -> Piece:
    """[N, C·f², H, W] -> [N, C, f·H, f·W] as a transposed convolution with constant taps."""
    factor = value["factor"]
    return _fixed(value["x"], pixel_shuffle(_channels(value["x"]) // factor**2, factor))


def read_pixel_unshuffle(context: Context, value: Value) -> Piece:
    """[N, C, f·H, f·W] -> [N, C·f², H, W] as a strided convolution with constant taps."""
    return _fixed(value["x"], pixel_unshuffle(_channels(value["x"]), value["factor"]))


def read_cat(context: Context, value: Value) -> Piece:
    """A concatenation along the channels, else opaque."""
    parts = value["xs"]
    if value["dim"] != 1 or any(context.is_constant(part) or len(part.shape) < 2 for part in parts):
        return Opaque()
    return Concat(parts)


def _nothing(context: Context, value: Value) -> Piece:
    return Opaque()
