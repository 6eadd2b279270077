"""Readers of sums, differences, products and quotients: of two values, or of a value and a constant."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

from repfold.algebra import (
    AffineConv,
    identity_geometry,
    scaling,
)
from repfold.fold.context import Context
from repfold.fold.cost import Cost
from repfold.fold.pieces import Apply, Opaque, Piece, Reading, State, Sum
from repfold.graph.graph import Value


def read_add(context: Context, value: Value) -> Piece:
    """x + y: a sum of two values, or a shift by a constant along the channels."""
    return _combine(context, value, 1.0)


def read_sub(context: Context, value: Value) -> Piece:
    """x − y: a difference of two values, or a shift by a constant along the channels."""
    return _combine(context, value, -1.0)


def _combine(context: Context, value: Value, sign: float) -> Piece:
    x, y, x_sign, y_sign = value["x"], value["other"], 1.0, sign
    if context.is_constant(x):
        x, y, x_sign, y_sign = y, x, y_sign, x_sign
    if context.is_constant(y):
        return _channelwise(context, value, x, y, lambda number: (torch.full_like(number, x_sign), y_sign * number))
    if not isinstance(y, Value) or not value.shape == x.shape == y.shape or not value.dtype == x.dtype == y.dtype:
        return Opaque()
    return Sum(((x, x_sign), (y, y_sign)), Cost(0, prod(context.graph.numeric(value.shape)[1:])))


def read_mul(context: Context, value: Value) -> Piece:
    """A scaling where one factor is constant and varies along the channels alone, else opaque."""
    x, factor = value["x"], value["other"]
    if context.is_constant(x):
        x, factor = factor, x
    return _channelwise(context, value, x, factor, lambda number: (number, None))


def read_div(context: Context, value: Value) -> Piece:
    """A scaling by 1/c where the divisor is constant and varies along the channels alone, else opaque."""
    return _channelwise(context, value, value["x"], value["other"], lambda number: (1 / number, None))


def read_neg(context: Context, value: Value) -> Piece:
    """A scaling by −1."""
    return _channelwise(context, value, value["x"], -1.0, lambda number: (number, None))


def _channelwise(
    context: Context, value: Value, x: object, constant: object, scale_and_shift: Callable[[Tensor], tuple[Tensor, Any]]
) -> Piece:
    """x scaled and shifted by a constant that is a number or varies along the channels alone."""
    if context.is_constant(x) or not isinstance(x, Value) or not context.is_constant(constant):
        return Opaque()
    rank = len(x.shape)
    if value.shape != x.shape or value.dtype != x.dtype or rank < 2:
        return Opaque()
    shape = constant.shape if isinstance(constant, Value) else ()
    aligned = (1,) * (rank - len(shape)) + shape
    varying = [axis for axis, size in enumerate(aligned) if size != 1]
    last = rank > 2 and (varying == [rank - 1] or (not varying and context.channels_last(x)))
    if not last and varying not in ([], [1]):
        return Opaque()
    channels = x.shape[-1] if last else x.shape[1]
    if not isinstance(channels, int):
        return Opaque()
    dimensions = 0 if last else rank - 2

    def build(state: State, dtype: torch.dtype) -> AffineConv:
        scale, shift = scale_and_shift(context.number(constant, state, dtype).reshape(-1))
        return scaling(scale.expand(channels), None if shift is None else shift.expand(channels), dimensions)

    used = (constant,) if isinstance(constant, Value) else ()
    cost = Cost(prod(context.graph.numeric(shape)) if used else 0, prod(context.graph.numeric(x.shape)[1:]))
    return Apply(x, Reading(identity_geometry(channels, dimensions), build), cost, constants=used)
