"""Reading a graph: every value as a piece of the algebra, or opaque with the reason. READERS is the whole dispatch."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from repfold.algebra import Geometry
from repfold.fold.constants import Constants
from repfold.fold.context import Context, Reader
from repfold.fold.movement import read_selection
from repfold.fold.pieces import Apply, Opaque, Piece, Unfoldable
from repfold.fold.read_arithmetic import read_add, read_div, read_mul, read_neg, read_sub
from repfold.fold.read_layers import read_batch_norm, read_conv, read_instance_norm, read_linear, read_matmul
from repfold.fold.read_movement import (
    read_avg_pool,
    read_cat,
    read_detach,
    read_identity,
    read_pad,
    read_pixel_shuffle,
    read_pixel_unshuffle,
    read_slice,
    read_view,
)
from repfold.graph.graph import Graph, Value


def read(graph: Graph, constants: Constants) -> dict[Value, Piece]:
    """Every value's piece."""
    pieces: dict[Value, Piece] = {}
    context = Context(graph, constants, pieces, {})
    for value in graph.values:
        try:
            pieces[value] = _checked(context, value, _read_value(context, value))
        except Unfoldable as refusal:
            pieces[value] = Opaque(str(refusal))
    return pieces


# Operators that run on as many channels as their weights have, though the graph may compute how many there are.
TAKES_ITS_CHANNELS_ALONE = frozenset({"conv", "linear", "matmul", "batch_norm"})


def _read_value(context: Context, value: Value) -> Piece:
    if value in context.constants:
        return Opaque()
    selected = read_selection(context.layouts, value)
    if selected is not None or value.op not in READERS:
        return selected or Opaque()
    return READERS[value.op](context, value)


def _checked(context: Context, value: Value, piece: Piece) -> Piece:
    """The piece with its multiply-adds, or opaque where the tensors are not laid out as the reading takes them."""
    if not isinstance(piece, Apply):
        return piece
    geometry, source = piece.reading.geometry, piece.source
    rank = len(source.shape)
    last = piece.reading.channels_last
    if rank < 2 or (not last and len(geometry.axes) != rank - 2):
        return Opaque()
    if 0 in (*source.shape, *value.shape):  # channels 1 to 1, say
        return Opaque()
    if value.dtype != source.dtype:
        return Opaque("its dtype is not that of what it reads")
    channels = source.shape[-1 if last else 1]
    if value.op in TAKES_ITS_CHANNELS_ALONE:
        (channels,) = context.graph.numeric((channels,))
    if channels != geometry.in_channels:
        return Opaque()
    if not value.dtype.is_floating_point:
        return Opaque()
    in_shape, out_shape = context.graph.numeric(source.shape), context.graph.numeric(value.shape)
    if not last and out_shape[1:] != (geometry.out_channels, *geometry.output_size(in_shape[2:])):
        return Opaque()
    if piece.is_free or piece.cost.multiply_adds:
        return piece
    return replace(piece, cost=replace(piece.cost, multiply_adds=multiply_adds(geometry, in_shape, out_shape)))


def multiply_adds(geometry: Geometry, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> int:
    """Multiply-adds for one example; zeros inserted by a transposed convolution are not counted."""
    if not geometry.axes:
        return geometry.weight_count * prod(out_shape[1:-1])
    transposed = any(axis.upsampling > 1 for axis in geometry.axes)
    return geometry.weight_count * prod(in_shape[2:] if transposed else out_shape[2:])


READERS: dict[str, Reader] = {
    "conv": read_conv,
    "linear": read_linear,
    "matmul": read_matmul,
    "batch_norm": read_batch_norm,
    "instance_norm": read_instance_norm,
    "avg_pool": read_avg_pool,
    "add": read_add,
    "sub": read_sub,
    "mul": read_mul,
    "div": read_div,
    "neg": read_neg,
    "pad": read_pad,
    "slice": read_slice,
    "cat": read_cat,
    "view": read_view,
    "pixel_shuffle": read_pixel_shuffle,
    "pixel_unshuffle": read_pixel_unshuffle,
    "dropout": read_identity,
    "train_only": read_identity,
    "detach": read_detach,
}
