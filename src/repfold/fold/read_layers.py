"""Readers of convolutions, linear layers and norms."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import torch

from repfold.algebra import (
    AffineConv,
    Geometry,
    conv_axes,
    identity_geometry,
    scaling,
    transposed,
)
from repfold.fold.context import Context, each_axis
from repfold.fold.cost import Cost
from repfold.fold.pieces import Apply, Build, Opaque, Piece, Reading, State, Unfoldable
from repfold.graph.graph import STATE, Value


def read_conv(context: Context, value: Value) -> Piece:
    """The affine convolution of a plain or transposed one. Raises: Unfoldable for a weight computed from the input."""
    weight, bias, groups = context.weight(value["weight"]), value["bias"], value["groups"]
    if bias is not None:
        context.weight(bias)
    shape = context.graph.numeric(weight.shape)
    n = len(shape) - 2
    axes = conv_axes(shape[2:], *(each_axis(value[name], n) for name in ("stride", "padding", "dilation")))
    build: Build
    if value["transposed"]:
        extra = each_axis(value["output_padding"], n)
        geometry = transposed(torch.empty(shape, device="meta"), None, groups, axes, extra).geometry

        def build(state: State, dtype: torch.dtype) -> AffineConv:
            kernel, shift = context.number(weight, state, dtype), context.optional(bias, state, dtype)
            return transposed(kernel, shift, groups, axes, extra)
    else:
        geometry = Geometry(shape[1] * groups, shape[0], axes, groups)

        def build(state: State, dtype: torch.dtype) -> AffineConv:
            return AffineConv(context.number(weight, state, dtype), context.optional(bias, state, dtype), geometry)

    piece = _kernel(value["x"], Reading(geometry, build), weight, bias)
    if not value["transposed"]:
        return piece
    # Every sample of its input meets the whole kernel once, whatever its stride.
    samples = prod(context.graph.numeric(value["x"].shape)[2:])
    return replace(piece, cost=replace(piece.cost, multiply_adds=piece.cost.parameters * samples))


def read_linear(context: Context, value: Value) -> Piece:
    """A convolution without spatial axes. Raises: Unfoldable for a weight computed from the input."""
    weight, bias = context.weight(value["weight"]), value["bias"]
    if bias is not None:
        context.weight(bias)
    out_channels, in_channels = context.graph.numeric(weight.shape)
    geometry = Geometry(in_channels, out_channels)

    def build(state: State, dtype: torch.dtype) -> AffineConv:
        return AffineConv(context.number(weight, state, dtype), context.optional(bias, state, dtype), geometry)

    return _kernel(value["x"], Reading(geometry, build), weight, bias)


def read_matmul(context: Context, value: Value) -> Piece:
    """x @ W as a linear layer, where W is a constant matrix, else opaque."""
    weight = value["other"]
    if value["x"] in context.constants or weight not in context.constants or len(weight.shape) != 2:
        return Opaque()
    in_channels, out_channels = context.graph.numeric(weight.shape)
    geometry = Geometry(in_channels, out_channels)

    def build(state: State, dtype: torch.dtype) -> AffineConv:
        return AffineConv(context.number(weight, state, dtype).T, None, geometry)

    return replace(_kernel(value["x"], Reading(geometry, build), weight, None), is_derived=True)


def _kernel(source: Value, reading: Reading, weight: Value, bias: Value | None) -> Apply:
    constants = (weight,) if bias is None else (weight, bias)
    derived = any(constant.op != STATE for constant in constants)
    return Apply(source, reading, Cost(reading.geometry.weight_count), True, derived, constants=constants)


def read_batch_norm(context: Context, value: Value) -> Piece:
    """A scaling and shift by the running statistics. Raises: Unfoldable where the batch's own are used."""
    if value["training"]:
        if value["running_mean"] is None:
            raise Unfoldable("it keeps no running statistics, so it normalises by the batch's own")
        raise Unfoldable("it is in train mode, where it normalises by the batch's own statistics; call eval()")
    return _running_norm(context, value)


def read_instance_norm(context: Context, value: Value) -> Piece:
    """A scaling and shift by the running statistics. Raises: Unfoldable where each image's own are used."""
    if value["use_input_stats"]:
        raise Unfoldable("it normalises by each image's own statistics")
    return _running_norm(context, value)


def _running_norm(context: Context, value: Value) -> Piece:
    """Normalisation by running statistics; without spatial axes the channels are axis 1 of two."""
    names = ("running_mean", "running_var", "weight", "bias")
    given = tuple(context.weight(value[name]) for name in names if value[name] is not None)
    channels, dimensions = context.graph.numeric(value["x"].shape)[1], len(value["x"].shape) - 2

    def build(state: State, dtype: torch.dtype) -> AffineConv:
        mean, variance, weight, bias = (context.optional(value[name], state, dtype) for name in names)
        assert mean is not None and variance is not None
        scale = torch.rsqrt(variance + value["eps"])
        scale = scale if weight is None else weight * scale
        return scaling(scale, -mean * scale if bias is None else bias - mean * scale, dimensions)

    reading = Reading(identity_geometry(channels, dimensions), build)
    return Apply(value["x"], reading, Cost(2 * channels), constants=given)
