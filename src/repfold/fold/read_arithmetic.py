"""How sums, differences, products and quotients read: of two values, or of a value and a constant."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor, fx

from repfold.algebra import AffineConv, identity_geometry, scaling
from repfold.fold.context import Arguments, Context
from repfold.fold.pieces import CHANNELS_LAST, CHANNELS_SECOND, Apply, Cost, Opaque, Piece, Reading, Sum


def read_add(context: Context, node: fx.Node, a: Arguments) -> Piece:
    return _combine(context, node, a["input"], a["other"], 1.0, float(a.get("alpha", 1)))


def read_sub(context: Context, node: fx.Node, a: Arguments) -> Piece:
    return _combine(context, node, a["input"], a["other"], 1.0, -float(a.get("alpha", 1)))


def read_rsub(context: Context, node: fx.Node, a: Arguments) -> Piece:
    return _combine(context, node, a["input"], a["other"], -float(a.get("alpha", 1)), 1.0)


def read_mul(context: Context, node: fx.Node, a: Arguments) -> Piece:
    x, factor = a["input"], a["other"]
    if context.is_constant(x):
        x, factor = factor, x
    return _channelwise(context, node, x, factor, lambda value: (value, None))


def read_div(context: Context, node: fx.Node, a: Arguments) -> Piece:
    if a.get("rounding_mode") is not None:
        return Opaque()
    return _channelwise(context, node, a["input"], a["other"], lambda value: (1 / value, None))


def read_neg(context: Context, node: fx.Node, a: Arguments) -> Piece:
    return _channelwise(context, node, a["input"], -1.0, lambda value: (value, None))


def _combine(context: Context, node: fx.Node, x: Any, y: Any, x_sign: float, y_sign: float) -> Piece:
    if context.is_constant(x):
        x, y, x_sign, y_sign = y, x, y_sign, x_sign
    if context.is_constant(y):
        scaled = lambda value: (torch.full_like(value, x_sign), y_sign * value)  # noqa: E731
        return _channelwise(context, node, x, y, scaled)
    shape = context.shape(node)
    if not isinstance(y, fx.Node) or context.shape(x) != shape or context.shape(y) != shape:
        return Opaque()
    return Sum(((x, x_sign), (y, y_sign)), Cost(0, prod(shape[1:])))


def _channelwise(
    context: Context,
    node: fx.Node,
    x: Any,
    constant: Any,
    scale_and_shift: Callable[[Tensor], tuple[Tensor, Tensor | None]],
) -> Piece:
    """x scaled and shifted by a constant that is a number or varies along the channels alone."""
    if context.is_constant(x) or not context.is_constant(constant):
        return Opaque()
    shape, constant_shape = context.shape(x), context.constant_shape(constant)
    if context.shape(node) != shape or len(shape) < 2:
        return Opaque()
    aligned = (1,) * (len(shape) - len(constant_shape)) + constant_shape
    varying = [axis for axis, size in enumerate(aligned) if size != 1]
    last = varying == [len(shape) - 1] and len(shape) > 2
    if not last and varying not in ([], [CHANNELS_SECOND]):
        return Opaque()
    channels, dimensions = (shape[-1], 0) if last else (shape[1], len(shape) - 2)

    def build() -> AffineConv:
        scale, shift = scale_and_shift(context.tensor(constant).reshape(-1))
        shift = None if shift is None else shift.expand(channels)
        return scaling(scale.expand(channels), shift, dimensions)

    axis = CHANNELS_LAST if last else CHANNELS_SECOND
    cost = Cost(prod(constant_shape) if isinstance(constant, fx.Node) else 0, prod(shape[1:]))
    return Apply(x, Reading(identity_geometry(channels, dimensions), build, axis), cost)
