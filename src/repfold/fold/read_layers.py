"""How functional layers read: convolutions, norms, pools, padding, shuffles, concatenation."""

from __future__ import annotations

from math import prod
from types import SimpleNamespace

import torch
from torch import fx

from repfold.algebra import (
    AffineConv,
    Geometry,
    average_pool,
    identity_geometry,
    pixel_shuffle,
    pixel_unshuffle,
    scaling,
    transposed,
)
from repfold.fold.context import Arguments, Context
from repfold.fold.pieces import CHANNELS_LAST, CHANNELS_SECOND, Apply, Concat, Cost, Opaque, Piece, Reading, Unfoldable
from repfold.fold.read_modules import conv_axes, flat_pads, identity_reading, pad_reading, per_axis, pool_axes


def read_conv(context: Context, node: fx.Node, a: Arguments) -> Piece:
    shape = context.constant_shape(a["weight"])
    bias_shape = None if a["bias"] is None else context.constant_shape(a["bias"])
    axes = conv_axes(shape[2:], a["stride"], a["padding"], a["dilation"])
    geometry = Geometry(shape[1] * a["groups"], shape[0], axes, a["groups"])
    build = lambda: AffineConv(context.tensor(a["weight"]), context.optional(a["bias"]), geometry)  # noqa: E731
    assert bias_shape is None or bias_shape == (shape[0],)
    return Apply(
        a["input"], Reading(geometry, build), Cost(prod(shape)), True, context.is_derived(a["weight"], a["bias"])
    )


def read_transposed(context: Context, node: fx.Node, a: Arguments) -> Piece:
    shape = context.constant_shape(a["weight"])
    n = len(shape) - 2
    axes = conv_axes(shape[2:], a["stride"], a["padding"], a["dilation"])
    extra = per_axis(a["output_padding"], n)
    geometry = transposed(torch.empty(shape, device="meta"), None, a["groups"], axes, extra).geometry

    def build() -> AffineConv:
        return transposed(context.tensor(a["weight"]), context.optional(a["bias"]), a["groups"], axes, extra)

    return Apply(
        a["input"], Reading(geometry, build), Cost(prod(shape)), True, context.is_derived(a["weight"], a["bias"])
    )


def read_linear(context: Context, node: fx.Node, a: Arguments) -> Piece:
    shape = context.constant_shape(a["weight"])
    if len(shape) != 2:
        return Opaque("its weight is no matrix")
    geometry = Geometry(shape[1], shape[0])
    build = lambda: AffineConv(context.tensor(a["weight"]), context.optional(a["bias"]), geometry)  # noqa: E731
    derived = context.is_derived(a["weight"], a["bias"])
    return Apply(a["input"], Reading(geometry, build, CHANNELS_LAST), Cost(prod(shape)), True, derived)


def read_matmul(context: Context, node: fx.Node, a: Arguments) -> Piece:
    if context.is_constant(a["input"]) or not context.is_constant(a["other"]):
        return Opaque()
    shape = context.constant_shape(a["other"])
    if len(shape) != 2:
        return Opaque()
    geometry = Geometry(shape[0], shape[1])
    build = lambda: AffineConv(context.tensor(a["other"]).T, None, geometry)  # noqa: E731
    return Apply(a["input"], Reading(geometry, build, CHANNELS_LAST), Cost(prod(shape)), True, True)


def read_batch_norm(context: Context, node: fx.Node, a: Arguments) -> Piece:
    if a["training"] is not False or a["running_mean"] is None:
        raise Unfoldable("it normalises by the batch's own statistics")
    for name in ("running_mean", "running_var", "weight", "bias"):
        if a[name] is not None:
            context.constant_shape(a[name])
    shape = context.shape(a["input"])

    def build() -> AffineConv:
        scale = torch.rsqrt(context.tensor(a["running_var"]) + a["eps"])
        scale = scale if a["weight"] is None else context.tensor(a["weight"]) * scale
        carried = context.tensor(a["running_mean"]) * scale
        return scaling(scale, -carried if a["bias"] is None else context.tensor(a["bias"]) - carried, len(shape) - 2)

    reading = Reading(identity_geometry(shape[1], len(shape) - 2), build)
    return Apply(a["input"], reading, Cost(2 * shape[1]), is_norm=True)


def read_average_pool(context: Context, node: fx.Node, a: Arguments) -> Piece:
    shape = context.shape(a["input"])
    axes, divisor = pool_axes(SimpleNamespace(**a), len(shape) - 2), a.get("divisor_override")
    geometry = average_pool(shape[1], axes, divisor).geometry
    return Apply(a["input"], Reading(geometry, lambda: average_pool(shape[1], axes, divisor)))


def read_identity(context: Context, node: fx.Node, a: Arguments) -> Piece:
    return Apply(a["input"], identity_reading(context.shape(a["input"])), is_free=True)


def read_dropout(context: Context, node: fx.Node, a: Arguments) -> Piece:
    if a["training"] is not False and a["p"] != 0:
        raise Unfoldable("it is in train mode, where it is random; call eval()")
    return read_identity(context, node, a)


def read_pad(context: Context, node: fx.Node, a: Arguments) -> Piece:
    pads = flat_pads(tuple(a["pad"]))
    mode = "zeros" if a["mode"] == "constant" else str(a["mode"])
    shape = context.shape(a["input"])
    if len(pads) > len(shape) - 2:
        return Opaque()
    if a["value"] not in (None, 0, 0.0):
        raise Unfoldable("it pads with a value other than 0")
    return Apply(a["input"], pad_reading(shape, pads, mode), is_free=True)


def read_pixel_shuffle(context: Context, node: fx.Node, a: Arguments) -> Piece:
    factor, channels = a["factor"], context.shape(a["input"])[1] // a["factor"] ** 2
    reading = Reading(pixel_shuffle(channels, factor).geometry, lambda: pixel_shuffle(channels, factor))
    return Apply(a["input"], reading, is_free=True)


def read_pixel_unshuffle(context: Context, node: fx.Node, a: Arguments) -> Piece:
    factor, channels = a["factor"], context.shape(a["input"])[1]
    reading = Reading(pixel_unshuffle(channels, factor).geometry, lambda: pixel_unshuffle(channels, factor))
    return Apply(a["input"], reading, is_free=True)


def read_cat(context: Context, node: fx.Node, a: Arguments) -> Piece:
    parts = tuple(a["tensors"])
    rank = len(context.shape(node))
    if a["dim"] % rank != CHANNELS_SECOND or any(context.is_constant(part) for part in parts):
        return Opaque()
    return Concat(parts)
